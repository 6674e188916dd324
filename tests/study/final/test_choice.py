"""Which configurations are scored on the test split."""

from __future__ import annotations

from typing import Any

import pytest

from seekr_tune.config import Config
from seekr_tune.experiment import with_values
from seekr_tune.records import TrialRecord
from seekr_tune.study.final.choice import Candidate, candidates, choose, rule_text
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.protocol import replicates
from tests.study.conftest import Finish

BOTH = {"study.objectives": {"op": "maximize", "distinct_replayed_samples": "minimize"}}


def candidate(key: str, op: float, samples: float = 10.0, method: str = "seekr") -> Candidate:
    return Candidate(key, {"method": {"name": method}}, {}, {"op": op, "distinct_replayed_samples": samples})


def chosen(config: Config, found: list[Candidate], **final: Any) -> list[str]:
    values = {f"study.final.{name}": value for name, value in final.items()}
    return [one.key for one in choose(found, with_values(config, {**BOTH, **values}).study)]


FOUND = [
    candidate("a", 50.0, 10),
    candidate("b", 60.0, 20, "derpp"),
    candidate("c", 55.0, 30),
    candidate("d", 40.0, 5, "derpp"),
    candidate("e", 60.0, 25, "derpp"),
]


def test_the_best_are_taken_by_the_objective_that_decides(config: Config) -> None:
    assert chosen(config, FOUND) == ["b"]
    assert chosen(config, FOUND, count=3) == ["b", "e", "c"]
    assert chosen(config, FOUND, by="distinct_replayed_samples", count=2) == ["d", "a"]
    assert chosen(config, FOUND, count=99) == ["b", "e", "c", "a", "d"]


def test_equals_are_told_apart_by_the_other_objective_and_then_by_age(config: Config) -> None:
    equal = [candidate("z", 50.0, 10), candidate("y", 50.0, 10), candidate("x", 50.0, 20)]
    assert chosen(config, equal, count=3) == chosen(config, equal[::-1], count=3) == ["y", "z", "x"]


def test_the_best_of_each_method_are_taken_where_the_rule_says_so(config: Config) -> None:
    assert chosen(config, FOUND, for_each=["method.name"]) == ["c", "b"]
    assert chosen(config, FOUND, for_each=["method.name"], count=2) == ["c", "a", "b", "e"]


def test_the_front_are_those_that_none_beats_in_every_objective(config: Config) -> None:
    assert chosen(config, FOUND, select="pareto") == ["b", "a", "d"]
    assert chosen(config, FOUND, select="pareto", for_each=["method.name"]) == ["c", "a", "b", "d"]
    twins = [candidate("a", 50.0), candidate("b", 50.0)]
    assert chosen(config, twins, select="pareto") == ["a", "b"]


def test_only_complete_configurations_can_be_chosen(config: Config, finish: Finish) -> None:
    config = with_values(config, {"study.replicates.seeds": [0, 1]})

    def run(number: int, replicate: int, op: float, **fields: Any) -> TrialRecord:
        key = f"trial-{number:04d}"
        setting = replicates(config)[replicate]
        request = TrialRequest(f"{key}-{replicate}", "trial", {}, number, key, replicate, setting)
        return finish(request.config(config), request, op=op).model_copy(update=fields)

    records = [
        run(0, 0, 40.0),
        run(0, 1, 50.0),
        run(1, 0, 90.0),  # lost the race, or waits for its next replicate
        run(2, 0, 90.0),
        run(2, 1, 90.0, status="pruned"),
        run(3, 0, 90.0),
        run(3, 1, 90.0, status="failed"),
        run(4, 0, 30.0, revived=True),
        run(4, 1, 40.0, revived=True),
        run(5, 0, 90.0),
        run(5, 1, 90.0, scores=()),
    ]
    bound = TrialRequest("bound-joint", "bound", {"method.name": "joint"}, None, "bound-joint")
    records.append(finish(bound.config(config), bound, op=95.0))
    found = candidates(records, config)
    assert [(one.key, one.values) for one in found] == [("trial-0000", {"op": 45.0}), ("trial-0004", {"op": 35.0})]


@pytest.mark.parametrize(
    ("final", "text"),
    [
        ({}, "best 1 by op"),
        ({"count": 2, "for_each": ["method.name"]}, "best 2 by op for each method.name"),
        ({"by": "distinct_replayed_samples"}, "best 1 by distinct_replayed_samples"),
        ({"select": "pareto"}, "Pareto front of op, distinct_replayed_samples"),
    ],
)
def test_the_rule_can_be_read(config: Config, final: dict[str, Any], text: str) -> None:
    values = {f"study.final.{name}": value for name, value in final.items()}
    assert rule_text(with_values(config, {**BOTH, **values}).study) == text
