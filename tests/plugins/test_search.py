"""Samplers and pruners of one's own: named, made, refused in one line, and asked the same way as the package's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.config import Config
from seekr_tune.config.plugins import imports, with_plugins
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import fingerprint, parse_config
from seekr_tune.study.search.judge import Judge, require_comparable
from seekr_tune.study.search.samplers import require_sampler
from seekr_tune.study.search.space import load_space
from tests.study.searching import drain, outcomes

SOBOL = Path(__file__).parents[2] / "examples" / "plugins" / "sobol_start"
SPACE = """
method.memory.percent: {type: float, low: 5, high: 100}
method.seekr.head_budget: {type: int, low: 1, high: 8}
"""
FRESH = """
import time
from optuna.samplers import RandomSampler
def mine(search):
    return RandomSampler(seed=time.perf_counter_ns() % 2**32)
def no_sampler(search):
    return 3
def broken(search):
    raise RuntimeError("two\\nlines")
class OneGoal(RandomSampler):
    def __init__(self, search):
        if len(search.directions) > 1:
            raise ValueError("one objective only")
        super().__init__(search.seed)
"""
PRUNERS = """
from optuna.pruners import BasePruner
class Lowest(BasePruner):
    def __init__(self, margin=0.0):
        self.margin = margin
    def prune(self, study, trial):
        others = [one for one in study.trials if one.number != trial.number]
        assert all(one.intermediate_values.keys() == trial.intermediate_values.keys() for one in others)
        own = trial.intermediate_values[trial.last_step]
        return own + self.margin < min(one.intermediate_values[trial.last_step] for one in others)
class Broken(BasePruner):
    def prune(self, study, trial):
        raise KeyError("no such rung")
"""


def config_of(beside: Path, study: Mapping[str, Any]) -> Config:
    values = {
        "name": "own",
        "stream": {"tasks": ["star", "last", "paren"]},
        "study": {"trials": 6, "bounds": [], "racing": {"rule": "none"}, **study},
    }
    return parse_config(with_plugins(values, beside, "own"), "own")


@pytest.fixture
def space(tmp_path: Path) -> Any:
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "mine.py").write_text(FRESH + PRUNERS)
    return load_space(tmp_path / "space.yaml")


def test_a_study_with_a_sampler_of_ones_own_proposes_the_same_wherever_it_is_killed(tmp_path: Path, space: Any) -> None:
    config = config_of(SOBOL, {"sampler": "./sobol_start.py:sobol_start", "sampler_options": {"start": 3}})
    assert config.study.sampler == "sobol_start" and "as sampler sobol_start" in imports(config.model_dump())[0]
    assert require_sampler(config, space), "it proposes the same again"
    drain(tmp_path / "one", config, space)
    for trials in (2, 3, 6):  # a new queue, and a new sampler, for every single trial
        study = config.study.model_copy(update={"trials": trials})
        drain(tmp_path / "again", config.model_copy(update={"study": study}), space)
    assert outcomes(tmp_path / "again", config, space) == outcomes(tmp_path / "one", config, space)


def test_what_is_searched_is_no_part_of_what_is_learned() -> None:
    plain, own = config_of(SOBOL, {}), config_of(SOBOL, {"sampler": "./sobol_start.py:sobol_start"})
    assert fingerprint(plain) == fingerprint(own)


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ({"sampler": "./mine.py:no_sampler"}, "study.sampler: no_sampler makes no sampler"),
        ({"sampler": "./mine.py:broken"}, "study.sampler: broken fails: RuntimeError: two lines"),
        ({"sampler": "./mine.py:nothing"}, "has no nothing"),
        ({"sampler": "./mine.py:OneGoal", "objectives": {"op": "maximize", "bwt": "maximize"}}, "one objective"),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, space: Any, study: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        require_sampler(config_of(tmp_path, study), space)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_sampler_that_draws_from_elsewhere_is_found_out(tmp_path: Path, space: Any) -> None:
    assert not require_sampler(config_of(tmp_path, {"sampler": "./mine.py:mine"}), space)


def test_a_pruner_of_ones_own_stops_trials_at_equal_positions(tmp_path: Path, space: Any) -> None:
    pruning = {"rule": "./mine.py:Lowest", "grace_tasks": 1, "startup_trials": 2, "options": {"margin": 0.0}}
    config = config_of(tmp_path, {"sampler": "random", "pruning": pruning})
    drain(tmp_path / "study", config, space, lambda run, done: 50.0 - 10 * (run.number or 0) - done, judged=True)
    states = [state for _, state, *_ in outcomes(tmp_path / "study", config, space)]
    assert states == ["COMPLETE", "COMPLETE", *["PRUNED"] * 4]
    assert not Judge(config, tmp_path / "nothing").ends_race([])


@pytest.mark.parametrize(
    ("pruning", "objectives", "said"),
    [
        ({"rule": "./mine.py:Broken"}, {"op": "maximize"}, "fails: KeyError: 'no such rung'"),
        ({"rule": "./mine.py:broken"}, {"op": "maximize"}, "fails: TypeError"),
        ({"rule": "./mine.py:Lowest", "options": {"edge": 1}}, {"op": "maximize"}, "fails: TypeError"),
        ({"rule": "median", "options": {"edge": 1}}, {"op": "maximize"}, "median has none"),
        ({"rule": "./mine.py:Lowest"}, {"op": "maximize", "replay_tokens": "minimize"}, "follow one objective"),
    ],
)
def test_a_pruner_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, space: Any, pruning: dict[str, Any], objectives: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        require_comparable(config_of(tmp_path, {"pruning": pruning, "objectives": objectives}))
    assert said in str(refused.value) and "\n" not in str(refused.value)
