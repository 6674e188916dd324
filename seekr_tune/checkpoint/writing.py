"""How a checkpoint is written: by every rank, beside training, and so that it appears whole or not at all.

Each rank writes its files into a hidden directory, and then a note with their fingerprints. When all notes are there,
rank 0 turns them into the manifest and renames the directory. No collective is needed. A memory holds what people
wrote, so nobody but the user who runs it may read a checkpoint.
"""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seekr_tune.atomic_files import flush
from seekr_tune.checkpoint.directories import (
    MANIFEST,
    SCHEMA_VERSION,
    Fingerprint,
    Position,
    fingerprint,
    positions_kept,
    read_json,
)
from seekr_tune.errors import CheckpointError

PATIENCE_SECONDS = 600.0
"""How long rank 0 waits for the files of the others when its own are written."""
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class WritingRoom:
    """Where one launch of a run writes its checkpoints, until they are whole and move out.

    A launch that begins makes a room of its own and removes those of earlier ones. A process of a killed launch that
    still writes then finds its room gone: it fails, and can neither make a checkpoint appear nor remove one.

    Attributes:
        path: `checkpoints/.writing-<token>`.
    """

    path: Path

    @classmethod
    def take_over(cls, directory: Path) -> WritingRoom:
        """Own a run's `checkpoints` directory; rank 0 calls this before any rank writes."""
        room = cls(directory / f".writing-{secrets.token_hex(4)}")
        room.path.mkdir(parents=True)
        for foreign in set(directory.glob(".writing-*")) - {room.path}:
            room._discard(foreign)
        return room

    def begin(self, position: Position) -> Path:
        """Make the directory that every rank then writes its share into; rank 0 calls this."""
        place = self.path / position.name
        place.mkdir(mode=0o700)
        return place

    def commit(self, place: Path, world_size: int, kept: int) -> None:
        """Let a checkpoint appear when all shares are there, and remove what it makes superfluous; rank 0 calls this.

        Raises:
            CheckpointError: a rank failed, or did not finish in time.
        """
        manifest = {"schema_version": SCHEMA_VERSION, "files": _collect_shares(place, world_size)}
        (place / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        (place / MANIFEST).chmod(0o600)
        flush(place / MANIFEST)
        flush(place)
        directory = self.path.parent
        final = directory / place.name
        if final.exists():
            self._discard(final)
        place.rename(final)
        flush(directory)
        self._prune(final, kept)

    def leave(self) -> None:
        """Remove the room; rank 0 calls this when nothing is written any more."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _prune(self, newest: Path, kept: int) -> None:
        directory, now = self.path.parent, Position.of(newest)
        assert now is not None
        found = {position: path for path in directory.iterdir() if (position := Position.of(path))}
        keep = positions_kept(found, now, kept)
        for position, path in found.items():
            if position not in keep:
                self._discard(path)

    def _discard(self, path: Path) -> None:
        """Remove a directory in one go: it is moved into the room first."""
        hidden = Path(tempfile.mkdtemp(prefix="discarded-", dir=self.path))
        path.rename(hidden / path.name)
        # A file that a dying process has open cannot always go at once; it then goes with the room.
        shutil.rmtree(hidden, ignore_errors=True)


def remove_rooms(directory: Path) -> None:
    """Remove what killed launches left in a run's `checkpoints`; for a run that is finished, and held by the caller."""
    if directory.is_symlink():  # somebody else's
        return
    for room in directory.glob(".writing-*"):
        shutil.rmtree(room, ignore_errors=True)


def write_share(place: Path, rank: int, files: Mapping[str, Callable[[Path], None]]) -> None:
    """Write this rank's files of a checkpoint, and then the note that they are there.

    Args:
        place: what `WritingRoom.begin` returned.
        rank: of this process.
        files: what writes each file, by name.

    Raises:
        CheckpointError: a file cannot be written, or this launch no longer owns the directory.
    """
    try:
        if not place.is_dir():
            raise CheckpointError(f"{place} is gone: another launch took over, or not all workers share the directory")
        fingerprints = {}
        for name, write in files.items():
            write(place / name)
            (place / name).chmod(0o600)
            flush(place / name)
            fingerprints[name] = fingerprint(place / name)
        _leave_note(place, rank, {"files": fingerprints})
    except Exception as error:
        failure = f"rank {rank}: {error}"
        with suppress(OSError):  # rank 0 then need not wait for what will not come
            _leave_note(place, rank, {"error": failure})
        raise CheckpointError(failure) from error


def _collect_shares(place: Path, world_size: int) -> dict[str, Fingerprint]:
    """Wait for the notes of all ranks, and take them away."""
    notes = {note_name(rank) for rank in range(world_size)}
    deadline = time.monotonic() + PATIENCE_SECONDS
    # The directory is listed: on network file systems a question for a single name may be answered from a stale cache.
    while missing := notes - {path.name for path in place.iterdir()}:
        if time.monotonic() > deadline:
            raise CheckpointError(f"no {', '.join(sorted(missing))} after {PATIENCE_SECONDS:g} seconds")
        time.sleep(POLL_SECONDS)
    shares = join_shares([read_json(place / note) for note in sorted(notes)])
    for note in notes:
        (place / note).unlink()
    return shares


def note_name(rank: int) -> str:
    """Name of the file that says that a rank's share is there, or why not."""
    return f"rank-{rank:02d}.json"


def join_shares(notes: Sequence[Mapping[str, Any]]) -> dict[str, Fingerprint]:
    """The files of all ranks.

    Raises:
        CheckpointError: a rank failed.
    """
    errors = [note["error"] for note in notes if "error" in note]
    if errors:
        raise CheckpointError("; ".join(errors))
    return {name: found for note in notes for name, found in note["files"].items()}


def _leave_note(place: Path, rank: int, note: Mapping[str, Any]) -> None:
    hidden = place / f".{note_name(rank)}"
    hidden.write_text(json.dumps(note), encoding="utf-8")
    hidden.rename(place / note_name(rank))
