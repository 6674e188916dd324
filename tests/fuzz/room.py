"""One reader of files from outside, and the folder in which a file of its own is exchanged for anything at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from seekr_tune.errors import SeekrTuneError, UserError

LONGEST_LINE = 1000
"""Characters of what a user is told; more is a dump."""

Stamps = dict[str, tuple[int, int]]


class Broken(AssertionError):
    """A reader did what none may do."""


@dataclass(frozen=True)
class Reader:
    """Something that reads files from outside.

    Attributes:
        name: what it reads, in words.
        make: lays out a folder that it can read.
        files: paths in that folder whose content may be anything.
        read: reads the folder.
        refusal: the error of what cannot be read.
        seeds: more contents of the first file, to begin with.
        mends: it may write: what it finds damaged is set aside and made anew.
    """

    name: str
    make: Callable[[Path], object]
    files: tuple[str, ...]
    read: Callable[[Path], object]
    refusal: type[SeekrTuneError] = UserError
    seeds: Callable[[], Iterable[bytes]] = tuple
    mends: bool = False


class Room:
    """A folder of a reader.

    An input is a byte that says which file is exchanged, and the content of that file.

    Args:
        reader: who reads it.
        folder: where to lay it out; it must not exist.
    """

    def __init__(self, reader: Reader, folder: Path) -> None:
        self._reader, self._folder = reader, folder
        folder.mkdir(parents=True)
        reader.make(folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        self._whole = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    def seeds(self) -> list[bytes]:
        """Inputs to begin with: every file as it should be."""
        own = [bytes([number]) + self._whole[name] for number, name in enumerate(self._reader.files)]
        return [*own, *(b"\0" + content for content in self._reader.seeds())]

    def try_out(self, data: bytes) -> str | None:
        """Let the reader read an input; what it says where it refuses it, None where it reads it.

        Raises:
            Broken: it wrote something, or its refusal is not one line.
            Exception: it raised anything but a refusal.
        """
        name = self._reader.files[data[0] % len(self._reader.files)] if data else self._reader.files[0]
        (self._folder / name).write_bytes(data[1:])
        before = {} if self._reader.mends else self._stamps()
        try:
            self._reader.read(self._folder)
            return None
        except self._reader.refusal as error:
            _require_one_line(str(error))
            return str(error)
        finally:
            if not self._reader.mends and self._stamps() != before:
                self._lay_out_again()
                raise Broken(f"{self._reader.name}: something was written")
            if self._reader.mends:
                self._lay_out_again()
            else:
                (self._folder / name).write_bytes(self._whole[name])

    def _stamps(self) -> Stamps:
        """Size and time of every file."""
        found = {path: path.stat() for path in self._folder.rglob("*") if path.is_file()}
        return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}

    def _lay_out_again(self) -> None:
        shutil.rmtree(self._folder)
        for name, content in self._whole.items():
            (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / name).write_bytes(content)


def _require_one_line(said: str) -> None:
    if not said or "\n" in said or len(said) > LONGEST_LINE:
        raise Broken(f"no single line: {said[:200]!r}")
