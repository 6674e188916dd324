"""Scores that compare two texts as they stand."""

from __future__ import annotations

from rapidfuzz import fuzz


def exact_match(prediction: str, answer: str) -> float:
    """1 where the texts are equal, else 0."""
    return float(prediction == answer)


def first_character(prediction: str, answer: str) -> float:
    """1 where both begin with the same character (a choice `A`, then a reason), else 0; 0 for an empty prediction."""
    return float(prediction[:1] == answer[:1] != "")


def first_word(prediction: str, answer: str) -> float:
    """1 where the first blank-separated words are equal, else 0; 0 for an empty prediction."""
    return float(prediction.split()[:1] == answer.split()[:1] != [])


def edit_similarity(prediction: str, answer: str) -> float:
    """Share of characters that an edit keeps, in [0, 1], rounded to whole percents; 0 for an empty text.

    The same number as fuzzywuzzy with python-Levenshtein: 2 * matches / (length + length).
    """
    if not prediction or not answer:
        return 0.0
    return round(fuzz.ratio(prediction, answer)) / 100.0
