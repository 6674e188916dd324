"""How the cost of a study grows with its trials: everything but the runs.

    python -m benchmarks.study_growth           # about a minute

A study of two tasks whose runs return at once: a formula of their settings instead of training. Done as a study does
it, in one process and without Ray: the next configuration (TPE over the journal), the record that a run leaves after
each task, what the judge of hopeless trials says in between, the end of the trial in the journal, and the ledger and
the limit on disk after each run. The figure at N is the median over the last trials up to N; only these have a judge
and a ledger, which read the records of all trials each time. What Ray adds to a trial is in `study_overhead`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import optuna

from benchmarks.results import Curve, keep
from seekr_tune.config import Config
from seekr_tune.experiment import load_experiment
from seekr_tune.records import TrialRecord, score_cells, write_record
from seekr_tune.study.directory.layout import result_path
from seekr_tune.study.life.ledger_writer import LedgerWriter
from seekr_tune.study.life.quota import enforce_quota
from seekr_tune.study.runs.outcome import new_record
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.journal import open_study
from seekr_tune.study.search.judge import Judge
from seekr_tune.study.search.queue import TrialQueue
from seekr_tune.study.search.space import load_space

REPOSITORY = Path(__file__).parents[1]
COUNTS = (10, 100, 1000)
LAST = 5
PARTS = ("search and journal", "record", "judge", "ledger and quota")
SETTINGS = (
    "stream.tasks=[star, last]",
    "stream.metrics={}",
    "study.bounds=[]",
    "study.objectives={op: maximize}",
    "study.pruning={rule: median, grace_tasks: 1}",
)


@dataclass
class Clock:
    """Seconds of each part, trial by trial."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def next_trial(self) -> None:
        for own in self.seconds.values():
            own.append(0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name][-1] += time.perf_counter() - started

    def at(self, count: int, part: str) -> float:
        """Of the last trials up to this one."""
        return statistics.median(self.seconds[part][count - LAST : count])


def drive(directory: Path, counts: tuple[int, ...] = COUNTS) -> Clock:
    """Run a study to the largest of the counts."""
    config = load_experiment(REPOSITORY / "experiments" / "demo.yaml", [*SETTINGS, f"study.trials={max(counts)}"])
    space = load_space(REPOSITORY / "search_spaces" / "seekr_weights.yaml")
    queue = TrialQueue(open_study(directory, config, space), space, config, directory)
    judge, ledger, clock = Judge(config, directory), LedgerWriter(directory, directory), Clock()
    number = 0
    while True:
        clock.next_trial()
        with clock.part("search and journal"):
            request = queue.next()
            if request is None:
                ledger.write()
                return clock
            queue.link(request, f"ray-{number}")
        number += 1
        is_measured = any(count - LAST < number <= count for count in counts)
        run_at_once(directory, config, request, judge if is_measured else None, clock)
        with clock.part("search and journal"):
            queue.finish(request)
        if is_measured:
            with clock.part("ledger and quota"):
                ledger.write_when_due()
                enforce_quota(directory, config)


def run_at_once(directory: Path, config: Config, request: TrialRequest, judge: Judge | None, clock: Clock) -> None:
    """What a run leaves, and asks, after each of its two tasks."""
    own = request.config(config)
    tasks, scores = own.stream.tasks, np.full((2, 2), np.nan)
    with clock.part("record"):
        record = new_record(own, request)
    for done in (1, 2):
        scores[done - 1, :done] = 50 + np.log(own.method.memory.percent) - done
        with clock.part("record"):
            record = _after(record, done, scores, tasks)
            write_record(result_path(directory, request.key), record)
        if done == 1 and judge is not None:
            with clock.part("judge"):
                judge(record)  # nothing is stopped, so that every trial costs the same


def _after(record: TrialRecord, done: int, scores: np.ndarray, tasks: tuple[str, ...]) -> TrialRecord:
    return record.model_copy(
        update={
            "status": "finished" if done == len(tasks) else "running",
            "tasks_done": done,
            "scores": score_cells(tasks, {"eval": scores}, {}),
        }
    )


def curves_of(clock: Clock, counts: tuple[int, ...] = COUNTS) -> list[Curve]:
    """Seconds of one trial by the trials before it."""

    def curve(name: str, parts: tuple[str, ...]) -> Curve:
        points = tuple((float(count), sum(clock.at(count, part) for part in parts)) for count in counts)
        return Curve(chart="study", name=name, x="trials", y="seconds of one more trial", points=points)

    return [curve("all", PARTS), *(curve(part, (part,)) for part in PARTS)]


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        curves = curves_of(drive(Path(scratch)))
    keep("study_growth", time.perf_counter() - started, curves=curves)


if __name__ == "__main__":
    main()
