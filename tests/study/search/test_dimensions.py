"""Values of a dimension: what is given keeps its meaning, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import with_values
from seekr_tune.study.search.dimensions import DIMENSION, member
from seekr_tune.study.search.journal import open_study
from seekr_tune.study.search.space import Space, load_space
from seekr_tune.study.search.warm_start import enqueue, read_configurations
from tests.study.searching import drain

HEADS, PERCENT, QUERIES = "method.seekr.head_budget", "method.memory.percent", "method.seekr.query_budget"
SHARES = {"type": "float", "low": 0.1, "high": 1.0}
COUNTS = {"type": "int", "low": 1, "high": 4}
LISTED = {"type": "categorical", "choices": [4, 1, 0.5]}


def found(dimension: dict[str, Any], path: str, value: Any) -> Any:
    return member(DIMENSION.validate_python(dimension), path, value)


@pytest.mark.parametrize(
    ("dimension", "path", "value", "expected"),
    [
        (SHARES, HEADS, 1.0, 1.0),
        (COUNTS, HEADS, 1, 1),
        (LISTED, HEADS, 1, 1),
        (SHARES, "method.seekr.layer_ratio", 1, 1.0),  # the same meaning there
        ({"type": "float", "low": 0, "high": 9}, PERCENT, 2, 2.0),
        ({"type": "float", "low": 0.1, "high": 0.7, "step": 0.1}, PERCENT, 0.1 + 0.2, 0.3),
        ({"type": "categorical", "choices": [1, 2.5]}, PERCENT, 1.0, 1),
        ({"type": "categorical", "choices": [100, None]}, QUERIES, None, None),
    ],
)
def test_a_value_is_handed_out_with_its_own_meaning(
    dimension: dict[str, Any], path: str, value: Any, expected: Any
) -> None:
    got = found(dimension, path, value)
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize(
    ("dimension", "path", "value", "reason"),
    [
        (SHARES, HEADS, 1, r"is a count, and the range has shares \(1.0 would be a share\)"),
        (COUNTS, HEADS, 1.0, r"is a share, and the range has counts \(1 would be a count\)"),
        (LISTED, HEADS, 1.0, r"is not one of the choices \[4, 1, 0.5\]"),
        (LISTED, HEADS, True, "is not one of the choices"),
        (COUNTS, HEADS, True, "is no finite number"),
        (COUNTS, QUERIES, 1.5, "is no whole number"),
        (SHARES, PERCENT, None, "is no finite number"),
        (SHARES, PERCENT, float("nan"), "is no finite number"),
        (SHARES, PERCENT, "0.5", "is no finite number"),
        (SHARES, PERCENT, 2, r"is outside the range 0.1 .. 1.0"),
        ({"type": "categorical", "choices": [100, None]}, QUERIES, "null", "is not one of the choices"),
        ({"type": "float", "low": 0.1, "high": 0.7, "step": 0.1}, PERCENT, 0.25, "is not 0.1 plus a multiple of 0.1"),
    ],
)
def test_a_value_that_would_get_another_meaning_is_refused(
    dimension: dict[str, Any], path: str, value: Any, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        found(dimension, path, value)


def space_at(folder: Path, text: str) -> Space:
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(path)


def test_an_enqueued_count_is_no_share(config: Config, tmp_path: Path) -> None:
    space = space_at(tmp_path, "method.seekr.head_budget: {type: float, low: 0.1, high: 1.0}\n")
    file = tmp_path / "mine.yaml"
    file.write_text("- {method.seekr.head_budget: 1}\n")
    with pytest.raises(ConfigError, match="configuration 1: method.seekr.head_budget=1 is a count, and the range"):
        read_configurations(space, config, file)


def test_a_file_whose_count_became_a_share_is_enqueued_again(config: Config, tmp_path: Path) -> None:
    space = space_at(tmp_path, "method.seekr.head_budget: {type: categorical, choices: [4, 1.0, 0.5]}\n")
    file, directory = tmp_path / "mine.yaml", tmp_path / "study"
    study = open_study(directory, config, space)
    for text in (
        "- {method.seekr.head_budget: 4}\n",
        "- {method.seekr.head_budget: 4}\n",
        "- {method.seekr.head_budget: 1.0}\n",
    ):
        file.write_text(text)
        enqueue(study, space, config, file)
    waiting = [trial.system_attrs["fixed_params"][HEADS] for trial in study.get_trials()]
    assert [(value, type(value)) for value in waiting] == [(4, int), (1.0, float)]


def test_a_grid_with_an_enqueued_member_runs_each_point_once(config: Config, tmp_path: Path) -> None:
    space = space_at(tmp_path, "method.seekr.logit_weight: {type: float, low: 0.1, high: 0.7, step: 0.1}\n")
    config = with_values(config, {"study.sampler": "grid", "study.trials": 7, "study.bounds": []})
    file, directory = tmp_path / "mine.yaml", tmp_path / "study"
    file.write_text("- {method.seekr.logit_weight: 0.3}\n- {method.seekr.logit_weight: 0.7000000000000001}\n")
    enqueue(open_study(directory, config, space), space, config, file)
    values = [request.values["method.seekr.logit_weight"] for request in drain(directory, config, space)]
    assert values[:2] == [0.3, 0.7]
    assert sorted(values) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_a_study_whose_count_became_a_share_is_refused(config: Config, space: Space, tmp_path: Path) -> None:
    open_study(tmp_path, with_values(config, {HEADS: 1}), space)
    with pytest.raises(Exception, match=r"method.seekr.head_budget changed since the study was started"):
        open_study(tmp_path, with_values(config, {HEADS: 1.0}), space)
