from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.config import Config
from seekr_tune.experiment import with_values
from seekr_tune.records import read_steps
from seekr_tune.study.plan.workload import Rates, RunWork, TaskRates, TaskSize, Work, run_work, shared_work
from seekr_tune.study.runs.single import run_experiment
from tests.study.conftest import TASKS

SIZES = {task: TaskSize(24, {"eval": 8}) for task in TASKS}
RATES = Rates(loading=100.0, replay_step=10.0, tasks={task: TaskRates(1.0, 1000.0, 10000.0) for task in TASKS})


def work(config: Config, **values: Any) -> RunWork:
    named = {key.replace("__", "."): value for key, value in values.items()}
    return run_work(with_values(config, named), SIZES, RATES)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"evaluation.matrix": "full", "recipe.epochs": [1, 3, 2]},
        {"method.semantics": "official", "recipe.micro_batch_size": 4, "method.memory.percent": 20},
        {"method.name": "joint", "recipe.epochs": [1, 3, 2], "evaluation.matrix": "full"},
        {"method.name": "derpp", "recipe.replay_batch_size": 2, "evaluation.matrix": "seen"},
    ],
    ids=["as it is", "epochs", "official", "joint", "derpp"],
)
def test_a_run_does_what_was_counted(config: Config, tmp_path: Path, values: dict[str, Any]) -> None:
    config = with_values(config, values)
    record = run_experiment(config, tmp_path)
    done = Counter(step.kind for step in read_steps(tmp_path / "steps.jsonl"))
    counted = run_work(config, SIZES, RATES).whole
    assert (counted.new_steps, counted.replay_steps) == (done["new"], done["replay"])
    assert counted.readings == sum(row.stored_samples for row in record.replay)
    assert counted.stages == len(record.timing)
    assert counted.prompts == 8 * len(record.scores)


def test_time_is_counts_times_rates(config: Config) -> None:
    whole = work(config).whole
    scored = 3 + 2  # after each task itself, and after the last one the two others
    expected = 100 + 1 * whole.new_steps + 10 * whole.replay_steps + 1000 * whole.readings + 10000 * scored
    assert whole.seconds == expected
    assert whole.new_steps == 3 * 24 / 8 and whole.readings == 3 * 2  # 10 % of 24 are two samples


def test_runs_that_differ_in_replay_share_their_first_stage_and_the_base_models_scores(config: Config) -> None:
    config = with_values(config, {"evaluation.matrix": "full"})
    runs = [
        work(config, method__replay_percent=5),
        work(config, method__replay_percent=20, recipe__replay_batch_size=2, memory_draw=1),
        work(config, method__name="seqft"),
    ]
    spared = shared_work(runs)
    stages = sum(run.whole.stages for run in runs) - spared.stages
    assert stages == 3 * len(TASKS) - (3 - 1)
    assert spared.new_steps == 2 * 24 / 8
    assert spared.prompts == 2 * 2 * len(TASKS) * 8  # of the base model and after the first task, twice
    assert spared.readings == 0 and spared.replay_steps == 0  # they depend on what is stored


@pytest.mark.parametrize(
    "values",
    [
        {"seed": 1},
        {"stream__tasks": TASKS[::-1]},
        {"recipe__learning_rate": 1e-3},
        {"method__name": "joint"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_runs_that_differ_in_the_first_stage_share_the_base_models_scores_only(
    config: Config, values: dict[str, Any]
) -> None:
    config = with_values(config, {"evaluation.matrix": "full"})
    spared = shared_work([work(config), work(config, **values)])
    assert (spared.stages, spared.new_steps) == (0, 0)
    assert spared.prompts == len(TASKS) * 8


def test_runs_that_read_prompts_in_another_way_share_nothing(config: Config) -> None:
    config = with_values(config, {"evaluation.matrix": "full"})
    assert shared_work([work(config), work(config, method__semantics="official")]) == Work()


def test_epochs_of_later_tasks_do_not_part_first_stages(config: Config) -> None:
    assert shared_work([work(config, recipe__epochs=[2, 1, 1]), work(config, recipe__epochs=[2, 5, 1])]).stages == 1
    assert shared_work([work(config, recipe__epochs=[1, 1, 1]), work(config, recipe__epochs=[2, 1, 1])]).stages == 0
