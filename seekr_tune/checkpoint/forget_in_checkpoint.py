"""Taking samples out of checkpoints: their tokens, and what the teacher said about them.

A checkpoint is never written to. One without the samples is made beside it, which shares the files that hold nothing of
them (weights, moments, head scores), and then takes its place:

    checkpoints/.erasing/task-0002          whole when its manifest is there
    checkpoints/.erasing/old-task-0002      what it has replaced, until that is deleted

Killed anywhere, the next call goes on: between the two renames the new one is whole, and moves in.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from seekr_tune.access import access_error, listed
from seekr_tune.atomic_files import flush
from seekr_tune.checkpoint.directories import MANIFEST, Position, fingerprint, part_names, read_document, read_json
from seekr_tune.checkpoint.shards import Piece, save_pieces
from seekr_tune.documents import parse_json
from seekr_tune.errors import AccessError, CheckpointError

SAMPLES = "samples.safetensors"
_ROOM = ".erasing"
_ORIGIN = ".first-stage"
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError)


@dataclass(frozen=True)
class Held:
    """A sample in the memory of a checkpoint.

    Attributes:
        task: index of its task in the run's stream.
        index: its index in the task's train split.
        tokens: its token ids.
    """

    task: int
    index: int
    tokens: tuple[int, ...]


def stage_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of finished tasks in a run's `checkpoints`, the oldest first; others hold no sample."""
    found = {path: position for path in _visible(directory) if (position := Position.of(path)) is not None}
    return sorted((path for path, position in found.items() if not position.steps), key=lambda path: found[path])


def step_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints inside tasks in a run's `checkpoints`."""
    return [path for path in _visible(directory) if (position := Position.of(path)) is not None and position.steps]


def held_samples(path: Path) -> list[Held]:
    """The memory of a checkpoint of finished tasks; `state.json` and `samples.safetensors` are enough of it.

    Raises:
        AccessError: this user may not read it.
        CheckpointError: it cannot be read.
    """
    try:
        entries = read_document(path)["memory"]
        with safe_open(path / SAMPLES, framework="pt") as file:
            tokens = [tuple(file.get_tensor(f"{place}/input_ids").tolist()) for place in range(len(entries))]
        return [Held(int(e["task"]), int(e["index"]), ids) for e, ids in zip(entries, tokens, strict=True)]
    except AccessError:
        raise
    except PermissionError as error:
        raise access_error(path, error) from None
    except _UNREADABLE as error:
        raise CheckpointError(f"{path}: its memory cannot be read ({type(error).__name__})") from None


def files_with_samples(path: Path) -> list[str]:
    """Names of the files of a checkpoint that hold something of a sample."""
    document = read_document(path)
    return [Position(document["tasks_done"]).document, SAMPLES, *part_names("memory", document["parts"]["memory"])]


def tidy(directory: Path) -> None:
    """Finish what a killed call began in a run's `checkpoints`, and remove what killed launches left; the caller
    holds the run."""
    room = directory / _ROOM
    for made in sorted(room.glob("task-*")):
        if (made / MANIFEST).is_file() and not (directory / made.name).exists():
            made.rename(directory / made.name)
    for path in directory.glob(".*"):
        if path.name != _ORIGIN:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def erase(path: Path, gone: Collection[int]) -> None:
    """Take samples out of a checkpoint; the caller holds the run.

    Args:
        path: of the checkpoint.
        gone: places of the samples in its memory.
    """
    room = path.parent / _ROOM
    made = room / path.name
    room.mkdir(mode=0o700, exist_ok=True)
    make_without(path, made, gone)
    old = room / f"old-{path.name}"
    path.rename(old)
    made.rename(path)
    flush(path.parent)
    shutil.rmtree(room)


def make_without(path: Path, target: Path, gone: Collection[int]) -> None:
    """Make a checkpoint like another one, without some samples of its memory; its manifest comes last.

    Args:
        path: the other one; of its files, those with samples and the manifest must be there.
        target: a new directory.
        gone: places of the samples in its memory.
    """
    document, manifest = read_document(path), read_json(path / MANIFEST)
    kept = [place for place in range(len(document["memory"])) if place not in gone]
    places = {str(old): str(new) for new, old in enumerate(kept)}
    target.mkdir(mode=0o700)
    state, *tensors = files_with_samples(path)
    _write(target / state, json.dumps({**document, "memory": [document["memory"][place] for place in kept]}))
    for name in tensors:
        _copy_tensors(path / name, target / name, places)
    files: dict[str, Any] = dict(manifest["files"])
    if any(Path(name).name != name for name in files):
        raise CheckpointError(f"{path}: its manifest names files of other directories")
    for name in (state, *tensors):
        os.chmod(target / name, 0o600)
        files[name] = fingerprint(target / name)
    for name in sorted(files.keys() - {state, *tensors}):
        if (path / name).is_file():
            _link(path / name, target / name)
    _write(target / MANIFEST, json.dumps({**manifest, "files": files}, indent=1))
    os.chmod(target / MANIFEST, 0o600)
    flush(target)


def _copy_tensors(source: Path, target: Path, places: dict[str, str]) -> None:
    """The tensors `<place>/..` of the samples that stay, under their new places."""
    pieces = {}
    with safe_open(source, framework="pt") as file:
        layout = parse_json(file.metadata()["layout"])
        for name in file.keys():
            place, _, rest = name.partition("/")
            if place in places:
                piece = Piece(file.get_tensor(name), layout[name]["start"], tuple(layout[name]["shape"]))
                pieces[f"{places[place]}/{rest}"] = piece
        save_pieces(target, pieces)
    flush(target)


def _link(source: Path, target: Path) -> None:
    """Files of checkpoints are never written to, so the copy may be the same file, where the disk allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    flush(path)


def _visible(directory: Path) -> Iterator[Path]:
    yield from (path for path in listed(directory) if path.is_dir() and not path.name.startswith("."))
