"""A run whose directory the workers do not see: what goes to the store, and how it comes back."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import seekr_tune.cluster.session as session_module
import seekr_tune.cluster.trainer as trainer_module
import seekr_tune.study.runs.remote as remote_module
import seekr_tune.study.runs.storage as storage_module
import seekr_tune.study.runs.trial as trial_module
from seekr_tune.checkpoint.remote import Claim
from seekr_tune.checkpoint.state import TaskOutcome
from seekr_tune.config import Config
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.experiment import with_values
from seekr_tune.loop.loop import StreamRun
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.records import TrialRecord, read_record
from seekr_tune.records.heads import read_heads
from seekr_tune.store import Store
from seekr_tune.study.runs.extend import extend_run
from seekr_tune.study.runs.remote import scratch_of
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.single import run_experiment
from seekr_tune.study.runs.storage import Mirror, forget, home_of, known_home
from seekr_tune.study.runs.trial import run_trial

from .test_trial import Killed, comparable, killed_after, steps_without_time

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A worker group is this process, and its temporary files are in a directory of their own."""

    def here(work: Call, config: Config, storage: Store, name: str, callbacks: Any = ()) -> Any:
        return work(SingleProcess(), lambda metrics: None)

    monkeypatch.setattr(trainer_module, "run_in_workers", here)
    monkeypatch.setattr(session_module, "ray_session", nullcontext)
    monkeypatch.setattr(session_module, "trials_at_once", lambda training: 1)
    path = tmp_path / "scratch"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Finished tasks that each launch went on behind; -1 where it began at the beginning."""
    numbers: list[int] = []
    outcomes = StreamRun.outcomes

    def watched(run: StreamRun, on_step: Any = None) -> Iterator[TaskOutcome]:
        numbers.append(run.state.tasks_done if run.state else -1)
        yield from outcomes(run, on_step)

    monkeypatch.setattr(StreamRun, "outcomes", watched)
    return numbers


@pytest.fixture
def away(config: Config, tmp_path: Path) -> Config:
    return with_values(
        config,
        {"training.workers": 1, "training.checkpoint_steps": 2, "training.storage_path": f"file://{tmp_path}/store"},
    )


def on_disk(config: Config) -> Config:
    return with_values(config, {"training.storage_path": None})


def learned(record: TrialRecord) -> dict[str, Any]:
    return {name: value for name, value in comparable(record).items() if name != "config"}


def weights(directory: Path, tasks_done: int = 3) -> dict[str, torch.Tensor]:
    return load_file(directory / "checkpoints" / f"task-{tasks_done:04d}" / "weights-00-of-01.safetensors")


def assert_same_run(one: Path, other: Path, tasks: int = 3) -> None:
    assert learned(read_record(one / "result.json")) == learned(read_record(other / "result.json"))
    assert read_heads(one / "result.json") == read_heads(other / "result.json")
    assert steps_without_time(one) == steps_without_time(other)
    ours, expected = weights(one, tasks), weights(other, tasks)
    assert ours.keys() == expected.keys() and all(torch.equal(ours[name], expected[name]) for name in expected)


def test_a_run_over_a_store_leaves_what_a_run_on_a_shared_disk_leaves(
    away: Config, tmp_path: Path, scratch: Path
) -> None:
    run_experiment(away, tmp_path / "away")
    run_experiment(on_disk(away), tmp_path / "disk")
    assert_same_run(tmp_path / "away", tmp_path / "disk")
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("away", "disk")]
    assert names[0] - names[1] == {"storage.json"} and not names[1] - names[0]
    assert len(list((tmp_path / "away" / "events").iterdir())) == 1
    assert list(scratch.iterdir()) == []
    (place,) = (tmp_path / "store").glob("away-????????/away")
    assert not list(place.rglob("*.partial*"))


def test_two_runs_of_one_name_do_not_meet_and_a_moved_directory_finds_its_place(away: Config, tmp_path: Path) -> None:
    homes = [home_of(tmp_path / parent / "run", away) for parent in ("a", "b")]
    assert homes[0] is not None and homes[1] is not None and str(homes[0]) != str(homes[1])
    (tmp_path / "a" / "run").rename(tmp_path / "moved")
    assert home_of(tmp_path / "moved", away) == homes[0] == known_home(tmp_path / "moved")


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_killed_run_goes_on_from_the_store(
    tasks: int, away: Config, tmp_path: Path, scratch: Path, begun: list[int]
) -> None:
    """Killed when a task has its checkpoint but its record is not sent: its steps must not be lost."""
    with killed_after(tasks):
        run_experiment(away, tmp_path / "away")
    assert read_record(tmp_path / "away" / "result.json").status == "running"
    run_experiment(away, tmp_path / "away")
    assert begun == [-1, tasks]
    run_experiment(on_disk(away), tmp_path / "disk")
    assert_same_run(tmp_path / "away", tmp_path / "disk")
    assert list(scratch.iterdir()) == []


def test_what_a_killed_process_left_on_a_node_goes_with_the_next_launch(
    away: Config, tmp_path: Path, scratch: Path
) -> None:
    place = Store.open(str(tmp_path / "store")).at("run")
    left = scratch_of(place, away, SingleProcess())
    left.__enter__()
    (other,) = scratch.iterdir()
    strange = scratch / "seekr-tune-of-another-run"
    strange.mkdir()
    with scratch_of(place, away, SingleProcess()) as now:
        assert not other.exists() and now.directory.is_dir()
    assert list(scratch.iterdir()) == [strange]


def test_a_run_that_is_finished_at_the_store_is_only_fetched(
    away: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver was killed when the workers had finished."""

    def killed(mirror: Mirror) -> None:
        raise Killed

    monkeypatch.setattr(storage_module, "_PULL_SECONDS", 600.0)  # on a busy machine it would come while it runs
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Mirror, "complete", killed)
        run_experiment(away, tmp_path / "away")
    assert not (tmp_path / "away" / "result.json").exists()  # it would say that all is here
    monkeypatch.setattr(trial_module, "StreamRun", None)
    assert run_experiment(away, tmp_path / "away").status == "finished"
    assert weights(tmp_path / "away")


def test_the_record_is_there_before_the_first_task_is_done(
    away: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(run: Any, on_step: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trial_module.StreamRun, "outcomes", killed)
        run_experiment(away, tmp_path / "away")
    record = read_record(tmp_path / "away" / "result.json")
    assert (record.status, record.tasks_done) == ("running", 0)


def test_a_run_that_was_begun_without_a_store_goes_on_over_one(away: Config, tmp_path: Path, begun: list[int]) -> None:
    with killed_after(2):
        run_experiment(on_disk(away), tmp_path / "away")
    run_experiment(away, tmp_path / "away")
    assert begun == [-1, 2]
    run_experiment(on_disk(away), tmp_path / "disk")
    assert_same_run(tmp_path / "away", tmp_path / "disk")


def test_a_stop_reaches_the_workers_through_the_store(
    away: Config, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_PULL_SECONDS", 0.01)
    monkeypatch.setattr(remote_module, "_LOOK_SECONDS", 0.0)
    stopped = run_experiment(away, tmp_path / "away", stop_asked=lambda: True)
    assert stopped.status == "running" and stopped == read_record(tmp_path / "away" / "result.json")
    assert list(scratch.iterdir()) == []
    run_experiment(away, tmp_path / "away", stop_asked=lambda: False)  # the earlier request is forgotten
    run_experiment(on_disk(away), tmp_path / "disk")
    assert_same_run(tmp_path / "away", tmp_path / "disk")


def test_the_workers_look_for_a_stop_every_few_seconds_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Store.open(str(tmp_path))
    place.write("stop", b"")
    now = 100.0
    monkeypatch.setattr(remote_module.time, "monotonic", lambda: now)
    stop = remote_module.StopAtStore(place)
    assert not stop()
    now = 104.0
    assert stop()
    place.remove("stop")
    assert stop()


@pytest.mark.parametrize("now", [None, "other"])
def test_another_store_is_refused_while_a_run_is_unfinished(now: str | None, away: Config, tmp_path: Path) -> None:
    with killed_after(1):
        run_experiment(away, tmp_path / "away")
    place = None if now is None else str(tmp_path / now)
    with pytest.raises(StudyError, match=r"was begun with training.storage_path file://.*away-[0-9a-f]{8}\); keep it"):
        run_experiment(with_values(away, {"training.storage_path": place}), tmp_path / "away")
    assert not (tmp_path / "other").exists()


def test_a_store_that_cannot_be_written_is_refused_before_anything_runs(away: Config, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = with_values(away, {"training.storage_path": str(tmp_path / "file" / "store")})
    with pytest.raises(ConfigError, match="training.storage_path .* cannot be written"):
        run_experiment(config, tmp_path / "away")
    assert not (tmp_path / "away" / "storage.json").exists()


def test_a_launch_that_was_overtaken_sends_no_results(away: Config, tmp_path: Path) -> None:
    place = Store.open(str(tmp_path / "store")).at("run")
    request = TrialRequest(key="run", role="run")

    sent = {}

    def overtake(record: TrialRecord) -> None:
        if record.tasks_done == 1:
            Claim.take(place)
            sent.update(place.stamps())

    with pytest.raises(StudyError, match="another launch took over"), scratch_of(place, away, SingleProcess()) as old:
        run_trial(away, old.directory, request, files=old.files, room=old.room, on_task=overtake)
    assert "result.json" in sent
    now = place.stamps()
    assert {name: now[name] for name in now if "." in name} == {name: sent[name] for name in sent if "." in name}


def test_a_store_that_fails_for_a_while_does_not_end_the_run(
    away: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_experiment(away, tmp_path / "away")
    (tmp_path / "again").mkdir()
    home = known_home(tmp_path / "away")
    assert home is not None
    mirror = Mirror(home.at("away"), tmp_path / "again")

    def refused(store: Store) -> Any:
        raise OSError("AWS Error SLOW_DOWN")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Store, "stamps", refused)
        with mirror.following():
            pass
        assert "cannot be read now (AWS Error SLOW_DOWN)" in caplog.text
        with pytest.raises(StudyError, match="holds the finished run, but cannot be read .*give the command again"):
            mirror.complete()
    assert not (tmp_path / "again" / "result.json").exists()
    mirror.complete()
    assert_same_run(tmp_path / "again", tmp_path / "away")


def test_a_store_that_stays_away_ends_the_run_but_does_not_make_it_a_failed_one(
    away: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[int]
) -> None:
    upload = Store.upload

    def refused(store: Store, local: Path, name: str) -> None:
        if "task-0002." in str(store):
            raise OSError("AWS Error SLOW_DOWN")
        upload(store, local, name)

    def refused_at_once(store: Store, name: str) -> None:
        raise OSError("AWS Error SLOW_DOWN")

    with monkeypatch.context() as patch, pytest.raises(StudyError, match="SLOW_DOWN.*when the command is given again"):
        patch.setattr(Store, "upload", refused)
        run_experiment(away, tmp_path / "away")
    record = read_record(tmp_path / "away" / "result.json")
    assert (record.status, record.tasks_done) == ("running", 1)
    with monkeypatch.context() as patch, pytest.raises(StudyError, match="cannot be used now .*SLOW_DOWN"):
        patch.setattr(Store, "read", refused_at_once)
        run_experiment(away, tmp_path / "away")
    assert run_experiment(away, tmp_path / "away").status == "finished"
    assert begun == [-1, 1]


def test_the_directory_follows_what_changes_and_what_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, run = Store.open(str(tmp_path / "store")), tmp_path / "run"
    mirror, fetched, download = Mirror(place, run), [], Store.download

    def counted(store: Store, name: str, local: Path) -> None:
        fetched.append(name)
        download(store, name, local)

    monkeypatch.setattr(Store, "download", counted)
    place.write("owner", b"not a result")
    for content, events in ((b"one", b"a"), (b"one and two", b"a")):
        place.write("steps.partial.jsonl", content)
        place.write("events/curve", events)
        mirror.pull()
        mirror.pull()
        assert (run / "steps.partial.jsonl").read_bytes() == content
    place.remove("steps.partial.jsonl")
    mirror.pull()
    assert sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) == ["events/curve"]
    assert fetched == ["events/curve", "steps.partial.jsonl"] * 2


@pytest.mark.parametrize("max_forgetting, accepted", [(None, True), (-101.0, False)])
def test_a_run_over_a_store_is_extended_as_one_on_a_disk(
    max_forgetting: float | None, accepted: bool, away: Config, tmp_path: Path, scratch: Path
) -> None:
    for name, config in (("away", away), ("disk", on_disk(away))):
        run_experiment(with_values(config, {"stream.tasks": ["star", "last"]}), tmp_path / name)
        extension = extend_run(tmp_path / name, "paren", max_forgetting=max_forgetting)
        assert extension.accepted is accepted
    assert_same_run(tmp_path / "away", tmp_path / "disk", tasks=3 if accepted else 2)
    (home,) = (tmp_path / "store").iterdir()  # the place of the update is gone
    assert home.name.startswith("away-")
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"storage_path": "x"}'])
def test_a_damaged_place_is_refused_in_one_line(tmp_path: Path, garbage: str) -> None:
    (tmp_path / "storage.json").write_text(garbage)
    for ask in (known_home, forget):
        with pytest.raises(StudyError, match=r"storage\.json: is damaged; write into it again"):
            ask(tmp_path)
