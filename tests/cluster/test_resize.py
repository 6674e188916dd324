"""A run that goes on with another number of workers learns the same samples in the same steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.cluster.strategy import group_workers
from seekr_tune.config import Config

from ..loop.tiny import run, tiny_config

LOSS_TOLERANCE = 1e-3
"""Largest relative difference of a step's loss: gradients are summed in another order, and AdamW carries it on."""


class Killed(Exception):
    """Stands for whatever ends a process."""


def config(strategy: str | None = None) -> Config:
    workers = {} if strategy is None else {"training.workers": 2, "training.strategy": strategy}
    values = {"recipe.learning_rate": 1e-3, "recipe.batch_size": 5, "training.checkpoint_steps": 2}
    return tiny_config(**values, **workers)


def log_to(path: Path, until: tuple[int, int] | None = None) -> Callable[[StepRecord], None]:
    """Write each step down; die after one, given as (task index, step)."""

    def on_step(record: StepRecord) -> None:
        with path.open("a") as log:
            log.write(json.dumps(facts(record)) + "\n")
        if (record.task_index, record.step) == until:
            raise Killed

    return on_step


def facts(step: StepRecord) -> list[Any]:
    return [step.task_index, step.step, step.kind, step.batch, step.samples, step.tokens, step.learning_rate]


def rank_main(rank: int, directory: str, strategy: str) -> None:
    """One of two workers: goes on within the first task, dies within the second."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous-{strategy}", rank=rank, world_size=2)
    settings = config(strategy)
    workers = group_workers(settings, torch.device("cpu"))
    on_step = log_to(Path(directory) / f"rank{rank}.jsonl", until=(1, 4))
    with pytest.raises(Killed):
        run(settings, directory=Path(directory), workers=workers, on_step=on_step)


@pytest.mark.parametrize("strategy", ["fsdp", pytest.param("ddp", marks=pytest.mark.slow)])
def test_from_one_worker_to_two_and_back(strategy: str, tmp_path: Path) -> None:
    logs = [tmp_path / name for name in ("alone.jsonl", "rank0.jsonl", "rank1.jsonl", "again.jsonl")]
    with pytest.raises(Killed):
        run(config(), directory=tmp_path, on_step=log_to(logs[0], until=(0, 3)))
    mp.spawn(rank_main, args=(str(tmp_path), strategy), nprocs=2)
    ours = run(config(), directory=tmp_path, on_step=log_to(logs[3]))
    whole = run(config(), on_step=log_to(tmp_path / "whole.jsonl"))

    expected_lines = (tmp_path / "whole.jsonl").read_text().splitlines()
    alone, rank0, rank1, again = (log.read_text().splitlines() for log in logs)
    assert rank0 == rank1
    positions = [expected_lines.index(lines[0]) for lines in (alone, rank0, again)]
    assert positions == [0, 2, len(whole.outcomes[0].steps) + 4]  # each launch behind the newest checkpoint
    for start, lines in zip(positions, (alone, rank0, again), strict=True):
        assert lines == expected_lines[start : start + len(lines)]
    assert again[-1] == expected_lines[-1]
    losses = [[step.loss for step in done.steps[-len(ours.steps) :]] for done in (ours, whole)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=LOSS_TOLERANCE)
    ends = [done.outcomes[-1].state for done in (ours, whole)]
    for sample, expected in zip(ends[0].memory, ends[1].memory, strict=True):
        assert (sample.task, sample.index, sample.heads) == (expected.task, expected.index, expected.heads)
        assert torch.equal(sample.queries, expected.queries)
        assert sample.teacher is not None  # the last launch is alone, and took up what two workers had shared
    np.testing.assert_array_equal(ends[0].scores["eval"], ends[1].scores["eval"])
