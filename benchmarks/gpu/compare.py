"""Sides of a comparison: timed in turn, on the same inputs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.models import free
from seekr_tune.loop.throughput import Stopwatch, peak_memory, reset_peak_memory

WARM_UP = 2
"""Turns of each side that are not counted."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: seconds of each turn, the most held at once, and what was held all the time."""

    turns: tuple[float, ...]
    peak_bytes: int
    resting_bytes: int

    @property
    def seconds(self) -> float:
        """Of the median turn."""
        return statistics.median(self.turns)


def compare(
    sides: Mapping[str, Callable[[int], object]],
    device: torch.device,
    repeats: int,
    prepare: Callable[[str], None] = lambda name: None,
) -> dict[str, Side]:
    """Time sides in turn; each is called with the number of the turn. Sides that do not fit are left out.

    Args:
        prepare: called with the name of a side before each of its turns, and not timed.
    """
    watch = Stopwatch(device)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks, resting = dict.fromkeys(sides, 0), dict.fromkeys(sides, 0)
    for turn in range(WARM_UP + repeats):
        for name in list(seconds):
            prepare(name)
            reset_peak_memory(device)
            before = peak_memory(device) or 0
            watch.reset()
            fits = _run(partial(sides[name], turn), watch, name)
            if not fits:  # only now: an exception at hand would hold all that its frames hold
                del seconds[name]
                free(device)
                continue
            taken = watch.seconds(name)
            if turn >= WARM_UP:
                seconds[name].append(taken)
                peaks[name], resting[name] = max(peaks[name], peak_memory(device) or 0), before
    return {name: Side(tuple(own), peaks[name], resting[name]) for name, own in seconds.items()}


def _run(side: Callable[[], object], watch: Stopwatch, name: str) -> bool:
    """Time one turn of a side; whether it fits on the device."""
    try:
        with watch.part(name):
            side()
    except torch.cuda.OutOfMemoryError:
        return False
    return True


def ratios(sides: Mapping[str, Side], side: str, base: str) -> dict[str, float | None]:
    """Time and peak memory of one side over another's.

    Time is the median over the turns of what the two took one after the other: what slows a machine down for a while
    slows both.
    """
    if side not in sides or base not in sides:
        return {f"{side}/{base}": None}
    ours, theirs = sides[side], sides[base]
    return {
        f"{side}/{base} time": statistics.median(a / b for a, b in zip(ours.turns, theirs.turns, strict=True)),
        f"{side}/{base} memory": ours.peak_bytes / theirs.peak_bytes,
    }


def described(sides: Mapping[str, Side]) -> dict[str, Any]:
    return {
        name: {"ms": 1000 * side.seconds, "peak_gb": side.peak_bytes / 1e9, "resting_gb": side.resting_bytes / 1e9}
        for name, side in sides.items()
    }


def take(steps: Iterator[object], count: int, turn: int) -> None:
    """A turn of a side that is an endless loop."""
    for _ in range(count):
        next(steps)
