"""Conditions: what is read, what holds, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from seekr_tune.analysis.conditions import parse_conditions
from seekr_tune.errors import StudyError

ROWS: list[dict[str, Any]] = [
    {"trial": "a", "op": 50.0, "pareto": True, "error": None, "config.method.name": "seekr", "tasks": ["x"]},
    {
        "trial": "b",
        "op": 40.0,
        "pareto": False,
        "error": "no memory",
        "config.method.name": "replay",
        "tasks": ["x"],
    },
    {"trial": "c", "op": None, "pareto": None, "error": None, "config.method.name": "seekr", "tasks": ["y"]},
]
SETTINGS = {"config.method.memory.percent": 5.0, "config.recipe.epochs": 3.0, "config.final.epochs": 4.0}


def kept(*texts: str) -> str:
    conditions = parse_conditions(texts, ROWS)
    return "".join(row["trial"] for row in ROWS if all(condition.holds(row) for condition in conditions))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["op>=50"], "a"),
        (["op > 40"], "a"),
        (["op<50"], "b"),
        (["op<=50"], "ab"),
        (["op=40"], "b"),
        (["op==40"], "b"),
        (["op!=40"], "ac"),
        (["op=null"], "c"),
        (["op!=null"], "ab"),
        (["pareto=true"], "a"),
        (["pareto=false"], "b"),
        (["method.name=seekr"], "ac"),
        (["config.method.name=seekr"], "ac"),
        (["name!=seekr"], "b"),
        (["error=no memory"], "b"),
        (["error!=null"], "b"),
        (["name=seekr", "op>0"], "a"),
        ([], "abc"),
    ],
)
def test_what_is_kept(texts: list[str], expected: str) -> None:
    assert kept(*texts) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("op", "'op' is no condition; write COLUMN=VALUE"),
        ("opp>3", "there is no column 'opp'; did you mean 'op'?"),
        ("method.nam=seekr", "did you mean 'config.method.name'?"),
        ("zzzzzz=1", "`seekr-tune explain` lists columns"),
        ("op>many", "op is a number, such as 50.0; give a value"),
        ("pareto=1", "pareto is true or false, such as true"),
        ("name>a", "only numbers have an order; use = or !="),
        ("op<null", "only numbers have an order"),
        ("tasks=x", "tasks is a list"),
    ],
)
def test_what_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(StudyError) as caught:
        kept(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_end_of_a_path_is_enough_where_it_is_the_only_one() -> None:
    rows = [{**SETTINGS, "trial": "a"}]
    (condition,) = parse_conditions(["replay_percent<=5"], rows)
    assert condition.column == "config.method.memory.percent" and condition.holds(rows[0])
    with pytest.raises(StudyError, match="'epochs' is the end of several fields; give one of config.recipe"):
        parse_conditions(["epochs=3"], rows)


def test_a_study_without_rows_has_nothing_to_ask() -> None:
    assert parse_conditions(["whatever=1"], []) == ()
