"""What this user may not read is never taken for nothing, and never for damage.

The suite may run as root, whom no permission binds: the system's refusal is put in its place.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seekr_tune import access
from seekr_tune.analysis.ledger import read_trials, table_path
from seekr_tune.atomic_files import read_bytes
from seekr_tune.checkpoint.directories import newest_intact, verify
from seekr_tune.checkpoint.forget_in_checkpoint import held_samples, stage_checkpoints
from seekr_tune.errors import AccessError
from seekr_tune.loop.shared_scores import _read as read_score
from seekr_tune.study.directory.records import read_all_records
from seekr_tune.study.life.forget import runs_of
from seekr_tune.study.life.forget_proof import search
from seekr_tune.study.life.quota import disk_usage
from seekr_tune.study.runs.bounds import find_bound
from seekr_tune.study.search.journal import record_or_aside


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """`closed(path)`: the system lets nobody open this path, list it, or look at what is below it."""
    paths: set[str] = set()

    def guard(function: Callable[..., Any], *, itself: bool) -> Callable[..., Any]:
        def guarded(path: Any = ".", *rest: Any, **named: Any) -> Any:
            if not isinstance(path, int):
                text = os.fspath(path)
                below = any(str(parent) in paths for parent in Path(os.fsdecode(text)).parents)
                if below or (itself and os.fsdecode(text) in paths):
                    raise PermissionError(13, "Permission denied", os.fsdecode(text))
            return function(path, *rest, **named)

        return guarded

    for module, name, itself in (
        *((os, name, True) for name in ("open", "scandir", "listdir")),
        *((os, name, False) for name in ("stat", "lstat")),
        (builtins, "open", True),
    ):
        monkeypatch.setattr(module, name, guard(getattr(module, name), itself=itself))
    monkeypatch.setattr("io.open", builtins.open)
    monkeypatch.setattr("seekr_tune.checkpoint.directories.fingerprint", _read_whole)
    yield lambda path: paths.add(str(path))


def _read_whole(path: Path) -> dict[str, str | int]:
    with open(path, "rb") as file:
        return {"bytes": len(file.read())}


def checkpoint(folder: Path) -> Path:
    path = folder / "checkpoints" / "task-0001"
    path.mkdir(parents=True)
    for name in ("manifest.json", "state.json", "samples.safetensors"):
        (path / name).write_text("{}")
    return path


def test_a_closed_checkpoint_is_not_damaged_and_not_passed_over(tmp_path: Path, closed: Callable[[Path], None]) -> None:
    path = checkpoint(tmp_path)
    closed(path)
    for look in (
        lambda: verify(path),
        lambda: newest_intact(path.parent),
        lambda: held_samples(path),
    ):
        with pytest.raises(AccessError, match="this user may not read it") as refused:
            look()
        assert "task-0001" in str(refused.value) and "damaged" not in str(refused.value)


def test_a_closed_directory_of_checkpoints_is_not_empty(tmp_path: Path, closed: Callable[[Path], None]) -> None:
    folder = checkpoint(tmp_path).parent
    closed(folder)
    for look in (stage_checkpoints, newest_intact):
        with pytest.raises(AccessError):
            look(folder)


def test_a_closed_record_is_not_damaged_and_stays_where_it_is(tmp_path: Path, closed: Callable[[Path], None]) -> None:
    path = tmp_path / "trials" / "trial-0000" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    closed(path)
    for look in (
        lambda: read_bytes(path),
        lambda: read_all_records(tmp_path),
        lambda: record_or_aside(tmp_path, "trial-0000"),
    ):
        with pytest.raises(AccessError):
            look()
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize("place", ["trials", "trials/trial-0000"])
def test_closed_trials_are_not_none(tmp_path: Path, closed: Callable[[Path], None], place: str) -> None:
    (tmp_path / "trials" / "trial-0000").mkdir(parents=True)
    closed(tmp_path / place)
    with pytest.raises(AccessError):
        read_all_records(tmp_path)


def test_a_closed_ledger_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, opened = table_path(tmp_path, "trials"), os.open
    table.parent.mkdir()
    table.touch()

    def refuse(path: Path, flags: int) -> int:
        if path == table:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(AccessError) as refused:
        read_trials(tmp_path)
    assert str(table) in str(refused.value)


def test_the_proof_of_forget_is_none_where_something_could_not_be_read(
    tmp_path: Path, closed: Callable[[Path], None]
) -> None:
    (tmp_path / "trials" / "trial-0000").mkdir(parents=True)
    (tmp_path / "trials" / "trial-0000" / "config.yaml").write_text("{}")
    closed(tmp_path / "trials" / "trial-0000")
    for look in (lambda: search([tmp_path], {b"text": "prompt"}, tmp_path / "but"), lambda: runs_of(tmp_path)):
        with pytest.raises(AccessError):
            look()


def test_shared_work_that_is_closed_is_not_taken_and_not_removed(
    tmp_path: Path, closed: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    score, bound = tmp_path / "score.json", tmp_path / "bound"
    score.write_text("{}")
    bound.mkdir()
    (bound / "manifest.json").write_text("{}")
    closed(score)
    closed(bound)
    assert read_score(score) is None and find_bound(bound) is None
    assert "damaged" not in caplog.text and caplog.text.count("Permission denied") == 2
    assert bound.is_dir()


def test_what_a_study_takes_is_a_least_where_a_part_is_closed(tmp_path: Path, closed: Callable[[Path], None]) -> None:
    (tmp_path / "open").write_text("text")
    assert disk_usage(tmp_path).is_known
    (tmp_path / "shut").mkdir()
    closed(tmp_path / "shut")
    assert not disk_usage(tmp_path).is_known


def test_a_missing_directory_is_empty(tmp_path: Path) -> None:
    assert access.listed(tmp_path / "none") == [] and list(access.walked(tmp_path / "none")) == []
