from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from seekr_tune.atomic_files import read_bytes, replacing, write_atomically
from seekr_tune.errors import StudyError


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_and_its_directory_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "result.json"
    for content in (b"first", b"second"):
        write_atomically(path, content)
        assert read_bytes(path) == content
    assert list(path.parent.iterdir()) == [path]


def test_content_and_name_are_on_the_disk_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    replace, fsync = os.replace, os.fsync

    def synced(descriptor: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def replaced(old: Path, new: Path) -> None:
        done.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_atomically(tmp_path / "result.json", b"new")
    assert done == ["content", "name", "directory"]


def test_what_cannot_be_read_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="missing: no such file; the trial has not finished a task yet"):
        read_bytes(tmp_path / "missing")
    with pytest.raises(StudyError, match="is a folder, not a file; remove it, or give another path"):
        read_bytes(tmp_path)
