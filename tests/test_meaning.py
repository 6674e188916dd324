"""Values that are equal in Python and do not mean the same."""

from __future__ import annotations

import pytest

from seekr_tune.config.meaning import counts_or_shares, number_text, on_one_scale, same_meaning


def test_the_fields_that_take_a_count_or_a_share_are_known_by_the_schema() -> None:
    assert counts_or_shares() == {"method.seekr.head_budget", "method.head_budget"}


@pytest.mark.parametrize(
    ("path", "one", "other", "same"),
    [
        ("method.seekr.head_budget", 1, 1.0, False),
        ("method.seekr.head_budget", 1, 1, True),
        ("method.seekr.head_budget", 1.0, 1.0, True),
        ("method.seekr.layer_ratio", 1, 1.0, True),
        ("method.seekr.query_budget", True, 1, False),
        ("method.seekr.query_budget", None, "null", False),
        ("method.seekr.query_budget", None, None, True),
        ("recipe.epochs", 2, [2], False),
        ("recipe.epochs", [1, True], [1, 1], False),
        ("recipe.epochs", (1, 2), [1, 2], True),
        ("method.seekr.head_budget", {"choices": [1]}, {"choices": [1.0]}, False),
    ],
)
def test_values_that_mean_the_same(path: str, one: object, other: object, same: bool) -> None:
    assert same_meaning(path, one, other) is same


def test_counts_and_shares_have_no_common_scale() -> None:
    assert not on_one_scale("method.seekr.head_budget", [1, 1.0])
    assert on_one_scale("method.seekr.head_budget", [0.5, 1.0]) and on_one_scale("method.seekr.head_budget", [1, 64])
    assert on_one_scale("method.memory.percent", [1, 2.5]) and not on_one_scale("method.memory.percent", [1, True])


def test_a_share_is_printed_with_its_point() -> None:
    assert [number_text("method.seekr.head_budget", value, ".4g") for value in (1, 1.0, 0.12345)] == [
        "1",
        "1.0",
        "0.1235",
    ]
    assert number_text("method.seekr.layer_ratio", 1.0, ".4g") == "1"
