"""Processes of this machine, as far as tests look for something to kill."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def descendants(ancestor: int, name: str) -> list[int]:
    """Ids of the living processes below a process whose command line holds `name`."""
    parents = {pid: parent for pid, (parent, _) in _processes().items()}
    return [pid for pid in parents if name in _read(pid, "cmdline") and _is_below(pid, ancestor, parents)]


def living(pids: Iterable[int]) -> list[int]:
    """Those of the processes that have not ended."""
    return sorted(set(pids) & _processes().keys())


def in_session(leader: int) -> list[int]:
    """Ids of the living processes of the session that a process has made."""
    return [pid for pid, (_, session) in _processes().items() if session == leader]


def marked(mark: str) -> list[int]:
    """Ids of the living processes that were started with `mark`, as NAME=value, in their environment."""
    return [pid for pid in _processes() if f"\0{mark}\0" in f"\0{_read(pid, 'environ')}\0"]


def _is_below(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False


def _processes() -> dict[int, tuple[int, int]]:
    """Parent and session of every process that is no zombie."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        state, parent, _, session = (_read(int(path.name), "stat").rpartition(")")[2].split() + ["Z"] * 4)[:4]
        if state != "Z":
            found[int(path.name)] = int(parent), int(session)
    return found


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:  # it has ended
        return ""
