"""How much faster two workers train than one: tokens a second of the learner's new-task steps.

    python -m benchmarks.data_parallel          # about a minute on two cores

Two processes of one thread each, with a random Llama of 28 million weights and 1024 tokens a step and worker. They take
turns of three kinds: one trains and the other waits; both train at once, each on its own, which shows what this machine
can do at most; both train one model with the project's data-parallel workers (DDP over Gloo). The efficiency is the
speed of two over twice that of one, with the same samples for each worker; a turn ends when both processes are done.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from benchmarks.gpu import table
from benchmarks.gpu.batches import random_examples, sizes
from benchmarks.gpu.compare import take
from benchmarks.gpu.models import Setting, build_model, config_of
from benchmarks.gpu.step import learner_steps
from benchmarks.results import Figure, keep, median_of_ratios
from seekr_tune.cluster.strategy import DDPWorkers
from seekr_tune.methods.workers import SingleProcess

WARM_UP, REPEATS, WORKERS = 1, 5, 2
GOAL = 0.85
SETTING = Setting("small", lora=False, checkpointing=False)
OPTIONS = "--device cpu --dtype float32 --lengths 256 --tokens 1024"
KINDS = ("alone", "at once", "together")

Turns = Mapping[str, Sequence[float]]
"""Seconds of the turns of each kind, in order."""


def seconds_of_turns(setting: Setting = SETTING, options: str = OPTIONS, repeats: int = REPEATS) -> Turns:
    """The turns, after those that warm up."""
    with tempfile.TemporaryDirectory() as scratch:
        arguments = (setting, options, repeats, Path(scratch))
        start_processes(_rank_main, args=arguments, nprocs=WORKERS)  # type: ignore[no-untyped-call]
        turns: Turns = json.loads((Path(scratch) / "turns.json").read_text())
    return turns


def _rank_main(rank: int, setting: Setting, options: str, repeats: int, scratch: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{scratch}/meeting", rank=rank, world_size=WORKERS)
    turns = _turns_of(rank, setting, table.parse(options.split()), repeats)
    gc.collect()  # a model that DDP wraps must be gone before its process group: it would wait for that for ever
    if rank == 0:
        (scratch / "turns.json").write_text(json.dumps(turns))
    dist.destroy_process_group()


def _turns_of(rank: int, setting: Setting, options: argparse.Namespace, repeats: int) -> Turns:
    size = sizes(setting, options.lengths[0], options)
    examples, config = random_examples(size, WORKERS * size.batch), config_of({}, options)
    device = torch.device("cpu")
    # Two copies of the model, for DDP's hooks would talk to the other rank in every backward pass.
    alone = learner_steps(build_model(setting, options), config, [examples[: size.batch]], SingleProcess(device))
    shared = learner_steps(build_model(setting, options), config, [examples], DDPWorkers(device))
    loops = {"alone": alone if rank == 0 else None, "at once": alone, "together": shared}
    turns: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(WARM_UP + repeats):
        for kind in KINDS:
            dist.barrier()
            started = time.perf_counter()
            loop = loops[kind]
            if loop is not None:
                take(loop, 1, 0)
            dist.barrier()
            turns[kind].append(time.perf_counter() - started)
    return {kind: own[WARM_UP:] for kind, own in turns.items()}


def figures_of(turns: Turns) -> list[Figure]:
    """Speeds as shares of twice the speed of one; in a turn of two, twice the tokens are learned."""
    efficiency, spread = median_of_ratios(turns["alone"], turns["together"])
    machine, of_machine = median_of_ratios(turns["alone"], turns["at once"])
    ours, of_ours = median_of_ratios(turns["at once"], turns["together"])
    two, one = f"tokens/s of {WORKERS} workers with DDP", f"{WORKERS} x one worker"
    return [
        Figure(name=two, against=one, value=efficiency, spread=spread, goal=GOAL, at_least=True),
        Figure(name=f"tokens/s of {WORKERS} processes on their own", against=one, value=machine, spread=of_machine),
        Figure(name=two, against=f"{WORKERS} processes on their own", value=ours, spread=of_ours),
    ]


def main() -> None:
    started = time.perf_counter()
    turns = seconds_of_turns()
    keep("data_parallel", time.perf_counter() - started, figures_of(turns))


if __name__ == "__main__":
    main()
