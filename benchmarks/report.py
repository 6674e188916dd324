"""Time and memory of `rank` and `report` on a large study.

    python -m benchmarks.report [configurations] [replicates]      # 500 1; about a minute on two cores

The study is made up: 12 tasks, 32 layers of 32 heads, 25 steps a task, scores and costs drawn at random. Its ledger is
written as a real one is. Then each command runs in a process of its own, whose seconds (start and imports included) and
largest resident memory are printed. Where Chromium and playwright are at hand (`make test-browser` installs them), the
page is loaded five times: until its `load` event, and until its first figure, scrolled to, is drawn.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import Figure, keep
from seekr_tune.analysis.ledger import read_table, table_path, write_ledger
from seekr_tune.config import Config
from seekr_tune.experiment import dump_config, parse_config, with_values
from seekr_tune.records import ReplayRow, StepRow, TimingRow, TrialRecord, score_cells
from seekr_tune.study.directory.layout import experiment_path, run_key, space_path, trial_key

TASKS = tuple(f"task-{number:02d}" for number in range(12))
LAYERS, HEADS, STEPS = 32, 32, 25
GOAL_SECONDS, GOAL_BYTES, GOAL_LOAD = 20.0, 2**30, 3.0

SPACE = """\
method.name: {type: categorical, choices: [replay, seekr]}
method.memory.percent: {type: float, low: 0.5, high: 10, log: true}
method.seekr.attention_weight: {type: float, low: 1, high: 1000, log: true}
method.seekr.logit_weight: {type: float, low: 0.2, high: 0.8}
"""


def record_of(config: Config, configuration: str, replicate: int, params: dict[str, Any], seed: int) -> TrialRecord:
    """A finished run; more replay keeps more."""
    random = np.random.default_rng(seed)
    is_bound = configuration.startswith("bound")
    percent = float(params.get("method.memory.percent", 0.0))
    kept = 1.0 if "joint" in configuration else 0.3 + 0.2 * percent**0.5
    learned = random.uniform(40, 95, len(TASKS))
    age = np.maximum(np.subtract.outer(np.arange(len(TASKS)), np.arange(len(TASKS))), 0)
    scores = np.where(np.tri(len(TASKS), dtype=bool), learned * kept ** (age / len(TASKS)), np.nan)
    stored = 0 if is_bound else round(10 * percent)
    config = with_values(config, {**params, "seed": replicate})
    return TrialRecord(
        trial=run_key(configuration, replicate),
        role="bound" if is_bound else "trial",
        configuration=configuration,
        replicate=replicate,
        status="finished",
        method=config.method.name,
        semantics="corrected",
        config=config.model_dump(mode="json"),
        params={} if is_bound else params,
        tasks=TASKS,
        scores=score_cells(TASKS, {"eval": np.minimum(scores, 100)}, {"eval": random.uniform(0, 20, len(TASKS))}),
        replay=tuple(_replay(index, stored) for index in range(len(TASKS))),
        timing=tuple(timing_row(TASKS[index], index, random) for index in range(len(TASKS))),
        tasks_done=len(TASKS),
        wall_seconds=float(random.uniform(500, 900)),
        num_layers=LAYERS,
        num_heads=HEADS,
        code_version="0",
    )


def _replay(index: int, stored: int) -> ReplayRow:
    return ReplayRow(
        task=TASKS[index],
        task_index=index,
        stored_samples=stored,
        presentations=index * stored,
        replay_updates=index,
        tokens=100 * index * stored,
        bytes=5000 * stored,
        first_presentations=stored if index else 0,
    )


def timing_row(task: str, index: int, random: np.random.Generator) -> TimingRow:
    """Where the time of a made-up task went."""
    new, replay, distillation, teacher, evaluation, checkpoint = random.uniform(1, 20, 6)
    return TimingRow(
        task=task,
        task_index=index,
        new_seconds=new,
        replay_seconds=replay + distillation,
        distillation_seconds=distillation,
        teacher_seconds=teacher,
        evaluation_seconds=evaluation,
        checkpoint_seconds=checkpoint,
        tokens=100_000,
        peak_memory_bytes=10**9,
        model_flops=1e12,
    )


def steps_of(seed: int) -> tuple[StepRow, ...]:
    """The steps of one run; every fifth one replays."""
    noise = np.random.default_rng(seed).uniform(0.8, 1.2, (len(TASKS), STEPS))
    return tuple(
        StepRow(
            task_index=index,
            step=step,
            kind="replay" if index and step % 5 == 4 else "new",
            loss=float(noise[index, step] / (step + 1)),
            terms={"cross_entropy": float(noise[index, step])}
            | ({"logit_distillation": 0.5} if index and step % 5 == 4 else {}),
            learning_rate=1e-3,
            samples=8,
            tokens=800,
            seconds=0.1,
        )
        for index in range(len(TASKS))
        for step in range(STEPS)
    )


def head_batches(runs: list[str], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of each run: every head after every task, an eighth of them selected."""
    tasks, layers, heads = (grid.ravel() for grid in np.indices((len(TASKS), LAYERS, HEADS)))
    random = np.random.default_rng(0)
    for run in runs:
        sensitivity, forgettability, importance = random.random((3, len(tasks)))
        columns = {
            "trial": pa.repeat(run, len(tasks)),
            "task": pa.array(TASKS).take(pa.array(tasks)),
            "task_index": tasks,
            "layer": layers,
            "head": heads,
            "sensitivity": sensitivity,
            "forgettability": forgettability,
            "importance": importance,
            "selected": importance > 0.875,
        }
        yield pa.table(columns, schema=schema)


def make_study(directory: Path, configurations: int, replicates: int) -> None:
    """A study's directory, as far as a report reads it."""
    values = {"stream": {"tasks": TASKS}, "study": {"replicates": {"seeds": [*range(replicates)]}}}
    config = with_values(parse_config(values, "benchmark"), {"study.trials": configurations, "name": "large"})
    random = np.random.default_rng(1)
    keys: dict[str, dict[str, Any]] = {f"bound-{name}": {"method.name": name} for name in ("seqft", "joint")}
    for number in range(configurations):
        keys[trial_key(number)] = {
            "method.name": str(random.choice(["replay", "seekr"])),
            "method.memory.percent": float(10 ** random.uniform(-0.3, 1)),
            "method.seekr.attention_weight": float(10 ** random.uniform(0, 3)),
            "method.seekr.logit_weight": float(random.uniform(0.2, 0.8)),
        }
    runs = [(key, replicate) for key in keys for replicate in range(replicates)]
    records = [record_of(config, key, replicate, keys[key], seed) for seed, (key, replicate) in enumerate(runs)]
    write_ledger(directory, records, {record.trial: steps_of(seed) for seed, record in enumerate(records)})
    schema = read_table(directory, "heads").schema  # the rows are too many to be made one by one
    with pq.ParquetWriter(table_path(directory, "heads"), schema, compression="zstd") as writer:
        for batch in head_batches([record.trial for record in records if record.role == "trial"], schema):
            writer.write_table(batch)
    space_path(directory).write_text(SPACE)
    experiment_path(directory).write_text(dump_config(config))


def measured(*arguments: str) -> tuple[float, float, int]:
    """Seconds, seconds of processors, and largest resident memory in bytes of one command."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "seekr_tune.cli", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit code {process.returncode}")
    of_processors = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - started, of_processors, usage.ru_maxrss * 1024  # Linux tells it in KiB


def seconds_of_loading(page: Path, times: int = 5) -> tuple[float, float] | None:
    """Medians of the seconds until the page is loaded, and until its first figure is drawn; None without a browser."""
    chromium = shutil.which("chromium")
    if chromium is None or find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright

    loaded, drawn = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(times):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            started = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="load")
            loaded.append(time.perf_counter() - started)
            tab.locator("[data-figure]").first.scroll_into_view_if_needed()
            tab.locator("[data-figure] .main-svg").first.wait_for()
            drawn.append(time.perf_counter() - started)
            tab.close()
        browser.close()
    return median(loaded), median(drawn)


def main() -> None:
    configurations, replicates = ([int(text) for text in sys.argv[1:]] + [500, 1][len(sys.argv) - 1 :])[:2]
    started, figures = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "large"
        make_study(directory, configurations, replicates)
        of = f"{configurations} configurations x {replicates}, {len(TASKS)} tasks, {LAYERS * HEADS} heads"
        for command in ("rank", "report"):
            seconds, of_processors, memory = measured(command, str(directory))
            figures += [
                Figure(name=f"{command} of {of}", value=seconds, unit="s", goal=GOAL_SECONDS),
                Figure(name=f"{command}: time of processors", value=of_processors, unit="s"),
                Figure(name=f"{command}: memory", value=memory / 2**20, unit="MiB", goal=GOAL_BYTES / 2**20),
            ]
        page = directory / "report" / "index.html"
        figures.append(Figure(name="the page", value=page.stat().st_size / 2**20, unit="MiB"))
        loading = seconds_of_loading(page)
        if loading is None:
            print("loading not measured: no chromium or no playwright")
        else:
            figures.append(Figure(name="loading the page", value=loading[0], unit="s", goal=GOAL_LOAD))
            figures.append(Figure(name="the page: its first figure, after a scroll", value=loading[1], unit="s"))
    keep("report", time.perf_counter() - started, figures)


if __name__ == "__main__":
    main()
