"""Numeric answers: right where they are near enough, whatever is written around them."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def nearly(prediction: str, answer: str, prompt: str) -> float:
    """1 where the last number of the prediction is within one percent of the last one of the answer, else 0."""
    numbers = [_NUMBER.findall(text)[-1:] for text in (prediction, answer)]
    if not all(numbers):
        return 0.0
    own, right = (float(found[0].replace(",", "")) for found in numbers)
    return float(abs(own - right) <= 0.01 * abs(right))
