"""What sharing the first stage spares: CPU time of a whole study with and without it, against the arithmetic.

    python -m benchmarks.shared_stage           # about a minute and a half on two cores

Both studies have the same runs: N trials and the bound without replay, which learn T tasks each and share the first,
and joint training, which shares nothing but the scores of the base model. Without sharing there are

    (N + 1) T + 1   stages of training, and with sharing   (N + 1) T + 1 - N.

The stage of joint training is as long as T others, so what is left of all training is a share of 1 - N / ((N + 2) T).
Scoring is spared with it: of the base model in all runs but one, and after the first task in N. What that comes to in
seconds is what `seekr-tune plan` estimates, from its own calibration.

CPU time is that of all processes that Ray starts for the study, so it includes their start, the same on both sides.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, keep
from seekr_tune.config import Config
from seekr_tune.experiment import load_experiment, with_values
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.life.study import start_study
from seekr_tune.study.plan.plan import Plan, plan_study
from seekr_tune.study.runs.watch import polled
from seekr_tune.study.search.space import load_space

REPOSITORY = Path(__file__).parent.parent
SPACE = load_space(REPOSITORY / "search_spaces" / "seekr_weights.yaml")
TRIALS = 4
_LOOK_SECONDS = 0.1
SETTINGS: dict[str, Any] = {
    "stream.limits.train": 200,
    "stream.limits.eval": 50,
    "study.trials": TRIALS,
    "study.sampler": "qmc",  # the same configurations on both sides, whatever their results
    "study.objectives": {"op": "maximize"},
}


@dataclass
class CpuMeter:
    """CPU seconds of Ray's processes below this one: each as it was last seen, also when it is gone."""

    _seconds: dict[tuple[int, int], float] = field(default_factory=dict)

    def look(self) -> None:
        """Note what each of them has used by now."""
        self._seconds.update(ray_processes())

    @property
    def total(self) -> float:
        """Of all, also of those that are gone."""
        return sum(self._seconds.values())


def ray_processes() -> dict[tuple[int, int], float]:
    """CPU seconds of Ray's processes below this one, by id and start; Linux only."""
    fields: dict[int, list[str]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended
            fields[int(path.name)] = (path / "stat").read_text().rpartition(")")[2].split()

    def is_below(pid: int) -> bool:
        while pid in fields and pid != os.getpid():
            pid = int(fields[pid][1])
        return pid == os.getpid()

    ticks, seconds = os.sysconf("SC_CLK_TCK"), {}
    for pid, values in fields.items():
        with suppress(OSError):
            if is_below(pid) and Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
                seconds[pid, int(values[19])] = (int(values[11]) + int(values[12])) / ticks
    return seconds


@dataclass(frozen=True)
class Spent:
    """What a study took, and gave."""

    cpu_seconds: float
    wall_seconds: float
    records: list[TrialRecord]


def measure(config: Config, directory: Path) -> Spent:
    meter, started = CpuMeter(), time.perf_counter()
    with polled(meter.look, _LOOK_SECONDS):
        start_study(config, SPACE, directory)
    return Spent(meter.total, time.perf_counter() - started, read_records(directory))


def figures_of(plan: Plan, off: Spent, on: Spent) -> list[Figure]:
    """Ratios on / off, measured and by arithmetic."""
    tasks, runs = plan.num_tasks, TRIALS + 1
    of, against = f"shared first task, {len(on.records)} runs of {tasks} tasks, same scores", "not shared"
    return [
        Figure(name=f"{of}: CPU time", against=against, value=on.cpu_seconds / off.cpu_seconds),
        Figure(name=f"{of}: wall time", against=against, value=on.wall_seconds / off.wall_seconds),
        Figure(name=f"{of}: work by the plan", against=against, value=plan.to_do.seconds / plan.total.seconds),
        Figure(name=f"{of}: training by arithmetic", against=against, value=1 - (runs - 1) / ((runs + 1) * tasks)),
    ]


def main() -> None:
    started = time.perf_counter()
    config = with_values(load_experiment(REPOSITORY / "experiments" / "demo.yaml"), SETTINGS)
    plan = plan_study(config, SPACE)
    with tempfile.TemporaryDirectory() as scratch:
        off, on = (
            measure(with_values(config, {"study.share_first_stage": shares}), Path(scratch) / str(shares) / "study")
            for shares in (False, True)
        )
    for one, other in zip(off.records, on.records, strict=True):
        if (one.trial, one.scores) != (other.trial, other.scores):
            raise SystemExit(f"error: {one.trial} has other scores where the first task is shared")
    keep("shared_stage", time.perf_counter() - started, figures_of(plan, off, on))


if __name__ == "__main__":
    main()
