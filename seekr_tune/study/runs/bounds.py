"""Finished references, kept for every study that needs the same one.

    <cache>/bounds/<key>/
        result.json      its record
        steps.jsonl      its steps
        manifest.json    sizes and SHA-256 of both; written last

A study that finds its reference there takes the results over without a step. Weights are not kept: such a run has
no checkpoints.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from seekr_tune.checkpoint.directories import fingerprint
from seekr_tune.config import Config
from seekr_tune.documents import read_json
from seekr_tune.errors import AccessError, StudyError
from seekr_tune.leftovers import unfinished
from seekr_tune.records import StepRow, TrialRecord, read_record, read_steps, write_record, write_steps
from seekr_tune.study.runs.outcome import new_record
from seekr_tune.study.runs.request import TrialRequest

_FILES = ("result.json", "steps.jsonl")
_MANIFEST = "manifest.json"
_RESULTS = ("status", "scores", "prospects", "replay", "tasks_done", "num_layers", "num_heads", "code_version")
"""What a run that need not be made has of the one that was."""
_logger = logging.getLogger(__name__)

KnownBound = tuple[TrialRecord, tuple[StepRow, ...]]


def find_bound(place: Path) -> KnownBound | None:
    """The reference that is kept at a place; a damaged one is removed, with a warning."""
    try:
        if not place.is_dir():
            return None
        manifest = read_json(place / _MANIFEST)
        damaged = [name for name in _FILES if manifest[name] != fingerprint(place / name)]
        if damaged:
            raise StudyError(f"{', '.join(damaged)} not as the manifest says")
        return read_record(place / "result.json"), read_steps(place / "steps.jsonl")
    except (PermissionError, AccessError) as error:
        _logger.warning("%s: cannot be shared (%s); the reference is run again", place, error)
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        _logger.warning("%s: damaged (%s); the reference is run again", place, error)
        shutil.rmtree(place, ignore_errors=True)
        return None


def keep_bound(place: Path, record: TrialRecord, steps: tuple[StepRow, ...]) -> None:
    """Keep a finished reference, unless there is one already; a full disk costs nothing but that."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        making = unfinished(place)
        making.mkdir()
        try:
            write_record(making / "result.json", record)
            write_steps(making / "steps.jsonl", steps)
            manifest = {name: fingerprint(making / name) for name in _FILES}
            (making / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
            if not place.exists():
                making.rename(place)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    except OSError as error:
        _logger.warning("%s: the reference cannot be kept (%s)", place, error)


def taken_over(known: TrialRecord, config: Config, request: TrialRequest, ray_trial_id: str | None) -> TrialRecord:
    """The record of a run that need not be made: the results of `known`, and no time of its own."""
    record = new_record(config, request, ray_trial_id)
    timing = tuple(
        row.model_copy(
            update={
                "shared_seconds": row.step_seconds + row.teacher_seconds + row.evaluation_seconds,
                "shared_step_seconds": row.step_seconds,
            }
        )
        for row in known.timing
    )
    taken = {name: getattr(known, name) for name in _RESULTS}
    return record.model_copy(update={**taken, "timing": timing})
