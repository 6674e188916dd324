"""The tables and the batch script of docs/scaling.md. `python -m tests.test_scaling` prints the tables."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from seekr_tune.config import Config
from seekr_tune.experiment import load_experiment, with_values
from seekr_tune.loop.footprint import ModelSize, bytes_of, footprint
from seekr_tune.methods.sizes import SampleSize
from tests.waiting import PATIENCE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
SHAPES = {
    "7B": LlamaConfig(),
    "13B": LlamaConfig(hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40),
}
LONGEST = SampleSize(1536, 512)
TASKS, STORED = 8, 50
"""TRACE with 1 % of 5000 samples."""
LORA = {"model.lora": {"rank": 8}, "model.dtype": "bfloat16", "model.compute_dtype": None}
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "one GPU": ("7B", {"training.workers": 1, "training.strategy": None}),
    "`ddp`, 8 GPUs": ("7B", {"training.strategy": "ddp"}),
    "`ddp`, 8 GPUs, `model.dtype: bfloat16`": (
        "7B",
        {"training.strategy": "ddp", "model.dtype": "bfloat16", "model.compute_dtype": None},
    ),
    "`fsdp`, 8 GPUs": ("7B", {}),
    "LoRA on bfloat16, one GPU": ("7B", LORA | {"training.workers": 1, "training.strategy": None}),
    "`fsdp`, 8 GPUs ": ("13B", {}),
    "`fsdp`, 16 GPUs": ("13B", {"training.workers": 16}),
    "LoRA on bfloat16, one GPU ": ("13B", LORA | {"training.workers": 1, "training.strategy": None}),
}


def paper(**values: Any) -> Config:
    return with_values(load_experiment(ROOT / "experiments" / "trace_llama2_7b.yaml"), values)


def gigabytes(number: float) -> str:
    return f"{number / 1e9:.1f}" if number else "-"


def worker_rows() -> Iterator[str]:
    """What one worker holds, by layout."""
    for name, (shape, values) in LAYOUTS.items():
        config = paper(**values)
        found = footprint(ModelSize.of(config.model, SHAPES[shape]), config, [[LONGEST] * STORED] * TASKS)
        parts = (found.weights, found.copies, found.gradients, found.moments, found.evaluating)
        memory = (found.reading, found.device, found.signals, found.rows, found.staged, found.loading, found.host)
        yield f"| {shape}, {name.strip()} | {' | '.join(map(gigabytes, (*parts, *memory)))} |"


def sample_rows() -> Iterator[str]:
    """What stored samples take, by model, heads and length."""
    for shape, model in SHAPES.items():
        for sample in (SampleSize(512, 64), LONGEST):
            for budget, said in ((0.125, "an eighth"), (1.0, "all")):
                config = paper(
                    **{"method.seekr.head_budget": budget, "method.seekr.layer_ratio": 0.75 if budget < 1 else 1.0}
                )
                size = ModelSize.of(config.model, model)
                found = bytes_of(size, config)(sample)
                signals, rows = found.signals, found.rows
                numbers = (f"{signals / 1e6:.0f} MB", f"{rows / 1e6:.0f} MB")
                totals = (f"{400 * signals / 8e9:.1f} GB", f"{50 * rows / 8e9:.1f} GB")
                cells = (shape, f"{sample.length}, {sample.labels}", said, *numbers, *totals)
                yield f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("row", [*worker_rows(), *sample_rows()])
def test_the_tables_are_what_the_arithmetic_gives(row: str) -> None:
    assert row in PAGE


STAND_INS = {
    "scontrol": 'printf "node1\\nnode2\\nnode3\\n"',
    "srun": 'while [[ $1 == --* ]]; do options+=" $1"; shift; done; echo "srun$options $*" >>"$LOG"; exec "$@"',
    "hostname": "echo 10.0.0.1 10.0.0.2",
    # what was started in the background may be slow to begin
    "ray": """echo "ray $*" >>"$LOG"
[[ $1 == start ]] && exec /bin/sleep 60
[[ $1 == status ]] || exit 0
wanted=$(($(grep -c '^ray status' "$LOG") > 1 ? STARTS : 1))  # the head is waited for first
until [ "$(grep -c '^ray start' "$LOG")" -ge "$wanted" ]; do /bin/sleep 0.02; done
cat "$NODES\"""",
    "sleep": 'echo " 1 node_c" >>"$NODES"',
    "seekr-tune": 'echo "seekr-tune $*" >>"$LOG"',
}
"""What the batch script calls, as programs that note how they were called; nodes join while the script waits."""


def submit(directory: Path, nodes: int) -> list[str]:
    """Run the batch script of the page in a directory; the calls that it made."""
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    for name, body in STAND_INS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    log, joined = directory / "log", directory / "joined"
    log.write_text("")
    joined.write_text(" 1 node_a\n 1 node_b\n"[: 10 * (nodes - 1)])
    script = re.search(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    assert script is not None
    slurm = {"SLURM_JOB_NODELIST": "node[1-3]", "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_CPUS_PER_TASK": "64"}
    places = {"LOG": str(log), "NODES": str(joined), "PATH": f"{programs}:{os.environ['PATH']}"}
    places["STARTS"] = str(min(nodes, 2))
    gpus = {"SLURM_GPUS_ON_NODE": "8"}
    subprocess.run(["bash", "-c", script[1]], cwd=directory, env=slurm | places | gpus, check=True, timeout=PATIENCE)
    return log.read_text().splitlines()


def test_the_batch_script_starts_ray_on_every_node_and_then_the_study(tmp_path: Path) -> None:
    calls = submit(tmp_path, nodes=3)
    (head,) = [call for call in calls if call.startswith("ray start --head")]
    assert "--node-ip-address=10.0.0.1 --port=6379 --num-cpus=64 --num-gpus=8" in head and "--block" in head
    (workers,) = [call for call in calls if call.startswith("srun") and "--address=" in call]
    assert "--nodes=2 --ntasks=2 --exclude=node1" in workers and "--address=10.0.0.1:6379" in workers
    assert calls[-1].startswith("seekr-tune sweep experiments/trace_llama2_7b.yaml")
    assert calls[-1].endswith("--address 10.0.0.1:6379")
    assert sum(call.startswith("ray status") for call in calls) == 3  # the head; two nodes; all three


def test_the_batch_script_on_one_node_starts_no_others_and_resumes_what_it_finds(tmp_path: Path) -> None:
    study = tmp_path / "runs" / "trace_llama2_7b"
    study.mkdir(parents=True)
    (study / "experiment.yaml").touch()
    calls = submit(tmp_path, nodes=1)
    assert not any("ray start --address" in call for call in calls)
    assert calls[-1] == f"seekr-tune resume {study} --address 10.0.0.1:6379"


if __name__ == "__main__":
    print("\n".join([*worker_rows(), "", *sample_rows()]))
