from __future__ import annotations

import pytest

from seekr_tune.config import Config
from seekr_tune.experiment import with_values
from seekr_tune.study.plan.calibration import calibrate
from tests.study.conftest import TASKS


def test_every_part_of_a_run_is_timed(config: Config) -> None:
    measured = calibrate(config)
    rates = measured.rates
    assert set(rates.tasks) == set(measured.sizes) == set(measured.samples) == set(TASKS)
    for task in rates.tasks.values():
        assert min(task.new_step, task.reading, task.scoring) > 0
    assert rates.loading > 0 and rates.replay_step > 0
    assert all(size.train == 24 and size.scored == {"eval": 8} for size in measured.sizes.values())
    assert measured.seconds < 30
    assert measured.device.startswith("CPU")


def test_without_replay_nothing_is_read_or_replayed(config: Config) -> None:
    rates = calibrate(with_values(config, {"method.name": "seqft"})).rates
    assert rates.replay_step == 0 and all(task.reading == 0 for task in rates.tasks.values())


def test_without_scores_nothing_is_generated(config: Config) -> None:
    measured = calibrate(with_values(config, {"evaluation.splits": []}))
    assert all(task.scoring == 0 for task in measured.rates.tasks.values())
    assert all(size.prompts == 0 for size in measured.sizes.values())


@pytest.mark.parametrize("semantics", ["corrected", "official"])
def test_a_larger_step_takes_longer(config: Config, semantics: str) -> None:
    config = with_values(config, {"method.semantics": semantics, "stream.limits.train": 400})
    small = calibrate(with_values(config, {"recipe.batch_size": 2})).rates
    large = calibrate(with_values(config, {"recipe.batch_size": 64})).rates
    for task in TASKS:
        assert large.tasks[task].new_step > small.tasks[task].new_step
