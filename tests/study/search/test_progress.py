"""Where a study stands: values over replicates, the front, what is still to come, how long it takes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from seekr_tune.config import Config
from seekr_tune.experiment import with_values
from seekr_tune.records import TrialRecord, score_cells
from seekr_tune.study.runs.outcome import new_record
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.progress import best_of, configuration_values, num_waiting, pareto_front, seconds_left

Run = Callable[..., TrialRecord]


@pytest.fixture
def run(config: Config) -> Run:
    """`run("trial-0001", replicate=1, op=40.0)`: a record of three tasks."""

    def make(
        key: str, replicate: int = 0, op: float = 50.0, status: str = "finished", done: int = 3, wall: float = 10.0
    ) -> TrialRecord:
        name = f"{key}-r{replicate}" if replicate else key
        role = "bound" if key.startswith("bound") else "trial"
        request = TrialRequest(name, role, {}, None, key, replicate)
        scores = np.full((3, 3), np.nan)
        scores[-1] = op
        cells = score_cells(config.stream.tasks, {"eval": scores}, {}) if status == "finished" else ()
        changes = {"status": status, "tasks_done": done, "wall_seconds": wall, "scores": cells}
        return new_record(config, request).model_copy(update=changes)

    return make


@pytest.fixture
def replicated(config: Config) -> Config:
    """Three trials and a bound, over two seeds and two memory draws."""
    return with_values(
        config,
        {
            "study.trials": 3,
            "study.bounds": ["seqft"],
            "study.replicates.seeds": [0, 1],
            "study.replicates.memory_draws": 2,
        },
    )


def test_a_value_is_the_mean_over_all_replicates_or_nothing(replicated: Config, run: Run) -> None:
    whole = [run("trial-0000", number, op=op) for number, op in enumerate((10.0, 20.0, 30.0, 80.0))]
    partly = [run("trial-0001", 0, op=99.0), run("trial-0001", 1, status="running", done=1)]
    assert configuration_values([*whole, *partly, run("bound-seqft")], replicated) == {"trial-0000": (35.0,)}


def test_the_best_is_so_by_the_first_objective() -> None:
    values = {"a": (3.0, 1.0), "b": (5.0, 0.0), "c": (5.0, 9.0), "d": (1.0, 9.0)}
    assert best_of(values, "maximize") == "b", "the earliest of equals"
    assert best_of(values, "minimize") == "d"
    assert best_of({}, "maximize") is None


def test_the_front_is_what_no_other_one_beats() -> None:
    rng = np.random.default_rng(0)
    points = {f"t{number}": tuple(map(float, rng.integers(0, 6, size=2))) for number in range(30)}
    front = pareto_front(points, ["maximize", "minimize"])
    for key, (op, samples) in points.items():
        beaten = any(o >= op and s <= samples and (o > op or s < samples) for o, s in points.values())
        assert (key in front) != beaten
    assert 1 < len(front) < len(points)


def test_runs_that_may_still_come_are_counted_trial_by_trial(replicated: Config, run: Run) -> None:
    assert num_waiting([], replicated, ()) == 3 * 4 + 2, "a bound has no memory to draw"
    begun = [run("bound-seqft"), run("trial-0000"), run("trial-0001", status="running", done=1)]
    assert num_waiting(begun, replicated, ()) == 1 + 3 + 3 + 4
    for status in ("pruned", "failed"):
        ended = [run("bound-seqft"), run("trial-0000", status=status, done=2)]
        assert num_waiting(ended, replicated, ()) == 1 + 2 * 4, "its other replicates do not come"
    assert num_waiting(begun, replicated, {"trial-0000"}) == 1 + 3 + 4, "a race ended it"
    assert num_waiting(begun, replicated, {"trial-0000", "trial-0002"}) == 1 + 3, "it took over a known result"
    revived = [run("trial-0000").model_copy(update={"revived": True}), run("bound-seqft"), run("bound-seqft", 1)]
    assert num_waiting(revived, replicated, {"trial-0000"}) == 3 + 2 * 4, "it was taken up again after the race"


def test_nothing_waits_when_all_is_done(replicated: Config, run: Run) -> None:
    trials = [run(f"trial-000{number}", replicate) for number, replicate in product(range(3), range(4))]
    assert num_waiting([*trials, run("bound-seqft"), run("bound-seqft", 1)], replicated, ()) == 0


def test_the_time_left_counts_what_is_begun_in_part(run: Run) -> None:
    records = [run("trial-0000", wall=30.0), run("trial-0001", wall=60.0), run("trial-0002", status="running", done=1)]
    assert seconds_left(records, waiting=4, slots=2) == pytest.approx((4 + 2 / 3) * 45.0 / 2)
    assert seconds_left(records[2:], waiting=4, slots=2) is None, "nothing is known before a run was finished"
