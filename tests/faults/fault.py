"""What was done to a study, what became of it, and the table of all of it."""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """Something that is done to a study.

    Attributes:
        fault: what: `SIGKILL`, `disk full`, `bit flipped`.
        target: to what: `driver`, `journal.log`.
        seed: of its moment and place; the same seed does the same again.
    """

    fault: str
    target: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of a study.

    Attributes:
        fault: what was done.
        wrong: what does not hold afterwards; empty: it survived.
        seconds: with the undoing.
    """

    fault: Fault
    wrong: tuple[str, ...]
    seconds: float

    @property
    def survived(self) -> bool:
        """Whether all that must hold does."""
        return not self.wrong

    def __str__(self) -> str:
        said = "survived" if self.survived else "NOT SURVIVED"
        what = f"{self.fault.fault:<18} {self.fault.target:<12} seed {self.fault.seed:<10}"
        line = f"{what} {self.seconds:5.1f} s  {said}"
        return "\n".join([line, *(f"    {text}" for text in self.wrong)])


def seed_of(*parts: object) -> int:
    """A seed for a part of something that has a seed."""
    return zlib.crc32(repr(parts).encode())


def outcome_of(fault: Fault, make: Callable[[], Sequence[str]]) -> Outcome:
    """Do it; whatever goes wrong on the way is wrong, too."""
    started = time.monotonic()
    try:
        wrong = tuple(make())
    except Exception as error:  # one study that is lost must not end the others
        wrong = (f"{type(error).__name__}: {error}",)
    return Outcome(fault, wrong, time.monotonic() - started)


def table(outcomes: Iterable[Outcome]) -> str:
    """Faults by kind and target: how many, and how many were survived."""
    every, survived = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for outcome in outcomes:
        kind = outcome.fault.fault, outcome.fault.target
        every[kind] += 1
        survived[kind] += outcome.survived
    rows = [("fault", "target", "count", "survived")]
    rows += [(*kind, str(count), str(survived[kind])) for kind, count in every.items()]
    rows.append(("all", "", str(every.total()), str(survived.total())))
    return "\n".join(f"{fault:<18} {target:<12} {count:>5} {kept:>9}" for fault, target, count, kept in rows)


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    """One JSON object a fault."""
    rows = [
        {**asdict(one.fault), "survived": one.survived, "seconds": round(one.seconds, 2), "wrong": list(one.wrong)}
        for one in outcomes
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1))
