"""One run in plain Python: its files, going on after a kill, and what it refuses."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import seekr_tune.study.runs.run_directory
import seekr_tune.study.runs.trial as trial_module
from seekr_tune.analysis.ledger import read_table, read_trials
from seekr_tune.checkpoint.state import TaskOutcome
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import dump_config, load_experiment, with_values
from seekr_tune.loop.loop import StreamRun
from seekr_tune.records import TrialRecord, read_record, read_steps, score_matrix, write_record
from seekr_tune.records.heads import read_heads
from seekr_tune.study.directory.log import read_log
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.single import run_experiment
from seekr_tune.study.runs.trial import run_trial


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@contextmanager
def killed_after(tasks: int) -> Iterator[None]:
    """A run in this block dies when its n-th task has a checkpoint, before anything else is written."""

    outcomes = StreamRun.outcomes

    def dying(self: StreamRun, on_step: Any = None) -> Iterator[TaskOutcome]:
        for number, outcome in enumerate(outcomes(self, on_step), start=1):
            if number == tasks:
                raise Killed
            yield outcome

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StreamRun, "outcomes", dying)
        yield


def comparable(record: TrialRecord) -> dict[str, Any]:
    return record.model_dump(exclude={"wall_seconds", "trial", "timing"})


def steps_without_time(directory: Path) -> list[dict[str, Any]]:
    steps = read_steps(directory / "steps.jsonl")
    return [row.model_dump(exclude={"seconds", "distillation_seconds"}) for row in steps]


def test_a_run_leaves_its_settings_results_steps_and_curves(config: Config, tmp_path: Path) -> None:
    record = run_experiment(config, tmp_path / "run")
    directory = tmp_path / "run"
    assert load_experiment(directory / "config.yaml") == config
    assert read_record(directory / "result.json") == record
    assert (record.role, record.status, record.tasks_done) == ("run", "finished", 3)
    assert record.wall_seconds > 0 and record.num_heads and record.num_layers
    heads = read_heads(directory / "result.json")
    assert heads.num_rows == 3 * record.num_layers * record.num_heads
    assert read_table(directory, "heads").drop_columns("trial") == heads
    assert [row.stored_samples for row in record.replay] == [2, 2, 2]
    assert score_matrix(record, "eval").shape == (3, 3)
    assert {row.task_index for row in read_steps(directory / "steps.jsonl")} == {0, 1, 2}
    assert list((directory / "events").iterdir())
    assert read_trials(directory).num_rows == 1
    assert not (directory / "steps.partial.jsonl").exists()


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_a_killed_run_goes_on_and_ends_like_an_uninterrupted_one(config: Config, tmp_path: Path, tasks: int) -> None:
    with killed_after(tasks):
        run_experiment(config, tmp_path / "killed")
    begun = read_record(tmp_path / "killed" / "result.json")
    assert (begun.status, begun.tasks_done) == ("running", tasks - 1)

    resumed = run_experiment(config, tmp_path / "killed")
    whole = run_experiment(config, tmp_path / "whole")
    assert comparable(resumed) == comparable(whole)
    assert steps_without_time(tmp_path / "killed") == steps_without_time(tmp_path / "whole")
    assert resumed.wall_seconds > begun.wall_seconds


def test_a_finished_run_is_not_run_again(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = run_experiment(config, tmp_path / "run")
    monkeypatch.setattr(trial_module, "StreamRun", None)
    assert run_experiment(config, tmp_path / "run") == record


def test_other_settings_are_refused_by_name(config: Config, tmp_path: Path) -> None:
    run_experiment(config, tmp_path / "run")
    other = with_values(config, {"recipe.learning_rate": 1e-3, "seed": 1, "training.max_failures": 9})
    with pytest.raises(StudyError, match=r"recipe\.learning_rate, seed differ"):
        run_experiment(other, tmp_path / "run")


def test_the_directory_of_a_study_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(dump_config(config))
    with pytest.raises(StudyError, match="holds a study; go on with `seekr-tune resume"):
        run_experiment(config, tmp_path)


def test_a_run_that_another_process_holds_is_refused(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seekr_tune.study.runs.run_directory, "LOCK_SECONDS", 0.1)
    with FileLock(tmp_path / ".lock"), pytest.raises(StudyError, match="another process has been running this trial"):
        run_trial(config, tmp_path, TrialRequest("trial-0000", "trial"))


def test_a_fault_is_recorded_with_its_traceback_and_the_run_can_be_tried_again(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("first line\nsecond line")

    with monkeypatch.context() as patch:
        patch.setattr(trial_module, "StreamRun", faulty)
        with pytest.raises(RuntimeError):
            run_experiment(config, tmp_path / "run")
    failed = read_record(tmp_path / "run" / "result.json")
    assert (failed.status, failed.error) == ("failed", "RuntimeError: first line second line")
    assert "in faulty" in (tmp_path / "run" / "error.txt").read_text()
    assert run_experiment(config, tmp_path / "run").status == "finished"


def test_joint_training_is_one_stage(config: Config, tmp_path: Path) -> None:
    record = run_experiment(with_values(config, {"method.name": "joint"}), tmp_path / "run")
    assert (record.status, record.tasks_done) == ("finished", 3)
    assert record.heads_sha256 is None


def test_a_plain_run_does_not_import_ray(config: Config, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(dump_config(config))
    script = (
        "import json, sys, pathlib\n"
        "from seekr_tune import load_experiment, run_experiment\n"
        f"run_experiment(load_experiment(pathlib.Path({str(tmp_path / 'tiny.yaml')!r})), {str(tmp_path / 'run')!r})\n"
        "print(json.dumps([name for name in ('ray', 'optuna') if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_damaged_checkpoint_is_named_with_what_is_used_instead(config: Config, tmp_path: Path) -> None:
    with killed_after(3):
        run_experiment(config, tmp_path / "run")
    damaged = tmp_path / "run" / "checkpoints" / "task-0003" / "state.json"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    resumed = run_experiment(config, tmp_path / "run")
    assert comparable(resumed) == comparable(run_experiment(config, tmp_path / "whole"))
    (entry,) = read_log(tmp_path / "run", logging.WARNING)
    assert "task-0003: damaged (state.json not as the manifest says); task-0002 is used instead" in entry.message
    assert not list(read_log(tmp_path / "whole", logging.WARNING))


def test_a_disk_that_is_full_ends_the_run_in_one_line_and_the_run_goes_on_later(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("seekr_tune.checkpoint.tensorfiles.save_pieces", full)
        with pytest.raises(StudyError, match="run: .*No space left on device.*the run goes on when") as refused:
            run_experiment(config, tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert read_record(tmp_path / "run" / "result.json").status == "running"
    resumed = run_experiment(config, tmp_path / "run")
    assert comparable(resumed) == comparable(run_experiment(config, tmp_path / "whole"))


def test_damaged_settings_of_a_run_are_refused_in_one_line(config: Config, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for garbage in (b"name: [", b"", b"\x00\xff"):
        (tmp_path / "run" / "config.yaml").write_bytes(garbage)
        with pytest.raises(StudyError, match=r"config\.yaml.*it is damaged: restore it, or delete it"):
            run_trial(config, tmp_path / "run", TrialRequest("run", "run"))


def request() -> TrialRequest:
    return TrialRequest("trial-0000", "trial", configuration="trial-0000")


class After:
    """Says yes from the n-th question on."""

    def __init__(self, questions: int) -> None:
        self.questions, self.asked = questions, 0

    def __call__(self, *record: TrialRecord) -> bool:
        self.asked += 1
        return self.asked > self.questions


@pytest.mark.parametrize("questions", [0, 2, 4, 9])
def test_a_stopped_run_stays_running_and_goes_on_where_it_was(config: Config, tmp_path: Path, questions: int) -> None:
    stopped = run_trial(config, tmp_path / "stopped", request(), stop_asked=After(questions))
    assert stopped.status == "running" and stopped.tasks_done < 3
    assert read_record(tmp_path / "stopped" / "result.json") == stopped
    again = run_trial(config, tmp_path / "stopped", request(), stop_asked=After(1000))
    whole = run_trial(config, tmp_path / "whole", request())
    assert comparable(again) == comparable(whole)
    assert steps_without_time(tmp_path / "stopped") == steps_without_time(tmp_path / "whole")
    assert again.wall_seconds > stopped.wall_seconds > 0


def test_a_stopped_single_run_leaves_no_ledger_and_can_be_called_again(config: Config, tmp_path: Path) -> None:
    assert run_experiment(config, tmp_path / "run", stop_asked=After(3)).status == "running"
    assert not (tmp_path / "run" / "ledger").exists()
    assert run_experiment(config, tmp_path / "run").status == "finished"
    assert read_trials(tmp_path / "run").num_rows == 1


def test_a_pruned_run_says_so_and_is_left_alone(config: Config, tmp_path: Path) -> None:
    seen: list[int] = []

    def stops(record: TrialRecord) -> bool:
        seen.append(record.tasks_done)
        return record.tasks_done == 2

    pruned = run_trial(config, tmp_path / "run", request(), stops=stops)
    assert (pruned.status, pruned.tasks_done, seen) == ("pruned", 2, [1, 2])
    assert read_record(tmp_path / "run" / "result.json") == pruned
    assert {row.task_index for row in read_steps(tmp_path / "run" / "steps.jsonl")} == {0, 1}
    assert not list((tmp_path / "run" / "checkpoints").glob(".writing-*"))
    assert run_trial(config, tmp_path / "run", request(), stops=After(0)) == pruned


def test_a_revived_run_is_not_pruned_again_and_ends_like_an_undisturbed_one(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "run" / "result.json"
    pruned = run_trial(config, tmp_path / "run", request(), stops=After(0))
    assert (pruned.status, pruned.tasks_done) == ("pruned", 1)
    write_record(path, pruned.model_copy(update={"status": "running", "revived": True}))
    stops = After(0)
    revived = run_trial(config, tmp_path / "run", request(), stops=stops)
    assert (revived.status, revived.revived, stops.asked) == ("finished", True, 0)
    whole = run_trial(config, tmp_path / "whole", request())
    assert comparable(revived) | {"revived": False} == comparable(whole)
    assert steps_without_time(tmp_path / "run") == steps_without_time(tmp_path / "whole")


def test_a_run_that_was_killed_before_it_was_judged_is_judged_when_it_goes_on(config: Config, tmp_path: Path) -> None:
    with killed_after(1):
        run_trial(config, tmp_path / "run", request())
    pruned = run_trial(config, tmp_path / "run", request(), stops=After(0))
    assert (pruned.status, pruned.tasks_done) == ("pruned", 1)
    assert {row.task_index for row in read_steps(tmp_path / "run" / "steps.jsonl")} == {0}


def test_nobody_judges_a_run_after_its_last_task(config: Config, tmp_path: Path) -> None:
    stops = After(2)
    assert run_trial(config, tmp_path / "run", request(), stops=stops).status == "finished"
    assert stops.asked == 2


def test_runs_of_a_study_share_their_first_task(config: Config, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = run_trial(config, tmp_path / "first", request(), cache=cache)
    second = run_trial(config, tmp_path / "second", request(), cache=cache)
    alone = run_trial(config, tmp_path / "alone", request())
    assert comparable(second) == comparable(first) == comparable(alone)
    assert steps_without_time(tmp_path / "second") == steps_without_time(tmp_path / "alone")
    assert [row.shared_seconds > 0 for row in first.timing] == [False, False, False]
    assert [row.shared_seconds > 0 for row in second.timing] == [True, False, False]
