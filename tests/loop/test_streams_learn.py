"""Whole streams on the built-in and on real data: loose bounds on what must be seen at all, never on who wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seekr_tune.analysis.continual_metrics import backward_transfer, overall_performance
from seekr_tune.checkpoint.state import Scores
from seekr_tune.config import Config
from seekr_tune.data.sources import load_stream
from seekr_tune.experiment import load_experiment, with_values
from seekr_tune.loop.loop import run_stream
from seekr_tune.models.loading import load_model


def _scores(config: Config, **values: Any) -> Scores:
    config = with_values(config, {"evaluation.matrix": "seen", **values})
    *_, last = run_stream(config, load_stream(config, ("train", "eval")), load_model(config.model))
    return last.state.scores["eval"]


def _op(scores: Scores) -> float:
    op = overall_performance(scores)
    assert op is not None
    return op


@pytest.mark.slow
def test_the_built_in_stream_is_forgotten_without_replay_and_kept_with_it(repository: Path) -> None:
    config = load_experiment(repository / "experiments" / "demo.yaml")
    without = _scores(config, **{"method.name": "seqft"})
    replayed = _scores(config, **{"method.name": "replay", "method.memory.percent": 10.0})
    bwt = backward_transfer(without)
    assert bwt is not None and bwt < -25
    assert _op(replayed) > _op(without) + 30


@pytest.mark.slow
def test_a_real_stream_is_learned_forgotten_without_replay_and_better_kept_with_it(
    repository: Path, data_directory: Path
) -> None:
    tasks = ["superni/task1510", "trace/NumGLUE-ds"]
    config = with_values(
        load_experiment(repository / "experiments" / "superni.yaml"),
        {
            "stream.root": str(data_directory),
            "model.path": str(data_directory / "models" / "stories260K"),
            "stream.tasks": tasks,
            "stream.metrics": {tasks[0]: "rouge_l", tasks[1]: "exact_match"},
        },
    )
    without = _scores(config, **{"method.name": "seqft"})
    replayed = _scores(config, **{"method.name": "replay", "method.memory.percent": 10.0})
    bwt = backward_transfer(without)
    assert without[0, 0] > 40
    assert bwt is not None and bwt < -25
    assert _op(replayed) > _op(without) + 8
