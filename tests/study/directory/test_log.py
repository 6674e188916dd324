"""`log.jsonl`: what happened to a run, one JSON object a line, wherever the process was killed."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest

from seekr_tune import quiet_libraries
from seekr_tune.errors import StudyError
from seekr_tune.quiet_libraries import Noise
from seekr_tune.study.directory.log import attempts, last_failure, logged_in, merge_log, read_log

ours = logging.getLogger("seekr_tune.of_this_test")


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_record_is_an_object_with_its_fields(tmp_path: Path) -> None:
    with logged_in(tmp_path, attempt=2):
        ours.info("task finished", extra={"fields": {"task": "star", "scores": {"eval": {"star": 50.0}}}})
        ours.warning("%s: damaged", "task-0001")
    first, second = lines(tmp_path)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "logger": "seekr_tune.of_this_test",
        "message": "task finished",
        "attempt": 2,
        "task": "star",
        "scores": {"eval": {"star": 50.0}},
    }
    assert (second["level"], second["message"]) == ("warning", "task-0001: damaged")


def test_only_while_the_block_lasts_and_only_what_is_said(tmp_path: Path) -> None:
    with logged_in(tmp_path):
        pass
    ours.warning("nobody listens")
    assert not (tmp_path / "log.jsonl").exists()


def test_unknown_warnings_of_libraries_arrive_and_noise_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import optuna

    monkeypatch.setattr(quiet_libraries, "NOISE", (Noise("optuna", "a known one", "of no use"),))
    optuna.logging.get_verbosity()  # makes Optuna's own handler
    library = logging.getLogger("optuna.study")
    with logged_in(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("always")
        library.info("a new study")
        library.warning("a known one, again")
        library.warning("an unknown one")
        warnings.warn("from %s of Python", UserWarning, stacklevel=1)
    assert [(line["logger"], line["message"]) for line in lines(tmp_path)] == [
        ("optuna.study", "an unknown one"),
        ("py.warnings", "from %s of Python"),
    ]
    assert lines(tmp_path)[1]["category"] == "builtins.UserWarning"
    assert capsys.readouterr().err == ""


def test_a_library_that_warns_at_every_step_does_not_fill_the_disk(tmp_path: Path) -> None:
    with logged_in(tmp_path):
        for step in range(1000):
            logging.getLogger("torch").warning("step %d is odd", step)
        for step in range(20):
            ours.warning("step %d", step)
    assert [line["logger"] for line in lines(tmp_path)].count("torch") == 10
    assert len(lines(tmp_path)) == 30


def test_a_line_that_a_kill_has_cut_goes_and_the_others_stay(tmp_path: Path) -> None:
    with logged_in(tmp_path):
        ours.info("run started")
    path = tmp_path / "log.jsonl"
    path.write_bytes(path.read_bytes() + b'{"time": "2026-')
    assert [entry.message for entry in read_log(tmp_path)] == ["run started", f"line 2 of {path} is damaged"]
    with logged_in(tmp_path):
        ours.info("run started")
    assert [line["message"] for line in lines(tmp_path)] == ["run started"] * 2
    assert attempts(tmp_path) == 2


def test_a_damaged_line_is_told_in_its_place(tmp_path: Path) -> None:
    with logged_in(tmp_path):
        ours.info("one")
        ours.info("two")
    path = tmp_path / "log.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"\xff'))
    assert [(entry.level, entry.message) for entry in read_log(tmp_path)] == [
        ("warning", f"line 1 of {path} is damaged"),
        ("info", "two"),
    ]


def test_what_is_less_is_left_out(tmp_path: Path) -> None:
    with logged_in(tmp_path):
        for level in (logging.INFO, logging.WARNING, logging.ERROR):
            ours.log(level, "said")
    assert [entry.level for entry in read_log(tmp_path, logging.WARNING)] == ["warning", "error"]


def test_an_entry_reads_well(tmp_path: Path) -> None:
    with logged_in(tmp_path):
        ours.info("task finished", extra={"fields": {"task": "star", "seconds": 1.23456, "cause": "a b"}})
        logging.getLogger("torch.nn").warning("two\nlines")
    first, second = map(str, read_log(tmp_path))
    assert first[19:] == '  info     task finished  task=star  seconds=1.235  cause="a b"'
    assert second[19:] == "  warning  torch.nn: two lines"


def test_a_directory_without_a_log_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"log.jsonl: no such file"):
        list(read_log(tmp_path))
    assert attempts(tmp_path) == 0


def test_a_disk_that_takes_no_log_ends_nothing(tmp_path: Path) -> None:
    place, done = tmp_path / "that is not there", False
    with logged_in(place):
        ours.warning("nobody reads this")
        done = True
    assert done and not place.exists()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s3://me:hunter2hunter2@host/bucket", "s3://***@host/bucket"),
        ("https://host/file?X-Amz-Signature=abc&b=2 is slow", "https://host/file?***&*** is slow"),
        ("the token is abcdefgh-ijkl", "the token is ***"),
    ],
)
def test_credentials_do_not_get_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kept: str) -> None:
    monkeypatch.setenv("MY_TOKEN", "abcdefgh-ijkl")
    with logged_in(tmp_path):
        ours.warning("%s", text, extra={"fields": {"error": text}})
    (line,) = lines(tmp_path)
    assert (line["message"], line["error"]) == (kept, kept)


def test_a_text_without_end_is_cut(tmp_path: Path) -> None:
    with logged_in(tmp_path):
        ours.warning("x" * 100_000)
    assert (tmp_path / "log.jsonl").stat().st_size < 3000


def test_lines_of_workers_are_added_once(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for directory, text in ((here, "the store is away"), (there, "task started")):
        directory.mkdir()
        with logged_in(directory):
            ours.warning(text)
    with (there / "log.jsonl").open("ab") as file:
        file.write(b'{"not whole')
    for _ in range(2):
        merge_log(here / "log.jsonl", there / "log.jsonl")
    assert [entry.message for entry in read_log(here)] == ["the store is away", "task started"]


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        (["launch started"], "its process was killed, or the directory was moved meanwhile"),
        (["launch started", "launch failed"], "StudyError: full"),
        (["launch started", "launch failed", "launch started", "launch finished"], None),
        (["launch started", "launch stopped"], None),
        ([], None),
    ],
)
def test_what_ended_the_last_launch(tmp_path: Path, events: list[str], failure: str | None) -> None:
    with logged_in(tmp_path):
        for event in events:
            fields = {"error": "StudyError: full"} if event == "launch failed" else {}
            ours.info(event, extra={"fields": fields})
        if events:
            ours.warning("something else")
    assert last_failure(tmp_path) == failure
