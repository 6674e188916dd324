"""Values at positions, ranks, and who is hopeless."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seekr_tune.config import Config, Direction, PruningConfig, StoppingRule
from seekr_tune.records import score_cells
from seekr_tune.study.runs.objectives import prefix
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.fidelity import at_position, is_hopeless, is_rung, ranks
from seekr_tune.study.search.objectives import objective_value
from tests.study.searching import pretend

UP: Direction = "maximize"
DOWN: Direction = "minimize"


def test_a_position_is_the_mean_over_replicates_after_as_many_tasks(config: Config, tmp_path: Path) -> None:
    runs = [TrialRequest(f"trial-0000-{n}", "trial", {}, 0, "trial-0000", n) for n in range(2)]
    records = [pretend(tmp_path, config, run, lambda run, done: 10.0 * done + 3.0 * run.replicate) for run in runs]
    found = at_position(records, {"op": UP, "distinct_replayed_samples": DOWN})
    assert found == {
        (0, 1): (10.0, 4.0),
        (0, 2): (20.0, 8.0),
        (0, 3): (30.0, 12.0),
        (1, 1): (11.5, 4.0),
        (1, 2): (21.5, 8.0),
        (1, 3): (31.5, 12.0),
    }


def test_a_prefix_scores_the_tasks_that_were_learned_only(config: Config, tmp_path: Path) -> None:
    record = pretend(tmp_path, config, TrialRequest("trial-0000", "trial"), lambda run, done: 0.0)
    matrix = np.array([[90.0, 5.0, 5.0], [70.0, 80.0, 5.0], [10.0, 20.0, 30.0]])
    record = record.model_copy(update={"scores": score_cells(record.tasks, {"eval": matrix}, {})})
    assert [objective_value(prefix(record, done), "op") for done in (1, 2, 3)] == [90.0, 75.0, 20.0]


def test_without_scores_in_the_middle_there_is_no_value_there(config: Config, tmp_path: Path) -> None:
    record = pretend(tmp_path, config, TrialRequest("trial-0000", "trial"), lambda run, done: 0.0)
    matrix = np.array([[90.0, np.nan, np.nan], [np.nan, 80.0, np.nan], [10.0, 20.0, 30.0]])
    record = record.model_copy(update={"scores": score_cells(record.tasks, {"eval": matrix}, {})})
    assert at_position([record], {"op": UP}) == {(0, 1): (90.0,), (0, 3): (20.0,)}


def test_ranks_are_the_fronts_one_after_the_other() -> None:
    values = [(90.0, 10.0), (80.0, 5.0), (80.0, 10.0), (70.0, 12.0), (90.0, 10.0)]
    assert ranks(values, [UP, DOWN]) == [1, 1, 2, 3, 1]
    assert ranks([(3.0,), (1.0,), (3.0,), (2.0,)], [UP]) == [1, 3, 1, 2]
    assert ranks([(3.0,), (1.0,)], [DOWN]) == [2, 1]


@pytest.mark.parametrize(("own", "hopeless"), [(4.9, True), (5.0, False), (9.0, False)])
def test_worse_than_the_median_is_hopeless(own: float, hopeless: bool) -> None:
    rule = PruningConfig(rule="median", startup_trials=4)
    others = [(1.0,), (4.0,), (6.0,), (10.0,)]
    assert is_hopeless((own,), others, [UP], rule) is hopeless
    assert is_hopeless((-own,), [(-value,) for (value,) in others], [DOWN], rule) is hopeless
    assert not is_hopeless((own,), others[:3], [UP], rule), "too few to compare with"


def test_halving_keeps_the_best_share_and_its_equals() -> None:
    rule = PruningConfig(rule="halving", startup_trials=1, reduction_factor=3)
    values = [float(value) for value in range(6)]
    kept = [
        own for own in values if not is_hopeless((own,), [(other,) for other in values if other != own], [UP], rule)
    ]
    assert kept == [4.0, 5.0]  # ceil(6 / 3)
    assert not is_hopeless((5.0,), [(5.0,), (5.0,), (1.0,)], [UP], rule)


def test_what_nobody_beats_is_never_hopeless() -> None:
    others = [(90.0, 50.0), (80.0, 20.0), (70.0, 60.0), (60.0, 70.0)]
    rules: tuple[StoppingRule, ...] = ("median", "halving")
    for rule in rules:
        strict = PruningConfig(rule=rule, startup_trials=1)
        assert not is_hopeless((10.0, 1.0), others, [UP, DOWN], strict)
        assert is_hopeless((59.0, 71.0), others, [UP, DOWN], strict)


def test_rungs_grow_by_the_factor() -> None:
    halving = PruningConfig(rule="halving", grace_tasks=2, reduction_factor=2)
    assert [tasks for tasks in range(1, 20) if is_rung(tasks, halving)] == [2, 4, 8, 16]
    median = PruningConfig(rule="median", grace_tasks=2)
    assert [tasks for tasks in range(1, 5) if is_rung(tasks, median)] == [2, 3, 4]
