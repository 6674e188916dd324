"""What a study adds to a trial that runs in its own process: seconds beyond the same run in plain Python.

    python benchmarks/study_overhead.py

A study is run with few and with more trials, one at a time; the difference, divided by the additional trials, is what
one trial costs there, without the fixed cost of starting Ray, which is printed beside it. The same trials are then run
one after the other in this process.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from seekr_tune.config import Config
from seekr_tune.experiment import load_experiment, parse_config, with_values
from seekr_tune.study.request import TrialRequest
from seekr_tune.study.space import load_space
from seekr_tune.study.study import start_study
from seekr_tune.study.trial import run_trial

REPOSITORY = Path(__file__).parent.parent
FEW, MORE = 3, 9
SMALL = {
    "stream.tasks": ["star", "last"],
    "stream.limits.train": 100,
    "stream.limits.eval": 20,
    "study.bounds": [],
    "study.max_concurrent": 1,
}


def study_seconds(config: Config, trials: int, directory: Path) -> float:
    space = load_space(REPOSITORY / "search_spaces" / "seekr_weights.yaml")
    started = time.perf_counter()
    start_study(with_values(config, {"study.trials": trials}), space, directory)
    return time.perf_counter() - started


def plain_seconds(study: Path, into: Path) -> float:
    """The trials of a finished study again, in this process; the first one warms up and does not count."""
    from seekr_tune.analysis.record import read_record

    seconds = []
    for path in sorted((study / "trials").glob("*/result.json")):
        record = read_record(path)
        config = parse_config(record.config, str(path))
        request = TrialRequest(record.trial, "trial", dict(record.params), record.optuna_number)
        started = time.perf_counter()
        run_trial(config, into / record.trial, request)
        seconds.append(time.perf_counter() - started)
    return sum(seconds[1:]) / (len(seconds) - 1)


def main() -> None:
    config = with_values(load_experiment(REPOSITORY / "experiments" / "demo.yaml"), SMALL)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        few = study_seconds(config, FEW, root / "few")
        more = study_seconds(config, MORE, root / "more")
        plain = plain_seconds(root / "more", root / "plain")
    in_study = (more - few) / (MORE - FEW)
    print(f"one trial in a study: {in_study:.2f} s; in plain Python: {plain:.2f} s; overhead: {in_study - plain:.2f} s")
    print(f"start and end of a study, once: {few - FEW * in_study:.1f} s")


if __name__ == "__main__":
    main()
