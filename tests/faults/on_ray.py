"""Faults of the processes of Ray sessions: driver, trial, controller, worker, raylet, the server of the cluster."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from seekr_tune.study.directory.records import read_all_records
from tests.faults.bench import Bench, write_experiment
from tests.faults.command import ROOT, Launcher
from tests.faults.fault import Fault, Outcome, seed_of
from tests.faults.invariants import Results, changed, finished_files, violations
from tests.processes import descendants, marked

PATIENCE = 300.0
"""Seconds to the next task, or to the end of a process."""
_GONE_SECONDS = 30.0
"""Within these, what a driver started must be gone."""

PROCESSES = {
    "trial": "ImplicitFunc",  # what Tune calls the actor of a trial
    "controller": "TrainController",
    "worker": "RayTrainWorker",
    "raylet": "raylet/raylet",
    "cluster server": "gcs_server",
}
"""What stands in their command lines."""
FROZEN = "driver of a stopped trial"
"""Its trial cannot notice that it is gone; what it does when it wakes up must harm nobody."""
ENDING = ("driver", FROZEN, "raylet", "cluster server")
"""Without these a launch cannot go on."""

OF_TRIALS = (
    *(("SIGKILL", "trial"), ("SIGTERM", "trial"), ("SIGSTOP", "trial"), ("SIGSTOP", "driver"), ("SIGTERM", "driver")),
    *(("SIGKILL", "driver"), ("SIGKILL", "raylet"), ("SIGSTOP", "raylet"), ("SIGKILL", "cluster server")),
    ("SIGKILL", FROZEN),
)
OF_GROUPS = (
    *(("SIGKILL", "worker"), ("SIGTERM", "worker"), ("SIGSTOP", "worker"), ("SIGKILL", "controller")),
    *(("SIGSTOP", "controller"), ("SIGKILL", "driver"), ("SIGTERM", "driver")),
)
LONGER = {"study.trials": 6, "stream.limits.train": 64, "recipe.epochs": 2, "training.max_failures": 100}
GROUPS = LONGER | {"study.trials": 3, "study.bounds": [], "training.workers": 2, "training.checkpoint_steps": 3}


@dataclass
class Study:
    """A study on Ray, and the process that drives it.

    Attributes:
        experiment: its file.
        directory: of the study.
        mark: in the environment of all its processes.
    """

    experiment: Path
    directory: Path
    mark: str
    driver: subprocess.Popen[bytes] = field(init=False)

    def launch(self) -> None:
        """Begin it, or go on with it."""
        begun = (self.directory / "experiment.yaml").is_file()
        words = ["resume", self.directory] if begun else ["sweep", self.experiment, "--out", self.directory]
        name, _, value = self.mark.partition("=")
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with (self.directory.parent / "said.log").open("ab") as said:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "seekr_tune.cli", *map(str, words)],
                cwd=ROOT,
                env={**os.environ, name: value},
                stdout=said,
                stderr=said,
            )

    @property
    def last_words(self) -> str:
        """The end of what its drivers said."""
        lines = (self.directory.parent / "said.log").read_text(errors="replace").splitlines()
        return " | ".join([line for line in lines if line.strip()][-3:])

    def tasks_done(self) -> int:
        """Tasks that are finished, over all runs."""
        return sum(record.tasks_done for record in read_all_records(self.directory)[0])

    def process(self, target: str) -> int | None:
        """Id of a process of the session; None where there is none at the moment."""
        if target in ("driver", FROZEN):
            return self.driver.pid
        found = descendants(self.driver.pid, PROCESSES[target])
        return found[0] if found else None

    def end(self, patience: float = PATIENCE) -> int:
        """The driver's exit code; one that does not end within `patience` seconds is killed."""
        try:
            return self.driver.wait(patience)
        except subprocess.TimeoutExpired:
            self.driver.kill()
            self.driver.wait()
            raise

    def left(self) -> list[str]:
        """Processes that are still there when they should be gone."""
        deadline = time.monotonic() + _GONE_SECONDS
        while (left := marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return [f"process {pid} is left" for pid in left]


def trials_on_ray(folder: Path, seed: int, say: Callable[[str], None]) -> list[Outcome]:
    """Make the faults of a study whose trials are one process each."""
    with Launcher(folder) as launcher:  # what trials in one process come to on Ray, they come to without it
        bench = Bench.prepare(launcher, folder / "trials", **LONGER)
    return _disturbed(folder / "trials-on-ray", bench.experiment, bench.expected, OF_TRIALS, seed, say)


def groups_on_ray(folder: Path, seed: int, say: Callable[[str], None]) -> list[Outcome]:
    """Make the faults of a study whose trials are groups of two workers."""
    experiment = write_experiment(folder / "groups", **GROUPS)
    whole = _study(folder / "groups-whole", experiment)
    whole.launch()
    assert whole.end(4 * PATIENCE) == 0, whole.last_words
    expected = Results.of(whole.directory)
    return _disturbed(folder / "groups-on-ray", experiment, expected, OF_GROUPS, seed, say)


def _disturbed(
    folder: Path,
    experiment: Path,
    expected: Results,
    plan: Sequence[tuple[str, str]],
    seed: int,
    say: Callable[[str], None],
) -> list[Outcome]:
    """One study to its end, with all faults of a plan; the last outcome holds what is wrong with it then."""
    rng = random.Random(seed_of(seed, folder.name))
    study, order = _study(folder, experiment), rng.sample(plan, len(plan))
    num_tasks = sum(record["tasks_done"] for record in expected.records.values())
    places = sorted(rng.sample(range(num_tasks - 1), len(plan)))
    outcomes: list[Outcome] = []
    study.launch()
    for (name, target), tasks in zip(order, places, strict=True):
        started = time.monotonic()
        wrong = list(_one(study, name, target, tasks, rng))
        outcomes.append(Outcome(Fault(name, target, seed), tuple(wrong), time.monotonic() - started))
        say(str(outcomes[-1]))
    started = time.monotonic()
    code = study.end()
    wrong = [f"ended with code {code}: {study.last_words}"] if code else violations(study.directory, expected)
    wrong += study.left()
    if wrong:
        outcomes.append(Outcome(Fault("all of them", folder.name, seed), tuple(wrong), time.monotonic() - started))
        say(str(outcomes[-1]))
    return outcomes


def _one(study: Study, name: str, target: str, tasks: int, rng: random.Random) -> Iterator[str]:
    """Wait for a moment, do it, and go on."""
    if not _wait_for(study, lambda: study.tasks_done() >= tasks):
        yield f"not {tasks} tasks after {PATIENCE:.0f} s: {study.last_words}"
    if not _wait_for(study, lambda: study.process("trial" if target == FROZEN else target) is not None):
        yield f"there is no {target}: {study.last_words}"
        return
    time.sleep(rng.uniform(0.0, 0.5))
    before, pid, number = finished_files(study.directory), study.process(target), signal.Signals[name]
    frozen = study.process("trial") if target == FROZEN else None
    if pid is None:
        yield f"the {target} is gone"
        return
    if frozen is not None:
        os.kill(frozen, signal.SIGSTOP)
    os.kill(pid, number)
    if number == signal.SIGSTOP:
        time.sleep(rng.uniform(1.0, 4.0))
        os.kill(pid, signal.SIGCONT)
    elif target in ENDING:
        yield from _ended(study, number, target)
        study.launch()  # at once: trials of a killed driver may still be there
    if frozen is not None:
        time.sleep(rng.uniform(5.0, 20.0))  # by then the new driver may have begun the same trial
        with suppress(ProcessLookupError):
            os.kill(frozen, signal.SIGCONT)
    yield from changed(before)


def _ended(study: Study, number: signal.Signals, target: str) -> Iterator[str]:
    try:
        code = study.end()
    except subprocess.TimeoutExpired:
        yield f"the driver had not ended {PATIENCE:.0f} s after its {target} was killed"
        return
    if target in ("driver", FROZEN) and code != (130 if number == signal.SIGTERM else -number):
        yield f"ended with code {code}: {study.last_words}"
    if target == "driver" and number == signal.SIGTERM:
        yield from study.left()


def _wait_for(study: Study, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline or study.driver.poll() is not None:
            return False
        time.sleep(0.05)
    return True


def _study(folder: Path, experiment: Path) -> Study:
    return Study(experiment, folder / "study", f"SEEKR_FAULT_STUDY={folder}")
