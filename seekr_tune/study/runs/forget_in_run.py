"""Taking samples out of one run: of its directory, its place at a store, and what launches left on this node."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from seekr_tune.checkpoint.directories import MANIFEST, read_document
from seekr_tune.checkpoint.forget_in_checkpoint import (
    Held,
    erase,
    files_with_samples,
    held_samples,
    make_without,
    stage_checkpoints,
    step_checkpoints,
    tidy,
)
from seekr_tune.checkpoint.remote import Claim, Saved, saved_at
from seekr_tune.errors import CheckpointError, StudyError
from seekr_tune.store import Store
from seekr_tune.study.directory.forgotten import SampleId
from seekr_tune.study.runs.remote import scratch_directories
from seekr_tune.study.runs.run_directory import LOCK_SECONDS

Gone = Callable[[Held], bool]
"""Whether a sample in a memory has to go."""


@dataclass(frozen=True)
class Run:
    """A run whose memory may hold samples.

    Attributes:
        directory: of the run.
        tasks: its tasks in learning order; the memory names them by their index.
        place: of the run at a store, if it has one.
    """

    directory: Path
    tasks: tuple[str, ...]
    place: Store | None = None

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints lie."""
        return self.directory / "checkpoints"

    def name_of(self, held: Held) -> SampleId:
        """The id of a sample of its memory."""
        return SampleId(self.tasks[held.task], held.index)


@contextmanager
def held(run: Run) -> Iterator[None]:
    """Hold a run's directory for the time of the block.

    Raises:
        StudyError: a process still runs it.
    """
    lock = FileLock(run.directory / ".lock", timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise StudyError(f"{run.directory}: a process still runs this; end it, and give the command again") from None
    try:
        yield
    finally:
        lock.release()


def samples_of(run: Run) -> list[Held]:
    """What the memories of all checkpoints of a run hold, once for each checkpoint; damaged ones say nothing."""
    found = []
    for path in stage_checkpoints(run.checkpoints):
        try:
            found += held_samples(path)
        except CheckpointError:
            continue
    if run.place is not None:
        with tempfile.TemporaryDirectory() as scratch:
            for saved in saved_at(run.place):
                found += _held_at(saved, Path(scratch)) or []
    return found


def erase_from_run(run: Run, gone: Gone, unlearned: set[str]) -> list[str]:
    """Take samples out of everything that a run has saved; the caller holds it.

    Args:
        run: the run.
        gone: which samples.
        unlearned: tasks that have other training samples from now on: what was begun of them is begun anew.

    Returns:
        Damaged checkpoints that were removed, for nobody can say what they hold.
    """
    if run.checkpoints.is_dir():
        tidy(run.checkpoints)
    removed, tasks_done, changed = [], 0, False
    for path in stage_checkpoints(run.checkpoints):
        try:
            places = {place for place, sample in enumerate(held_samples(path)) if gone(sample)}
            tasks_done = read_document(path)["tasks_done"]
            if places:
                erase(path, places)
                changed = True
        except CheckpointError:
            shutil.rmtree(path)
            removed.append(str(path))
            changed = True
    if changed or unlearned & set(run.tasks[tasks_done:]):
        for path in step_checkpoints(run.checkpoints):  # of other samples, or of another manifest
            shutil.rmtree(path)
    if run.place is not None:
        removed += _erase_at(run, run.place, gone, unlearned)
        if run.place.read("config.yaml") is not None:  # the next launch compares it
            run.place.upload(run.directory / "config.yaml", "config.yaml")
        for directory in scratch_directories(run.place):
            shutil.rmtree(directory, ignore_errors=True)
    return removed


def _erase_at(run: Run, place: Store, gone: Gone, unlearned: set[str]) -> list[str]:
    """The same at a store, where nothing is renamed: the new checkpoint comes first, then the old one goes."""
    claim = Claim.take(place)  # processes of earlier launches write nothing there any more
    folder, saved = place.at("checkpoints"), saved_at(place)
    for name in set(folder.names()) - {one.name for one in saved}:  # never finished
        folder.remove(name)
    removed, tasks_done, changed = [], 0, False
    for one in saved:
        if one.position.steps:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            samples = _held_at(one, Path(scratch))
            if samples is None:
                removed.append(str(one))
                folder.remove(one.name)
                changed = True
                continue
            tasks_done = max(tasks_done, one.position.tasks_done)
            places = {index for index, sample in enumerate(samples) if gone(sample)}
            if places:
                _replace(claim, one, Path(scratch), places)
                changed = True
    if changed or unlearned & set(run.tasks[tasks_done:]):
        for one in saved:
            if one.position.steps:
                folder.remove(one.name)
    return removed


def _held_at(saved: Saved, scratch: Path) -> list[Held] | None:
    """The memory of a checkpoint at a store, whose files with samples are then in `scratch`; None: damaged."""
    if saved.position.steps:
        return []
    path = scratch / saved.name / saved.position.name
    try:
        for name in (saved.position.document, MANIFEST):
            saved.folder.download(name, path / name)
        for name in files_with_samples(path):
            saved.folder.download(name, path / name)
        return held_samples(path)
    except (FileNotFoundError, CheckpointError, ValueError, LookupError, TypeError):
        return None


def _replace(claim: Claim, saved: Saved, scratch: Path, places: set[int]) -> None:
    path, made = scratch / saved.name / saved.position.name, scratch / "made"
    make_without(path, made, places)
    new = claim.place.at("checkpoints", f"{saved.position.name}.{secrets.token_hex(4)}")
    here = {file.name for file in made.iterdir()}
    for name in saved.folder.names():
        if name not in here:
            new.copy_from(saved.folder, name)
    for name in sorted(here, key=lambda name: name == MANIFEST):
        new.upload(made / name, name)
    claim.place.at("checkpoints").remove(saved.name)
