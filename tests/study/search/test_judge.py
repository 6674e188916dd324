"""Which trials are compared with each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.experiment import with_values
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.layout import trial_key
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.judge import Judge
from tests.study.searching import pretend

OPS = {"seekr": (80.0, 82.0, 84.0), "replay": (40.0, 45.0, 50.0)}


@pytest.fixture
def seeds(config: Config) -> Config:
    """Two replicates; who is worse than the median of two others gets no second one."""
    return with_values(config, {"study.replicates.seeds": [0, 1], "study.racing.startup_trials": 2})


def first_replicates(directory: Path, config: Config) -> dict[str, list[TrialRecord]]:
    """The first replicates of three configurations of a strong method and of a weak one, by method."""
    found: dict[str, list[TrialRecord]] = {name: [] for name in OPS}
    for number, (name, op) in enumerate((name, op) for name, ops in OPS.items() for op in ops):
        request = TrialRequest(trial_key(number), "trial", {"method.name": name}, number, trial_key(number))
        found[name].append(pretend(directory, config, request, lambda request, done, op=op: op))
    return found


def test_a_weak_method_loses_its_trials_to_a_strong_one_where_the_best_of_all_is_chosen(
    seeds: Config, tmp_path: Path
) -> None:
    records, judge = first_replicates(tmp_path, seeds), Judge(seeds, tmp_path)
    assert [judge.ends_race([record]) for record in records["replay"]] == [True, True, True]


def test_trials_race_within_their_method_where_the_best_of_each_is_chosen(seeds: Config, tmp_path: Path) -> None:
    config = with_values(seeds, {"study.final.for_each": ["method.name"]})
    records, judge = first_replicates(tmp_path, config), Judge(config, tmp_path)
    for name in OPS:
        assert [judge.ends_race([record]) for record in records[name]] == [True, False, False]
