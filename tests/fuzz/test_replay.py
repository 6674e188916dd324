"""What fuzzing begins with is read, what it has found is refused in one line: without atheris, in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from .found import FOUND, Found
from .readers import READERS
from .room import Broken, Reader, Room

BY_NAME = {reader.name: reader for reader in READERS}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_reader_reads_what_the_project_writes_and_nothing_else_escapes(reader: Reader, tmp_path: Path) -> None:
    room = Room(reader, tmp_path / "room")
    whole = room.seeds()[: len(reader.files)]
    for data in whole:
        assert room.try_out(data) is None
        for damaged in (b"", data[:1], data[: len(data) // 2], data[:1] + b"\xff" + data[2:], data + b"\0"):
            room.try_out(damaged)
    assert room.try_out(whole[0]) is None, "it is not as it was"


@pytest.mark.parametrize("found", FOUND, ids=lambda found: f"{found.reader}: {found.name}")
def test_what_was_found_is_mended(found: Found, tmp_path: Path) -> None:
    reader = BY_NAME[found.reader]
    room = Room(reader, tmp_path / "room")
    said = room.try_out(bytes([reader.files.index(found.file)]) + found.content)
    assert said is not None and found.says in said


def test_a_reader_that_writes_or_raises_or_talks_too_much_is_noticed(tmp_path: Path) -> None:
    """Else all of the above could not fail."""

    def make(folder: Path) -> None:
        (folder / "mine").touch()

    def writes(folder: Path) -> None:
        (folder / "more").touch()

    def raises(folder: Path) -> None:
        raise KeyError("mine")

    def says_two_lines(folder: Path) -> None:
        raise reader.refusal("mine\nyours")

    for number, (read, error) in enumerate(((writes, Broken), (raises, KeyError), (says_two_lines, Broken))):
        reader = Reader("mine", make, ("mine",), read)
        room = Room(reader, tmp_path / str(number))
        with pytest.raises(error):
            room.try_out(b"\0data")
