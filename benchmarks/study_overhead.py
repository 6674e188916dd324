"""What a study adds to trials that run in their own processes, beyond the same runs in plain Python.

    python benchmarks/study_overhead.py [repeats]       # about 6 minutes each on two cores

Two figures. First, a study of many trials on all slots of this machine, from its call to its end (so with the start of
Ray and of its processes), against the same runs one after the other in one plain process, divided by the slots. Then
one trial more: a study is run with few and with more small trials, one at a time; the difference, divided by the
additional trials, is what one trial costs there, without what a study costs once. Every process has one thread, no
stage is shared, and both sides run in this invocation, in turn.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from seekr_tune.analysis.record import TrialRecord
from seekr_tune.config import Config
from seekr_tune.experiment import load_experiment, parse_config, with_values
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.life.study import start_study
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.trial import run_trial
from seekr_tune.study.search.space import load_space
from seekr_tune.training.strategy import local_workers

REPOSITORY = Path(__file__).parent.parent
TRIALS, FEW, MORE = 16, 3, 9
GOAL = 1.15
SLOTS = len(os.sched_getaffinity(0))
ALONE: dict[str, Any] = {"study.bounds": [], "study.share_first_stage": False, "study.objectives": {"op": "maximize"}}
SMALL: dict[str, Any] = {
    **ALONE,
    "stream.tasks": ["star", "last"],
    "stream.limits.train": 100,
    "stream.limits.eval": 20,
    "study.max_concurrent": 1,
}


def study_seconds(config: Config, trials: int, directory: Path) -> float:
    space = load_space(REPOSITORY / "search_spaces" / "seekr_weights.yaml")
    started = time.perf_counter()
    start_study(with_values(config, {"study.trials": trials}), space, directory)
    return time.perf_counter() - started


def plain_seconds(records: list[TrialRecord], into: Path) -> list[float]:
    """The runs of a finished study again, one after the other in this process."""
    seconds = []
    for record in records:
        config = parse_config(record.config, record.trial)
        request = TrialRequest(record.trial, "trial", dict(record.params), record.optuna_number)
        started = time.perf_counter()
        run_trial(config, into / record.trial, request, workers=local_workers(config))
        seconds.append(time.perf_counter() - started)
    return seconds


def whole_study(config: Config, root: Path) -> float:
    """Wall time of a study over that of a plain loop divided by the slots."""
    in_study = study_seconds(with_values(config, ALONE), TRIALS, root / "study")
    plain = sum(plain_seconds(read_records(root / "study"), root / "plain"))
    ratio = in_study / (plain / SLOTS)
    print(f"{TRIALS} trials on {SLOTS} slots: {in_study:.1f} s; plain loop {plain:.1f} s / {SLOTS}: ratio {ratio:.3f}")
    return ratio


def one_trial_more(config: Config, root: Path) -> None:
    small = with_values(config, SMALL)
    few = study_seconds(small, FEW, root / "few")
    more = study_seconds(small, MORE, root / "more")
    plain = statistics.median(plain_seconds(read_records(root / "more"), root / "again")[1:])  # the first one warms up
    in_study = (more - few) / (MORE - FEW)
    print(f"one trial in a study: {in_study:.2f} s; in plain Python: {plain:.2f} s; overhead: {in_study - plain:.2f} s")
    print(f"start and end of a study, once: {few - FEW * in_study:.1f} s")


def main() -> None:
    config = load_experiment(REPOSITORY / "experiments" / "demo.yaml")
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with tempfile.TemporaryDirectory() as scratch:
        ratios = [whole_study(config, Path(scratch) / str(repeat)) for repeat in range(repeats)]
        print(f"median ratio {statistics.median(ratios):.3f} of {repeats} (goal: at most {GOAL})")
        one_trial_more(config, Path(scratch))


if __name__ == "__main__":
    main()
