"""What a study of many long runs takes: memory of its driver, seconds of `status`, `rank` and `resume`.

    python -m benchmarks.large_study [runs]             # 1000; about ten minutes, and 3 GB of TMPDIR

The study is made up and finished: 8 tasks, 32 layers of 32 heads, 3000 steps a run, each with the numbers of its
samples. A tenth of it is measured again as version 0.2.0 laid it out (heads inside `result.json`). `driver` is a
process that has imported Ray and does what a driver does after a run: the queue takes up the journal, the judge looks
at a trial, the ledger is written (twice: what has not changed is taken from the first), and the disk is looked at. Each
command runs in a process of its own; its seconds (start and imports included) are the median of three turns, its memory
is the largest that was resident.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from benchmarks.report import SPACE, timing_row
from benchmarks.results import Figure, keep
from seekr_tune.atomic_files import write_atomically
from seekr_tune.config import Config
from seekr_tune.experiment import dump_config, parse_config, with_values
from seekr_tune.records import (
    HeadRow,
    ProspectRow,
    ReplayRow,
    StepRow,
    TrialRecord,
    heads_path,
    read_record,
    score_cells,
    write_record,
    write_steps,
)
from seekr_tune.records.heads import read_heads
from seekr_tune.records.seal import sealed
from seekr_tune.study.directory.layout import (
    experiment_path,
    result_path,
    space_path,
    trial_key,
    trial_path,
    trials_path,
)
from seekr_tune.study.search.journal import open_study
from seekr_tune.study.search.space import Space, load_space

TASKS = tuple(f"task-{number:02d}" for number in range(8))
LAYERS, HEADS, STEPS, BATCH = 32, 32, 3000, 16
TURNS = 3
GOAL_SECONDS, GOAL_BYTES = 2.0, 2**30


def record_of(config: Config, number: int, params: dict[str, Any], heads: tuple[HeadRow, ...]) -> TrialRecord:
    """A finished run."""
    random = np.random.default_rng(number)
    scores = np.where(np.tri(len(TASKS), dtype=bool), random.uniform(20, 90, (len(TASKS), len(TASKS))), np.nan)
    errors = np.where(np.isnan(scores)[..., None], np.nan, random.uniform(1, 3, (len(TASKS), len(TASKS), 2)))
    return TrialRecord(
        trial=trial_key(number),
        role="trial",
        configuration=trial_key(number),
        status="finished",
        method="seekr",
        semantics="corrected",
        config=with_values(config, params).model_dump(mode="json"),
        params=params,
        tasks=TASKS,
        scores=score_cells(TASKS, {"eval": scores}, {"eval": random.uniform(0, 20, len(TASKS))}, {"eval": errors}),
        prospects=tuple(_prospect(index, split) for index in range(len(TASKS)) for split in ("train", "eval")),
        heads=heads,
        replay=tuple(_replay(index) for index in range(len(TASKS))),
        timing=tuple(timing_row(TASKS[index], index, random) for index in range(len(TASKS))),
        tasks_done=len(TASKS),
        wall_seconds=float(random.uniform(500, 900)),
        optuna_number=number,
        ray_trial_id=f"ray-{number}",
        num_layers=LAYERS,
        num_heads=HEADS,
        code_version="0",
    )


def _prospect(index: int, split: Any) -> ProspectRow:
    is_scored = split != "train"
    return ProspectRow(
        task=TASKS[index],
        task_index=index,
        split=split,
        rows=500,
        prompts_cut=0.01,
        answers_cut=0.0,
        unknown_tokens=0.0,
        longest_prompt=800,
        longest_answer=60,
        ceiling=99.5 if is_scored else None,
        floor=12.5 if is_scored else None,
    )


def _replay(index: int) -> ReplayRow:
    return ReplayRow(
        task=TASKS[index],
        task_index=index,
        stored_samples=50,
        presentations=50 * index,
        replay_updates=10 * index,
        tokens=5000 * index,
        bytes=250_000,
        first_presentations=50 if index else 0,
    )


def heads_of(seed: int) -> tuple[HeadRow, ...]:
    """Every head after every task, an eighth of them selected."""
    values = np.random.default_rng(seed).random((3, len(TASKS), LAYERS, HEADS))
    return tuple(
        HeadRow(
            task=TASKS[task],
            task_index=task,
            layer=layer,
            head=head,
            sensitivity=values[0, task, layer, head],
            forgettability=values[1, task, layer, head],
            importance=values[2, task, layer, head],
            selected=bool(values[2, task, layer, head] > 0.875),
        )
        for task, layer, head in np.ndindex(len(TASKS), LAYERS, HEADS)
    )


def steps_of(seed: int) -> Iterator[StepRow]:
    """The steps of one run; every fifth one replays."""
    random = np.random.default_rng(seed)
    for number in range(STEPS):
        task, step = divmod(number, STEPS // len(TASKS))
        is_replay = bool(task) and step % 5 == 4
        first, second, third = random.random(3).tolist()
        yield StepRow(
            task_index=min(task, len(TASKS) - 1),
            step=step,
            kind="replay" if is_replay else "new",
            loss=first + second,
            terms={"cross_entropy": first}
            | ({"logit_distillation": second, "attention_distillation": third} if is_replay else {}),
            grad_norm=third,
            learning_rate=1e-3,
            samples=BATCH,
            tokens=8000,
            seconds=second,
            distillation_seconds=third if is_replay else None,
            batch=tuple(random.integers(0, 5000, BATCH).tolist()),
            flops=1e13,
        )


def make_study(directory: Path, runs: int) -> None:
    """A finished study as it lies on disk, without its ledger."""
    values = {"stream": {"tasks": TASKS}, "study": {"trials": runs, "bounds": [], "pruning": {"rule": "median"}}}
    config = with_values(parse_config(values, "benchmark"), {"name": "large", "study.space": "space.yaml"})
    write_atomically(space_path(directory), SPACE.encode())
    space = load_space(space_path(directory))
    random = np.random.default_rng(1)
    steps = directory.parent / "steps.jsonl"
    write_steps(steps, list(steps_of(0)))
    study = open_study(directory, config, space)
    for number in range(runs):
        params = {
            "method.name": "seekr",
            "method.memory.percent": float(10 ** random.uniform(-0.3, 1)),
            "method.seekr.attention_weight": float(10 ** random.uniform(0, 3)),
            "method.seekr.logit_weight": float(random.uniform(0.2, 0.8)),
        }
        record = record_of(config, number, params, heads_of(number))
        place = trial_path(directory, record.trial)
        write_record(result_path(directory, record.trial), record)
        write_atomically(place / "config.yaml", dump_config(Config.model_validate(record.config)).encode())
        shutil.copy(steps, place / "steps.jsonl")
        _tell(study, space, record)
    write_atomically(experiment_path(directory), dump_config(config).encode())


def _tell(study: optuna.Study, space: Space, record: TrialRecord) -> None:
    op = float(np.mean([cell.score for cell in record.scores if cell.trained_index == len(TASKS) - 1]))
    known = space.distributions()
    study.add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            values=[op] * len(study.directions),
            params=record.params,
            distributions={key: known[key] for key in record.params},
            user_attrs={"trial": record.trial},
        )
    )


def as_of_0_2_0(directory: Path, runs: int) -> None:
    """Lay the first runs out as version 0.2.0 did, all of a record in one file; the others are removed."""
    for number, path in enumerate(sorted(trials_path(directory).iterdir())):
        if number >= runs:
            shutil.rmtree(path)
            continue
        record = read_record(path / "result.json")
        heads = [HeadRow(**row) for row in read_heads(path / "result.json").to_pylist()]
        record = record.model_copy(update={"heads": tuple(heads), "heads_sha256": None})
        heads_path(path / "result.json").unlink()
        document = record.model_dump_json(exclude={"heads_sha256"})
        write_atomically(path / "result.json", sealed(document.encode()))


def driver(directory: Path) -> None:
    """What a driver does when a run has ended, in a process of its own; prints its seconds by part."""
    from seekr_tune.experiment import load_experiment
    from seekr_tune.study.life import tuner  # noqa: F401  Ray is a part of every driver
    from seekr_tune.study.life.ledger_writer import LedgerWriter
    from seekr_tune.study.life.quota import disk_entries
    from seekr_tune.study.search.judge import Judge
    from seekr_tune.study.search.queue import TrialQueue

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config, space = load_experiment(experiment_path(directory)), load_space(space_path(directory))
    seconds: dict[str, float] = {}

    def timed(name: str, call: Any) -> Any:
        started = time.perf_counter()
        result = call()
        seconds[name] = time.perf_counter() - started
        return result

    queue = timed("queue", lambda: TrialQueue(open_study(directory, config, space), space, config, directory))
    record = queue.record(trial_key(0))
    assert record is not None
    ledger = LedgerWriter(directory, directory)
    timed("judge", lambda: Judge(config, directory)(record.model_copy(update={"status": "running", "tasks_done": 4})))
    timed("ledger", ledger.write)
    timed("ledger again", ledger.write)
    timed("disk", lambda: disk_entries(directory, config))
    print(json.dumps(seconds))


_LAUNCHER = """\
import resource, subprocess, sys
code = subprocess.call([sys.executable, "-W", "ignore", "-m", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
"""A process takes over the largest memory of the one that starts it, so a small one starts it."""


def measured(*command: str) -> tuple[float, int, str]:
    """Seconds, largest resident memory in bytes, and output of one process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    launched = [sys.executable, "-c", _LAUNCHER, *command]
    started = time.perf_counter()
    done = subprocess.run(launched, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr}")
    return time.perf_counter() - started, int(done.stderr.splitlines()[-1]) * 1024, done.stdout  # Linux tells it in KiB


def figures_of(directory: Path, runs: int, layout: str) -> Iterator[Figure]:
    against, is_today = f"{runs} runs, {layout}", layout == "today"
    seconds, memory, output = measured("benchmarks.large_study", "--driver", str(directory))
    goal = GOAL_BYTES / 2**20 if is_today else None
    yield Figure(name="memory of a study's driver", against=against, value=memory / 2**20, unit="MiB", goal=goal)
    for part, took in json.loads(output).items():
        yield Figure(name=f"driver: {part}", against=against, value=took, unit="s")
    for command in ("status", "rank"):
        turns = [measured("seekr_tune.cli", command, str(directory)) for _ in range(TURNS if is_today else 1)]
        seconds, memory = statistics.median(turn[0] for turn in turns), max(turn[1] for turn in turns)
        spread = (min(turn[0] for turn in turns), max(turn[0] for turn in turns)) if is_today else None
        goal = GOAL_SECONDS if is_today and command == "status" else None
        yield Figure(name=f"`{command}`", against=against, value=seconds, unit="s", spread=spread, goal=goal)
        yield Figure(name=f"`{command}`: memory", against=against, value=memory / 2**20, unit="MiB")


def main() -> None:
    if sys.argv[1:2] == ["--driver"]:
        driver(Path(sys.argv[2]))
        return
    runs = int(sys.argv[1]) if sys.argv[1:] else 1000
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started, figures = time.perf_counter(), list[Figure]()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "large"
        make_study(directory, runs)
        figures += figures_of(directory, runs, "today")
        as_of_0_2_0(directory, runs // 10)
        figures += figures_of(directory, runs // 10, "as 0.2.0 laid them out")
    keep("large_study", time.perf_counter() - started, figures)


if __name__ == "__main__":
    main()
