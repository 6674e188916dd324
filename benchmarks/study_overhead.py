"""What a study adds to trials that run in their own processes, beyond the same runs in plain Python.

    python -m benchmarks.study_overhead       # four to five minutes on two cores

Three figures. First, a study of many trials on all slots of this machine, from its call to its end (so with the start
of Ray and of its processes), against the same runs one after the other in one plain process, divided by the slots;
every second one is run there, and counts twice.
Second, what part of that is the machine's: some of the runs in as many plain processes at once as there are slots, each
already warm, against the same runs alone; two hardware threads of one core are not two cores. Third, one trial more: a
study is run with few and with more small trials, one at a time; the difference, divided by the additional trials, is
what one trial costs there, without what a study costs once. Every process has one thread, no stage is shared, and all
sides run in this invocation, in turn.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import Figure, keep
from seekr_tune.cluster.strategy import local_workers
from seekr_tune.config import Config
from seekr_tune.experiment import load_experiment, parse_config, with_values
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.life.study import start_study
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.trial import run_trial
from seekr_tune.study.search.space import load_space

REPOSITORY = Path(__file__).parent.parent
TRIALS, FEW, MORE = 16, 3, 9
GOAL = 1.10
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


def seconds_at_once(records: list[TrialRecord], into: Path) -> float:
    """Wall time of the runs in as many plain processes as there are slots, from when all of them have warmed up."""
    context = get_context("spawn")
    warm = context.Barrier(SLOTS + 1)
    parts = [(records[0], records[slot::SLOTS], into / str(slot), warm) for slot in range(SLOTS)]
    processes = [context.Process(target=_warm_loop, args=part) for part in parts]
    for process in processes:
        process.start()
    warm.wait()
    started = time.perf_counter()
    for process in processes:
        process.join()
    assert all(process.exitcode == 0 for process in processes)
    return time.perf_counter() - started


def _warm_loop(first: TrialRecord, records: list[TrialRecord], into: Path, warm: Barrier) -> None:
    torch.set_num_threads(1)
    small = with_values(parse_config(first.config, "warm-up"), SMALL)
    plain_seconds([first.model_copy(update={"config": small.model_dump(mode="json")})], into / "warm-up")
    warm.wait()
    plain_seconds(records, into)


def whole_study(config: Config, root: Path) -> list[Figure]:
    """A study on all slots, and what of its cost is the machine's."""
    in_study = study_seconds(with_values(config, ALONE), TRIALS, root / "study")
    records = read_records(root / "study")[::2]
    plain = plain_seconds(records, root / "plain")
    some = slice(1, 1 + 2 * SLOTS)  # the first one warms up
    at_once = seconds_at_once(records[some], root / "at-once")
    of = f"a study of {TRIALS} trials on {SLOTS} slots"
    return [
        Figure(name=f"{of}: wall time", value=in_study, unit="s"),
        Figure(
            name=f"{of}: wall time",
            against=f"the same runs in one plain loop / {SLOTS}",
            value=in_study / (2 * sum(plain) / SLOTS),
            goal=GOAL,
        ),
        Figure(
            name=f"of this the machine: {2 * SLOTS} runs in {SLOTS} plain processes at once",
            against=f"the same runs alone / {SLOTS}",
            value=at_once / (sum(plain[some]) / SLOTS),
        ),
    ]


def one_trial_more(config: Config, root: Path) -> list[Figure]:
    """What a trial costs in a study, and what a study costs once."""
    small = with_values(config, SMALL)
    few = study_seconds(small, FEW, root / "few")
    more = study_seconds(small, MORE, root / "more")
    plain = statistics.median(plain_seconds(read_records(root / "more"), root / "again")[1:])  # the first one warms up
    in_study = (more - few) / (MORE - FEW)
    return [
        Figure(name="one trial more in a study", value=in_study, unit="s"),
        Figure(name="one trial more in a study: beyond", against="a plain loop", value=in_study - plain, unit="s"),
        Figure(name="start and end of a study, once", value=few - FEW * in_study, unit="s"),
    ]


def main() -> None:
    started = time.perf_counter()
    config = load_experiment(REPOSITORY / "experiments" / "demo.yaml")
    with tempfile.TemporaryDirectory() as scratch:
        figures = [*whole_study(config, Path(scratch)), *one_trial_more(config, Path(scratch))]
    keep("study_overhead", time.perf_counter() - started, figures)


if __name__ == "__main__":
    main()
