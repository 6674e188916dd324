"""A run tells its story in its log: attempts, tasks, checkpoints, and how it ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.errors import DataError
from seekr_tune.experiment import fingerprint, with_values
from seekr_tune.records import TrialRecord, score_matrix
from seekr_tune.study.directory.log import Entry, read_log
from seekr_tune.study.runs.outcome import run_failed
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.trial import run_trial
from tests.study.runs.test_trial import After, killed_after

REQUEST = TrialRequest("trial-0000", "trial", {"method.memory.percent": 10.0}, 0, "trial-0000")


def story(directory: Path) -> list[str]:
    return [entry.message for entry in read_log(directory) if entry.message != "checkpoint written"]


def entries(directory: Path, message: str) -> list[Entry]:
    return [entry for entry in read_log(directory) if entry.message == message]


def test_an_undisturbed_run(config: Config, tmp_path: Path) -> None:
    record = run_trial(config, tmp_path, REQUEST)
    assert story(tmp_path) == ["run started", "ceilings", *["task started", "task finished"] * 3, "run finished"]
    assert len(entries(tmp_path, "checkpoint written")) == 4  # before the first task, and after each
    assert {entry.fields["attempt"] for entry in read_log(tmp_path)} == {1}
    (start,) = entries(tmp_path, "run started")
    assert start.fields["fingerprint"] == fingerprint(config) and start.fields["params"] == record.params
    assert (start.fields["workers"], start.fields["device"]) == (1, "cpu")
    tasks = entries(tmp_path, "task finished")
    assert [entry.fields["task"] for entry in tasks] == list(config.stream.tasks)
    assert [entry.fields["stored"] for entry in tasks] == [2, 2, 2]
    assert [entry.fields["memory"] for entry in entries(tmp_path, "task started")] == [0, 2, 4]
    last = score_matrix(record, "eval")[-1]
    assert list(tasks[-1].fields["scores"]["eval"].values()) == pytest.approx(list(last), abs=1e-3)
    assert entries(tmp_path, "run finished")[0].fields["op"] == pytest.approx(last.mean(), abs=1e-3)


def test_a_killed_run_says_where_it_goes_on(config: Config, tmp_path: Path) -> None:
    with killed_after(2):
        run_trial(config, tmp_path, REQUEST)
    run_trial(config, tmp_path, REQUEST)
    assert story(tmp_path) == [
        *("run started", "ceilings", "task started", "task finished", "task started"),
        *("run started", "ceilings", "run resumed", "task started", "task finished", "run finished"),
    ]
    (resumed,) = entries(tmp_path, "run resumed")
    assert resumed.fields == {"attempt": 2, "tasks_done": 2, "steps": 0}


def test_a_finished_run_that_is_called_again_says_nothing(config: Config, tmp_path: Path) -> None:
    run_trial(config, tmp_path, REQUEST)
    before = (tmp_path / "log.jsonl").read_bytes()
    run_trial(config, tmp_path, REQUEST)
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_a_run_that_is_pruned_or_stopped(config: Config, tmp_path: Path) -> None:
    run_trial(config, tmp_path / "pruned", REQUEST, stops=After(0))
    assert story(tmp_path / "pruned")[-2:] == ["task finished", "run pruned"]
    run_trial(config, tmp_path / "stopped", REQUEST, stop_asked=After(2))
    assert story(tmp_path / "stopped") == ["run started", "ceilings", "task started", "run stopped"]


def test_a_failure_with_its_cause(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(record: TrialRecord) -> None:
        raise DataError("row 7 is\nwrong")

    with pytest.raises(DataError) as error:
        run_trial(config, tmp_path, REQUEST, on_task=broken)
    run_failed(tmp_path, config, REQUEST, error.value)
    failed, told = list(read_log(tmp_path))[-2:]
    assert (failed.message, failed.level, failed.fields["error"]) == (
        "attempt failed",
        "error",
        "DataError: row 7 is\nwrong",
    )
    assert (told.message, told.fields["error"]) == ("run failed", "DataError: row 7 is wrong")
    assert (tmp_path / "log.jsonl").read_bytes().count(b"\n") == len(list(read_log(tmp_path)))


def test_what_a_perfect_model_would_score_is_said_without_the_answers(config: Config, tmp_path: Path) -> None:
    data = tmp_path / "data" / "names"
    data.mkdir(parents=True)
    for split, answers in (("train", ["boat"] * 8), ("eval", ["boat", "bell\nzebra", "bird", "zebra"])):
        rows = [{"prompt": f"{split} {row} ?", "answer": answer} for row, answer in enumerate(answers)]
        (data / f"{split}.json").write_text(json.dumps(rows))
    changes = {"stream.source": "trace_json", "stream.root": str(data.parent), "stream.tasks": ("names",)}
    run_trial(with_values(config, changes), tmp_path / "run", REQUEST, stop_asked=After(1))
    (told,) = entries(tmp_path / "run", "ceilings")
    assert (told.level, told.fields["scores"]) == ("info", {"eval": {"names": 50.0}})
    (lost,) = entries(tmp_path / "run", "answers get lost")
    assert lost.level == "warning" and "zebra" not in (tmp_path / "run" / "log.jsonl").read_text()
    assert lost.fields == {"attempt": 1, "task": "names", "split": "eval", "row": 2, "perfect": 100.0}


def test_all_tasks_at_once_are_one_stage(config: Config, tmp_path: Path) -> None:
    run_trial(with_values(config, {"method.name": "joint"}), tmp_path, REQUEST)
    (task,) = entries(tmp_path, "task started")
    assert (task.fields["task"], task.fields["stage"], task.fields["samples"]) == ("paren", 2, 72)


def test_no_text_of_a_sample_gets_in(config: Config, tmp_path: Path) -> None:
    from seekr_tune.data.sources import load_stream

    run_trial(config, tmp_path, REQUEST)
    log = (tmp_path / "log.jsonl").read_text()
    prompts = {example.prompt for task in load_stream(config, ("train", "eval")) for example in task.train}
    assert not [prompt for prompt in prompts if prompt in log]
