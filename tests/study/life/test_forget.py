"""`seekr-tune forget`: the sample is nowhere any more, the run goes on without it, and a kill anywhere is mended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seekr_tune.analysis.ledger import read_table
from seekr_tune.checkpoint.directories import verify
from seekr_tune.checkpoint.forget_in_checkpoint import stage_checkpoints
from seekr_tune.cli import main
from seekr_tune.config import Config
from seekr_tune.data.sources import load_stream
from seekr_tune.errors import DataError, StudyError
from seekr_tune.experiment import load_experiment, with_values
from seekr_tune.study.directory import forgotten
from seekr_tune.study.directory.provenance import write_provenance
from seekr_tune.study.life import forget
from seekr_tune.study.life.forget import erase_samples, runs_of, samples_with, stored_samples
from seekr_tune.study.runs.extend import extend_run
from seekr_tune.study.runs.forget_in_run import samples_of
from seekr_tune.study.runs.single import run_experiment

TASKS = ("colours", "numbers")
WORDS = "apple bell bird boat book cake chair clock coin cup door drum fish hat kite knife lamp leaf milk nail".split()
"""The built-in tokenizer knows these: samples of other words would all look alike."""


def prompt(task: str, row: int) -> str:
    return f"note : {WORDS[row]} is {'above' if task == 'colours' else 'below'} the list ?"


def rows(task: str, split: str, count: int) -> list[dict[str, str]]:
    start = {"train": 0, "eval": 12, "test": 16}[split]
    return [{"prompt": prompt(task, start + row), "answer": WORDS[row]} for row in range(count)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two tasks; rows 3 and 7 of `colours` are the same."""
    for task in TASKS:
        for split, count in (("train", 12), ("eval", 4), ("test", 4)):
            path = tmp_path / "data" / task / f"{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            own = rows(task, split, count)
            if (task, split) == ("colours", "train"):
                own[7] = own[3]
            path.write_text(json.dumps(own))
    return tmp_path / "data"


@pytest.fixture
def small(config: Config, data: Path) -> Config:
    """The whole train split is stored, so every sample can be looked for."""
    values = {
        "stream.source": "trace_json",
        "stream.root": str(data),
        "stream.tasks": list(TASKS),
        "stream.limits": {},
        "method.memory.percent": 100,
    }
    return with_values(config, values)


@pytest.fixture
def run(small: Config, tmp_path: Path) -> Path:
    """A finished run."""
    run_experiment(small, tmp_path / "run")
    return tmp_path / "run"


def tokens_of(directory: Path, sample: str) -> bytes:
    (own,) = [run for run in runs_of(directory) if run.directory == directory]
    (ids,) = {held.tokens for held in samples_of(own) if str(own.name_of(held)) == sample}
    return np.array(ids, dtype=np.int64).tobytes()


def files_with(directory: Path, content: bytes) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and content in path.read_bytes()]


def test_a_sample_and_its_twin_leave_every_checkpoint(run: Path) -> None:
    tokens = tokens_of(run, "colours:3")
    assert len(files_with(run, tokens)) == 2, "else the test would show nothing"
    done = erase_samples(run, ["colours:3"])
    assert dict(done.samples) == {"colours:3": "asked for", "colours:7": "has the same text as one asked for"}
    assert done.checkpoints == {"colours:3": 2, "colours:7": 2}
    assert not files_with(run, tokens)
    left = stored_samples(run)
    assert {"colours:3", "colours:7"}.isdisjoint(left) and len(left) == 22
    for path in stage_checkpoints(run / "checkpoints"):
        verify(path)
    assert not (run / "erasing.json").exists()


def test_the_removal_stands_in_the_record_and_in_the_ledger(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forget", str(run), "--sample", "numbers:2"]) == 0
    told = capsys.readouterr()
    assert told.out == "numbers:2: asked for; taken out of 1 checkpoints\n"
    assert "nothing of these samples is in them" in told.err and "as they were" in told.err
    (row,) = read_table(run, "erased").to_pylist()
    assert (row["sample"], row["why"], row["checkpoints"]) == ("numbers:2", "asked for", 1)
    assert row["files_read"] > 10 and row["bytes_read"] > 100_000
    assert main(["forget", str(run), "--sample", "numbers:4"]) == 0
    assert [row["sample"] for row in read_table(run, "erased").to_pylist()] == ["numbers:2", "numbers:4"]


def test_the_ids_are_found_by_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert samples_with(run, WORDS[5]) == ["colours:5", "numbers:5"]
    assert main(["samples", str(run), "--find", prompt("colours", 11)]) == 0
    assert capsys.readouterr().out == f"colours:11\t{run.name}\n"


@pytest.mark.parametrize("taken_out_of_the_data", [False, True])
def test_the_run_goes_on_without_the_sample(run: Path, data: Path, taken_out_of_the_data: bool) -> None:
    shutil.copytree(data / "numbers", data / "more")
    tokens = tokens_of(run, "colours:5")
    erase_samples(run, ["colours:5"])
    if taken_out_of_the_data:
        take_out(data, "colours", 5)
    extended = extend_run(run, "more")
    assert extended.record.status == "finished" and extended.record.tasks == (*TASKS, "more")
    assert not files_with(run, tokens)
    assert "colours:5" not in stored_samples(run) and "more:5" in stored_samples(run)


def take_out(data: Path, task: str, *gone: int) -> None:
    path = data / task / "train.json"
    path.write_text(json.dumps([row for i, row in enumerate(json.loads(path.read_text())) if i not in gone]))


def test_a_row_that_the_data_have_lost_already_is_still_the_one_that_is_meant(run: Path, data: Path) -> None:
    write_provenance(run, load_experiment(run / "config.yaml"))  # as a study has it
    tokens = tokens_of(run, "colours:5")
    take_out(data, "colours", 5)
    done = erase_samples(run, ["colours:5"])
    assert done.samples == {"colours:5": "asked for"} and not files_with(run, tokens)
    left = load_stream(load_experiment(run / "config.yaml"), ("train",))[0]
    assert [example.prompt for example in left.train][5:7] == [prompt("colours", 6), prompt("colours", 3)]
    assert left.train_rows == (0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11)


def test_data_that_changed_otherwise_are_refused(run: Path, data: Path) -> None:
    write_provenance(run, load_experiment(run / "config.yaml"))
    take_out(data, "colours", 2, 5)
    with pytest.raises(StudyError, match="not what it was when the study began"):
        erase_samples(run, ["colours:5"])
    assert erase_samples(run, ["numbers:5"]).samples == {"numbers:5": "asked for"}, "another task is as it was"


def test_other_rows_that_changed_are_refused(run: Path, data: Path) -> None:
    erase_samples(run, ["colours:5"])
    take_out(data, "colours", 10, 11)
    with pytest.raises(DataError, match="the others are not what they were"):
        load_stream(load_experiment(run / "config.yaml"), ("train",))


def test_the_same_experiment_file_takes_the_run_up_without_the_sample(run: Path, small: Config) -> None:
    erase_samples(run, ["colours:5"])
    assert run_experiment(small, run).status == "finished"
    assert "colours:5" not in stored_samples(run)


def test_a_task_that_is_learned_later_is_learned_without_the_sample(small: Config, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    steps = iter(range(100))
    config = with_values(small, {"training.checkpoint_steps": 1})
    begun = run_experiment(config, directory, stop_asked=lambda: next(steps) > 2)
    assert begun.status == "running" and begun.tasks_done <= 1
    erase_samples(directory, ["numbers:4", "colours:3"])
    assert not list((directory / "checkpoints").glob("task-*-step-*")), "steps that learned other samples"
    assert run_experiment(config, directory).status == "finished"
    left = stored_samples(directory)
    assert {"numbers:4", "colours:3", "colours:7"}.isdisjoint(left) and {"numbers:3", "numbers:5"} <= left.keys()
    assert len(left) == 21


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ("colours:12", "has the rows 0 to 11"),
        ("other:1", "there is no task 'other'"),
        ("colours", "is not TASK:INDEX"),
        ("colours:-1", "is not TASK:INDEX"),
        ("../colours:1", "there is no task"),
    ],
)
def test_a_sample_that_there_is_not_is_refused_and_nothing_changes(run: Path, sample: str, reason: str) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(StudyError, match=reason):
        erase_samples(run, [sample])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_task_keeps_a_sample(run: Path) -> None:
    with pytest.raises(StudyError, match="nothing would be left to learn"):
        erase_samples(run, [f"numbers:{row}" for row in range(12)])


def test_what_is_left_elsewhere_is_found_and_named(run: Path) -> None:
    note = run / "note.txt"
    note.write_text(f"somebody wrote {prompt('colours', 5)} into a file")
    with pytest.raises(StudyError, match=r"still in .*note\.txt \(prompt\)"):
        erase_samples(run, ["colours:5"])
    assert (run / "erasing.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(StudyError, match="erased by half"):
        run_experiment(load_experiment(run / "config.yaml"), run)
    note.unlink()
    done = erase_samples(run, [])
    assert done.samples == {"colours:5": "asked for"} and done.checkpoints == {"colours:5": 2}
    assert not (run / "erasing.json").exists()


class Killed(BaseException):
    """The process ends here."""


def killed_before(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr(forget, name, kill)


STEPS = ["write_erasing", "_write_configs", "_erase_from_all", "_prove", "_record", "add_erased", "write_erased_table"]


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_before_any_step_is_mended_by_the_same_command(
    run: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tokens = tokens_of(run, "colours:3")
    with monkeypatch.context() as patches:
        killed_before(patches, step)
        with pytest.raises(Killed):
            erase_samples(run, ["colours:3"])
    done = erase_samples(run, ["colours:3"])
    assert done.checkpoints == {"colours:3": 2, "colours:7": 2}, "what the first call has counted is not lost"
    assert not files_with(run, tokens)
    assert [entry.sample for entry in forgotten.read_erased(run)] == ["colours:3", "colours:7"]
    assert len(read_table(run, "erased")) == 2
    assert load_experiment(run / "config.yaml").stream.erased["colours"].rows == (3, 7)


def test_a_run_that_is_held_is_left_alone(run: Path) -> None:
    from filelock import FileLock

    with FileLock(run / ".lock"), pytest.raises(StudyError, match="another process works on this run"):
        erase_samples(run, ["colours:3"])


@pytest.fixture
def at_a_store(run: Path, tmp_path: Path) -> Iterator[Path]:
    """The same run with its checkpoints at a store, as workers would have saved them."""
    from seekr_tune.checkpoint.remote import send
    from seekr_tune.store import Store

    (run / "storage.json").write_text(json.dumps({"storage_path": str(tmp_path / "store"), "folder": "run-0"}))
    place = Store.open(str(tmp_path / "store")).at("run-0", "run")
    for path in stage_checkpoints(run / "checkpoints"):
        send(path, place, "5f1c09ab")
    place.at("checkpoints", "task-0001.dead0000").upload(run / "config.yaml", "samples.safetensors")
    place.upload(run / "config.yaml", "config.yaml")
    yield tmp_path / "store"


def test_copies_at_a_store_are_replaced(run: Path, at_a_store: Path, tmp_path: Path) -> None:
    from seekr_tune.checkpoint.remote import newest_at
    from seekr_tune.store import Store

    tokens = tokens_of(run, "colours:3")
    assert len(files_with(at_a_store, tokens)) == 2
    done = erase_samples(run, ["colours:3"])
    assert done.checkpoints["colours:3"] == 4
    assert not files_with(at_a_store, tokens) and not files_with(run, tokens)
    assert not list(at_a_store.rglob("*.dead0000")), "what was never finished is gone"
    stage, _ = newest_at(Store.open(str(at_a_store)).at("run-0", "run"), tmp_path / "fetched")
    assert stage is not None and stage.position.tasks_done == 2, "what is left is intact"
    assert (at_a_store / "run-0" / "run" / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()
    modes = {path.stat().st_mode & 0o777 for path in at_a_store.rglob("*") if path.is_file()}
    assert modes == {0o600}
