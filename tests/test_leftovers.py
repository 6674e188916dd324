"""What killed processes were writing is removed, and nothing else."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from seekr_tune.leftovers import new_file, remove_remains, remove_remains_of, unfinished


def left_by_a_process(folder: Path, name: str) -> Path:
    """What a process that is gone was writing."""
    code = f"from pathlib import Path; from seekr_tune.leftovers import unfinished; print(unfinished(Path({name!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return folder / done.stdout.strip()


def test_what_a_process_that_is_gone_was_writing_goes_wherever_it_lies(tmp_path: Path) -> None:
    file, directory = (left_by_a_process(tmp_path / "deep", name) for name in ("result.json", "0123abcd"))
    directory.mkdir(parents=True)
    (directory / "steps.jsonl").touch()
    file.touch()
    remove_remains(tmp_path)
    assert list((tmp_path / "deep").iterdir()) == []


def test_what_is_being_written_here_or_elsewhere_stays(tmp_path: Path) -> None:
    gone = left_by_a_process(tmp_path, "result.json")
    elsewhere = gone.with_name(gone.name.replace(socket.gethostname(), "another-host"))
    kept = {unfinished(tmp_path / "result.json"), elsewhere, tmp_path / "steps.partial.jsonl", tmp_path / ".partial"}
    for path in kept:
        path.touch()
    remove_remains(tmp_path)
    assert set(tmp_path.iterdir()) == kept


def test_what_was_to_be_at_one_place_goes_and_what_lies_beside_it_stays(tmp_path: Path) -> None:
    gone, beside = (left_by_a_process(tmp_path, name) for name in ("m[1]", "m1"))
    gone.mkdir()
    beside.touch()
    remove_remains_of(tmp_path / "m[1]")
    assert list(tmp_path.iterdir()) == [beside]


def test_what_an_earlier_version_has_left_goes_too(tmp_path: Path) -> None:
    left = tmp_path / f".result.json.{socket.gethostname()}-{2**22 + 1}.partial"  # no process has this number
    left.touch()
    remove_remains(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_made_only_where_there_is_nothing(tmp_path: Path) -> None:
    made = new_file(tmp_path / "made", 0o600)
    assert made.read_bytes() == b"" and made.stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken in (made, tmp_path / "link"):
        with pytest.raises(FileExistsError):
            new_file(taken)
    assert not (tmp_path / "nowhere").exists()
