"""Checkpoints of ranks that share no disk: they pass through a store.

    <place of the run>/
        owner                               token of the launch that may write
        checkpoints/
            task-0002.5f1c09ab/             saved by the launch 5f1c09ab
                weights-00-of-02.safetensors ...
                rank-00.json                a rank's files are there; taken away before the manifest comes
                manifest.json               comes last: from now on this is a checkpoint

A store renames nothing, so every launch writes under names of its own. Inside, a checkpoint is what it is on disk.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from seekr_tune.checkpoint.directories import (
    MANIFEST,
    SCHEMA_VERSION,
    Fingerprint,
    Position,
    choose_intact,
    fingerprint,
    positions_kept,
    verify,
)
from seekr_tune.checkpoint.writing import PATIENCE_SECONDS, join_shares, note_name
from seekr_tune.documents import parse_json
from seekr_tune.errors import CheckpointError
from seekr_tune.store import Store

if TYPE_CHECKING:  # who only fetches a checkpoint needs no torch
    from seekr_tune.checkpoint.tensorfiles import Files
    from seekr_tune.methods.workers import Workers

_FOLDER = "checkpoints"
_POLL_SECONDS = (0.02, 1.0)
"""Rank 0 looks for the notes of the others ever less often: on an object store each look costs money."""
_THREADS = 4


@dataclass(frozen=True)
class Claim:
    """The right of one launch to write at the place of a run.

    A process of an earlier launch that still lives finds another owner, and neither saves nor removes anything there.

    Attributes:
        place: of the run.
        token: of the launch.
    """

    place: Store
    token: str

    @classmethod
    def take(cls, place: Store) -> Claim:
        """Own the place from now on; rank 0 calls this before any rank writes."""
        claim = cls(place, secrets.token_hex(4))
        place.write("owner", claim.token.encode())
        return claim

    def require(self) -> None:
        """Raise CheckpointError unless the place is still ours."""
        if self.place.read("owner") != self.token.encode():
            raise CheckpointError(f"{self.place.label}: another launch took over; this one writes nothing there")


@dataclass(frozen=True)
class Saved:
    """A checkpoint at a store.

    Attributes:
        place: of the run.
        name: of the checkpoint's folder: its position, and the token of the launch that saved it.
    """

    place: Store
    name: str

    @property
    def position(self) -> Position:
        """Where the run stood."""
        position = position_of(self.name)
        assert position is not None
        return position

    @property
    def folder(self) -> Store:
        """Its files."""
        return self.place.at(_FOLDER, self.name)

    def __str__(self) -> str:
        return self.folder.label

    def fetch(self, directory: Path) -> Path:
        """Bring it into `directory`, under the name that it has on disk, and verify it.

        Args:
            directory: where, for steps, the stage stands that they build on.

        Raises:
            CheckpointError: it is damaged; nothing is left of it in `directory`.
        """
        path, folder = directory / self.position.name, self.folder

        def bring(name: str) -> None:
            folder.download(name, path / name)
            (path / name).chmod(0o600)

        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with ThreadPoolExecutor(_THREADS) as threads:
                list(threads.map(bring, folder.names()))
            verify(path)
        except FileNotFoundError as error:
            shutil.rmtree(path, ignore_errors=True)
            raise CheckpointError(f"damaged ({error})") from None
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return path


def position_of(name: str) -> Position | None:
    """The position in the name of a checkpoint's folder at a store; None for another name."""
    position, _, token = name.rpartition(".")
    return Position.of(Path(position)) if token else None


def saved_at(place: Store) -> list[Saved]:
    """Checkpoints at the place of a run, whole or damaged since, without those that were never finished."""
    found = [Saved(place, name) for name in place.at(_FOLDER).names() if position_of(name)]
    return [saved for saved in found if MANIFEST in saved.folder.names()]


def newest_at(place: Store, directory: Path) -> tuple[Saved | None, Saved | None]:
    """What `newest_intact` says of the checkpoints at a place; those that it names are then in `directory`."""
    return choose_intact([(saved.position, saved) for saved in saved_at(place)], lambda saved: saved.fetch(directory))


def send(path: Path, place: Store, token: str) -> None:
    """Copy a checkpoint from the disk to the place of a run."""
    folder = place.at(_FOLDER, f"{path.name}.{token}")
    for file in sorted(path.iterdir(), key=lambda file: file.name == MANIFEST):
        folder.upload(file, file.name)


class RemoteRoom:
    """The room of a launch whose ranks share no disk; a `Room` of the keeper.

    Args:
        claim: of the launch, the same on all ranks.
        shared: directory of the launch on this node, which the ranks of the node share.
        own: directory of this rank.
        workers: the processes that share the run.
        before_commit: called on rank 0 before a checkpoint appears, beside training.
    """

    def __init__(
        self, claim: Claim, shared: Path, own: Path, workers: Workers, before_commit: Callable[[], None]
    ) -> None:
        self.directory = shared / _FOLDER
        self._lock = FileLock(shared / ".lock")
        self._claim, self._place, self._workers, self._before_commit = claim, claim.place, workers, before_commit
        self._own = own / "saving"
        self._saved: dict[Position, str] = {}
        self._has_fetched = True

    def newest(self) -> tuple[Path | None, Path | None]:
        stage, steps = self._workers.broadcast(self._choose)
        return self._bring(stage), self._bring(steps)

    def begin(self, position: Position) -> Path:
        if self._has_fetched:  # now every rank has read what was brought here; a node may have little room
            self._workers.gather(None)
            for path in self.directory.glob("*/*"):
                if path.name != MANIFEST:
                    path.unlink(missing_ok=True)
            self._has_fetched = False
        share = self._own / position.name
        share.mkdir(parents=True)
        return share

    def write(self, place: Path, files: Files, kept: int) -> None:
        name = f"{place.name}.{self._claim.token}"
        folder, note = self._place.at(_FOLDER, name), note_name(self._workers.rank)
        try:
            folder.write(note, _json({"files": _upload(place, files, folder)}))
        except Exception as error:
            failure = f"rank {self._workers.rank}: {error}"
            with suppress(Exception):  # rank 0 then need not wait for what will not come
                folder.write(note, _json({"error": failure}))
            raise CheckpointError(failure) from error
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if self._workers.rank == 0:
            self._commit(Saved(self._place, name), kept)

    def leave(self) -> None:
        shutil.rmtree(self._own, ignore_errors=True)

    def _choose(self) -> tuple[str | None, str | None]:
        """Names of what is taken up, which is then on this node."""
        self._saved = {saved.position: saved.name for saved in saved_at(self._place)}
        stage, steps = newest_at(self._place, self.directory)
        return stage.name if stage else None, steps.name if steps else None

    def _bring(self, name: str | None) -> Path | None:
        """A checkpoint that rank 0 has chosen, on this node; one rank of the node fetches it."""
        if name is None:
            return None
        saved, failure = Saved(self._place, name), None
        path = self.directory / saved.position.name
        try:
            with self._lock:
                if not path.is_dir():
                    saved.fetch(self.directory)
        except (OSError, CheckpointError) as error:
            failure = f"{saved}: cannot be fetched ({error})"
        for told in self._workers.gather(failure):
            if told is not None:  # rank 0 found it intact: another attempt may get it
                raise OSError(told)
        return path

    def _commit(self, saved: Saved, kept: int) -> None:
        manifest = _json({"schema_version": SCHEMA_VERSION, "files": _collect(saved.folder, self._workers.world_size)})
        self._before_commit()
        self._claim.require()
        saved.folder.write(MANIFEST, manifest)
        self._saved[saved.position] = saved.name
        if not saved.position.steps:  # steps will name it by its manifest
            local = self.directory / saved.position.name / MANIFEST
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(manifest)
        self._claim.require()
        self._prune(saved.position, kept)

    def _prune(self, newest: Position, kept: int) -> None:
        """Remove what is superfluous, also what killed launches left: nothing else is being written now."""
        keep = positions_kept(self._saved, newest, kept)
        self._saved = {position: name for position, name in self._saved.items() if position in keep}
        folder = self._place.at(_FOLDER)
        for name in folder.names():
            if position_of(name) and name not in self._saved.values():
                folder.remove(name)


def _upload(place: Path, files: Files, folder: Store) -> dict[str, Fingerprint]:
    """Write files and send them away, one after the other: a node may have little room."""
    fingerprints = {}
    for name, write in files.items():
        write(place / name)
        fingerprints[name] = fingerprint(place / name)
        folder.upload(place / name, name)
        (place / name).unlink()
    return fingerprints


def _collect(folder: Store, world_size: int) -> dict[str, Fingerprint]:
    """Wait for the notes of all ranks, and take them away."""
    notes = {note_name(rank) for rank in range(world_size)}
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, _POLL_SECONDS[0]
    while missing := notes - set(folder.names()):
        if time.monotonic() > deadline:
            raise CheckpointError(f"no {', '.join(sorted(missing))} after {PATIENCE_SECONDS:g} seconds")
        time.sleep(pause)
        pause = min(2 * pause, _POLL_SECONDS[1])
    shares = join_shares([parse_json(folder.read(note) or b"") for note in sorted(notes)])
    for note in notes:
        folder.remove(note)
    return shares


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
