"""What a run says about itself in its log: where it starts, what each task came to, and how it ends.

Every rank says it; the log is that of rank 0.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

from seekr_tune.checkpoint.state import TaskOutcome
from seekr_tune.config import Config
from seekr_tune.data.prospect import Prospect
from seekr_tune.experiment import fingerprint
from seekr_tune.methods.workers import Workers
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.log import RUN_STARTED
from seekr_tune.study.runs.console import TaskProgress

_logger = logging.getLogger(__name__)


def run_started(record: TrialRecord, config: Config, workers: Workers) -> None:
    """An attempt begins: what is learned, and where."""
    _say(
        RUN_STARTED,
        trial=record.trial,
        method=config.method.label,
        params=record.params,
        fingerprint=fingerprint(config),
        version=record.code_version,
        host=socket.gethostname(),
        process=os.getpid(),
        workers=workers.world_size,
        device=str(workers.device),
    )


def prospects(found: Sequence[Prospect]) -> None:
    """What a perfect model and the best constant answer would score, by split and task, and what is cut.

    A warning for each task of which some answers get lost, and for each split of which something is cut. The answers
    themselves stay out of the log; the row of the first one is said.
    """
    scores: dict[str, dict[str, float]] = {}
    floors: dict[str, dict[str, float]] = {}
    for one in found:
        if one.ceiling is not None:
            scores.setdefault(one.split, {})[one.task] = round(one.ceiling.score, 3)
        if one.floor is not None:
            floors.setdefault(one.split, {})[one.task] = round(one.floor, 3)
    if scores:
        _say("ceilings", scores=scores, floors=floors)
    for one in found:
        place, counts = {"task": one.task, "split": one.split}, one.counts
        if one.ceiling is not None and one.ceiling.lost is not None:
            lost = {"row": one.ceiling.lost.row, "perfect": round(one.ceiling.perfect, 3)}
            _logger.warning("answers get lost", extra={"fields": place | lost})
        if counts.prompts_cut or counts.answers_cut:
            shares = {"prompts": round(counts.prompts_cut, 4), "answers": round(counts.answers_cut, 4)}
            longest = {"longest_prompt": max(counts.prompts), "longest_answer": max(counts.answers)}
            _logger.warning("samples are cut", extra={"fields": place | shares | longest})


def run_resumed(record: TrialRecord, num_steps: int) -> None:
    """The checkpoint that an attempt goes on from.

    Args:
        record: the tasks that are finished.
        num_steps: steps of the next task that need not be taken again.
    """
    if record.tasks_done or num_steps:
        _say("run resumed", tasks_done=record.tasks_done, steps=num_steps)


def results_taken_over(record: TrialRecord, place: object) -> None:
    """Another study has run the same reference."""
    _say("results taken over", place=str(place), tasks_done=record.tasks_done)


def task_finished(outcome: TaskOutcome, record: TrialRecord) -> None:
    """A stage has ended: its scores by split and task in percent, and what it took."""
    history = outcome.state.history[-1]
    scores: dict[str, dict[str, float]] = {}
    for cell in record.scores:
        if cell.trained_index == outcome.index:
            scores.setdefault(cell.split, {})[cell.evaluated] = round(cell.score, 3)
    _say(
        "task finished",
        task=outcome.task,
        stage=outcome.index,
        seconds=round(outcome.seconds, 3),
        steps=len(outcome.steps),
        stored=history.stored_samples,
        replayed=history.presentations,
        scores=scores,
        shares=history.shares,
    )
    warning = TaskProgress.of(record).warning
    if warning is not None:
        _logger.warning("one loss term has nearly all", extra={"fields": {"task": outcome.task, "found": warning}})


def run_ended(record: TrialRecord, asked_to_stop: bool) -> None:
    """The run is finished, was pruned, or was asked to stop."""
    progress = TaskProgress.of(record) if record.tasks_done else None
    known = {"op": progress.op, "own": progress.own} if progress else {}
    scored = {name: round(value, 3) for name, value in known.items() if value is not None}
    how = "stopped" if asked_to_stop else record.status
    _say(f"run {how}", tasks_done=record.tasks_done, seconds=round(record.wall_seconds, 3), **scored)


def attempt_failed(error: Exception) -> None:
    """The attempt ends here; whether the run does is said by who started it."""
    _logger.error("attempt failed", extra={"fields": {"error": f"{type(error).__name__}: {error}"}})


def _say(message: str, **fields: Any) -> None:
    _logger.info(message, extra={"fields": fields})
