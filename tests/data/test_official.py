"""Quirks of the release that are kept on purpose."""

from __future__ import annotations

import pytest

from seekr_tune.data.scorers.official import filled, official_accuracy, official_choice, shortened
from seekr_tune.data.scoring import SCORERS


@pytest.mark.parametrize(
    ("prediction", "kept"),
    [
        ("x = 1\nReasoning: y\nReasoning: z", "x = 1"),
        ("q\nAnswer: 3\nAnswer: 4", "3"),
        ("q\n\u56de\u7b54\uff1a 5 ", "5"),
        ("\nReasoning: only", " "),
        (" yes it is ", "yes it is"),
    ],
)
def test_predictions_are_shortened(prediction: str, kept: str) -> None:
    assert shortened(prediction) == kept


def test_a_choice_is_the_first_character_of_both() -> None:
    assert official_choice("q\nAnswer: B. hawkish", "B") == official_choice("A", "A\nBecause") == 1.0
    assert official_choice("", "A") == official_accuracy("", "A") == 0.0


def test_blanks_around_an_answer_count() -> None:
    assert SCORERS["official_accuracy"].score(" 12\n", "12", "") == 100.0
    assert SCORERS["official_accuracy"].score("12", "12 ", "") == 0.0


def test_sources_are_compared_for_simplification() -> None:
    assert SCORERS["official_sari"].score("the cat", "the cat", "the big cat") == pytest.approx(100.0)


def test_literals_are_filled_in() -> None:
    assert filled("<STR_LIT:a> <NUM_LIT>") == "a 0"
    assert SCORERS["official_similarity"].score("<STR_LIT:a> <NUM_LIT>", "a 0", "") == 100.0
