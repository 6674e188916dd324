"""One more task for a finished run, with a gate that keeps the old model if the update costs too much.

The update is learned beside the run, in `<run>/.extending`; the run itself stays as it was until the gate is passed.
Killed at any moment, the same call goes on.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from seekr_tune.analysis.worth_lines import data_warnings
from seekr_tune.atomic_files import write_atomically
from seekr_tune.checkpoint.directories import newest_intact
from seekr_tune.config import Config
from seekr_tune.data.prospect import lost_line
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import TaskStream
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.experiment import dump_config, load_experiment, with_values
from seekr_tune.leftovers import remove_remains_of, unfinished
from seekr_tune.models.compatibility import prospects_of
from seekr_tune.models.loading import num_positions, read_model_config
from seekr_tune.records import (
    TrialRecord,
    heads_path,
    read_record,
    score_matrix,
    tuning_split,
    write_record,
)
from seekr_tune.study.directory.forgotten import require_nothing_erasing
from seekr_tune.study.directory.layout import (
    extending_path,
    is_run,
    is_study,
    provenance_path,
    rejected_path,
    storage_path,
)
from seekr_tune.study.directory.lock import held_run
from seekr_tune.study.directory.provenance import add_data
from seekr_tune.study.directory.same_inputs import require_unchanged
from seekr_tune.study.runs.outcome import prospect_rows
from seekr_tune.study.runs.single import run_experiment

_logger = logging.getLogger(__name__)
_ACCEPTED = "accepted"
"""File in the working directory of an update that has passed the gate and is being published."""
_RECORD = ("result.heads.parquet", "result.json")
"""The record is the last file that is moved: it vouches for the others."""


@dataclass(frozen=True)
class Extension:
    """What became of an update.

    Attributes:
        record: of the run with the new task.
        forgetting: drop of each earlier task's score in points, by task; negative where it rose.
        accepted: whether the run now is the updated one.
    """

    record: TrialRecord
    forgetting: dict[str, float]
    accepted: bool


def extend_run(
    directory: Path | str,
    task: str,
    *,
    max_forgetting: float | None = None,
    epochs: int | None = None,
    metric: str | None = None,
    console: Console | None = None,
    address: str | None = None,
    accept_change: bool = False,
) -> Extension:
    """Learn one more task at the end of a finished run's stream.

    Args:
        directory: the run's directory.
        task: the new task, named as in `stream.tasks`.
        max_forgetting: the gate: most points that any earlier task's score may fall; None lets every update pass.
        epochs: passes over the new task; needed where the experiment lists epochs task by task.
        metric: metric of the new task; None: as the experiment says.
        console: where to show progress.
        address: of a Ray cluster, for a run with workers.
        accept_change: learn the task although data or model changed since the run was begun; that is noted.

    Raises:
        StudyError: no finished run is there, another process works on it, or another update is unfinished.
        ConfigError: the task cannot be added to this experiment.
        UserError: the data of the task cannot be used.
    """
    directory = Path(directory).absolute()
    with _held(directory) as record:
        working = extending_path(directory)
        if (working / _ACCEPTED).is_file():  # killed while it was published
            record = _publish(working, directory)
            if record.tasks[-1] == task:
                return Extension(record, _forgetting(record), accepted=True)
        begun = load_experiment(directory / "config.yaml")
        config = _extended(begun, task, epochs, metric)
        _require_gate(config, record, max_forgetting)
        require_unchanged(directory, begun, accept=accept_change)
        stream = load_stream(config, ("train", *config.evaluation.splits))  # bad data must leave nothing behind
        _warn_of_answers(config, TaskStream((stream[-1],)))
        _prepare(working, directory, record, config)
        extended = run_experiment(
            config, working, name=directory.name, console=console, address=address, accept_change=accept_change
        )
        dropped = _forgetting(extended)
        if max_forgetting is not None and max(dropped.values()) > max_forgetting:
            _reject(working, rejected_path(directory, task))
            _remove(working)
            return Extension(extended, dropped, accepted=False)
        write_atomically(working / _ACCEPTED, b"")
        return Extension(_publish(working, directory), dropped, accepted=True)


@contextmanager
def _held(directory: Path) -> Iterator[TrialRecord]:
    """Hold the run's directory; the record of the run."""
    if is_study(directory) or not is_run(directory):
        raise StudyError(f"{directory}: holds no single run; name a directory that `seekr-tune run` wrote")
    with held_run(directory):
        require_nothing_erasing(directory)
        record = read_record(directory / "result.json")
        if record.status != "finished":
            raise StudyError(f"{directory}: is {record.status}, not finished; finish it with `seekr-tune run` first")
        if newest_intact(directory / "checkpoints")[0] is None:
            raise StudyError(
                f"{directory}: has no checkpoint that this version can go on from; use the version that saved it, or "
                "run the experiment again in another directory"
            )
        yield record


def _warn_of_answers(config: Config, new: TaskStream) -> None:
    """Say on the console where even a perfect model would not give the answers of the new task."""
    model = read_model_config(config.model, fetch=True)
    assert model is not None
    limits = config.recipe.max_prompt_tokens, config.recipe.max_answer_tokens
    prospects = prospects_of(config, model, new)
    rows = prospect_rows([task.name for task in new], prospects)
    lost = lost_line(prospects)
    for line in (*filter(None, [lost]), *data_warnings(rows, limits, num_positions(model))):
        _logger.warning("%s", line)


def _extended(config: Config, task: str, epochs: int | None, metric: str | None) -> Config:
    """The experiment with one more task."""
    if config.method.learns_at_once:
        raise ConfigError("method.name 'joint' learns all tasks at once; there is no later task to add")
    if task in config.stream.tasks:
        raise ConfigError(f"stream.tasks: {task!r} is task {config.stream.tasks.index(task) + 1} of this run already")
    values: dict[str, Any] = {"stream.tasks": [*config.stream.tasks, task]}
    if isinstance(config.recipe.epochs, tuple):
        if epochs is None:
            raise ConfigError("recipe.epochs lists one number a task; say how many for the new one with --epochs")
        values["recipe.epochs"] = [*config.recipe.epochs, epochs]
    elif epochs is not None and epochs != config.recipe.epochs:
        values["recipe.epochs"] = [*[config.recipe.epochs] * len(config.stream.tasks), epochs]
    if metric is not None:
        values["stream.metrics"] = {**config.stream.metrics, task: metric}
    return with_values(config, values, origin="extend")


def _require_gate(config: Config, record: TrialRecord, max_forgetting: float | None) -> None:
    if max_forgetting is not None and not math.isfinite(max_forgetting):  # nothing is more than nan
        raise ConfigError(f"--max-forgetting {max_forgetting} is no number of points; give one, or drop the gate")
    if max_forgetting is not None and tuning_split(record) is None:
        raise ConfigError("--max-forgetting needs scores, but evaluation.splits of this run is empty; drop the gate")


def _prepare(working: Path, directory: Path, record: TrialRecord, config: Config) -> None:
    """Begin the update where the run ended; one that was begun before goes on."""
    if working.is_dir():
        begun = load_experiment(working / "config.yaml").stream.tasks[-1]
        if begun != config.stream.tasks[-1]:
            raise StudyError(
                f"{directory}: an update by task {begun!r} is unfinished; extend by it again, or delete {working}"
            )
        return
    remove_remains_of(working)
    making = unfinished(working)
    making.mkdir()
    shutil.copytree(directory / "checkpoints", making / "checkpoints", copy_function=_link)
    for name in ("steps.jsonl", "log.jsonl"):
        if (directory / name).is_file():
            shutil.copy2(directory / name, making)
    begun_record = record.model_copy(
        update={"status": "running", "tasks": config.stream.tasks, "config": config.model_dump(mode="json")}
    )
    write_record(making / "result.json", begun_record)
    write_atomically(making / "config.yaml", dump_config(config).encode())
    add_data(directory, making, config)
    making.rename(working)


def _link(source: str, target: str) -> None:
    """Checkpoint files are never written to again, so the copy may be the same file, where the disk allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _forgetting(record: TrialRecord) -> dict[str, float]:
    """By earlier task: its score before the last task was learned - its score after, in points."""
    split = tuning_split(record)
    if split is None:
        return {}
    before, after = score_matrix(record, split)[-2:, :-1]
    return {task: float(drop) for task, drop in zip(record.tasks[:-1], before - after, strict=True)}


def _remove(working: Path) -> None:
    if storage_path(working).is_file():
        from seekr_tune.study.runs.storage import forget

        forget(working)
    shutil.rmtree(working)


def _reject(working: Path, place: Path) -> None:
    """Keep the record of an update, with its heads."""
    place.parent.mkdir(exist_ok=True)
    result = working / "result.json"
    for source, target in ((heads_path(result), heads_path(place)), (result, place)):
        if source.exists():
            os.replace(source, target)


def _publish(working: Path, directory: Path) -> TrialRecord:
    """Move the update into the run, its record last; what an interrupted call has moved is not there any more."""
    for path in sorted((working / "checkpoints").glob("task-*")):
        target = directory / "checkpoints" / path.name
        shutil.rmtree(target, ignore_errors=True)  # the same one, unless it was damaged and learned again
        path.rename(target)
    kept = load_experiment(directory / "config.yaml").training.checkpoints_kept
    for old in sorted((directory / "checkpoints").glob("task-*"))[:-kept]:
        shutil.rmtree(old)
    for folder in ("events", "ledger"):
        for path in sorted((working / folder).glob("*")):
            os.replace(path, directory / folder / path.name)
    for name in (str(provenance_path(Path())), "steps.jsonl", "log.jsonl", "config.yaml", *_RECORD):
        if (working / name).exists():
            (directory / name).parent.mkdir(exist_ok=True)
            os.replace(working / name, directory / name)
    _remove(working)
    return read_record(directory / "result.json")
