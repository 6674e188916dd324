"""Checkpoints as directories: they appear whole or not at all, and damage is noticed.

    checkpoints/
        task-0002/                  after two finished tasks
            weights-00-of-01.safetensors    trained parameters (adapters only, with LoRA)
            learner-00-of-01.safetensors    moments of the optimizer, where they outlive a task
            gradients-00-of-02.safetensors  gradients that wait for an update, of each rank
            memory-00-of-02.safetensors     teacher signals, of each rank
            samples.safetensors             replay samples
            heads.safetensors               head scores
            state.json                      everything else
            manifest.json                   size and SHA-256 of each file; written last
        task-0002-step-000150/      inside the third task: what differs from task-0002
            weights-.., learner-.., gradients-..
            progress.json                   steps so far, and the SHA-256 of the manifest of task-0002
            manifest.json
        .writing-5f1c09ab/          of the launch that is running
            task-0002-step-000300/          a checkpoint that is being written

Nothing is pickled. A checkpoint whose files do not match its manifest is skipped, and the one before is used. This
module names, finds and verifies checkpoints; `writing` writes them, `keeper` knows what stands in them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from seekr_tune import documents
from seekr_tune.access import access_error, listed
from seekr_tune.documents import opened, read_bytes
from seekr_tune.errors import AccessError, CheckpointError, DocumentError

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"

Fingerprint = dict[str, str | int]
_logger = logging.getLogger(__name__)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


C = TypeVar("C", bound=_Named)
"""A checkpoint: its directory, or where else it lies."""


@dataclass(frozen=True, order=True)
class Position:
    """Where a run stands in a checkpoint.

    Attributes:
        tasks_done: finished tasks.
        steps: steps done of the next stage; 0 in the checkpoint that a stage starts from.
    """

    tasks_done: int
    steps: int = 0

    @property
    def name(self) -> str:
        """Name of the checkpoint's directory."""
        return f"task-{self.tasks_done:04d}" + (f"-step-{self.steps:06d}" if self.steps else "")

    @property
    def document(self) -> str:
        """Name of the JSON file in it."""
        return "progress.json" if self.steps else "state.json"

    @property
    def single_files(self) -> tuple[str, ...]:
        """Names of the files in it that rank 0 alone writes."""
        return (self.document,) if self.steps else (self.document, "heads.safetensors", "samples.safetensors")

    @classmethod
    def of(cls, path: Path) -> Position | None:
        """The inverse of `name`; None for a directory that is no checkpoint."""
        match = re.fullmatch(r"task-(\d+)(?:-step-(\d+))?", path.name)
        position = cls(int(match[1]), int(match[2] or 0)) if match else None
        return position if position and position.name == path.name else None


def part_names(kind: str, parts: int) -> list[str]:
    """Names of the files over which tensors of one kind are spread, in rank order."""
    return [f"{kind}-{rank:02d}-of-{parts:02d}.safetensors" for rank in range(parts)]


def newest_intact(directory: Path) -> tuple[Path | None, Path | None]:
    """The newest intact checkpoint of finished tasks, and the newest one inside the stage that starts from it.

    Damaged ones are skipped, each with a warning that says what is used instead.

    Args:
        directory: the run's `checkpoints`; it need not exist.
    """
    return choose_intact([(position, path) for path in listed(directory) if (position := Position.of(path))], verify)


def choose_intact(found: Iterable[tuple[Position, C]], check: Callable[[C], object]) -> tuple[C | None, C | None]:
    """`newest_intact` of checkpoints wherever they lie.

    Args:
        found: checkpoints, in any order.
        check: raises CheckpointError where one is damaged; called for a stage before the steps that build on it.
    """
    newest_first = sorted(found, key=lambda entry: entry[0], reverse=True)
    stages = [(position, one) for position, one in newest_first if not position.steps]
    chosen = _first_intact(stages, check, "nothing is left to use, the run begins anew")
    if chosen is None:
        return None, None
    base, stage = chosen
    of_stage = [(position, one) for position, one in newest_first if position.tasks_done == base.tasks_done]
    steps = [(position, one) for position, one in of_stage if position.steps]
    chosen = _first_intact(steps, check, f"{stage.name} is used instead")
    return stage, chosen[1] if chosen else None


def positions_kept(found: Iterable[Position], newest: Position, kept: int) -> set[Position]:
    """What stays when `newest` was saved: the newest stages, and the newest steps of the stage that runs.

    What stands ahead of the newest is of a future that did not come: it was damaged, and the run went on without.
    """
    past = sorted((position for position in found if position <= newest), reverse=True)
    stages = [position for position in past if not position.steps]
    steps = [position for position in past if position.steps and position.tasks_done == newest.tasks_done]
    return {*stages[:kept], *steps[:kept]}


def read_document(path: Path) -> dict[str, Any]:
    """The JSON file of a checkpoint."""
    position = Position.of(path)
    assert position is not None
    return read_json(path / position.document)


def fingerprint(path: Path) -> Fingerprint:
    """Size and SHA-256 of a file."""
    with opened(path) as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def verify(path: Path) -> None:
    """Read every byte of a checkpoint.

    Raises:
        AccessError: this user may not read it.
        CheckpointError: files are missing or not as the manifest says, the checkpoint is of another schema version, or
            (inside a stage) does not build on the stage checkpoint that is there now.
    """
    position = Position.of(path)
    assert position is not None
    try:
        files = _manifest_files(path)
        with ThreadPoolExecutor() as threads:
            actual = threads.map(fingerprint, (path / name for name in files))
            damaged = [name for name, found in zip(files, actual, strict=True) if files[name] != found]
        if damaged:
            raise CheckpointError(f"damaged ({', '.join(damaged)} not as the manifest says)")
        document = read_document(path)
        parts = [name for kind, count in document["parts"].items() for name in part_names(kind, count)]
        missing = sorted({*position.single_files, *parts} - files.keys())
        if missing:
            raise CheckpointError(f"damaged ({', '.join(missing)} not in the manifest)")
        if position.steps and document["base"] != base_digest(path.parent, position):
            raise CheckpointError(f"builds on another {Position(position.tasks_done).name} than the one that is there")
    except AccessError:
        raise
    except PermissionError as error:
        raise access_error(path, error) from None
    except DocumentError as error:
        raise CheckpointError(f"damaged ({os.path.basename(str(error.path))}: {error.reason})") from None
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise CheckpointError(f"damaged ({type(error).__name__}: {error})") from None


def base_digest(directory: Path, position: Position) -> str:
    """SHA-256 of the manifest of the checkpoint from which the stage of `position` starts."""
    return hashlib.sha256(read_bytes(directory / Position(position.tasks_done).name / MANIFEST)).hexdigest()


def _first_intact(
    newest_first: Iterable[tuple[Position, C]], check: Callable[[C], object], otherwise: str
) -> tuple[Position, C] | None:
    chosen = None
    damaged: list[tuple[C, CheckpointError]] = []
    for position, one in newest_first:
        try:
            check(one)
            chosen = position, one
            break
        except CheckpointError as error:
            damaged.append((one, error))
    for one, damage in damaged:
        _logger.warning("%s: %s; %s", one, damage, f"{chosen[1].name} is used instead" if chosen else otherwise)
    return chosen


def _manifest_files(path: Path) -> dict[str, Fingerprint]:
    manifest = read_json(path / MANIFEST)
    version = 1 if "state.json" in manifest else manifest["schema_version"]  # version 1 had nothing but files there
    if version != SCHEMA_VERSION:
        raise CheckpointError(f"has schema version {version}, this version reads {SCHEMA_VERSION}")
    files: dict[str, Fingerprint] = manifest["files"]
    return files


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: the file holds something else.
    """
    document = documents.read_json(path)
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return document
