"""The campaign: what is done to studies, in which order, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

from tests.faults.bench import Bench
from tests.faults.command import Launcher
from tests.faults.damage import DAMAGES, damaged, stopped_studies
from tests.faults.fault import Fault, Outcome, outcome_of, seed_of
from tests.faults.other_commands import COMMANDS, OtherCommands
from tests.faults.other_commands import NAME as OTHER_COMMANDS
from tests.faults.plain import INJECTED, Make, injected, seeds, signalled, targets_of
from tests.faults.small_disk import DISK_TARGETS, can_mount, on_small_disk
from tests.faults.small_disk import NAME as SMALL_DISK

Planned = tuple[Fault, Make]

COUNTS = {
    "SIGKILL": 10,
    "SIGTERM": 6,
    "SIGSTOP": 3,
    "SIGKILL in a write": 12,
    "torn write": 6,
    "disk full": 10,
    "quota used up": 2,
    "disk read-only": 4,
    "write error": 10,
    "full for a moment": 4,
    "short writes": 3,
    "slow writes": 2,
    "clock a day ahead": 2,
    "clock a day behind": 2,
    "truncated": 7,
    "bit flipped": 9,
    "zeros": 6,
    "garbage behind": 5,
    "deleted": 7,
    "swapped": 6,
    OTHER_COMMANDS: 15,
    SMALL_DISK: 12,
}
"""Faults of studies without Ray, by kind."""


def plain_faults(bench: Bench, seed: int, names: Sequence[str], counts: dict[str, int]) -> Iterator[Planned]:
    """Faults of studies without Ray."""
    stopped: list[Path] = []
    others = OtherCommands(bench)
    places = {SMALL_DISK: DISK_TARGETS, OTHER_COMMANDS: tuple(COMMANDS)}
    for name in names:
        targets = rotated(places.get(name) or targets_of(name), seed_of(seed, name))
        for one, target in zip(seeds(seed, name, counts[name]), targets, strict=False):
            if name in INJECTED:
                yield injected(bench, name, target, one)
            elif name == OTHER_COMMANDS:
                yield others.fault(target, one)
            elif name == SMALL_DISK:
                yield on_small_disk(bench, target, one)
            elif name in DAMAGES:
                stopped = stopped or stopped_studies(bench, seed)
                yield damaged(bench, stopped, name, target, one)
            else:
                yield signalled(bench, name, one)


def rotated(targets: Sequence[str], seed: int) -> Iterator[str]:
    """All targets over and over, from a random one on."""
    start = seed % len(targets)
    return islice(cycle(targets), start, None)


def without_ray(
    folder: Path, seed: int, names: Sequence[str], say: Callable[[str], None], counts: dict[str, int] = COUNTS
) -> list[Outcome]:
    """Make the faults of studies without Ray."""
    outcomes = []
    if SMALL_DISK in names and not can_mount():
        say(f"{SMALL_DISK}: skipped, this process may not mount; give the command as root, or allow user namespaces")
        names = [name for name in names if name != SMALL_DISK]
    with Launcher(folder) as launcher:
        bench = Bench.prepare(launcher, folder)
        for fault, make in plain_faults(bench, seed, names, counts):
            outcomes.append(outcome_of(fault, make))
            say(str(outcomes[-1]))
    return outcomes
