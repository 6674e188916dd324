"""What is said where one loss term has nearly all of the replay gradient."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from seekr_tune.analysis.gradients import dominant, dominated, told


def shares(*values: float) -> dict[str, float]:
    return dict(zip(("cross_entropy", "logit_distillation", "attention_distillation"), values, strict=False))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (shares(0.001, 0.0, 0.999), ("attention_distillation", 0.999)),
        (shares(0.02, 0.03, 0.95), None),
        (shares(0.97, 0.03), ("cross_entropy", 0.97)),
        (shares(1.0), None),  # a term that is alone has all of it
        (shares(), None),
    ],
)
def test_a_term_with_more_than_95_percent_is_named(known: dict[str, float], expected: Any) -> None:
    assert dominant(known) == expected


def test_a_ranking_says_in_how_many_configurations_a_term_has_nearly_all() -> None:
    runs = [
        {"trial": trial, "role": role, "configuration": configuration, "replicate": 0}
        for trial, role, configuration in (
            ("trial-0", "trial", "trial-0"),
            ("trial-0-r1", "trial", "trial-0"),
            ("trial-1", "trial", "trial-1"),
            ("trial-2", "trial", "trial-2"),
            ("bound-seqft", "bound", "bound-seqft"),
        )
    ]
    rows = [
        ("trial-0", shares(0.01, 0.0, 0.99)),
        ("trial-0-r1", shares(0.03, 0.0, 0.97)),
        ("trial-1", shares()),
        ("trial-1", shares(0.001, 0.0, 0.999)),
        ("trial-2", shares(0.5, 0.2, 0.3)),
        ("bound-seqft", shares()),
    ]
    by_term = pa.array([[*own.items()] for _, own in rows], pa.map_(pa.string(), pa.float64()))
    (line,) = dominated(runs, pa.table({"trial": [trial for trial, _ in rows], "shares": by_term}))
    expected = told("attention_distillation", 0.98, 0.999)
    assert line == f"In 2 of the study's 3 configurations {expected} (most in trial-1; docs/method.md)."
    assert "98.0 to 99.9 %" in line and "a larger weight of it changes nothing" in line
