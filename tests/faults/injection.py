"""Faults inside a process, at a moment that can be named: its n-th operation on the files below a directory."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Kind = Literal["count", "kill", "torn", "lasting", "once", "short", "slow", "clock", "fill"]
KINDS: tuple[Kind, ...] = ("count", "kill", "torn", "lasting", "once", "short", "slow", "clock", "fill")
"""In the order of `shim.c`."""


@dataclass(frozen=True)
class Injection:
    """One fault that a process makes for itself.

    Attributes:
        kind: `count` none; `kill` it is killed before the operation; `torn` it is killed when a write is half done;
            `lasting` from there on all operations fail; `once` this one fails; `short` from there on writes are cut
            short, which a caller must expect; `slow` from there on every operation takes longer; `clock` from there on
            the clock is wrong; `fill` all that is left of the disk is taken before it.
        at: number of the operation, from 1.
        error: `errno` of what fails.
        amount: of `slow` in microseconds, of `clock` in seconds.
        part: of the path of the operations that count; empty: all of them.
    """

    kind: Kind
    at: int = 1
    error: int = errno.EIO
    amount: int = 0
    part: str = ""

    def arm(self, library: Path, directory: Path, trace: Path) -> None:
        """Make the fault in this process, which was started with the library preloaded.

        Args:
            library: see `built_library`.
            directory: operations below it count.
            trace: for `count`, gets the path of each operation, a line each.
        """
        arm = ctypes.CDLL(str(library)).faults_arm
        number, text = ctypes.c_int, ctypes.c_char_p
        arm.argtypes = [text, text, number, ctypes.c_long, number, ctypes.c_long, number]
        path, part = str(directory.resolve()).encode(), self.part.encode()
        traced = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC) if self.kind == "count" else -1
        arm(path, part, KINDS.index(self.kind), self.at, self.error, self.amount, traced)


@cache
def built_library(folder: Path) -> Path:
    """The library that makes the faults; needs a C compiler.

    Raises:
        OSError: there is none.
        subprocess.CalledProcessError: it refuses.
    """
    library = folder / "faults.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library
