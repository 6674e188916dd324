"""Studies beside each other, against differences worked out by hand; what cannot be compared is said, not computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from synthetic import TASKS, RecordFactory

from seekr_tune.analysis.comparison import Side, compare, compare_values, read_side
from seekr_tune.analysis.comparison_tables import comparison_tables, comparison_values
from seekr_tune.analysis.ledger import write_ledger
from seekr_tune.analysis.table import as_markdown
from seekr_tune.errors import StudyError


class Studies:
    """Makes sides: each study has a bound and two configurations in some seeds."""

    def __init__(self, root: Path, make_record: RecordFactory) -> None:
        self._root, self._make = root, make_record

    def __call__(
        self,
        name: str,
        ops: dict[str, list[float]],
        seeds: tuple[int, ...] = tuple(range(6)),
        by: str = "op",
        **changes: Any,
    ) -> Side:
        directory = self._root / name
        split = changes.pop("split", "eval")
        version = changes.pop("code_version", "0.1.0")
        space = changes.pop("space", {"method.memory.percent": {"type": "float", "low": 1, "high": 5}})
        records = []
        for key, values in ops.items():
            bound = key.startswith("bound")
            for replicate, (seed, op) in enumerate(zip(seeds, values, strict=True)):
                records.append(
                    self._make(
                        f"{key}-r{replicate}",
                        configuration=key,
                        replicate=replicate,
                        role="bound" if bound else "trial",
                        method=key.removeprefix("bound-") if bound else "seekr",
                        params={} if bound else {"method.memory.percent": float(key[-1])},
                        matrix=self._make.matrix(op),
                        split=split,
                        config=self._make.config(seed=seed, **changes),
                        code_version=version,
                    )
                )
        write_ledger(directory, records, {})
        (directory / "experiment.yaml").write_text(yaml.safe_dump(self._make.config(seed=seeds[0], **changes)))
        (directory / "space.yaml").write_text(yaml.safe_dump(space))
        return read_side(name, directory, directory / "experiment.yaml", directory / "space.yaml", by)


@pytest.fixture
def studies(tmp_path: Path, make_record: RecordFactory) -> Studies:
    return Studies(tmp_path, make_record)


SEQFT = [30.0, 20.0, 40.0, 30.0, 25.0, 35.0]
OLD = {
    "bound-seqft": SEQFT,
    "trial-0001": [60.0, 50.0, 70.0, 62.0, 48.0, 68.0],
    "trial-0002": [61.0, 40.0, 71.0, 60.0, 45.0, 66.0],
}
NEW = {
    "bound-seqft": SEQFT,
    "trial-0001": [58.0, 46.0, 64.0, 58.0, 44.0, 64.0],
    "trial-0003": [70.0, 60.0, 83.0, 73.0, 59.0, 79.0],
}


def test_scores_are_subtracted_run_by_run(studies: Studies) -> None:
    found = compare([studies("old", OLD), studies("new", NEW)])
    pairs = {pair.what: pair for pair in found.pairs}
    assert list(pairs) == ["best", "same seqft", "same seekr"]
    best = pairs["best"]
    assert (best.study, best.first, best.second) == ("new", "trial-0001", "trial-0003")
    assert best.difference.mean == pytest.approx(-(10 + 10 + 13 + 11 + 11 + 11) / 6) and best.difference.n == 6
    assert best.difference.high is not None and best.difference.high < 0 and best.verdict == "suggestive"
    same = pairs["same seekr"]  # 2, 4, 6, 4, 4 and 4 points
    assert (same.first, same.second, same.difference.mean) == ("trial-0001", "trial-0001", 4.0)
    assert same.difference.low is not None and same.difference.low > 0
    assert pairs["same seqft"].difference.mean == 0.0 and pairs["same seqft"].verdict == "not decided"


def test_only_shared_settings_are_paired_and_it_is_said_when_there_are_none(studies: Studies) -> None:
    first, other = studies("first", OLD), studies("other", NEW, seeds=tuple(range(2, 8)))
    (best, *_) = compare([first, other]).pairs
    assert best.difference.n == 4 and best.difference.mean == (0 + 2 - 35 - 5) / 4 and best.difference.low is None
    apart = compare([first, studies("apart", NEW, seeds=tuple(range(7, 13)))])
    assert all(pair.difference.mean is None for pair in apart.pairs)
    assert "first and apart have no order, seed and memory draw in common" in apart.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream": {"tasks": (*TASKS[:2], "fish")}}, "they learn other tasks"),
        ({"stream": {"tasks": TASKS, "limits": {"train": 8}}}, r"their data differ (stream.limits.train)"),
        ({"split": "test"}, "they were scored on other splits (eval and test)"),
    ],
)
def test_what_cannot_be_compared_is_said_and_not_subtracted(
    studies: Studies, changes: dict[str, Any], message: str
) -> None:
    found = compare([studies("a", OLD), studies("b", NEW, **changes)])
    assert not found.pairs and f"scores of a and b are not compared: {message}" in found.notes


def test_settings_and_spaces_that_differ_are_listed_and_no_others(studies: Studies) -> None:
    space = {"method.memory.percent": {"type": "float", "low": 1, "high": 9}}
    other = studies("b", NEW, recipe={"learning_rate": 0.5}, space=space, code_version="0.2.0")
    found = compare([studies("a", OLD), other, studies("c", NEW)])
    assert found.differing == {
        "recipe.learning_rate": (1e-5, 0.5, 1e-5),
        "space.method.memory.percent.high": (5, 9, 5),
    }
    assert "code versions differ: a 0.1.0; b 0.2.0; c 0.1.0" in found.notes
    assert {pair.study for pair in found.pairs} == {"b", "c"}


def test_costs_are_compared_too_and_what_runs_do_not_have_is_not(studies: Studies) -> None:
    first, other = (studies(name, ops, by="wall_seconds") for name, ops in (("a", OLD), ("b", NEW)))
    assert compare([first, other]).pairs[0].verdict == "not decided"
    with pytest.raises(StudyError, match="op_se is a number of several runs"):
        studies("c", OLD, by="op_se")


def test_a_study_without_results_is_shown_beside_the_others(studies: Studies, make_record: RecordFactory) -> None:
    empty = studies("empty", {})
    found = compare([studies("a", OLD), empty])
    assert "empty has no finished configuration yet" in found.notes and not found.pairs
    best, _ = comparison_tables(found)[0].rows
    assert (best["study"], best["trial"], best["op_seqft"]) == ("a", "trial-0001", 30.0)


def test_the_tables_and_the_json_tell_the_same(studies: Studies) -> None:
    found = compare([studies("a", OLD), studies("b", NEW, recipe={"learning_rate": 0.5})])
    told = json.loads(json.dumps(comparison_values(found)))
    assert [one["best"] for one in told["studies"]] == ["trial-0001", "trial-0003"]
    assert told["differences"][0]["difference"]["mean"] == found.pairs[0].difference.mean
    assert told["settings"] == {"recipe.learning_rate": [1e-5, 0.5]}
    text = as_markdown(comparison_tables(found))
    assert "| best | b | trial-0001 | trial-0003 | -11 | \\[" in text
    assert "| recipe.learning\\_rate | 1e-05 | 0.5 |" in text
    assert "| a | trial-0001 | seekr | 6 | 59.67 ± 3.70 |" in text


def test_one_study_is_compared_between_the_values_of_a_setting(studies: Studies) -> None:
    side = studies("one", OLD)
    found = compare_values(side, "method.memory.percent")
    (pair,) = found.pairs
    assert (pair.what, pair.first, pair.second) == ("1 - 2", "trial-0001", "trial-0002")
    assert pair.difference.mean == pytest.approx((-1 + 10 - 1 + 2 + 3 + 2) / 6) and pair.verdict == "not decided"
    (_, pairs) = comparison_tables(found)
    assert "op of the first minus op of the other" in pairs.caption
    with pytest.raises(StudyError, match=r"one: finished configurations do not differ in recipe.epochs"):
        compare_values(side, "recipe.epochs")


def test_an_interval_that_is_not_given_has_its_reason(studies: Studies) -> None:
    few = {key: values[:3] for key, values in OLD.items()}
    found = compare_values(studies("few", few, seeds=(0, 1, 2)), "method.memory.percent")
    assert found.notes[-1] == "no interval: too few to tell: 3 settings, and 5 are needed"


def test_the_best_of_several_are_said_to_look_better_than_they_are(studies: Studies) -> None:
    more = {**OLD, "trial-0011": [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]}
    found = compare_values(studies("more", more), "method.memory.percent")
    assert "each is the best of 2 (1), 1 (2) by op, and looks better than it is" in found.notes
    with pytest.raises(StudyError, match=r"same: finished configurations do not differ in method.name \(it is seekr\)"):
        compare_values(studies("same", more), "method.name")
