"""The queue over an Optuna journal: every trial once, whatever is killed between. No Ray, no training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.experiment import with_values
from seekr_tune.records import score_cells, write_record
from seekr_tune.study.directory.layout import journal_path, result_path
from seekr_tune.study.runs.outcome import run_failed
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.queue import TrialQueue, open_study
from seekr_tune.study.search.space import Space, load_space
from tests.study.conftest import Finish


class Desk:
    """One study directory whose queue can be lost and opened again."""

    def __init__(self, directory: Path, config: Config, space: Space, finish: Finish) -> None:
        self.directory, self.config, self.space, self._finish = directory, config, space, finish

    def open(self, **study: Any) -> TrialQueue:
        self.config = with_values(self.config, {f"study.{name}": value for name, value in study.items()})
        return TrialQueue(open_study(self.directory, self.config, self.space), self.space, self.config, self.directory)

    def write(self, request: TrialRequest, **result: Any) -> None:
        self._finish(request.config(self.config), request, **result)

    def run(self, queue: TrialQueue, **result: Any) -> TrialRequest:
        request = queue.next()
        assert request is not None
        self.write(request, **result)
        queue.finish(request)
        return request

    def states(self) -> list[str]:
        trials = open_study(self.directory, self.config, self.space).trials
        return [trial.state.name for trial in trials]


@pytest.fixture
def desk(tmp_path: Path, config: Config, space: Space, finish: Finish) -> Desk:
    return Desk(tmp_path / "study", config, space, finish)


def drain(desk: Desk, queue: TrialQueue) -> list[TrialRequest]:
    requests: list[TrialRequest] = []
    while queue.num_left:
        requests.append(desk.run(queue, op=50.0 + len(requests)))
    assert queue.next() is None
    return requests


def test_the_first_trial_has_the_published_settings(desk: Desk) -> None:
    request = desk.open().next()
    assert request is not None
    assert (request.key, request.role, request.number) == ("trial-0000", "trial", 0)
    assert request.values == {"method.memory.percent": 10.0, "method.seekr.attention_weight": 1000.0}
    assert request.config(desk.config).method.seekr.attention_weight == 1000.0


def test_a_study_is_as_many_distinct_trials_as_asked_for(desk: Desk) -> None:
    requests = drain(desk, desk.open(trials=6))
    assert [request.key for request in requests] == [f"trial-{number:04d}" for number in range(6)]
    assert len({tuple(request.values.values()) for request in requests}) == 6
    assert desk.states() == ["COMPLETE"] * 6


def test_bounds_come_before_new_trials_and_never_enter_the_search(desk: Desk) -> None:
    requests = drain(desk, desk.open(trials=2, bounds=("seqft", "joint")))
    assert [request.key for request in requests] == ["bound-seqft", "bound-joint", "trial-0000", "trial-0001"]
    assert requests[0].config(desk.config).method.name == "seqft" and requests[0].params == {}
    assert len(desk.states()) == 2


@pytest.mark.parametrize("killed_after", [0, 1, 3, 5])
def test_a_killed_study_goes_on_with_the_same_trials(desk: Desk, killed_after: int) -> None:
    queue = desk.open(trials=6)
    before = [desk.run(queue, op=50.0 + number) for number in range(killed_after)]
    open_ones = [queue.next(), queue.next()] if killed_after < 5 else [queue.next()]
    after = drain(desk, desk.open())
    assert after[: len(open_ones)] == open_ones
    keys = [request.key for request in [*before, *after]]
    assert keys == [f"trial-{number:04d}" for number in range(6)]
    assert desk.states() == ["COMPLETE"] * 6


def test_a_resumed_study_proposes_what_the_uninterrupted_one_would(desk: Desk, tmp_path: Path) -> None:
    once = [request.values for request in drain(desk, desk.open(trials=6))]
    desk.directory = tmp_path / "other" / "study"

    resumed = []
    for number in range(6):  # a new queue for every single trial
        queue = desk.open()
        request = queue.next()
        assert request is not None
        resumed.append(request.values)
        _pretend(desk, request, op=50.0 + number)
    assert resumed == once


def _pretend(desk: Desk, request: TrialRequest, op: float) -> None:
    """Finished on disk, but the driver was killed before it could tell."""
    desk.write(request, op=op)  # writes below tmp_path / "study"
    written = result_path(desk.directory.parent.parent / "study", request.key)
    target = result_path(desk.directory, request.key)
    target.parent.mkdir(parents=True, exist_ok=True)
    written.replace(target)


def test_a_trial_that_finished_before_the_kill_is_told_and_not_run_again(desk: Desk) -> None:
    queue = desk.open(trials=2)
    first = queue.next()
    assert first is not None
    desk.write(first, op=61.0)
    second = desk.open().next()
    assert second is not None and second.key == "trial-0001"
    study = open_study(desk.directory, desk.config, desk.space)
    assert study.trials[0].value == 61.0


def test_a_trial_that_was_killed_while_it_was_proposed_gets_the_same_parameters(desk: Desk) -> None:
    whole = desk.open(trials=2)
    desk.run(whole)
    expected = whole.next()
    assert expected is not None
    journal = journal_path(desk.directory)
    lines = journal.read_bytes().splitlines(keepends=True)
    asked = max(index for index, line in enumerate(lines) if b'"method.seekr.attention_weight"' in line)
    journal.write_bytes(b"".join(lines[:asked]) + lines[asked][:7])  # one parameter is there, the other line is cut
    assert desk.open().next() == expected


def test_the_journal_names_the_objectives_for_those_who_plot_it(desk: Desk) -> None:
    desk.open(objectives={"bwt": "maximize", "op": "maximize"})
    assert open_study(desk.directory, desk.config, desk.space).metric_names == ["bwt", "op"]


def test_a_stale_journal_lock_does_not_delay_a_resume(desk: Desk) -> None:
    desk.run(desk.open(trials=2))
    lock = journal_path(desk.directory).with_name("journal.log.lock")
    lock.symlink_to(journal_path(desk.directory))
    assert desk.open().next() is not None  # Optuna would wait 30 s for it


def test_failed_and_not_finite_results_are_told_as_failures(desk: Desk) -> None:
    queue = desk.open(trials=3)
    crashed, diverged = queue.next(), queue.next()
    assert crashed is not None and diverged is not None
    run_failed(desk.directory / "trials" / crashed.key, desk.config, crashed, "RuntimeError: no")
    queue.finish(crashed)
    desk.write(diverged)
    path = result_path(desk.directory, diverged.key)
    record = queue.record(diverged.key)
    assert record is not None
    unscored = score_cells(record.tasks, {"eval": np.full((3, 3), np.nan)}, {})
    write_record(path, record.model_copy(update={"scores": unscored}))
    queue.finish(diverged)
    desk.run(queue)
    assert desk.states() == ["FAIL", "FAIL", "COMPLETE"]
    assert desk.open().num_left == 0


def test_a_failed_bound_is_tried_again(desk: Desk) -> None:
    queue = desk.open(trials=1, bounds=("seqft",))
    bound = queue.next()
    assert bound is not None
    run_failed(desk.directory / "trials" / bound.key, bound.config(desk.config), bound, "lost")
    queue.finish(bound)
    again = desk.open().next()
    assert again == bound


def test_telling_twice_changes_nothing(desk: Desk) -> None:
    queue = desk.open(trials=1)
    request = desk.run(queue, op=70.0)
    queue.finish(request)
    assert open_study(desk.directory, desk.config, desk.space).trials[0].value == 70.0


def test_several_objectives_make_a_pareto_search(desk: Desk) -> None:
    objectives = {"op": "maximize", "distinct_replayed_samples": "minimize"}
    queue = desk.open(trials=3, objectives=objectives)
    for op, samples in ((50.0, 4), (60.0, 8), (40.0, 8)):
        desk.run(queue, op=op, samples=samples)
    study = open_study(desk.directory, desk.config, desk.space)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [trial.values for trial in study.trials] == [[50.0, 4.0], [60.0, 8.0], [40.0, 8.0]]
    assert {trial.number for trial in study.best_trials} == {0, 1}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc", "nsgaii", "nsgaiii", "cmaes"])
def test_every_sampler_proposes_distinct_trials_over_restarts(
    desk: Desk, sampler: str, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    proposed = []
    with caplog.at_level(logging.WARNING):
        for number in range(9):
            queue = desk.open(trials=9, sampler=sampler)
            proposed.append(tuple(desk.run(queue, op=50.0 + number % 4).values.values()))
    assert len(set(proposed)) == 9
    assert not [str(warning.message) for warning in recwarn if "optuna" in str(warning.filename)]


def test_a_small_grid_is_used_up_before_anything_is_repeated(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("method.seekr.selection: {type: categorical, choices: [importance, sensitivity, random, all]}")
    desk.space = load_space(path)
    requests = drain(desk, desk.open(trials=4))
    assert sorted(request.values["method.seekr.selection"] for request in requests) == [
        "all",
        "importance",
        "random",
        "sensitivity",
    ]
    queue = desk.open(trials=5)  # nothing new is left: the fifth takes over a known result
    assert queue.next() is None and queue.is_done
    fifth = open_study(desk.directory, desk.config, desk.space).trials[4]
    known = {request.key: 50.0 + number for number, request in enumerate(requests)}
    assert fifth.value == known[fifth.user_attrs["same_as"]]


def test_more_trials_extend_a_finished_study(desk: Desk) -> None:
    drain(desk, desk.open(trials=2))
    assert [request.key for request in drain(desk, desk.open(trials=4))] == ["trial-0002", "trial-0003"]


def test_the_ray_trial_is_noted_in_the_journal(desk: Desk) -> None:
    queue = desk.open(trials=1)
    request = queue.next()
    assert request is not None
    queue.link(request, "abc_123")
    attributes = open_study(desk.directory, desk.config, desk.space).trials[0].user_attrs
    assert attributes["trial"] == "trial-0000" and attributes["ray_trial_id"] == "abc_123"
    assert attributes["record"] == "trials/trial-0000/result.json"


def test_a_changed_experiment_or_space_is_refused_by_name(desk: Desk, tmp_path: Path) -> None:
    desk.open()
    desk.config = with_values(desk.config, {"recipe.epochs": 2})
    with pytest.raises(StudyError, match=r"recipe\.epochs changed since the study was started"):
        desk.open()
    desk.config = with_values(desk.config, {"recipe.epochs": 1, "training.max_failures": 5})
    desk.open()
    path = tmp_path / "three.yaml"
    path.write_text("method.memory.percent: {type: float, low: 5, high: 30, published: 10}")
    desk.space = load_space(path)
    with pytest.raises(StudyError, match=r"method\.memory\.percent, method\.seekr\.attention_weight changed"):
        desk.open()


def test_an_unknown_objective_is_refused(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"study.objectives: there is no column 'accuracy'"):
        desk.open(objectives={"accuracy": "maximize"})


def test_no_trial_is_left_running_when_all_have_ended(desk: Desk) -> None:
    drain(desk, desk.open(trials=5))
    study = open_study(desk.directory, desk.config, desk.space)
    assert not study.get_trials(states=[TrialState.RUNNING, TrialState.WAITING])
    assert isinstance(study, optuna.Study)
