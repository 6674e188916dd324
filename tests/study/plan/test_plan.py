from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import with_values
from seekr_tune.loop.footprint import ModelSize, footprint
from seekr_tune.methods.sizes import SampleSize
from seekr_tune.models.loading import read_model_config
from seekr_tune.study.plan.calibration import Calibration
from seekr_tune.study.plan.plan import Plan, bound_configs, make_plan, plan_study, trial_configs
from seekr_tune.study.plan.workload import Rates, TaskRates, TaskSize, Work
from seekr_tune.study.search.space import Space, load_space
from tests.study.conftest import TASKS

MEASURED = Calibration(
    rates=Rates(loading=0.0, replay_step=0.0, tasks={task: TaskRates(1.0, 0.0, 0.0) for task in TASKS}),
    sizes={task: TaskSize(24, {"eval": 8}) for task in TASKS},
    samples={task: SampleSize(20, 2) for task in TASKS},
    device="a stopwatch",
    seconds=0.0,
)


def planned(config: Config, space: Space, free: float = 1e12, slots: int = 2) -> Plan:
    return make_plan(config, trial_configs(config, space), bound_configs(config), MEASURED, free, slots)


def with_study(config: Config, **values: Any) -> Config:
    return with_values(config, {f"study.{key.replace('__', '.')}": value for key, value in values.items()})


def test_runs_are_trials_times_replicates_and_bounds(config: Config, space: Space) -> None:
    config = with_study(config, trials=4, bounds=["seqft", "joint"], replicates={"seeds": [1, 2], "memory_draws": 3})
    plan = planned(config, space)
    assert (plan.trials, plan.replicates, plan.bounds) == (4, 6, 4)  # a bound has no memory that could be drawn
    assert plan.num_runs == 4 * 6 + 4
    assert plan.total.stages == (4 * 6 + 2) * len(TASKS) + 2  # joint learns all tasks in one stage
    runs_of_a_seed = 4 * 3 + 1
    assert plan.spared.stages == 2 * (runs_of_a_seed - 1)
    assert "4 trials x 6 replicates + 4 bounds = 28 runs of 3 tasks" in plan.summary()


def test_without_sharing_nothing_is_spared(config: Config, space: Space) -> None:
    plan = planned(with_study(config, share_first_stage=False), space)
    assert plan.spared == Work() and plan.to_do == plan.total
    assert plan.disk.cache == 0


def test_wall_time_is_the_work_over_the_slots(config: Config, space: Space) -> None:
    config = with_study(config, trials=4, share_first_stage=False)
    steps = len(TASKS) * 24 / 8  # of a second each
    assert planned(config, space, slots=2).wall_seconds == 4 * steps / 2
    assert planned(config, space, slots=100).wall_seconds == steps  # no run is cut
    assert planned(with_study(config, max_concurrent=1), space, slots=2).wall_seconds == 4 * steps


def test_the_published_settings_come_first_and_the_others_lie_in_the_space(config: Config, space: Space) -> None:
    configs = trial_configs(with_study(config, trials=20), space)
    assert configs[0].method.memory.percent == 10 and configs[0].method.seekr.attention_weight == 1000
    percents = {one.method.memory.percent for one in configs}
    assert len(percents) == 20 and all(5 <= percent <= 20 for percent in percents)
    assert configs == trial_configs(with_study(config, trials=20), space)  # the same plan each time


def test_configurations_that_break_a_constraint_are_not_counted(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "constraints: [stored_samples <= 9]\nmethod.replay_percent: {type: float, low: 5, high: 20, published: 20}\n"
    )
    configs = trial_configs(with_study(config, trials=10), load_space(path))
    assert len(configs) == 10 and all(round(24 * one.method.memory.percent / 100) * 3 <= 9 for one in configs)
    path.write_text("constraints: [stored_samples < 1]\nmethod.replay_percent: {type: float, low: 5, high: 20}\n")
    with pytest.raises(ConfigError, match="almost no random configuration can be tried"):
        trial_configs(with_study(config, trials=2), load_space(path))


def test_disk_is_the_checkpoints_of_all_runs(config: Config, space: Space) -> None:
    config = with_study(config, trials=1)
    (one,) = trial_configs(config, space)
    shape = read_model_config(config.model)
    assert shape is not None
    found = footprint(ModelSize.of(config.model, shape), one, [[SampleSize(20, 2)] * 2] * len(TASKS))
    plan = planned(config, space)
    steps = plan.total.new_steps + plan.total.replay_steps
    assert plan.disk.runs == 2 * found.checkpoint + 650 * steps
    assert found.checkpoint < plan.disk.least <= plan.disk.runs + plan.disk.working + found.checkpoint


def test_a_disk_or_a_quota_that_is_too_small_is_told(config: Config, space: Space) -> None:
    assert "warning" not in planned(config, space).summary()
    assert "do not fit into the 1 kB that are free" in planned(config, space, free=1e3).summary()
    tight = planned(with_study(config, disk_gigabytes=1e-6), space).summary()
    assert "cannot be removed, so the study would stop; raise study.disk_gigabytes" in tight
    plan = planned(config, space)
    enough = (plan.disk.runs + plan.disk.working + plan.disk.least) / 2 / 1e9
    summary = planned(with_study(config, disk_gigabytes=enough), space).summary()
    assert "checkpoints that nobody needs will be removed" in summary and "warning" not in summary


def test_what_may_be_spared_is_said(config: Config, space: Space) -> None:
    assert "may spare" not in planned(config, space).summary()
    assert "may spare" in planned(with_study(config, pruning__rule="median"), space).summary()
    raced = with_study(config, replicates__seeds=[0, 1])
    assert "may spare" in planned(raced, space).summary()
    assert "may spare" not in planned(with_study(raced, racing__rule="none"), space).summary()


def test_planning_writes_nothing(config: Config, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    plan = plan_study(with_study(config, trials=2), space, directory=empty / "study")
    assert list(empty.rglob("*")) == []
    assert plan.to_do.seconds > 0 and plan.disk.free > 0
    assert replace(plan, slots=1).wall_seconds > 0
