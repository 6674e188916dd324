"""The searcher between Ray Tune and the queue: what Tune reports becomes what the journal says. No Ray is started."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from seekr_tune.config import Config
from seekr_tune.errors import DataError, StudyError
from seekr_tune.experiment import with_values
from seekr_tune.records import read_record, write_record
from seekr_tune.study.directory.layout import result_path, stop_path
from seekr_tune.study.directory.lock import StudyLock
from seekr_tune.study.life.searcher import QueueSearcher, StopWhen
from seekr_tune.study.life.stopping import StopFile
from seekr_tune.study.runs.console import ProgressConsole, TaskProgress
from seekr_tune.study.runs.outcome import new_record
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.queue import TrialQueue, open_study
from seekr_tune.study.search.space import Space
from tests.study.conftest import Finish


class Bench:
    """A searcher over a study of three trials, two at a time."""

    def __init__(self, directory: Path, config: Config, space: Space) -> None:
        self.directory, self.config = directory, with_values(config, {"study.trials": 3})
        self.console = Console(record=True, width=200)
        self.queue = TrialQueue(open_study(directory, self.config, space), space, self.config, directory)
        self.ledgers = 0
        progress = ProgressConsole(self.console, total=3)
        self.stop = StopFile(stop_path(directory))
        self.searcher = QueueSearcher(self.queue, self.stop, 2, progress, self._count)

    def ask(self, ray_id: str) -> TrialRequest:
        return TrialRequest(**json.loads(self.searcher.suggest(ray_id)["request"]))

    def begin(self, request: TrialRequest) -> None:
        write_record(result_path(self.directory, request.key), new_record(self.config, request))

    def lose(self, ray_id: str) -> TrialRequest | None:
        """The process of a run dies; what is handed out next."""
        self.searcher.on_trial_complete(ray_id, None, error=True)
        suggested = self.searcher.suggest(f"{ray_id}'")
        return None if isinstance(suggested, str) else TrialRequest(**json.loads(suggested["request"]))

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.queue.study.trials]

    def _count(self) -> None:
        self.ledgers += 1


@pytest.fixture
def bench(tmp_path: Path, config: Config, space: Space) -> Bench:
    return Bench(tmp_path / "study", config, space)


def test_no_more_runs_than_the_machine_holds_are_handed_out(bench: Bench, finish: Finish) -> None:
    first = bench.ask("a")
    bench.ask("b")
    assert bench.searcher.suggest("c") is None
    finish(bench.config, first)
    bench.searcher.on_trial_complete("a", {})
    assert bench.ask("c").key == "trial-0002"
    assert bench.searcher.suggest("d") is None
    assert bench.states() == ["COMPLETE", "RUNNING", "RUNNING"]


def test_the_searcher_says_when_all_is_handed_out(bench: Bench, finish: Finish) -> None:
    for ray_id in ("a", "b", "c"):
        finish(bench.config, bench.ask(ray_id))
        bench.searcher.on_trial_complete(ray_id, {})
    assert bench.searcher.suggest("d") == QueueSearcher.FINISHED
    assert bench.ledgers == 3 and bench.queue.is_done


def test_a_finished_task_and_a_finished_run_are_shown(bench: Bench, finish: Finish) -> None:
    record = finish(bench.config, bench.ask("a"), op=62.5)
    bench.searcher.on_trial_result("a", {**TaskProgress.of(record).as_metrics(), "time_total_s": 1.0})
    bench.searcher.on_trial_result("a", {"ended": True})
    bench.searcher.on_trial_complete("a", {})
    shown = bench.console.export_text().splitlines()
    assert shown[0].startswith("trial-0000  task 3/3 paren  op 62.5 %")
    assert shown[1].startswith("trial-0000  finished (1/3)  op 62.5 %  4 replayed samples")
    assert "attention_weight=1000" in shown[1] and len(shown) == 2


def test_a_run_whose_process_is_lost_is_handed_out_again_until_it_has_failed(bench: Bench) -> None:
    request = bench.ask("a")
    bench.begin(request)
    assert bench.config.training.max_failures == 2
    assert bench.lose("a") == bench.lose("a'") == request
    assert bench.states() == ["RUNNING"]
    assert bench.lose("a''") != request
    record = read_record(result_path(bench.directory, request.key))
    assert record.status == "failed" and record.error is not None and "training.max_failures" in record.error
    assert bench.states() == ["FAIL", "RUNNING"]


def test_a_run_that_is_lost_before_it_wrote_anything_has_failed_too(bench: Bench) -> None:
    request = bench.ask("a")
    for ray_id in ("a", "a'", "a''"):
        bench.lose(ray_id)
    assert read_record(result_path(bench.directory, request.key)).status == "failed"


def test_a_run_that_is_ended_early_stays_unfinished(bench: Bench) -> None:
    request = bench.ask("a")
    bench.begin(request)
    bench.searcher.on_trial_complete("a", {"tasks_done": 1})
    assert bench.searcher.suggest("b") == QueueSearcher.FINISHED, "a launch that ends early begins nothing new"
    assert bench.states() == ["RUNNING"] and not bench.queue.is_done


def test_nothing_is_handed_out_once_somebody_asked_to_stop(bench: Bench) -> None:
    bench.ask("a")
    bench.stop.ask()
    assert bench.searcher.suggest("b") == QueueSearcher.FINISHED
    assert bench.states() == ["RUNNING"]


def test_a_pruned_run_has_ended(bench: Bench) -> None:
    request = bench.ask("a")
    record = new_record(bench.config, request).model_copy(update={"status": "pruned", "tasks_done": 2})
    write_record(result_path(bench.directory, request.key), record)
    bench.searcher.on_trial_complete("a", {})
    assert bench.states() == ["PRUNED"] and bench.ledgers == 1
    assert "trial-0000  pruned (1/3)  after task 2/3" in bench.console.export_text()


def test_what_cannot_be_noted_ends_the_launch(bench: Bench, finish: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune would take it for an error of the trial, and run that again."""
    finish(bench.config, bench.ask("a"))

    def full(request: TrialRequest) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bench.queue, "finish", full)
    bench.searcher.on_trial_complete("a", {})
    assert isinstance(bench.searcher.error, OSError) and bench.searcher.error.errno == errno.ENOSPC
    assert bench.searcher.suggest("b") is None


class Waiting:
    """A queue whose second run waits for the first one to end."""

    def __init__(self) -> None:
        self.handed = 0
        self.has_ended = False

    @property
    def is_done(self) -> bool:
        return self.handed == 2

    def next(self) -> TrialRequest | None:
        if self.handed == 2 or (self.handed == 1 and not self.has_ended):
            return None
        self.handed += 1
        return TrialRequest(f"trial-000{self.handed}", "trial")

    def link(self, request: TrialRequest, ray_trial_id: str) -> None: ...


def test_a_queue_that_waits_is_asked_again_and_not_given_up() -> None:
    queue: Any = Waiting()
    searcher = QueueSearcher(queue, lambda: False, 4, ProgressConsole(None, total=2), lambda: None)
    assert json.loads(searcher.suggest("a")["request"])["key"] == "trial-0001"
    assert searcher.suggest("b") is None
    queue.has_ended = True
    assert json.loads(searcher.suggest("b")["request"])["key"] == "trial-0002"
    assert searcher.suggest("c") == QueueSearcher.FINISHED


def test_data_that_cannot_be_used_ends_the_study_and_fails_no_trial(bench: Bench) -> None:
    bench.ask("a")
    bench.searcher.on_trial_result("a", {"refusal": "DataError", "message": "no folder 'star'"})
    assert isinstance(bench.searcher.error, DataError) and str(bench.searcher.error) == "no folder 'star'"
    assert bench.searcher.suggest("b") is None
    bench.searcher.on_trial_complete("a", {})
    assert bench.states() == ["RUNNING"]


def test_a_study_that_was_moved_ends_tune_at_once(bench: Bench) -> None:
    (bench.directory / "study").mkdir(exist_ok=True)
    with StudyLock(bench.directory) as lock:
        stop_when = StopWhen(bench.searcher, lock.require_there)
        assert not stop_when.stop_all()
        bench.directory.rename(bench.directory.with_name("other"))
        with pytest.raises(StudyError, match="was moved or deleted while it was worked on"):
            stop_when.stop_all()
        assert isinstance(pickle.loads(pickle.dumps(stop_when)), StopWhen)


def test_tune_may_pickle_the_searcher(bench: Bench) -> None:
    assert isinstance(pickle.loads(pickle.dumps(bench.searcher)), QueueSearcher)
