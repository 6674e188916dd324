"""Damage to the files of a study that nobody runs: truncated, overwritten, bits flipped, deleted, swapped."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.faults.bench import Bench
from tests.faults.fault import Fault
from tests.faults.injection import Injection
from tests.faults.invariants import changed, finished_files, violations
from tests.faults.plain import TARGETS, Make

MAY_BE_REFUSED = ("experiment.yaml", "space.yaml", "config.yaml")
"""Nothing else knows what stands in these; what refuses them names them."""

Damage = Callable[[Path, random.Random], None]


def truncate(path: Path, rng: random.Random) -> None:
    """Keep a beginning."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))] if content else b"")


def flip_bit(path: Path, rng: random.Random) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes() or b"\0")
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def zero(path: Path, rng: random.Random) -> None:
    """A block of zeros, as a disk leaves that lost power."""
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content)) if content else 0
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)


def append_garbage(path: Path, rng: random.Random) -> None:
    """Bytes behind the end."""
    path.write_bytes(path.read_bytes() + rng.randbytes(64))


def delete(path: Path, rng: random.Random) -> None:
    """Remove it."""
    path.unlink()


def swap(path: Path, rng: random.Random) -> None:
    """Exchange it with one that has the same name elsewhere, or lies in a directory of the same name."""
    root = next(parent for parent in path.parents if (parent / "study").is_dir() and (parent / ".cache").is_dir())
    others = sorted(p for p in root.rglob(path.name) if p.is_file() and p != path)
    others = others or sorted(p for p in root.rglob(f"{path.parent.name}/*") if p.is_file() and p != path)
    other = rng.choice(others)
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


DAMAGES: dict[str, Damage] = {
    "truncated": truncate,
    "bit flipped": flip_bit,
    "zeros": zero,
    "garbage behind": append_garbage,
    "deleted": delete,
    "swapped": swap,
}


def stopped_studies(bench: Bench, seed: int) -> list[Path]:
    """A study that was killed early, one late, and one that is finished: the folders of what is damaged."""
    count = sum("checkpoints/" in path for path in bench.operations)
    folders = []
    for name, share in (("early", 0.45), ("late", 0.85)):
        study = bench.place(f"stopped-{name}")
        at = round(count * (share + 0.1 * random.Random(seed).random()))
        ended = bench.sweep(study, Injection("kill", at, part="checkpoints/"))
        assert ended.code < 0, ended.said
        folders.append(study.parent)
    return [*folders, bench.folder / "whole"]


def damaged(bench: Bench, stopped: Sequence[Path], name: str, target: str, seed: int) -> tuple[Fault, Make]:
    """A random file of a target is damaged in one of the stopped studies."""
    return Fault(name, target, seed), partial(_damage, bench, stopped, name, TARGETS[target], seed)


def _damage(bench: Bench, stopped: Sequence[Path], name: str, part: str, seed: int) -> Sequence[str]:
    rng = random.Random(seed)
    study = bench.place(f"{name.replace(' ', '-')}-{seed}")
    shutil.rmtree(study.parent)
    shutil.copytree(rng.choice([folder for folder in stopped if files_of(folder, part)]), study.parent)
    files = files_of(study.parent, part)
    path = rng.choice(files)
    before = {file: file.read_bytes() for file in files}
    DAMAGES[name](path, rng)
    touched = [file for file in files if not file.is_file() or file.read_bytes() != before[file]]
    again = {file.parent for file in touched}  # a run whose record is lost may have to be done again
    untouched = {file: digest for file, digest in finished_files(study).items() if file.parent not in again}
    wrong = _resumed(bench, study, touched, before)
    names = ", ".join(str(file.relative_to(study.parent)) for file in touched)
    wrong = [*wrong, *changed(untouched)]
    return bench.done_with(study, [f"({names}) {line}" for line in wrong])


def files_of(folder: Path, part: str) -> list[Path]:
    """Files below a folder whose path holds a text, if something stands in them."""
    found = (path for path in folder.rglob("*") if path.is_file() and part in f"/{path.relative_to(folder)}")
    return sorted(path for path in found if path.stat().st_size)


def _resumed(bench: Bench, study: Path, touched: Sequence[Path], before: dict[Path, bytes]) -> list[str]:
    """Resume it; where it refuses a file, put that back and resume it again."""
    ended = bench.launcher.run(study.parent, ["resume", study])
    refused = [path for path in touched if path.name in MAY_BE_REFUSED]
    if ended.is_refusal and any(path.name in ended.errors[0] for path in refused):
        for path in refused:
            path.write_bytes(before[path])
        ended = bench.launcher.run(study.parent, ["resume", study])
    if ended.code != 0:
        return [f"resume ended with code {ended.code}: {' | '.join(ended.said.splitlines()[-3:])}"]
    return violations(study, bench.expected, touched)
