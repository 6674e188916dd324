"""Every sampler proposes distinct configurations that keep the constraints, the same ones for the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import with_values
from seekr_tune.study.search.resolution import Resolver, refusal
from seekr_tune.study.search.space import Space, load_space
from tests.study.searching import drain, open_queue

NUMBERS = """
constraints: [heads >= layers]
method.memory.percent: {type: float, low: 5, high: 100, published: 10}
method.seekr.head_budget: {type: int, low: 1, high: 8}
method.seekr.layer_ratio: {type: float, low: 0.25, high: 1.0, step: 0.25}
"""
METHODS = """
constraints: [heads >= layers]
method.name: {type: categorical, choices: [replay, derpp, seekr]}
method.memory.percent: {type: float, low: 5, high: 100}
method.seekr.logit_weight: {type: float, low: 0.1, high: 0.9}
method.seekr.head_budget: {type: int, low: 1, high: 8}
"""
GRID = """
method.name: {type: categorical, choices: [replay, seekr]}
method.memory.percent: {type: float, low: 10, high: 30, step: 10}
method.seekr.head_budget: {type: int, low: 1, high: 2}
"""


def space_of(tmp_path: Path, text: str) -> Space:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return load_space(path)


def proposed(tmp_path: Path, name: str, config: Config, space: Space) -> list[dict[str, object]]:
    return [dict(request.values) for request in drain(tmp_path / name, config, space)]


@pytest.mark.parametrize("text", [NUMBERS, METHODS], ids=["numbers", "methods"])
@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsgaii", "nsgaiii", "qmc", "random", "cmaes"])
def test_a_sampler_proposes_distinct_configurations_that_fit(
    sampler: str, text: str, config: Config, tmp_path: Path
) -> None:
    if (sampler, text) == ("cmaes", METHODS):
        pytest.skip("refused: see below")
    space = space_of(tmp_path, text)
    config = with_values(config, {"study.sampler": sampler, "study.trials": 9})
    first = proposed(tmp_path, "one", config, space)
    resolver = Resolver(config)
    assert len({resolver.resolve(values).key for values in first}) == 9
    assert all(refusal(resolver, space.constraints, values) is None for values in first)
    assert proposed(tmp_path, "again", config, space) == first
    other = proposed(tmp_path, "other", with_values(config, {"seed": 1}), space)
    assert other != first

    reopened = []  # a new queue, and a new sampler, for every single trial
    for trials in range(1, 10):
        step = with_values(config, {"study.trials": trials})
        reopened += proposed(tmp_path, "reopened", step, space)
    assert reopened == first


def test_a_grid_is_every_point_once_in_a_drawn_order(config: Config, tmp_path: Path) -> None:
    space = space_of(tmp_path, GRID)
    config = with_values(config, {"study.sampler": "grid", "study.trials": 9})
    points = [tuple(values.items()) for values in proposed(tmp_path, "grid", config, space)]
    replay = {(("method.name", "replay"), ("method.memory.percent", percent)) for percent in (10.0, 20.0, 30.0)}
    seekr = {
        (("method.name", "seekr"), ("method.memory.percent", percent), ("method.seekr.head_budget", heads))
        for percent in (10.0, 20.0, 30.0)
        for heads in (1, 2)
    }
    assert len(points) == 9 and set(points) == replay | seekr
    assert points != sorted(points)
    with pytest.raises(ConfigError, match=r"study\.trials is 10, but the grid has 9 points"):
        open_queue(tmp_path / "more", with_values(config, {"study.trials": 10}), space)


@pytest.mark.parametrize(
    ("values", "text", "message"),
    [
        ({"sampler": "grid"}, NUMBERS, "method.memory.percent has infinitely many values; give it a step"),
        ({"sampler": "cmaes"}, METHODS, "method.name is categorical"),
        (
            {"sampler": "cmaes", "objectives": {"op": "maximize", "replay_tokens": "minimize"}},
            NUMBERS,
            "there are several objectives",
        ),
        ({"sampler_options": {"n_ei_candidates": 10**9}}, NUMBERS, "n_ei_candidates is beyond 1000000"),
        ({"sampler_options": {"n_startup": 3}}, NUMBERS, "did you mean 'n_startup_trials'?"),
        ({"sampler_options": {"seed": 3}}, NUMBERS, "'seed' is set by the study itself"),
        ({"sampler": "nsgaii", "sampler_options": {"population_size": 1}}, NUMBERS, "nsgaii refuses"),
        ({"sampler": "grid", "sampler_options": {"seed": 3}}, NUMBERS, "grid has no options"),
        # Optuna looks at these no sooner than when it has results to learn from.
        ({"sampler_options": {"n_ei_candidates": 0}}, NUMBERS, "tpe refuses {'n_ei_candidates': 0}"),
        ({"sampler_options": {"n_ei_candidates": 0, "n_startup_trials": 50}}, NUMBERS, "tpe refuses"),
        ({"sampler_options": {"prior_weight": -1}}, NUMBERS, "tpe refuses {'prior_weight': -1}"),
        ({"sampler_options": {"n_startup_trials": "x"}}, METHODS, "tpe refuses {'n_startup_trials': 'x'}"),
        ({"sampler": "gp", "sampler_options": {"n_startup_trials": None}}, NUMBERS, "gp refuses"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    values: dict[str, object], text: str, message: str, config: Config, tmp_path: Path
) -> None:
    config = with_values(config, {f"study.{name}": value for name, value in values.items()})
    with pytest.raises(ConfigError) as refused:
        open_queue(tmp_path / "study", config, space_of(tmp_path, text))
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_options_reach_the_sampler(config: Config, tmp_path: Path) -> None:
    space = space_of(tmp_path, NUMBERS)
    config = with_values(config, {"study.trials": 8})
    informed = proposed(
        tmp_path, "informed", with_values(config, {"study.sampler_options": {"n_startup_trials": 2}}), space
    )
    blind = proposed(tmp_path, "blind", with_values(config, {"study.sampler_options": {"n_startup_trials": 99}}), space)
    assert informed[:2] == blind[:2] and informed[2:] != blind[2:]


def test_constraints_that_nothing_keeps_are_refused(config: Config, tmp_path: Path) -> None:
    space = space_of(tmp_path, NUMBERS.replace("heads >= layers", "heads > 100").replace(", published: 10", ""))
    with pytest.raises(ConfigError, match="keeps the constraints heads > 100"):
        open_queue(tmp_path / "study", config, space).next()
