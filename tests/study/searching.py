"""Studies of runs that only pretend: their scores are a formula of their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from seekr_tune.config import Config
from seekr_tune.records import TrialRecord, score_cells, write_record
from seekr_tune.study.directory.layout import result_path
from seekr_tune.study.runs.outcome import new_record
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.journal import open_study
from seekr_tune.study.search.judge import Judge
from seekr_tune.study.search.queue import TrialQueue
from seekr_tune.study.search.space import Space
from tests.replayed import replay_row

Score = Callable[[TrialRequest, int], float]
"""Score of a run on every task after as many tasks."""


def by_params(request: TrialRequest, tasks_done: int) -> float:
    """Better with more replay, a bit worse with each task, and shifted by the replicate."""
    numbers = [float(value) for value in request.values.values() if isinstance(value, int | float)]
    return 50.0 + sum(np.log1p(numbers)) - tasks_done + 0.1 * request.replicate


def open_queue(directory: Path, config: Config, space: Space) -> TrialQueue:
    return TrialQueue(open_study(directory, config, space), space, config, directory)


def pretend(
    directory: Path, config: Config, request: TrialRequest, score: Score, *, judged: bool = False
) -> TrialRecord:
    """Write what a run would write, task after task; where it is judged, it may be stopped."""
    own = request.config(config)
    tasks = own.stream.tasks
    path = result_path(directory, request.key)
    earlier = TrialRecord.from_json(path.read_bytes()) if path.is_file() else new_record(own, request)
    scores = np.full((len(tasks), len(tasks)), np.nan)
    record = earlier
    for done in range(1, len(tasks) + 1):
        scores[done - 1, :done] = score(request, done)
        replay = [replay_row(task, index, 4, 4, 4) for index, task in enumerate(tasks[:done])]
        record = earlier.model_copy(
            update={
                "status": "finished" if done == len(tasks) else "running",
                "tasks_done": done,
                "scores": score_cells(tasks, {"eval": scores}, {}),
                "replay": tuple(replay),
            }
        )
        if judged and done < len(tasks) and Judge(config, directory)(record):
            record = record.model_copy(update={"status": "pruned"})
            break
    write_record(path, record)
    return record


def drain(
    directory: Path,
    config: Config,
    space: Space,
    score: Score = by_params,
    *,
    judged: bool = False,
    on_run: Callable[[TrialRequest], None] = lambda request: None,
) -> list[TrialRequest]:
    """Run a study to its end, one run at a time."""
    queue = open_queue(directory, config, space)
    requests = []
    while (request := queue.next()) is not None:
        on_run(request)
        pretend(directory, config, request, score, judged=judged)
        queue.finish(request)
        requests.append(request)
    assert queue.is_done and queue.num_left == 0
    return requests


def trials_of(directory: Path, config: Config, space: Space) -> list[FrozenTrial]:
    return open_study(directory, config, space).get_trials()


def outcome(trial: FrozenTrial) -> tuple[Any, ...]:
    """What must not depend on how often a study was killed."""
    notes: Mapping[str, Any] = trial.user_attrs
    return (
        trial.number,
        trial.state.name,
        trial.params,
        trial.values,
        notes.get("same_as"),
        repr(notes.get("intermediate")),
        trial.intermediate_values,
    )


def outcomes(directory: Path, config: Config, space: Space) -> list[tuple[Any, ...]]:
    return [outcome(trial) for trial in trials_of(directory, config, space)]


def is_complete(trial: FrozenTrial) -> bool:
    return trial.state == optuna.trial.TrialState.COMPLETE
