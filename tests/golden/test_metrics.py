"""Scores and metrics against the numbers of the authors' release (`metrics/`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seekr_tune.errors import DataError
from seekr_tune.stream import metrics, official_scoring
from seekr_tune.stream.scoring import SCORERS

ABSOLUTE = 1e-9


def _records(golden: Path, name: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((golden / "metrics" / name).read_text(encoding="utf-8"))
    assert records
    return records


def _approx(value: Any) -> Any:
    return None if value is None else pytest.approx(value, rel=0, abs=ABSOLUTE)


def _assert_results(found: dict[str, float], expected: dict[str, float]) -> None:
    """Every value of the release but BLEU, which enters no table."""
    assert found == {name: _approx(value) for name, value in expected.items() if not name.startswith("bleu")}


def test_op_and_bwt_equal_the_table_of_the_release(golden: Path) -> None:
    for record in _records(golden, "cl_matrices.json"):
        scores = official_scoring.score_matrix(record["raw"])
        np.testing.assert_allclose(scores.T, record["matrix_percent_task_by_round"], rtol=0, atol=ABSOLUTE)
        assert metrics.overall_performance(scores) == _approx(record["OP_avg"])
        assert metrics.backward_transfer_official(scores) == _approx(record["BWT_official"])
        assert metrics.backward_transfer(scores) == _approx(record["BWT_usual_T_minus_1"])


def test_scores_of_single_pairs_equal_the_release(golden: Path) -> None:
    for record in _records(golden, "pair_scores.json"):
        pair = [record["prediction"]], [record["target"]]
        assert official_scoring.mean_accuracy(*pair) == _approx(record["accuracy"])
        assert official_scoring.mean_rouge(*pair) == _approx(record["rouge_L"])
        assert official_scoring.mean_similarity(*pair) == _approx(record["fuzz_ratio"])


def test_sari_equals_the_release(golden: Path) -> None:
    *singles, whole = _records(golden, "sari.json")
    texts = [(record["source"], record["prediction"], record["target"]) for record in singles]
    for record, (source, prediction, target) in zip(singles, texts, strict=True):
        assert SCORERS["sari"].mean([prediction], [target], [source]) == _approx(record["sari"])
    assert whole["corpus"]
    sources, predictions, targets = map(list, zip(*texts, strict=True))
    assert SCORERS["sari"].mean(predictions, targets, sources) == _approx(whole["sari"])


def test_evaluators_equal_the_release(golden: Path) -> None:
    for record in _records(golden, "eval_modules.json"):
        given = record["evaluation"], record["predictions"], record["targets"], record.get("sources")
        if record["error"] is not None:
            with pytest.raises(DataError):
                official_scoring.evaluate(*given)
        else:
            _assert_results(official_scoring.evaluate(*given), record["result"])


def test_re_evaluation_equals_the_release(golden: Path) -> None:
    for record in _records(golden, "re_eval.json"):
        given = record["task"], record["predictions"], record["targets"], record.get("sources")
        if record["error"] is not None:
            with pytest.raises(DataError):
                official_scoring.re_evaluate(*given)
        else:
            _assert_results(official_scoring.re_evaluate(*given), record["result"])
