"""Search spaces are read, checked against the schema, and refused in one line."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import with_values
from seekr_tune.study.search.space import load_space, space_of

PUBLISHED = {
    "method.memory.percent": 1.0,
    "method.seekr.head_budget": 128 / 1024,
    "method.seekr.layer_ratio": 24 / 32,
    "method.seekr.logit_weight": 0.5,
    "method.seekr.attention_weight": 1000.0,
    "method.seekr.query_budget": 100,
}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["seekr", "seekr_queries", "seekr_weights"])
def test_the_spaces_that_ship_start_with_the_published_settings(repository: Path, name: str, config: Config) -> None:
    space = load_space(repository / "search_spaces" / f"{name}.yaml")
    assert space.published() == {key: PUBLISHED[key] for key in space.dimensions}
    trial = optuna.trial.FixedTrial(space.published())
    assert with_values(config, space.suggest(trial))  # type: ignore[arg-type]


def test_a_share_of_attention_is_searched_in_place_of_the_weight(repository: Path, config: Config) -> None:
    space = load_space(repository / "search_spaces" / "seekr_shares.yaml")
    weighed = with_values(config, {"method.seekr.attention_weight": 10.0})
    space.require_fits(weighed)
    trial = optuna.trial.FixedTrial({"method.memory.percent": 2.0, "method.seekr.attention_share": 0.25})
    method = with_values(weighed, space.suggest(trial)).method  # type: ignore[arg-type]
    assert (method.seekr.attention_weight, method.seekr.attention_share) == (None, 0.25)


def test_every_kind_of_dimension_becomes_its_distribution(tmp_path: Path) -> None:
    space = load_space(
        write(
            tmp_path,
            "method.seekr.logit_weight: {type: float, low: 0.1, high: 0.9, step: 0.2}\n"
            "method.seekr.head_budget: {type: int, low: 1, high: 64, log: true}\n"
            "method.seekr.query_budget: {type: categorical, choices: [16, 64, null], published: null}\n",
        )
    )
    assert space.distributions() == {
        "method.seekr.logit_weight": optuna.distributions.FloatDistribution(0.1, 0.9, step=0.2),
        "method.seekr.head_budget": optuna.distributions.IntDistribution(1, 64, log=True),
        "method.seekr.query_budget": optuna.distributions.CategoricalDistribution((16, 64, None)),
    }
    assert space.published() == {"method.seekr.query_budget": None}


def test_a_dumped_space_is_the_same_space(repository: Path, tmp_path: Path) -> None:
    space = load_space(repository / "search_spaces" / "seekr_queries.yaml")
    assert load_space(write(tmp_path, space.dump())).dimensions == space.dimensions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method.replay_precent: {type: float, low: 1, high: 2}", "did you mean 'method.memory.percent'"),
        ("method: {type: float, low: 1, high: 2}", "method"),
        ("study.trials: {type: int, low: 1, high: 2}", "'study.trials' cannot be searched"),
        ("method.memory.percent: {low: 1, high: 2}", "type is missing"),
        ("method.memory.percent: {type: real, low: 1, high: 2}", "type='real' is unknown"),
        ("method.memory.percent: {type: float, low: 1}", "high is missing"),
        ("method.memory.percent: {type: float, low: 2, high: 1}", "low must be below high, but low=2.0 and high=1.0"),
        ("method.memory.percent: {type: float, low: 0, high: 1, log: true}", "a log range starts above 0"),
        ("method.memory.percent: {type: float, low: 1, high: 2, published: 3}", "published=3.0 is outside"),
        ("method.memory.percent: {type: float, low: 0, high: 1, step: 0.3}", "high=1.0 is not low=0.0 plus"),
        ("method.memory.percent: {type: float, low: 1, hihg: 2}", "unknown field 'hihg'; did you mean 'high'?"),
        ("method.memory.percent: {type: float, low: 1, high: 101}", "method.memory.percent=101.0 is refused"),
        ("method.seekr.head_budget: {type: float, low: 0.5, high: 1.5}", "method.seekr.head_budget"),
        (
            "method.seekr.selection: {type: categorical, choices: [importance, best]}",
            "method.seekr.selection='best' is refused",
        ),
        ("method.seekr.selection: {type: categorical, choices: [all, all]}", "'all' is listed twice"),
        (
            "method.seekr.head_budget: {type: float, low: 0.1, high: 1, published: 1}",
            "published=1 is a count, and the range",
        ),
        (
            "method.seekr.head_budget: {type: categorical, choices: [4, 1], published: 1.0}",
            "not one of the choices [4, 1]",
        ),
        ("method.seekr.head_budget: {type: categorical, choices: [1, 1.0]}", "Optuna takes 1 and 1.0 for equal"),
        ("method.seekr.selection: {type: categorical, choices: [all, random], published: importance}", "not one of"),
        (
            "method.seekr.attention_share: {type: float, low: 0.1, high: 0.9}\n"
            "method.seekr.attention_weight: {type: float, low: 1, high: 9}",
            "exclude each other; drop one of them",
        ),
        ("{}", "has no dimensions"),
    ],
)
def test_a_wrong_space_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_space(write(tmp_path, text))
    assert message in str(refusal.value)
    assert str(tmp_path / "space.yaml") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_space_is_found_beside_the_experiment(tmp_path: Path, config: Config) -> None:
    path = write(tmp_path, "method.memory.percent: {type: float, low: 1, high: 2}")
    (tmp_path / "experiments").mkdir()
    experiment = tmp_path / "experiments" / "mine.yaml"
    found = space_of(with_values(config, {"study.space": "../space.yaml"}), experiment)
    assert found.dimensions == load_space(path).dimensions
    with pytest.raises(ConfigError, match="study.space is null"):
        space_of(config, experiment)
    with pytest.raises(ConfigError, match="there is no file"):
        space_of(with_values(config, {"study.space": "space.yaml"}), experiment)
