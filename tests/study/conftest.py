"""A tiny experiment on the built-in stream, and records that pretend to be runs of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seekr_tune.config import Config
from seekr_tune.experiment import parse_config
from seekr_tune.records import TrialRecord, score_cells, write_record
from seekr_tune.study.directory.layout import result_path
from seekr_tune.study.runs.outcome import new_record
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.space import Space, load_space
from tests.replayed import replay_row

TASKS = ["star", "last", "paren"]

Finish = Callable[..., TrialRecord]


@pytest.fixture
def config() -> Config:
    """Three small tasks, about a second for a run."""
    return parse_config(
        {
            "name": "tiny",
            "stream": {"tasks": TASKS, "limits": {"train": 24, "eval": 8, "test": 8}},
            "recipe": {"learning_rate": 5e-4, "batch_size": 8, "max_prompt_tokens": 40, "max_answer_tokens": 4},
            "method": {"replay_percent": 10, "head_budget": 0.25, "query_budget": 8, "attention_weight": 10},
            "evaluation": {"matrix": "diagonal_and_last"},
            "study": {"trials": 6, "bounds": []},
        },
        "test",
    )


@pytest.fixture
def space(tmp_path: Path) -> Space:
    """Two dimensions, with published values."""
    path = tmp_path / "two.yaml"
    path.write_text(
        "method.memory.percent: {type: float, low: 5, high: 20, published: 10}\n"
        "method.seekr.attention_weight: {type: float, low: 1, high: 1000, log: true, published: 1000}\n"
    )
    return load_space(path)


@pytest.fixture
def finish(tmp_path: Path) -> Finish:
    """Writes what a finished run of a request would have written: `finish(config, request, op=50.0, samples=4)`."""

    def write(config: Config, request: TrialRequest, op: float = 50.0, samples: int = 4) -> TrialRecord:
        tasks = config.stream.tasks
        scores = np.full((len(tasks), len(tasks)), np.nan)
        scores[-1] = op
        record = new_record(config, request).model_copy(
            update={
                "status": "finished",
                "tasks_done": len(tasks),
                "scores": score_cells(tasks, {"eval": scores}, {}),
                "replay": (replay_row(tasks[0], 0, samples, samples, samples),),
            }
        )
        write_record(result_path(tmp_path / "study", request.key), record)
        return record

    return write
