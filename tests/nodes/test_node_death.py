"""A node that dies in the middle of a task: the trial goes on elsewhere, behind its newest checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from seekr_tune.checkpoint.directories import Position
from seekr_tune.cluster.strategy import group_workers
from seekr_tune.config import Config
from seekr_tune.experiment import parse_config
from seekr_tune.records import StepRow, TrialRecord, read_record, read_steps, score_matrix, step_of
from seekr_tune.study.directory.log import attempts
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.single import run_experiment
from seekr_tune.study.runs.trial import run_trial
from tests.cluster.ranks import run_ranks
from tests.nodes.nodes import Nodes
from tests.processes import living

pytestmark = [pytest.mark.ray, pytest.mark.cluster]

LOSS_TOLERANCE = 1e-3
"""Largest relative difference of a loss, norm or share: gradients are summed in another order; AdamW carries it on."""
TIMES = {"seconds", "distillation_seconds"}
SUMS = ("loss", "grad_norm", "terms", "shares")


def config(**training: Any) -> Config:
    return parse_config(
        {
            "stream": {"tasks": ["star", "last"], "limits": {"train": 240, "eval": 16}},
            "recipe": {"learning_rate": 5e-4, "batch_size": 8, "max_prompt_tokens": 40, "max_answer_tokens": 4},
            "method": {"replay_percent": 10, "head_budget": 0.25, "query_budget": 8, "attention_weight": 10},
            "training": {"workers": 2, "placement": "spread", "checkpoint_steps": 5, **training},
        },
        "test",
    )


@dataclass
class Death:
    """What was seen when the node was killed."""

    workers_by_node: list[int] = field(default_factory=list)
    checkpoint: Position | None = None
    steps: tuple[StepRow, ...] = ()
    killed: list[int] = field(default_factory=list)


@contextmanager
def death_inside_the_second_task(nodes: Nodes, directory: Path) -> Iterator[Death]:
    """Kill the node of a worker as soon as there is a checkpoint inside the second task.

    Raises:
        AssertionError: the run ended before there was anything to kill.
    """
    death, ended = Death(), threading.Event()

    def watch() -> None:
        while death.checkpoint is None and not ended.wait(0.02):
            found = [Position.of(path) for path in (directory / "checkpoints").glob("task-0001-step-*")]
            death.checkpoint = max((position for position in found if position), default=None)
        while sum(death.workers_by_node) < 2 and not ended.wait(0.02):  # Ray renames its processes now and then
            death.workers_by_node = nodes.training()
        if ended.is_set():
            return
        lines, _, _ = (directory / "steps.partial.jsonl").read_bytes().rpartition(b"\n")
        death.steps = tuple(map(step_of, lines.splitlines()))
        death.killed = nodes.kill(death.workers_by_node.index(1))

    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watch)
        try:
            yield death
        finally:
            ended.set()
        watching.result()  # with what went wrong there
    assert death.killed and not living(death.killed), "nothing was killed"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two workers that nothing happens to, without Ray."""
    directory = tmp_path_factory.mktemp("undisturbed")
    run_ranks(partial(learn, directory), 2, tmp_path_factory.mktemp("ranks"))
    return directory


def learn(directory: Path) -> None:
    workers = group_workers(config(), torch.device("cpu"))
    assert dist.get_world_size() == 2
    run_trial(config(), directory, TrialRequest("test", "run"), workers=workers)


def final_weights(directory: Path) -> dict[str, torch.Tensor]:
    (path,) = (directory / "checkpoints" / "task-0002").glob("weights-*.safetensors")
    return load_file(path)


def without_times(record: TrialRecord) -> TrialRecord:
    return record.model_copy(update={"wall_seconds": 0.0, "timing": (), "trial": ""})


def facts(steps: tuple[StepRow, ...], *but: str) -> list[dict[str, Any]]:
    return [step.model_dump(exclude={*TIMES, *but}) for step in steps]


def sums_of(step: StepRow) -> dict[str, float | None]:
    by_term = {f"{kind}/{term}": value for kind in ("terms", "shares") for term, value in getattr(step, kind).items()}
    return {"loss": step.loss, "grad_norm": step.grad_norm, **by_term}


def test_a_trial_goes_on_on_a_spare_node_as_if_nothing_had_happened(
    nodes: Nodes, undisturbed: Path, tmp_path: Path
) -> None:
    nodes.have(3)
    directory = tmp_path / "run"
    with death_inside_the_second_task(nodes, directory) as death:
        record = run_experiment(config(), directory, address=nodes.address)
    assert sorted(death.workers_by_node) == [0, 1, 1]  # two nodes train, one is spare
    assert attempts(directory) == 2

    expected, steps = read_record(undisturbed / "result.json"), read_steps(directory / "steps.jsonl")
    assert death.checkpoint is not None and death.checkpoint.steps < len([row for row in steps if row.task_index == 1])
    resumed = [row for row in steps if row.task_index == 1][: death.checkpoint.steps]
    assert resumed == list(death.steps[: death.checkpoint.steps])  # with their times: these were not done again
    np.testing.assert_array_equal(score_matrix(record, "eval"), score_matrix(expected, "eval"))
    assert without_times(record) == without_times(expected)
    ours, theirs = final_weights(directory), final_weights(undisturbed)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert facts(steps) == facts(read_steps(undisturbed / "steps.jsonl"))


def test_an_elastic_trial_goes_on_with_the_one_worker_that_is_left(
    nodes: Nodes, undisturbed: Path, tmp_path: Path
) -> None:
    nodes.have(2)
    directory = tmp_path / "run"
    with death_inside_the_second_task(nodes, directory) as death:
        record = run_experiment(config(min_workers=1), directory, address=nodes.address)
    assert death.workers_by_node == [1, 1] and attempts(directory) == 2
    assert death.checkpoint is not None

    expected, steps = read_record(undisturbed / "result.json"), read_steps(directory / "steps.jsonl")
    parts = list((directory / "checkpoints" / "task-0002").glob("memory-*"))
    assert [path.name for path in parts] == ["memory-00-of-01.safetensors"]  # written by a group of one
    whole = read_steps(undisturbed / "steps.jsonl")
    assert facts(steps, *SUMS) == facts(whole, *SUMS)
    for step, expected_step in zip(steps, whole, strict=True):
        assert sums_of(step) == pytest.approx(sums_of(expected_step), rel=LOSS_TOLERANCE)
    np.testing.assert_array_equal(score_matrix(record, "eval"), score_matrix(expected, "eval"))
