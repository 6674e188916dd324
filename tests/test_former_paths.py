"""Settings that stood elsewhere in earlier versions are understood where they stood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seekr_tune.analysis.conditions import parse_conditions
from seekr_tune.config.facts import facts, former_paths, is_read
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import dump_config, load_experiment, parse_config, with_values
from seekr_tune.study.search.resolution import Resolver
from seekr_tune.study.search.space import load_space

TASKS: dict[str, Any] = {"stream": {"tasks": ["star", "last"]}}
FORMER = """
name: former
stream: {tasks: [star, last]}
method: {replay_percent: 2, head_budget: 4, logit_weight: 0.25, attention_share: 0.3, signals: half}
study: {final: {for_each: [method.name, method.selection]}}
"""
NOW = """
name: former
stream: {tasks: [star, last]}
method:
  memory: {percent: 2}
  derpp: {logit_weight: 0.25, signals: half}
  seekr: {head_budget: 4, logit_weight: 0.25, attention_share: 0.3, signals: half}
study: {final: {for_each: [method.name, method.seekr.selection]}}
"""


def written(tmp_path: Path, text: str, name: str = "own.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_an_experiment_of_an_earlier_version_means_what_it_meant(tmp_path: Path) -> None:
    former, now = (load_experiment(written(tmp_path, text)) for text in (FORMER, NOW))
    assert former == now
    assert "replay_percent" not in dump_config(former) and parse_config(former.model_dump(mode="json"), "again") == now


def test_every_former_path_stood_below_method_and_has_a_field() -> None:
    assert len(former_paths()) == 10
    for former, now in former_paths().items():
        assert former.count(".") == 1 and former not in facts() and set(now) <= set(facts())


def test_what_is_set_over_an_experiment_wins_however_it_is_spelt(tmp_path: Path) -> None:
    path = written(tmp_path, FORMER)
    for key in ("method.replay_percent", "method.memory.percent"):
        assert load_experiment(path, [f"{key}=7"]).method.memory.percent == 7.0
    both = with_values(load_experiment(path), {"method.logit_weight": 0.75}).method
    assert both.derpp.logit_weight == both.seekr.logit_weight == 0.75
    assert load_experiment(path, ["method.attention_weight=3"]).method.seekr.attention_share is None


def test_one_setting_at_both_its_paths_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method.replay_percent and method.memory.percent are one setting; drop one"):
        parse_config({**TASKS, "method": {"replay_percent": 2, "memory": {"percent": 3}}}, "own.yaml")


def test_a_space_keeps_its_spelling_and_sets_what_is_meant(tmp_path: Path) -> None:
    text = (
        "constraints: ['method.replay_percent <= 8']\n"
        "method.name: {type: categorical, choices: [replay, derpp, seekr]}\n"
        "method.selection: {type: categorical, choices: [importance, all]}\n"
        "method.head_budget: {type: int, low: 1, high: 4}\n"
        "method.logit_weight: {type: float, low: 0.1, high: 0.9, when: {method.selection: [importance]}}\n"
    )
    space, config = load_space(written(tmp_path, text, "space.yaml")), parse_config(TASKS, "own.yaml")
    assert set(space.distributions()) == set(space.dimensions) and "method.logit_weight" in space.dimensions
    values = {"method.name": "seekr", "method.selection": "importance", "method.head_budget": 2}
    assert space.active(values) == values
    assert "method.head_budget" not in space.active({**values, "method.selection": "all"})
    assert "method.head_budget" not in space.active({**values, "method.name": "derpp"})
    quantities = Resolver(config).quantities({"method.replay_percent": 9.0})
    assert not space.constraints[0].admits(quantities) and quantities["method.memory.percent"] == 9.0


def test_a_space_does_not_search_one_setting_twice(tmp_path: Path) -> None:
    low = "{type: float, low: 1, high: 2}"
    text = f"method.replay_percent: {low}\nmethod.memory.percent: {low}\n"
    with pytest.raises(ConfigError, match=r"method.replay_percent and method.memory.percent are one setting"):
        load_space(written(tmp_path, text, "space.yaml"))


def test_a_misspelt_former_path_is_answered_with_the_nearest_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'method.memory.percent'"):
        load_space(written(tmp_path, "method.replay_precent: {type: float, low: 1, high: 2}", "space.yaml"))


def test_who_reads_a_setting_is_known_by_either_path() -> None:
    for path in ("method.replay_percent", "method.memory.percent", "recipe.replay_batch_size"):
        assert [is_read(path, name) for name in ("seqft", "joint", "replay", "seekr+ewc")] == [False, False, True, True]
    assert is_read("method.logit_weight", "derpp") and is_read("method.logit_weight", "seekr")
    assert not is_read("method.seekr.logit_weight", "derpp") and not is_read("method.head_budget", "replay")
    assert is_read("method.ewc.strength", "ewc") and not is_read("method.ewc.strength", "seekr")
    assert is_read("method.memory.percent", "ewc")  # whether it has a memory is known to the method alone


def test_a_condition_finds_the_column_by_the_former_name() -> None:
    rows = [{"trial": "1", "config.method.memory.percent": 3.0, "config.method.seekr.head_budget": "4"}]
    (condition,) = parse_conditions(["replay_percent<=5"], rows)
    assert condition.column == "config.method.memory.percent" and condition.holds(rows[0])


def test_one_setting_by_two_names_at_once_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, FORMER)
    with pytest.raises(ConfigError, match=r"method.head_budget and method.seekr.head_budget are one setting"):
        load_experiment(path, ["method.head_budget=3", "method.seekr.head_budget=2"])
    assert load_experiment(path, ["method.head_budget=3", "method.head_budget=2"]).method.seekr.head_budget == 2
