"""What sharing the first stage spares: CPU time of a whole study with and without it, against the arithmetic.

    python -m benchmarks.shared_stage           # about 2 minutes on two cores

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

from seekr_tune.analysis.record import TrialRecord
from seekr_tune.config import Config
from seekr_tune.experiment import load_experiment, with_values
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.life.study import start_study
from seekr_tune.study.plan.plan import Plan, plan_study
from seekr_tune.study.runs.watch import polled
from seekr_tune.study.search.space import load_space

REPOSITORY = Path(__file__).parent.parent
SPACE = load_space(REPOSITORY / "search_spaces" / "seekr_weights.yaml")
TRIALS = 6
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


def measure(config: Config, directory: Path) -> tuple[float, float, list[TrialRecord]]:
    """CPU seconds, wall seconds and records of a study."""
    meter, started = CpuMeter(), time.perf_counter()
    with polled(meter.look, _LOOK_SECONDS):
        start_study(config, SPACE, directory)
    return meter.total, time.perf_counter() - started, read_records(directory)


def report(plan: Plan, off: tuple[float, float, list[TrialRecord]], on: tuple[float, float, list[TrialRecord]]) -> None:
    equal = all(
        one.scores == other.scores for one, other in zip(off[2], on[2], strict=True) if one.trial == other.trial
    )
    tasks, runs = plan.num_tasks, TRIALS + 1
    stages_off, stages_on = runs * tasks + 1, runs * tasks + 1 - (runs - 1)
    of_training = 1 - (runs - 1) / ((runs + 1) * tasks)
    shared = sum(row.shared_seconds for record in on[2] for row in record.timing)
    print(f"{len(on[2])} runs of {tasks} tasks; scores equal: {equal}")
    print(f"{'':34}{'off':>10}{'on':>10}{'on / off':>10}")
    rows = {
        "CPU seconds, measured": (off[0], on[0]),
        "wall seconds, measured": (off[1], on[1]),
        "seconds of work, by the plan": (plan.total.seconds, plan.to_do.seconds),
        "stages of training, by the plan": (plan.total.stages, plan.to_do.stages),
        "stages of training, by the formula": (stages_off, stages_on),
    }
    for name, (without, with_sharing) in rows.items():
        print(f"{name:34}{without:>10.1f}{with_sharing:>10.1f}{with_sharing / without:>10.3f}")
    print(f"{'training of tasks, by the formula':34}{'':20}{of_training:>10.3f}")
    print(f"spared by the records: {shared:.1f} s; by CPU time: {off[0] - on[0]:.1f} s")


def main() -> None:
    config = with_values(load_experiment(REPOSITORY / "experiments" / "demo.yaml"), SETTINGS)
    plan = plan_study(config, SPACE)
    with tempfile.TemporaryDirectory() as scratch:
        off, on = (
            measure(with_values(config, {"study.share_first_stage": shares}), Path(scratch) / str(shares) / "study")
            for shares in (False, True)
        )
    report(plan, off, on)


if __name__ == "__main__":
    main()
