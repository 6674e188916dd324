"""A run whose workers do not see its directory: everything passes through the store."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from seekr_tune.config import Config
from seekr_tune.experiment import parse_config, with_values
from seekr_tune.records import TrialRecord, read_record, read_steps, score_matrix
from seekr_tune.study.directory.log import attempts
from seekr_tune.study.life.study import start_study
from seekr_tune.study.runs.single import run_experiment
from seekr_tune.study.search.space import load_space
from tests.processes import descendants, living


@pytest.fixture
def config() -> Config:
    return parse_config(
        {
            "stream": {"tasks": ["star", "last", "paren"], "limits": {"train": 48, "eval": 16}},
            "recipe": {"learning_rate": 5e-4, "batch_size": 8, "max_prompt_tokens": 40, "max_answer_tokens": 4},
            "method": {"replay_percent": 10, "head_budget": 0.25, "query_budget": 8, "attention_weight": 10},
            "training": {"workers": 2, "checkpoint_steps": 2, "max_failures": 1},
        },
        "test",
    )


def saved_within_a_task(store: Path) -> list[Path]:
    """Checkpoints within the second task that are whole."""
    return list(store.glob("*/*/checkpoints/task-0001-step-*/manifest.json"))


@contextmanager
def one_worker_killed(when: Callable[[], object]) -> Iterator[list[int]]:
    """Kill a worker as soon as `when()` holds; yields who was killed.

    Raises:
        AssertionError: the run ended before there was anything to kill.
    """
    killed: list[int] = []

    def watch() -> None:
        while not killed and not ended.wait(0.01):
            workers = descendants(os.getpid(), "RayTrainWorker") if when() else []
            if workers:
                os.kill(max(workers), signal.SIGKILL)
                killed.append(max(workers))

    ended = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watch)
        try:
            yield killed
        finally:
            ended.set()
        watching.result()  # with what went wrong there
    assert killed and not living(killed), "no worker was killed"


def final_weights(directory: Path) -> dict[str, torch.Tensor]:
    (path,) = (directory / "checkpoints" / "task-0003").glob("weights-*.safetensors")
    return load_file(path)


def without_times(record: TrialRecord) -> TrialRecord:
    return record.model_copy(update={"wall_seconds": 0.0, "timing": (), "trial": "", "config": {}})


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where processes that are started now make temporary files; Ray's own stay where they are."""
    path = tmp_path / "scratch"
    path.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setenv("TMPDIR", str(path))
    return path


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_over_a_store_that_loses_a_worker_within_a_task_equals_one_on_a_shared_disk(
    config: Config, tmp_path: Path, scratch: Path
) -> None:
    store, run = tmp_path / "store", tmp_path / "run"
    away = with_values(config, {"training.storage_path": f"file://{store}"})
    with one_worker_killed(lambda: saved_within_a_task(store)) as killed:
        record = run_experiment(away, run)
    assert len(killed) == 1 and attempts(run) == 2
    assert not list(scratch.glob("seekr-tune-*"))

    shared = run_experiment(config, tmp_path / "shared")
    np.testing.assert_array_equal(score_matrix(record, "eval"), score_matrix(shared, "eval"))
    assert without_times(record) == without_times(shared) == without_times(read_record(run / "result.json"))
    ours, expected = final_weights(run), final_weights(tmp_path / "shared")
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    steps, wanted = (read_steps(path / "steps.jsonl") for path in (run, tmp_path / "shared"))
    timeless = {"seconds", "distillation_seconds"}
    assert [row.model_dump(exclude=timeless) for row in steps] == [row.model_dump(exclude=timeless) for row in wanted]

    left = {path.name for path in run.iterdir()}
    assert left - {path.name for path in (tmp_path / "shared").iterdir()} == {"storage.json"}
    (place,) = store.glob("run-*/run")
    assert {path.name for path in place.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "events",
        "log.jsonl",
        "owner",
        "result.json",
        "result.heads.parquet",
        "steps.jsonl",
    }
    assert len(list((place / "checkpoints").iterdir())) == away.training.checkpoints_kept


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_over_a_store_brings_its_trials_home(config: Config, tmp_path: Path, scratch: Path) -> None:
    values = {"training.storage_path": str(tmp_path / "store"), "training.workers": 1}
    values |= {"study.trials": 1, "study.bounds": []}
    (tmp_path / "one.yaml").write_text("method.memory.percent: {type: float, low: 5, high: 20, published: 10}")
    status = start_study(with_values(config, values), load_space(tmp_path / "one.yaml"), tmp_path / "study")
    assert status.counts["finished"] == 1
    trial = tmp_path / "study" / "trials" / "trial-0000"
    assert final_weights(trial) and read_steps(trial / "steps.jsonl")
    assert list((tmp_path / "store").glob("study-????????/trial-0000/checkpoints/task-0003.*/manifest.json"))
    assert not list(scratch.glob("seekr-tune-*"))
