"""A run shared by two workers of a Ray TorchTrainer: equal to one process, also when a worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seekr_tune.cluster.session import ray_session
from seekr_tune.cluster.trainer import run_in_workers
from seekr_tune.config import Config
from seekr_tune.experiment import parse_config, with_values
from seekr_tune.methods.workers import Workers
from seekr_tune.records import TrialRecord, read_record, read_steps, score_matrix
from seekr_tune.study.directory.log import read_log
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.single import run_experiment
from seekr_tune.study.runs.trial import run_trial

LOSS_TOLERANCE = 2e-4
"""Largest relative difference of a step's loss: gradients are summed in another order, and steps add up."""

REQUEST = TrialRequest("trial-0000", "trial", {}, 0)


@pytest.fixture
def config() -> Config:
    return parse_config(
        {
            "stream": {"tasks": ["star", "last", "paren"], "limits": {"train": 24, "eval": 16, "test": 8}},
            "recipe": {"learning_rate": 5e-4, "batch_size": 8, "max_prompt_tokens": 40, "max_answer_tokens": 4},
            "method": {"replay_percent": 20, "head_budget": 0.25, "query_budget": 8, "attention_weight": 10},
            "training": {"workers": 2},
        },
        "test",
    )


def run_and_lose_a_worker(
    workers: Workers, report: Callable[[Mapping[str, Any]], None], *, config: Config, directory: Path
) -> None:
    """`run_trial` whose second rank is killed once, when the first task is done."""

    def on_task(record: TrialRecord) -> None:
        report({"tasks_done": record.tasks_done})
        marker = directory / "killed"
        if workers.rank == 1 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    run_trial(config, directory, REQUEST, workers=workers, on_task=on_task)


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_one_of_them_killed_equal_one_process(config: Config, tmp_path: Path) -> None:
    work = partial(run_and_lose_a_worker, config=config, directory=tmp_path / "two")
    with ray_session():
        run_in_workers(work, config, tmp_path / "ray", "test")
    assert (tmp_path / "two" / "killed").exists()
    starts = [entry.fields for entry in read_log(tmp_path / "two") if entry.message == "run started"]
    assert [(fields["attempt"], fields["workers"]) for fields in starts] == [(1, 2), (2, 2)]

    run_trial(with_values(config, {"training.workers": 0}), tmp_path / "one", REQUEST)
    two, one = (read_record(tmp_path / name / "result.json") for name in ("two", "one"))
    assert two.status == one.status == "finished"
    np.testing.assert_array_equal(score_matrix(two, "eval"), score_matrix(one, "eval"))
    for own, other in zip(two.replay, one.replay, strict=True):
        found, expected = own.model_dump(), other.model_dump()
        for name in [name for name in found if name.endswith("_share")]:  # sums over ranks
            assert (found.pop(name) or 0.0) == pytest.approx(expected.pop(name) or 0.0, rel=LOSS_TOLERANCE)
        assert found == expected
    assert [row.selected for row in two.heads] == [row.selected for row in one.heads]
    np.testing.assert_allclose(
        [row.importance for row in two.heads], [row.importance for row in one.heads], rtol=LOSS_TOLERANCE, atol=1e-9
    )
    steps = [read_steps(tmp_path / name / "steps.jsonl") for name in ("two", "one")]
    assert [(row.task_index, row.kind, row.samples, row.tokens) for row in steps[0]] == [
        (row.task_index, row.kind, row.samples, row.tokens) for row in steps[1]
    ]
    np.testing.assert_allclose([row.loss for row in steps[0]], [row.loss for row in steps[1]], rtol=LOSS_TOLERANCE)


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_with_two_workers_leaves_the_same_files_as_one_without(config: Config, tmp_path: Path) -> None:
    record = run_experiment(config, tmp_path / "run")
    assert record.status == "finished"
    assert run_experiment(config, tmp_path / "run") == record
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"config.yaml", "result.json", "ledger", "events"}
