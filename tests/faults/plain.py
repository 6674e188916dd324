"""Faults in the process of a study that runs without Ray: killed, stopped, failing writes, a wrong clock."""

from __future__ import annotations

import errno
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.faults.bench import Bench
from tests.faults.command import Ended
from tests.faults.fault import Fault, seed_of
from tests.faults.injection import Injection, Kind
from tests.faults.invariants import changed, finished_files, violations

TARGETS = {
    "journal": "journal.log",
    "record": "result.json",
    "checkpoint": "checkpoints/",
    "steps": "/steps.",
    "curves": "events/",
    "ledger": "ledger/",
    "shared work": ".cache/",
    "heartbeat": "driver.json",
    "settings": ".yaml",
}
"""Files by what stands in them: the text that is in their paths."""
DAY = 86400
_PAUSE_MICROSECONDS = 5000

Make = Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Recipe:
    """An injection without its moment, and how the process that makes it may end.

    Attributes:
        kind: of the injection.
        error: of what fails.
        amount: see `Injection`.
        is_end: whether it ended as it must.
    """

    kind: Kind
    is_end: Callable[[Ended], bool]
    error: int = errno.EIO
    amount: int = 0


def _killed(ended: Ended) -> bool:
    return ended.code == -signal.SIGKILL


def _refused_or_done(ended: Ended) -> bool:
    """What fails may be a file that the study can do without."""
    return ended.is_refusal or ended.code == 0


def _done(ended: Ended) -> bool:
    return ended.code == 0


INJECTED = {
    "SIGKILL in a write": Recipe("kill", _killed),
    "torn write": Recipe("torn", _killed),
    "disk full": Recipe("lasting", _refused_or_done, errno.ENOSPC),
    "quota used up": Recipe("lasting", _refused_or_done, errno.EDQUOT),
    "disk read-only": Recipe("lasting", _refused_or_done, errno.EROFS),
    "write error": Recipe("once", _refused_or_done, errno.EIO),
    "full for a moment": Recipe("once", _refused_or_done, errno.ENOSPC),
    "short writes": Recipe("short", _done),
    "slow writes": Recipe("slow", _done, amount=_PAUSE_MICROSECONDS),
    "clock a day ahead": Recipe("clock", _done, amount=DAY),
    "clock a day behind": Recipe("clock", _done, amount=-DAY),
}


def injected(bench: Bench, name: str, target: str, seed: int) -> tuple[Fault, Make]:
    """A fault at a random operation on the files of a target."""
    return Fault(name, target, seed), partial(_inject, bench, INJECTED[name], TARGETS[target], seed, name)


def signalled(bench: Bench, name: str, seed: int) -> tuple[Fault, Make]:
    """A signal at a random moment."""
    return Fault(name, "driver", seed), partial(_signal, bench, name, seed)


def targets_of(name: str) -> tuple[str, ...]:
    """Where a fault can be made: a torn write needs more than a byte to be written."""
    return tuple(target for target in TARGETS if name != "torn write" or target not in ("heartbeat",))


def resumed(bench: Bench, study: Path) -> list[str]:
    """Resume a study; what is wrong with it then."""
    before = finished_files(study)
    ended = bench.go_on(study)
    if ended.code != 0:
        return [f"resume ended with code {ended.code}: {last_words(ended)}"]
    left = [f"process {pid} is left" for pid in ended.left]
    return [*left, *changed(before), *violations(study, bench.expected)]


def _inject(bench: Bench, recipe: Recipe, part: str, seed: int, name: str) -> Sequence[str]:
    rng = random.Random(seed)
    study = bench.place(f"{name.replace(' ', '-')}-{seed}")
    count = sum(part in path for path in bench.operations)
    assert count, f"nothing is written to {part}"
    at = rng.randint(1, max(1, count - count // 20))  # their number is not quite the same in every run
    ended = bench.sweep(study, Injection(recipe.kind, at, recipe.error, recipe.amount, part))
    if not recipe.is_end(ended):
        return [f"ended with code {ended.code} at operation {at} of {count}: {last_words(ended)}"]
    if ended.left:
        return [f"left the processes {ended.left}"]
    return bench.done_with(study, resumed(bench, study))


def _signal(bench: Bench, name: str, seed: int) -> Sequence[str]:
    rng = random.Random(seed)
    study = bench.place(f"{name.replace(' ', '-')}-{seed}")
    running = bench.launcher.start(study.parent, ["sweep", bench.experiment, "--out", study])
    tasks = rng.randrange(bench.num_tasks)
    while running.said.count("  task ") < tasks:
        if running.has_ended:
            return [f"ended before task {tasks}: {last_words(running.wait())}"]
        time.sleep(0.01)
    time.sleep(rng.uniform(0.0, 0.2))
    if name == "SIGSTOP":
        running.signal(signal.SIGSTOP)
        time.sleep(rng.uniform(0.5, 1.5))
        refused = bench.go_on(study)
        running.signal(signal.SIGCONT)
        if not (refused.is_refusal and "is being run by" in refused.said):
            return [f"another launch was not refused: {last_words(refused)}", *_end_of(running.wait(), (0,))]
        wrong = _end_of(running.wait(), (0,))
    else:
        number = signal.Signals[name]
        running.signal(number)
        # A request to stop that comes before anybody listens ends the process as any other.
        wrong = _end_of(running.wait(), (-number,) if name == "SIGKILL" else (130, 0, -number))
    return wrong or bench.done_with(study, resumed(bench, study))


def _end_of(ended: Ended, codes: tuple[int, ...]) -> list[str]:
    left = [f"process {pid} is left" for pid in ended.left]
    wrong = [] if ended.code in codes else [f"ended with code {ended.code}: {last_words(ended)}"]
    return [*wrong, *left]


def last_words(ended: Ended) -> str:
    """Its error, or the end of what it said."""
    words = ended.errors or [line for line in ended.said.splitlines() if line.strip()][-3:]
    return " | ".join(words)


def seeds(seed: int, name: str, count: int) -> list[int]:
    """Seeds of as many faults of one kind."""
    return [seed_of(seed, name, number) for number in range(count)]
