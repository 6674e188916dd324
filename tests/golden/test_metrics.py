"""Scores and metrics against the numbers of the authors' release (`metrics/`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seekr_tune.analysis import continual_metrics as metrics
from seekr_tune.data.scorers import rouge, texts
from seekr_tune.data.scoring import SCORERS

ABSOLUTE = 1e-9


def _records(golden: Path, name: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((golden / "metrics" / name).read_text(encoding="utf-8"))
    assert records
    return records


def _approx(value: Any) -> Any:
    return None if value is None else pytest.approx(value, rel=0, abs=ABSOLUTE)


def _percent(cell: Any) -> float:
    """What the release makes of a cell of its result files: up to 1 is taken for a fraction, no file for 0."""
    value = float((cell[0]["sari"] if isinstance(cell, list) else cell) or 0.0)
    return 100.0 * value if value <= 1 else value


def _mean(metric: str, record: dict[str, Any]) -> float:
    """Of a metric over the pairs of a record, in percent."""
    pairs = zip(record["predictions"], record["targets"], strict=True)
    return sum(SCORERS[metric].score(*pair, "") for pair in pairs) / len(record["targets"])


def test_op_and_bwt_equal_the_table_of_the_release(golden: Path) -> None:
    for record in _records(golden, "cl_matrices.json"):
        scores = np.array([[_percent(cell) for cell in row] for row in record["raw"]]).T
        np.testing.assert_allclose(scores.T, record["matrix_percent_task_by_round"], rtol=0, atol=ABSOLUTE)
        assert metrics.overall_performance(scores) == _approx(record["OP_avg"])
        assert metrics.backward_transfer_official(scores) == _approx(record["BWT_official"])
        assert metrics.backward_transfer(scores) == _approx(record["BWT_usual_T_minus_1"])


def test_scores_of_single_pairs_equal_the_release(golden: Path) -> None:
    for record in _records(golden, "pair_scores.json"):
        pair = record["prediction"], record["target"]
        assert (all(pair) and texts.exact_match(*pair)) == _approx(record["accuracy"])
        assert rouge.rouge_l(*pair) == _approx(record["rouge_L"])
        assert 100 * texts.edit_similarity(*pair) == _approx(record["fuzz_ratio"])


def test_sari_equals_the_release(golden: Path) -> None:
    *singles, whole = _records(golden, "sari.json")
    scores = [SCORERS["sari"].score(record["prediction"], record["target"], record["source"]) for record in singles]
    assert scores == [_approx(record["sari"]) for record in singles]
    assert whole["corpus"]
    assert sum(scores) / len(scores) == _approx(whole["sari"])


SAME = {
    "eval_CStance": ("accuracy", "first_character"),
    "eval_ScienceQA": ("accuracy", "first_character"),
    "eval_FOMC": ("accuracy", "exact_match"),
    "eval_NumGLUE_ds": ("accuracy", "exact_match"),
    "eval_MeetingBank": ("rouge-L", "rouge_l"),
    "eval_rouge": ("rouge-L", "rouge_l"),
    "eval_Py150": ("similarity", "official_similarity"),
}
"""By evaluator of the release, one of its values and the metric of this package that is the same on these pairs."""


def test_evaluators_equal_the_release(golden: Path) -> None:
    records = {record["evaluation"]: record for record in _records(golden, "eval_modules.json")}
    for evaluation, (name, metric) in SAME.items():
        unit = 1 if name == "similarity" else 100
        assert _mean(metric, records[evaluation]) == _approx(unit * records[evaluation]["result"][name])


OFFICIAL = {
    "FOMC": {"accuracy": "official_choice"},
    "C-STANCE": {"accuracy": "official_choice"},
    "ScienceQA": {"accuracy": "official_choice"},
    "NumGLUE-cm": {"accuracy": "official_accuracy"},
    "task363": {"accuracy": "official_accuracy", "rouge-L": "official_rouge_l"},
    "task1572": {"accuracy": "official_accuracy", "rouge-L": "official_rouge_l"},
    "Py150": {"similarity": "official_similarity"},
}


def test_the_official_metrics_equal_the_last_table_of_the_release(golden: Path) -> None:
    records = {record["task"]: record for record in _records(golden, "re_eval.json")}
    assert records.keys() == OFFICIAL.keys()
    for task, record in records.items():
        for name, metric in OFFICIAL[task].items():
            unit = 1 if name == "similarity" else 100
            assert _mean(metric, record) == _approx(unit * record["result"][name])
