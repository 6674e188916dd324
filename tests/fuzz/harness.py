"""`python -m tests.fuzz.harness READER FOLDER SECONDS`: atheris (libFuzzer) drives one reader.

Nothing of `seekr_tune` may be imported before it is instrumented. What a reader does wrong is kept by where it happens:
the first input of each place, under FOLDER/findings; fuzzing goes on. Only a hang, too much memory or a crash of the
process ends it early.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import resource
import sys
import traceback
from pathlib import Path

import atheris

HANG_SECONDS = 5
MORE_BYTES = 2**30
"""Memory that a reader may take, above what the libraries take."""
LONGEST_INPUT = 16_384
_WORD = re.compile(rb"[A-Za-z_][\w.-]{2,40}")


class Harness:
    """What libFuzzer calls.

    Args:
        name: of the reader.
        folder: for its corpus and its findings; its room lies in memory, where there is a disk there.
    """

    def __init__(self, name: str, folder: Path) -> None:
        with atheris.instrument_imports(include=["seekr_tune"]):
            from tests.fuzz.readers import READERS
            from tests.fuzz.room import Room

        shared = Path("/dev/shm")
        room = (shared if os.access(shared, os.W_OK) else folder) / f"fuzz-room-{os.getpid()}"
        with _quiet():
            self._room = Room(next(reader for reader in READERS if reader.name == name), room)
        self.place, self._findings = room, folder / "findings"
        self._findings.mkdir(parents=True, exist_ok=True)

    def __call__(self, data: bytes) -> None:
        try:
            with _quiet():
                self._room.try_out(data)
        except BaseException as error:  # also what Rust libraries raise when they panic
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self._keep(data, error)

    def seeds(self) -> list[bytes]:
        """Inputs to begin with."""
        return self._room.seeds()

    def _keep(self, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/seekr_tune/" in frame.filename]
        where = [f"{frame.filename}:{frame.lineno}" for frame in (*ours[-1:], frames[-1])]
        place = hashlib.sha256(" ".join([type(error).__name__, *where]).encode()).hexdigest()[:12]
        if not (self._findings / place).exists():
            (self._findings / place).write_bytes(data)
            said = "".join(traceback.format_exception(error))
            (self._findings / f"{place}.txt").write_text(said, encoding="utf-8", errors="replace")


@contextlib.contextmanager
def _quiet() -> object:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _words(seeds: list[bytes], path: Path) -> None:
    """A dictionary for libFuzzer: the words of the seeds."""
    words = {word for seed in seeds for word in _WORD.findall(seed)}
    path.write_text("".join(f'"{word.decode()}"\n' for word in sorted(words)[:2000]))


def _limit_memory() -> None:
    (taken,) = re.findall(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    resource.setrlimit(resource.RLIMIT_DATA, (int(taken) * 1024 + MORE_BYTES,) * 2)


def main(name: str, folder: Path, seconds: int) -> None:
    """Fuzz one reader; libFuzzer ends the process."""
    harness = Harness(name, folder)
    logging.disable(logging.CRITICAL)
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for seed in harness.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    _words(harness.seeds(), folder / "words.dict")
    (folder / "place.json").write_text(json.dumps(str(harness.place)))
    _limit_memory()
    flags = {"max_total_time": seconds, "timeout": HANG_SECONDS, "max_len": LONGEST_INPUT, "rss_limit_mb": 0}
    given = [f"-{flag}={value}" for flag, value in flags.items()]
    given += [f"-dict={folder / 'words.dict'}", f"-artifact_prefix={folder / 'findings'}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *given, str(corpus)], harness)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
