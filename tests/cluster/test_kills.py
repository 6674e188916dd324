"""A run of two workers that is killed over and over ends where an undisturbed one ends, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from seekr_tune.config import Config
from seekr_tune.experiment import parse_config
from seekr_tune.records import StepRow, TrialRecord, read_record, read_steps, score_matrix
from seekr_tune.study.runs.single import run_experiment
from tests.processes import descendants
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
KILLS = 22


def config() -> Config:
    return parse_config(
        {
            "stream": {"tasks": ["star", "last", "paren"], "limits": {"train": 64, "eval": 16}},
            "recipe": {
                "epochs": 2,
                "learning_rate": 5e-4,
                "batch_size": 8,
                "micro_batch_size": 2,
                "max_prompt_tokens": 40,
                "max_answer_tokens": 4,
            },
            "method": {"replay_percent": 10, "head_budget": 0.25, "query_budget": 8, "attention_weight": 10},
            "training": {"workers": 2, "max_failures": 100, "checkpoint_steps": 3},
        },
        "test",
    )


def drive(directory: str) -> None:
    """What a driver process does."""
    run_experiment(config(), directory)


@dataclass
class Launch:
    """A driver process with the processes that it started."""

    directory: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        code = f"from tests.cluster.test_kills import drive; drive({str(self.directory)!r})"
        self.process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE)

    def workers(self) -> list[int]:
        """Process ids of the workers that train now."""
        return descendants(self.process.pid, "RayTrainWorker")


def newest_step(directory: Path) -> tuple[int, int]:
    """Task index and step that were logged last."""
    lines: list[str] = []
    for name in ("steps.jsonl", "steps.partial.jsonl"):
        path = directory / name
        lines += path.read_text().rpartition("\n")[0].splitlines() if path.is_file() else []
    last = json.loads(lines[-1]) if lines else None
    return (last["task_index"], last["step"]) if last else (-1, -1)


def planned_kills(steps: tuple[StepRow, ...], rng: random.Random) -> list[tuple[int, int]]:
    """Steps behind which something is killed: anywhere, and the last of each task but the last (its end is a moment
    of its own: the teacher's pass, the evaluation, the checkpoint)."""
    places = [(step.task_index, step.step) for step in steps]
    ends = [place for place, following in zip(places, places[1:], strict=False) if place[0] != following[0]]
    return sorted(ends + rng.sample([place for place in places[:-1] if place not in ends], KILLS - len(ends)))


def kill(launch: Launch, rng: random.Random) -> str | None:
    """Kill the driver or one of its workers; None where none is there at the moment."""
    if rng.random() < 0.4:
        launch.process.kill()
        launch.process.wait()
        return "driver"
    workers = launch.workers()
    if not workers:
        return None
    os.kill(rng.choice(workers), signal.SIGKILL)
    return "worker"


def run_with_kills(directory: Path, kills: list[tuple[int, int]], rng: random.Random) -> list[str]:
    """Run to the end; returns what was killed, in order."""
    killed: list[str] = []
    launch = Launch(directory)
    for place in kills:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < deadline, f"no step {place} after {killed}; {newest_step(directory)}"
            assert launch.process.poll() is None, launch.process.stderr and launch.process.stderr.read().decode()
            if newest_step(directory) >= place:
                time.sleep(rng.uniform(0.0, 0.4))
                victim = kill(launch, rng)
                if victim:
                    killed.append(victim)
                    break
            time.sleep(0.02)
        if killed[-1] == "driver":
            launch = Launch(directory)  # at once: workers of the killed driver may still be there
    assert launch.process.wait(PATIENCE) == 0
    return killed


def final_weights(directory: Path) -> dict[str, torch.Tensor]:
    (path,) = (directory / "checkpoints" / "task-0003").glob("weights-*.safetensors")
    return load_file(path)


def without_times(record: TrialRecord) -> TrialRecord:
    return record.model_copy(update={"wall_seconds": 0.0, "timing": (), "trial": ""})


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_that_is_killed_over_and_over_equals_an_undisturbed_one(tmp_path: Path) -> None:
    whole = run_experiment(config(), tmp_path / "whole")
    steps = read_steps(tmp_path / "whole" / "steps.jsonl")
    rng = random.Random(20)
    killed = run_with_kills(tmp_path / "killed", planned_kills(steps, rng), rng)
    print(f"killed: {', '.join(killed)}")
    assert len(killed) == KILLS and set(killed) == {"driver", "worker"}

    record = read_record(tmp_path / "killed" / "result.json")
    np.testing.assert_array_equal(score_matrix(record, "eval"), score_matrix(whole, "eval"))
    assert without_times(record) == without_times(whole)
    ours, expected = (final_weights(tmp_path / name) for name in ("killed", "whole"))
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    timeless = {"seconds", "distillation_seconds"}
    logged = read_steps(tmp_path / "killed" / "steps.jsonl")
    assert [row.model_dump(exclude=timeless) for row in logged] == [row.model_dump(exclude=timeless) for row in steps]
    assert not list((tmp_path / "killed" / "checkpoints").glob(".writing-*"))
