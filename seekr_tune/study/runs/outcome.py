"""From what the loop yields to what the analysis reads."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from seekr_tune.atomic_files import write_atomically
from seekr_tune.config import Config
from seekr_tune.records import (
    HeadRow,
    ProspectRow,
    ReplayRow,
    StepRow,
    TimingRow,
    TrialRecord,
    read_record,
    score_cells,
    write_record,
)
from seekr_tune.study.directory.layout import result_path
from seekr_tune.study.directory.log import logged_in
from seekr_tune.study.directory.records import record_at
from seekr_tune.study.runs.request import TrialRequest

if TYPE_CHECKING:  # a driver that only records results needs no torch
    from seekr_tune.checkpoint.state import StepRecord, StreamState, TaskHistory
    from seekr_tune.data.prospect import Prospect

_logger = logging.getLogger(__name__)


def new_record(config: Config, request: TrialRequest, ray_trial_id: str | None = None) -> TrialRecord:
    """A run that has not finished a task."""
    return TrialRecord(
        trial=request.key,
        role=request.role,
        configuration=request.configuration,
        replicate=request.replicate,
        status="running",
        method=config.method.label,
        semantics=config.method.semantics,
        config=config.model_dump(mode="json"),
        params=request.params,
        tasks=config.stream.tasks,
        optuna_number=request.number,
        ray_trial_id=ray_trial_id,
        code_version=code_version(),
        accepted_changes=request.accepted_changes,
    )


def with_state(record: TrialRecord, state: StreamState, wall_seconds: float) -> TrialRecord:
    """The record of a run that has come as far as `state`; the last task makes it finished."""
    finished = state.tasks_done == len(record.tasks)
    return record.model_copy(
        update={
            "status": "finished" if finished else "running",
            "scores": score_cells(
                record.tasks,
                state.scores,
                state.initial,
                state.errors,
            ),
            "heads": tuple(row for history in state.history for row in _head_rows(history)),
            "replay": tuple(_replay_row(history) for history in state.history),
            "timing": tuple(_timing_row(history) for history in state.history),
            "tasks_done": state.tasks_done,
            "wall_seconds": wall_seconds,
            "num_layers": state.shape[0],
            "num_heads": state.shape[1],
        }
    )


def prospect_rows(tasks: Sequence[str], found: Iterable[Prospect]) -> tuple[ProspectRow, ...]:
    """What data and model allow, as rows of the ledger.

    Args:
        tasks: in learning order.
        found: of these tasks.
    """
    return tuple(
        ProspectRow(
            task=one.task,
            task_index=tasks.index(one.task),
            split=one.split,
            rows=len(one.counts.prompts),
            prompts_cut=one.counts.prompts_cut,
            answers_cut=one.counts.answers_cut,
            unknown_tokens=one.counts.unknown_tokens,
            longest_prompt=max(one.counts.prompts, default=0),
            longest_answer=max(one.counts.answers, default=0),
            ceiling=None if one.ceiling is None else one.ceiling.score,
            floor=one.floor,
        )
        for one in found
    )


def read_record_of(directory: Path, key: str) -> TrialRecord | None:
    """What one run of a study wrote so far; None before it was begun."""
    path = result_path(directory, key)
    return record_at(path) if path.is_file() else None


def run_failed(directory: Path, config: Config, request: TrialRequest, error: BaseException | str) -> TrialRecord:
    """Record that a run ended without a result; the traceback goes to `error.txt`.

    A run that has a result already (what failed came after it) stays as it is.
    """
    path = directory / "result.json"
    record = read_record(path) if path.is_file() else new_record(config, request)
    if record.status in ("finished", "pruned"):
        return record
    line = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    record = record.model_copy(update={"status": "failed", "error": " ".join(line.split())})
    if isinstance(error, BaseException):
        write_atomically(directory / "error.txt", "".join(traceback.format_exception(error)).encode())
    write_record(path, record)
    with logged_in(directory):
        _logger.error("run failed", extra={"fields": {"trial": record.trial, "error": record.error}})
    return record


def step_rows(steps: Iterable[StepRecord]) -> Iterator[StepRow]:
    """Steps as rows of the ledger."""
    return (StepRow(**{name: getattr(step, name) for name in StepRow.model_fields}) for step in steps)


def _head_rows(history: TaskHistory) -> Iterator[HeadRow]:
    if history.heads is None:
        return
    own, total = history.heads.scores, history.heads.total
    measured = {name: own[name] for name in ("sensitivity", "forgettability") if name in own}
    tables = {name: scores.tolist() for name, scores in (measured | {"importance": total["importance"]}).items()}
    for layer, of_layer in enumerate(tables["importance"]):
        chosen = history.selected.get(layer, ())
        for head in range(len(of_layer)):
            yield HeadRow(
                task=history.task,
                task_index=history.index,
                layer=layer,
                head=head,
                selected=head in chosen,
                **{name: table[layer][head] for name, table in tables.items()},
            )


def _replay_row(history: TaskHistory) -> ReplayRow:
    return ReplayRow(
        task=history.task,
        task_index=history.index,
        stored_samples=history.stored_samples,
        presentations=history.presentations,
        replay_updates=history.replay_updates,
        tokens=history.replay_tokens,
        bytes=history.memory_bytes,
        state_bytes=history.state_bytes,
        shares=dict(history.shares),
        first_presentations=None if history.first_shown is None else len(history.first_shown),
    )


def _timing_row(history: TaskHistory) -> TimingRow:
    return TimingRow(task=history.task, task_index=history.index, **vars(history.timing))


def code_version() -> str:
    """Version of this package."""
    try:
        return metadata.version("seekr-tune")
    except metadata.PackageNotFoundError:
        return "source tree"
