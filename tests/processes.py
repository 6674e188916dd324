"""Processes of this machine, as far as tests look for something to kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def descendants(ancestor: int, name: str) -> list[int]:
    """Ids of the living processes below a process whose command line holds `name`."""
    parents = dict(_processes())
    return [pid for pid in parents if name in _command(pid) and _is_below(pid, ancestor, parents)]


def _is_below(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False


def _processes() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            yield int(path.name), int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
