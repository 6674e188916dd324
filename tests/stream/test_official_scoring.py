"""Quirks of the release that are kept on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from seekr_tune.errors import DataError
from seekr_tune.stream.official_scoring import evaluate, re_evaluate, score_matrix, shorten_prediction


def test_a_score_up_to_one_is_taken_for_a_fraction() -> None:
    matrix = score_matrix([[0.8, 54.0], [None, 1]])
    np.testing.assert_array_equal(matrix, [[80.0, 0.0], [54.0, 100.0]])  # transposed: rows are rounds


def test_the_old_sari_layout_is_read() -> None:
    assert score_matrix([[[{"sari": 41.25}]]]) == [[41.25]]


@pytest.mark.parametrize(
    ("task", "prediction", "kept"),
    [
        ("Py150", "x = 1\nReasoning: y\nReasoning: z", "x = 1"),
        ("NumGLUE-cm", "q\nAnswer: 3\nAnswer: 4", "3"),
        ("NumGLUE-cm", "q\n\u56de\u7b54\uff1a 5 ", "5"),
        ("NumGLUE-cm", "\nReasoning: only", " "),
        ("FOMC", "q\nAnswer: B. hawkish", "B"),
        ("task363", " yes it is ", "yes it is"),
    ],
)
def test_re_evaluation_shortens_predictions(task: str, prediction: str, kept: str) -> None:
    assert shorten_prediction(task, prediction) == kept


def test_re_evaluation_scores_the_whole_string_where_the_evaluator_takes_a_word() -> None:
    assert evaluate("eval_acc", ["yes it is"], ["yes"]) == {"accuracy": 1.0}
    assert re_evaluate("task363", ["yes it is"], ["yes"])["accuracy"] == 0.0


def test_an_unknown_task_has_no_score_as_in_the_release() -> None:
    assert re_evaluate("other", ["a"], ["a"]) == {}


def test_sources_are_compared_for_simplification() -> None:
    result = re_evaluate("20Minuten", ["the cat"], ["the cat"], ["the big cat"])
    assert result["sari"] == pytest.approx(100.0)


def test_literals_are_filled_in() -> None:
    assert evaluate("eval_Py150", ["<STR_LIT:a> <NUM_LIT>"], ["a 0"]) == {"similarity": 100.0}


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match="no evaluator"):
        evaluate("eval_none", ["a"], ["a"])
    with pytest.raises(DataError, match="no examples"):
        evaluate("eval_FOMC", [], [])
    with pytest.raises(DataError, match="first word"):
        evaluate("eval_acc", [" "], ["a"])
