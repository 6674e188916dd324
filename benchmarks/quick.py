"""Ratios of single steps on a CPU, checked against their goals: `make bench-quick`.

    python -m benchmarks.quick                    # two to three minutes; what CI runs
    python -m benchmarks.quick --full             # all comparisons, three to four minutes; keeps what it found

The comparisons of `benchmarks/gpu` (sides in turn, medians of five), with a random Llama of 28 million weights in
float32 and one thread. The exit code is 1 where a ratio leaves its goal by more than the noise that stands beside it:
for time, what single pairs vary by on two cores that others share, of which a median sees less. With `--full` it is
always 0: the page of results shows what misses its goal.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu import table
from benchmarks.gpu.lesson import measure_lesson
from benchmarks.gpu.models import Setting
from benchmarks.gpu.replay import measure_replay
from benchmarks.gpu.step import measure_step
from benchmarks.results import Figure, keep


@dataclass(frozen=True)
class Goal:
    """The most that a ratio may be, and by how much a measurement of it errs."""

    case: str
    ratio: str
    most: float
    noise: float


GOALS = (
    Goal("replay", "distilled/plain time", 1.05, 0.10),
    Goal("replay", "distilled/plain memory", 1.03, 0.02),
    Goal("lesson", "observe/plain time", 1.15, 0.10),
    Goal("lesson", "observe/plain memory", 1.05, 0.02),
    Goal("step", "learner/bare time", 1 / 0.97, 0.10),
)
SETTING = Setting("small", lora=False, checkpointing=False)
MEASURES = {"replay": measure_replay, "lesson": measure_lesson, "step": measure_step}
SIZES = {  # two samples in a pass
    "replay": "--lengths 256 512 --no-maps",
    "lesson": "--lengths 128",
    "step": "--lengths 256 --repeats 7",
}
SIZES_IN_FULL = {
    "replay": "--lengths 256 1024 --repeats 3",
    "replay, long": "--lengths 2048 --repeats 3 --no-maps",
    "lesson": "--lengths 128 --repeats 3",
    "step": "--lengths 256 --repeats 7",
}
NAMES = {"replay": "replay step", "lesson": "end-of-task pass", "step": "new-task step"}


def measured(sizes: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Rows of the table, case by case."""
    for case, own in sizes.items():
        arguments = f"--device cpu --dtype float32 --tokens 512 --block 1 {own}"
        yield from MEASURES[case.partition(",")[0]](SETTING, table.parse(arguments.split()))


def judged(row: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """A line for each ratio of a row, and whether it is within its goal."""
    goals = {goal.ratio: goal for goal in GOALS if goal.case == row["case"]}
    for name, value in row.items():
        if name in goals:
            goal = goals[name]
            is_kept = value <= goal.most + goal.noise
            verdict = "" if is_kept else "  MISSED"
            yield f"{name} {value:.3f} (at most {goal.most:.3f}, noise {goal.noise}){verdict}", is_kept
        elif name.endswith((" time", " memory")):
            yield f"{name} {value:.3f}", True


def figures_of(row: Mapping[str, Any]) -> Iterator[Figure]:
    """The ratios and speeds of a row."""
    goals = {goal.ratio: goal.most for goal in GOALS if goal.case == row["case"]}
    name = f"{NAMES[row['case']]}, {row['length']} tokens a sample"
    for key, value in row.items():
        sides, _, what = key.rpartition(" ")
        if what in ("time", "memory"):
            side, _, base = sides.partition("/")
            yield Figure(name=f"{name}, {side}: {what}", against=base, value=value, goal=goals.get(key))
        elif what == "tokens/s":
            yield Figure(name=f"{name}, {sides}", value=value, unit=what)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all comparisons")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    started, figures, missed = time.perf_counter(), [], 0
    for row in measured(SIZES_IN_FULL if options.full else SIZES):
        figures += list(figures_of(row))
        for line, is_kept in judged(row):
            print(f"{row['case']:<7} {row['length']:>5}  {line}", flush=True)
            missed += not is_kept
    print(f"{missed} ratios miss their goal" if missed else "every ratio is within its goal and noise")
    if options.full:
        keep("quick", time.perf_counter() - started, figures)
        return 0
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
