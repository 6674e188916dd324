"""What a benchmark found: figures and curves, kept as one JSON file with date, device and versions."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

DIRECTORY = Path("runs/bench")
_PACKAGES = ("torch", "transformers", "ray", "optuna")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Part):
    """One number.

    Attributes:
        name: what was measured.
        against: what it is compared with; empty where it stands alone.
        value: a ratio, or an amount of `unit`.
        spread: the least and the most of single turns.
        goal: the most that `value` may be, or the least with `at_least`.
    """

    name: str
    value: float
    against: str = ""
    unit: str = ""
    spread: tuple[float, float] | None = None
    goal: float | None = None
    at_least: bool = False

    @property
    def misses(self) -> bool:
        """Whether the value is beyond its goal."""
        if self.goal is None:
            return False
        return self.value < self.goal if self.at_least else self.value > self.goal


class Curve(_Part):
    """How a number grows with another; curves of one chart stand together.

    Attributes:
        chart: what the curves of a chart have in common, also the name of its picture.
        x, y: names of the axes.
        points: (x, y), ascending.
    """

    chart: str
    name: str
    x: str
    y: str
    points: tuple[tuple[float, float], ...]


class Results(_Part):
    """All that one benchmark found, and where.

    Attributes:
        seconds: that the benchmark took.
    """

    benchmark: str
    date: str
    device: str
    versions: dict[str, str]
    seconds: float
    figures: tuple[Figure, ...]
    curves: tuple[Curve, ...] = ()


def median_of_ratios(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median of the ratios of pairs, and their least and most: what slows a machine for a while slows both."""
    found = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return statistics.median(found), (min(found), max(found))


def keep(
    benchmark: str,
    seconds: float,
    figures: Sequence[Figure] = (),
    curves: Sequence[Curve] = (),
    directory: Path = DIRECTORY,
) -> Results:
    """Print what was found, and write `<benchmark>.json`."""
    results = Results(
        benchmark=benchmark,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        device=device_name(),
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        seconds=round(seconds, 1),
        figures=tuple(figures),
        curves=tuple(curves),
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{benchmark}.json").write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for figure in figures:
        goal = "" if figure.goal is None else f" (goal: at {'least' if figure.at_least else 'most'} {figure.goal:g})"
        against = f" / {figure.against}" if figure.against else ""
        print(f"{figure.name}{against}: {figure.value:.4g} {figure.unit}{goal}{'  MISSED' if figure.misses else ''}")
    for curve in curves:
        print(f"{curve.y}, {curve.name}, by {curve.x}: " + ", ".join(f"{x:g}: {y:.4g}" for x, y in curve.points))
    return results


def read_results(directory: Path = DIRECTORY) -> list[Results]:
    """What all benchmarks left there, by name."""
    return [Results.model_validate_json(path.read_text(encoding="utf-8")) for path in sorted(directory.glob("*.json"))]


def device_name() -> str:
    """The GPU that torch sees, or the processor and how many of its threads this process may use."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{_processor()}, {len(os.sched_getaffinity(0))} threads"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
