"""`python -m tests.faults.soak MINUTES`: studies back to back in one driver, each with a fault; what the driver takes.

The process drives them as a notebook would: one after the other, a Ray session for ten of them. While a study runs,
its trial is killed or stopped, or the study is asked to stop; then a file of it is damaged, and it is resumed and
checked.

Ray keeps a socket open in the driver for every session that it has ended (the connection to the session's GCS, which
its C++ part never closes). How many, is measured on sessions of bare Ray, and what is left is held against the limit.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from seekr_tune.cluster.session import ray_session
from seekr_tune.errors import Stopped
from seekr_tune.experiment import load_experiment
from seekr_tune.study.directory.layout import stop_path
from seekr_tune.study.life.stopping import StopFile
from seekr_tune.study.life.study import resume_study, start_study
from seekr_tune.study.runs.watch import polled
from tests.faults.bench import write_experiment
from tests.faults.damage import DAMAGES, MAY_BE_REFUSED, files_of
from tests.faults.fault import Fault, Outcome, outcome_of, seed_of, table, write_outcomes
from tests.faults.invariants import Results, violations
from tests.faults.on_ray import PROCESSES
from tests.processes import descendants

STUDIES_OF_A_SESSION = 10
SAMPLE_SECONDS = 5.0
WARM_UP = 0.25
"""Part of the time in which libraries are loaded and caches filled."""
MOST_GROWTH = 1.1
"""Memory and handles at the end, as a part of what they were after the warm-up."""
DURING = ("SIGKILL", "SIGSTOP", "stop")
SESSIONS_OF_RAY_ALONE = 6
RAY_ALONE = f"""
import os, ray
for _ in range({SESSIONS_OF_RAY_ALONE}):
    ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=1)
    ray.shutdown()
    print("open", len(os.listdir("/proc/self/fd")))
"""


@dataclass(frozen=True)
class Sample:
    """What the driver takes.

    Attributes:
        seconds: since the beginning.
        rss_bytes: memory that is resident.
        file_handles: that are open.
        threads: that live.
        studies: that are done.
        sessions: of Ray that have ended.
    """

    seconds: float
    rss_bytes: int
    file_handles: int
    threads: int
    studies: int
    sessions: int


@dataclass
class Meter:
    """Looks at this process every few seconds, for the time of a block."""

    samples: list[Sample] = field(default_factory=list)
    studies: int = 0
    sessions: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """The block."""
        started = time.monotonic()

        def look() -> None:
            self.samples.append(self._sample(time.monotonic() - started))

        with polled(look, SAMPLE_SECONDS):
            yield

    def _sample(self, seconds: float) -> Sample:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        handles = len(os.listdir("/proc/self/fd"))
        rss = pages * os.sysconf("SC_PAGE_SIZE")
        return Sample(round(seconds, 1), rss, handles, threading.active_count(), self.studies, self.sessions)


def handles_of_ray_alone() -> float:
    """File handles that bare Ray leaves open in a process, a session."""
    lines = subprocess.run([sys.executable, "-c", RAY_ALONE], check=True, capture_output=True, text=True).stdout.split()
    counts = [int(word) for word in lines if word.isdigit()]
    return (counts[-1] - counts[0]) / (len(counts) - 1)


def growth(values: Sequence[float]) -> float:
    """The median of the last quarter over that of the first one behind the warm-up."""
    steady = values[int(len(values) * WARM_UP) :]
    quarter = max(1, len(steady) // 4)
    return statistics.median(steady[-quarter:]) / statistics.median(steady[:quarter])


def soak(minutes: float, seed: int, folder: Path) -> tuple[list[Sample], list[Outcome]]:
    """Do studies until the time is over."""
    experiment, meter, outcomes = write_experiment(folder / "experiment"), Meter(), []
    deadline = time.monotonic() + 60 * minutes
    with meter.running():
        with ray_session():
            start_study(load_experiment(experiment), experiment, folder / "whole" / "study")
        meter.sessions += 1
        expected = Results.of(folder / "whole" / "study")
        while time.monotonic() < deadline:
            with ray_session():
                for _ in range(STUDIES_OF_A_SESSION):
                    if time.monotonic() < deadline:
                        one = seed_of(seed, meter.studies)
                        outcomes.append(_study(experiment, folder / f"study-{meter.studies}", expected, one))
                        print(outcomes[-1], flush=True)
                        meter.studies += 1
            meter.sessions += 1
    return meter.samples, outcomes


def _study(experiment: Path, folder: Path, expected: Results, seed: int) -> Outcome:
    rng = random.Random(seed)
    during, damage = rng.choice(DURING), rng.choice(sorted(DAMAGES))

    def make() -> list[str]:
        study = folder / "study"
        with _disturbed(study, during, rng), suppress(Stopped):
            start_study(load_experiment(experiment), experiment, study)
        files = [path for path in files_of(folder, "/") if path.name not in MAY_BE_REFUSED]
        before = {path: path.read_bytes() for path in files}
        DAMAGES[damage](rng.choice(files), rng)
        touched = [path for path in files if not path.is_file() or path.read_bytes() != before[path]]
        resume_study(study)
        wrong = violations(study, expected, touched)
        names = ", ".join(str(path.relative_to(folder)) for path in touched)
        return [f"({names}) {line}" for line in wrong]

    outcome = outcome_of(Fault(f"{during}, {damage}", "soak", seed), make)
    if outcome.survived:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


@contextmanager
def _disturbed(study: Path, during: str, rng: random.Random) -> Iterator[None]:
    """While the block runs, its trial is killed or stopped for a moment, or the study is asked to stop."""
    ended, delay = threading.Event(), rng.uniform(1.0, 6.0)

    def disturb() -> None:
        if ended.wait(delay):
            return
        if during == "stop":
            StopFile(stop_path(study)).ask()
            return
        for pid in descendants(os.getpid(), PROCESSES["trial"])[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.Signals[during])
                if during == "SIGSTOP":
                    time.sleep(1.0)
                    os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def main(minutes: float) -> int:
    """Soak; 1 if a study was not survived, or the driver grew by more than Ray alone makes it grow."""
    seed = int(os.environ.get("SEEKR_FAULT_SEED", "0"))
    reports = Path(os.environ.get("SEEKR_RELIABILITY_DIR", tempfile.mkdtemp(prefix="seekr-soak-report-")))
    folder = Path(tempfile.mkdtemp(prefix="seekr-soak-"))
    of_ray = handles_of_ray_alone()
    samples, outcomes = soak(minutes, seed, folder)
    grown = {
        "rss_bytes": growth([one.rss_bytes for one in samples]),
        "file_handles": growth([one.file_handles for one in samples]),
        "file_handles_without_ray": growth([one.file_handles - of_ray * one.sessions for one in samples]),
    }
    report = {"minutes": minutes, "seed": seed, "studies": len(outcomes), "growth": grown, "ray_alone": of_ray}
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "soak.json").write_text(json.dumps(report | {"samples": [asdict(one) for one in samples]}))
    write_outcomes(reports / "soak-faults.json", outcomes)
    print(table(outcomes))
    print(f"{len(outcomes)} studies; growth behind the warm-up: {grown}; {of_ray=}; {reports / 'soak.json'}")
    ours = grown["rss_bytes"], grown["file_handles_without_ray"]
    return int(not all(one.survived for one in outcomes) or max(ours) > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
