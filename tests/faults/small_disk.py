"""A study on a disk of its own that is too small: a tmpfs, which fills up as a disk does; then it is made larger.

Either the size is drawn, from what a study cannot even begin on to what is just not enough. Or the disk is large
enough, and something else takes the rest of it a moment before the study writes a file of one kind (`fill` in
`shim.c`): which writes still fit, and which fail, is up to the file system.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from seekr_tune.study.directory.records import read_all_records
from tests.faults.bench import Bench
from tests.faults.command import Ended
from tests.faults.fault import Fault
from tests.faults.injection import Injection
from tests.faults.plain import TARGETS, Make, last_words, resumed

NAME = "small disk"
ANY_FILE = "any file"
DISK_TARGETS = (ANY_FILE, "journal", "checkpoint", "steps", "curves", "ledger")
"""Where it fills up: wherever its size lets it, or at the files of a kind."""
OWN_MOUNTS = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
"""A command that is started by this one may mount, and what it mounts goes with its last process, however that ends."""

_PAGE = 4096
_SMALLEST = 2 * _PAGE
_ROOMY = 4
"""A disk that is large enough, in times of what a study takes."""


@dataclass(frozen=True)
class SmallDisk:
    """A disk that is mounted.

    Attributes:
        place: where.
    """

    place: Path

    def grow(self, num_bytes: int) -> None:
        """Make it larger."""
        _mount("-o", f"remount,size={num_bytes}", self.place)


def can_mount() -> bool:
    """Whether this process may mount."""
    with tempfile.TemporaryDirectory(prefix="seekr-mount-") as place:
        try:
            with small_disk(Path(place), _PAGE):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def small_disk(place: Path, num_bytes: int) -> Iterator[SmallDisk]:
    """A disk of this size at an empty directory, for the time of the block.

    Raises:
        subprocess.CalledProcessError: this process may not mount.
    """
    _mount("-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", place)
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)  # also while a process that is killed is still there


def start_again_with_own_mounts(module: str, arguments: Sequence[str]) -> None:
    """Let `python -m module` take the place of this process with mounts of its own; returns where that is not allowed,
    or it has them already."""
    has_them = "SEEKR_OWN_MOUNTS" in os.environ
    if has_them or shutil.which("unshare") is None or subprocess.run([*OWN_MOUNTS, "true"]).returncode != 0:
        return
    os.environ["SEEKR_OWN_MOUNTS"] = "1"
    sys.stdout.flush()
    os.execvp(OWN_MOUNTS[0], [*OWN_MOUNTS, sys.executable, "-m", module, *arguments])


def on_small_disk(bench: Bench, target: str, seed: int) -> tuple[Fault, Make]:
    """A study whose disk becomes full, and then larger."""
    return Fault(NAME, target, seed), partial(_fill, bench, target, seed)


def _fill(bench: Bench, target: str, seed: int) -> Sequence[str]:
    rng = random.Random(seed)
    needed = _pages(bench.folder / "whole")
    study = bench.place(f"small-disk-{seed}")
    size, injection = _ROOMY * needed, None
    if target == ANY_FILE:
        share = (needed - _PAGE) / _SMALLEST
        size = int(_SMALLEST * share ** rng.random())  # as often between 20 and 40 kB as between 2 and 4 MB
    else:
        count = sum(TARGETS[target] in path for path in bench.operations)
        injection = Injection("fill", rng.randint(1, max(1, count - count // 20)), part=TARGETS[target])
    with small_disk(study.parent, size) as disk:
        ended = bench.sweep(study, injection)
        wrong = _end_on_full_disk(ended, must_be_full=injection is None)
        wrong += [f"damaged: {line}" for line in read_all_records(study)[1].values()]
        disk.grow(size + _ROOMY * needed)
        wrong = [f"({size} bytes) {line}" for line in wrong or resumed(bench, study)]
        if wrong:
            shutil.copytree(study.parent, bench.folder / f"{study.parent.name}-kept")
            wrong.append(f"kept at {bench.folder / f'{study.parent.name}-kept'}")
    shutil.rmtree(study.parent)
    return wrong


def _end_on_full_disk(ended: Ended, must_be_full: bool) -> list[str]:
    """What is wrong with how a command ended: it must say in one line that the disk is full."""
    if ended.code == 0 and not must_be_full:  # what it still had to write went into room that its files had
        return []
    refused = ended.is_refusal and "no space left" in ended.errors[0].lower()
    wrong = [] if refused else [f"ended with code {ended.code}: {last_words(ended)}"]
    return wrong + [f"process {pid} is left" for pid in ended.left]


def _pages(folder: Path) -> int:
    """Bytes of the pages that the files below a folder take."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // _PAGE) * _PAGE for size in sizes)


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)
