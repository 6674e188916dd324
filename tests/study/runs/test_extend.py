"""A finished run gets one more task, or stays as it is."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from seekr_tune.analysis.ledger import read_table
from seekr_tune.config import Config
from seekr_tune.errors import ConfigError, DataError, StudyError
from seekr_tune.experiment import parse_config, with_values
from seekr_tune.records import TrialRecord, read_record, read_steps, score_matrix
from seekr_tune.records.heads import read_heads
from seekr_tune.study.runs import extend, trial
from seekr_tune.study.runs.extend import extend_run
from seekr_tune.study.runs.single import run_experiment

TASKS = ("star", "last", "paren")


def config(tasks: tuple[str, ...] = TASKS[:2], **values: Any) -> Config:
    settings = {
        "stream": {"tasks": tasks, "limits": {"train": 16, "eval": 8, "test": 8}},
        "recipe": {"learning_rate": 5e-4, "batch_size": 8, "max_prompt_tokens": 40, "max_answer_tokens": 4},
        "method": {"replay_percent": 20, "head_budget": 0.25, "query_budget": 8, "attention_weight": 10},
        "evaluation": {"matrix": "diagonal_and_last"},
    }
    return with_values(parse_config(settings, "test"), values)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run of two tasks."""
    run_experiment(config(), tmp_path / "run")
    return tmp_path / "run"


def fingerprints(directory: Path) -> dict[str, str]:
    """Every file but the lock, which is taken."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_is_the_longer_run(directory: Path, record: TrialRecord, longer: Path) -> None:
    """As if the third task had been in the stream from the start."""
    expected = read_record(longer / "result.json")
    assert record == read_record(directory / "result.json")
    assert (record.status, record.tasks, record.tasks_done) == ("finished", TASKS, 3)
    assert read_heads(directory / "result.json") == read_heads(longer / "result.json")
    assert record.replay == expected.replay
    ours, theirs = (score_matrix(each, "eval") for each in (record, expected))
    np.testing.assert_array_equal(ours[-1], theirs[-1])
    np.testing.assert_array_equal(np.diagonal(ours), np.diagonal(theirs))
    weights = [load_file(next((d / "checkpoints" / "task-0003").glob("weights-*"))) for d in (directory, longer)]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    losses = [[(s.task_index, s.step, s.loss) for s in read_steps(d / "steps.jsonl")] for d in (directory, longer)]
    assert losses[0] == losses[1]
    assert read_table(directory, "trials").num_rows == 1
    assert not (directory / ".extending").exists()


def test_an_extended_run_equals_a_run_that_had_the_task_from_the_start(finished: Path, tmp_path: Path) -> None:
    run_experiment(config(TASKS), tmp_path / "longer")
    update = extend_run(finished, "paren", max_forgetting=100.0)
    assert update.accepted
    scores = score_matrix(update.record, "eval")
    assert update.forgetting == {task: scores[1, i] - scores[2, i] for i, task in enumerate(TASKS[:2])}
    assert_is_the_longer_run(finished, update.record, tmp_path / "longer")
    kept = {path.name for path in (finished / "checkpoints").glob("task-*")}
    assert kept == {"task-0002", "task-0003"}
    assert run_experiment(config(TASKS), finished) == update.record  # and it is a run like any other


def test_the_gate_keeps_the_old_model_and_the_record_of_the_new_one(finished: Path) -> None:
    before = fingerprints(finished)
    update = extend_run(finished, "paren", max_forgetting=-101.0)  # no update improves every task by that much
    assert not update.accepted
    after = fingerprints(finished)
    assert after.pop("rejected/paren.json") and after.pop("rejected/paren.heads.parquet")
    assert after == before
    assert read_record(finished / "rejected" / "paren.json") == update.record
    assert {*read_heads(finished / "rejected" / "paren.json")["task"].to_pylist()} == {*TASKS}


def stop_at(task_index: int, step: int) -> Callable[..., Any]:
    original = trial.TrialFiles._log_step

    def log_step(self: Any, record: Any) -> None:
        original(self, record)
        if (record.task_index, record.step) == (task_index, step):
            raise KeyboardInterrupt

    return log_step


def test_an_update_that_was_interrupted_goes_on_and_nothing_is_seen_of_it(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprints(finished)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trial.TrialFiles, "_log_step", stop_at(2, 1))
        extend_run(finished, "paren")
    visible = {name: digest for name, digest in fingerprints(finished).items() if not name.startswith(".extending")}
    assert visible == before
    with pytest.raises(StudyError, match="update by task 'paren' is unfinished"):
        extend_run(finished, "second")
    run_experiment(config(TASKS), tmp_path / "longer")
    assert_is_the_longer_run(finished, extend_run(finished, "paren").record, tmp_path / "longer")


@pytest.mark.parametrize("moves", range(1, 8))
def test_an_update_that_was_killed_while_it_was_published_is_published_by_the_next_call(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Die before the n-th move of a file; there are as many moves, or fewer."""
    left, replace = [moves], os.replace

    def failing(source: Any, target: Any) -> None:
        left[0] -= ".extending" in str(source) and ".extending" not in str(target)
        if left[0] == 0:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(extend.os, "replace", failing)
    try:
        extend_run(finished, "paren")
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    if (finished / ".extending").exists():
        assert extend_run(finished, "paren").accepted
    run_experiment(config(TASKS), tmp_path / "longer")
    assert_is_the_longer_run(finished, read_record(finished / "result.json"), tmp_path / "longer")


def test_epochs_of_the_new_task_are_asked_for_where_they_are_listed(tmp_path: Path) -> None:
    run_experiment(config(**{"recipe.epochs": (1, 2)}), tmp_path / "run")
    with pytest.raises(ConfigError, match="--epochs"):
        extend_run(tmp_path / "run", "paren")
    extend_run(tmp_path / "run", "paren", epochs=3)
    steps = read_steps(tmp_path / "run" / "steps.jsonl")
    new = [sum(step.kind == "new" and step.task_index == task for step in steps) for task in range(3)]
    assert new == [2, 4, 6]


def test_what_cannot_be_extended_is_refused_in_one_line(finished: Path, tmp_path: Path) -> None:
    before = fingerprints(finished)
    for kind, match, task in [(ConfigError, "task 2 of this run already", "last"), (DataError, "nonsense", "nonsense")]:
        with pytest.raises(kind, match=match) as refused:
            extend_run(finished, task)
        assert "\n" not in str(refused.value)
    assert fingerprints(finished) == before
    with pytest.raises(StudyError, match="holds no single run"):
        extend_run(tmp_path, "paren")
    (finished / "checkpoints").rename(tmp_path / "removed")
    with pytest.raises(StudyError, match="no checkpoint that this version can go on from"):
        extend_run(finished, "paren")
    run_experiment(config(**{"evaluation.splits": ()}), tmp_path / "unscored")
    with pytest.raises(ConfigError, match="evaluation.splits of this run is empty"):
        extend_run(tmp_path / "unscored", "paren", max_forgetting=5.0)


@pytest.mark.parametrize("gate", [math.nan, math.inf])
def test_a_gate_that_is_no_number_is_refused_for_nothing_is_more_than_it(finished: Path, gate: float) -> None:
    before = fingerprints(finished)
    with pytest.raises(ConfigError, match="is no number of points"):
        extend_run(finished, "paren", max_forgetting=gate)
    assert fingerprints(finished) == before
