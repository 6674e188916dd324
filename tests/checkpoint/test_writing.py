"""A checkpoint appears whole or not at all, and only where its launch still owns the directory."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from seekr_tune.checkpoint import writing
from seekr_tune.checkpoint.directories import Position
from seekr_tune.checkpoint.writing import WritingRoom, write_share
from seekr_tune.errors import CheckpointError


def text(path: Path) -> None:
    path.write_text(path.name)


def save(room: WritingRoom, position: Position, kept: int = 2) -> None:
    """A checkpoint with one file, of a group of one."""
    place = room.begin(position)
    write_share(place, 0, {position.document: text})
    room.commit(place, 1, kept)


def names(directory: Path) -> list[str]:
    """What stands in a directory, hidden things left out."""
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))


def test_the_shares_of_all_ranks_become_one_checkpoint(tmp_path: Path) -> None:
    room = WritingRoom.take_over(tmp_path)
    place = room.begin(Position(3))
    write_share(place, 1, {"b": text})
    write_share(place, 0, {"state.json": text, "a": text})
    assert names(tmp_path) == []
    room.commit(place, 2, kept=1)
    assert names(tmp_path) == ["task-0003"]
    assert names(tmp_path / "task-0003") == ["a", "b", "manifest.json", "state.json"]
    manifest = json.loads((tmp_path / "task-0003" / "manifest.json").read_text())
    assert manifest["files"].keys() == {"a", "b", "state.json"}
    assert list(room.path.iterdir()) == []


def test_everything_is_on_disk_before_the_checkpoint_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []

    def flush(path: Path) -> None:
        flushed.append(path.name)
        if path.name != tmp_path.name:
            assert names(tmp_path) == []

    monkeypatch.setattr(writing, "flush", flush)
    save(WritingRoom.take_over(tmp_path), Position(3))
    assert flushed == ["state.json", "manifest.json", "task-0003", tmp_path.name]


def test_the_wait_for_a_rank_that_is_gone_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PATIENCE_SECONDS", 0.1)
    room = WritingRoom.take_over(tmp_path)
    place = room.begin(Position(1))
    write_share(place, 0, {"state.json": text})
    write_share(place, 2, {"c": text})
    with pytest.raises(CheckpointError, match=r"no rank-01.json after 0.1 seconds"):
        room.commit(place, 3, kept=2)
    assert names(tmp_path) == []


def test_the_error_of_another_rank_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PATIENCE_SECONDS", 5.0)

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("no space left")

    room = WritingRoom.take_over(tmp_path)
    place = room.begin(Position(1))
    with pytest.raises(CheckpointError, match="rank 1: no space left"):
        write_share(place, 1, {"b": fail})
    write_share(place, 0, {"state.json": text})
    with pytest.raises(CheckpointError, match="rank 1: no space left"):
        room.commit(place, 2, kept=2)
    assert names(tmp_path) == []


def test_a_rank_of_a_killed_launch_finds_its_place_gone(tmp_path: Path) -> None:
    old = WritingRoom.take_over(tmp_path)
    place = old.begin(Position(1))
    write_share(place, 0, {"state.json": text})
    new = WritingRoom.take_over(tmp_path)
    with pytest.raises(CheckpointError, match="rank 1: .* is gone: another launch took over"):
        write_share(place, 1, {"b": text})
    with pytest.raises(OSError):
        old.commit(place, 2, kept=2)
    with pytest.raises(OSError):
        old.begin(Position(2))
    assert [path.name for path in tmp_path.iterdir()] == [new.path.name]


def test_a_file_that_a_killed_launch_is_writing_goes_nowhere(tmp_path: Path) -> None:
    old = WritingRoom.take_over(tmp_path)
    place = old.begin(Position(1))

    def interrupted(path: Path) -> None:
        with path.open("w") as file:
            file.write("first half")
            WritingRoom.take_over(tmp_path)
            file.write("second half")

    with pytest.raises(CheckpointError, match="rank 0"):
        write_share(place, 0, {"state.json": interrupted})
    assert names(tmp_path) == []
    assert not old.path.exists()


def test_a_launch_that_no_longer_owns_the_directory_removes_nothing(tmp_path: Path) -> None:
    old = WritingRoom.take_over(tmp_path)
    for done in (1, 2):
        save(old, Position(done))
    WritingRoom.take_over(tmp_path)
    with pytest.raises(OSError):
        old._prune(tmp_path / "task-0002", kept=1)
    assert names(tmp_path) == ["task-0001", "task-0002"]


def test_what_a_killed_launch_left_behind_is_removed(tmp_path: Path) -> None:
    old = WritingRoom.take_over(tmp_path)
    write_share(old.begin(Position(1)), 0, {"state.json": text})
    new = WritingRoom.take_over(tmp_path)
    assert [path for path in tmp_path.iterdir()] == [new.path]
    new.leave()
    assert list(tmp_path.iterdir()) == []


def test_the_newest_stages_are_kept(tmp_path: Path) -> None:
    room = WritingRoom.take_over(tmp_path)
    for done in range(5):
        save(room, Position(done), kept=3)
    assert names(tmp_path) == ["task-0002", "task-0003", "task-0004"]


def test_the_newest_steps_are_kept_besides_the_newest_stages(tmp_path: Path) -> None:
    room = WritingRoom.take_over(tmp_path)
    for position in (Position(0), Position(1), Position(2), *(Position(2, steps) for steps in (4, 8, 12))):
        save(room, position)
    assert names(tmp_path) == ["task-0001", "task-0002", "task-0002-step-000008", "task-0002-step-000012"]


def test_steps_go_when_their_stage_ends(tmp_path: Path) -> None:
    room = WritingRoom.take_over(tmp_path)
    for position in (Position(0), Position(0, 4), Position(0, 8), Position(1)):
        save(room, position)
    assert names(tmp_path) == ["task-0000", "task-0001"]


def test_one_kept_checkpoint_is_the_stage_and_its_newest_steps(tmp_path: Path) -> None:
    room = WritingRoom.take_over(tmp_path)
    for position in (Position(0), Position(1), Position(1, 4), Position(1, 8)):
        save(room, position, kept=1)
    assert names(tmp_path) == ["task-0001", "task-0001-step-000008"]


def test_what_stood_ahead_goes_when_the_run_went_on_from_an_earlier_checkpoint(tmp_path: Path) -> None:
    """The newer ones were damaged: they must neither be found again nor count as kept."""
    room = WritingRoom.take_over(tmp_path)
    for position in (Position(1), Position(2), Position(2, 9)):
        save(room, position, kept=3)
    save(room, Position(1, 4), kept=3)
    assert names(tmp_path) == ["task-0001", "task-0001-step-000004"]


def test_saving_again_replaces_what_was_there(tmp_path: Path) -> None:
    room = WritingRoom.take_over(tmp_path)
    save(room, Position(1))
    (tmp_path / "task-0001" / "stale").touch()
    save(room, Position(1))
    assert names(tmp_path / "task-0001") == ["manifest.json", "state.json"]


def test_what_is_removed_vanishes_before_its_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[Path] = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, **settings: removed.append(path))
    room = WritingRoom.take_over(tmp_path)
    for done in (1, 1, 2):  # the second replaces the first, the third supersedes it
        save(room, Position(done), kept=1)
    assert len(removed) == 2
    assert all(path.parent == room.path for path in removed)
    assert names(tmp_path) == ["task-0002"]


def test_other_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "task-1").mkdir()
    room = WritingRoom.take_over(tmp_path)
    for done in range(4):
        save(room, Position(done), kept=1)
    assert names(tmp_path) == ["notes", "task-0003", "task-1"]


@pytest.mark.parametrize("moment", range(9))
def test_a_process_that_dies_at_any_moment_leaves_one_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Dies before the nth call that changes the directory tree or reaches the disk; two checkpoints, one kept."""
    calls = 0

    class Died(BaseException):
        pass

    def dying(function: object) -> object:
        def call(*args: object, **settings: object) -> object:
            nonlocal calls
            calls += 1
            if calls > moment:
                raise Died
            return function(*args, **settings)  # type: ignore[operator]

        return call

    room = WritingRoom.take_over(tmp_path)
    save(room, Position(1), kept=1)
    for owner, name in ((os, "fsync"), (Path, "rename"), (shutil, "rmtree"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    with pytest.raises(Died):
        save(room, Position(2), kept=1)
    monkeypatch.undo()
    appeared = names(tmp_path)
    assert appeared and set(appeared) <= {"task-0001", "task-0002"}
    for name in appeared:
        assert names(tmp_path / name) == ["manifest.json", "state.json"]
    save(WritingRoom.take_over(tmp_path), Position(3), kept=1)
    assert names(tmp_path) == ["task-0003"]
