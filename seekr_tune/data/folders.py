"""Where the tasks of a stream lie: its root, the folder of a task, and the one file or set of files of each split.

No file is opened here. Nothing is taken that lies outside the root, and where a split is there twice, neither is taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seekr_tune.access import MEND_LINK, dangling
from seekr_tune.config import Split, StreamConfig
from seekr_tune.config.messages import hint
from seekr_tune.errors import DataError

_SUFFIXES = {"trace_json": ".json", "jsonl": ".jsonl", "parquet": ".parquet"}
_DATASET_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")
DATASET_SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "eval": ("eval", "validation", "dev"),
    "test": ("test",),
}
"""What the splits are called by data sets."""
_SHARD = re.compile(r".*-(\d{5})-of-(\d{5})(-[0-9a-f]+)?")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z", ".tgz", ".tar")
_TABS = (".tsv", ".tab")
_SOURCES = {".json": "trace_json", ".jsonl": "jsonl", ".parquet": "parquet", ".csv": "datasets"}
"""By suffix, which `stream.source` reads it."""
_SHOWN = 8  # names listed in a message


@dataclass(frozen=True)
class Place:
    """Where a split lies.

    Attributes:
        name: in the task's folder, for messages.
        files: that hold its rows, in their order.
        saved: the folder that `save_to_disk` wrote, which names its files itself; None: `files` are there.
    """

    name: str
    files: tuple[Path, ...] = ()
    saved: Path | None = None


def check_root(stream: StreamConfig) -> None:
    """Refuse a stream without a root that is a directory (or a name on the hub)."""
    if stream.root is None:
        raise DataError(f"stream.root: not set; give the directory of the {stream.source} tasks")
    _require_no_dangling(root_of(stream), "stream.root: ")
    if not os.path.isdir(root_of(stream)) and not is_hub_name(stream):
        raise DataError(f"stream.root: {stream.root!r} is not a directory; give the one that holds the task folders")


def root_of(stream: StreamConfig) -> Path:
    """The root as a path."""
    assert stream.root is not None, "checked by check_root"
    return Path(stream.root).expanduser()


def is_hub_name(stream: StreamConfig) -> bool:
    """Whether the root can only be meant as a name on the Hugging Face hub: `name` or `owner/name`, not a folder."""
    root = stream.root or ""
    looks_like_path = root.startswith((".", "/", "~")) or root.count("/") > 1
    return stream.source == "datasets" and not looks_like_path and not os.path.isdir(root_of(stream))


def find_split(stream: StreamConfig, task: str, split: Split) -> Place | None:
    """Where a split of a task lies; None: nowhere.

    Raises:
        DataError: there is no such task, or the split is there twice, or in part.
    """
    directory = task_directory(stream, task)
    if stream.source != "datasets":
        path = directory / f"{split}{_SUFFIXES[stream.source]}"
        return Place(path.name, (path,)) if os.path.exists(path) else None
    found = [place for name in DATASET_SPLITS[split] for place in _places(directory, name)]
    if len(found) > 1:
        raise DataError(
            f"{directory}: split {split!r} is there more than once, as {' and '.join(place.name for place in found)}; "
            "keep one of them, and move the others out of the folder"
        )
    return found[0] if found else None


def require_split(stream: StreamConfig, task: str, split: Split) -> Place:
    """Where a split of a task lies.

    Raises:
        DataError: as `find_split`, or it is nowhere.
    """
    found = find_split(stream, task, split)
    if found is not None:
        return found
    directory = task_directory(stream, task)
    _require_readable(stream, directory, split)
    there = ", ".join(sorted(os.listdir(directory))[:_SHOWN]) or "nothing"
    if stream.source == "datasets":
        names = " or ".join(DATASET_SPLITS[split])
        raise DataError(f"{directory}: no data set split named {names} (the folder holds: {there}); add it")
    path = directory / f"{split}{_SUFFIXES[stream.source]}"
    _require_no_dangling(path)
    raise DataError(f"{path}: no such file (the task's folder holds: {there}); add it")


def _require_readable(stream: StreamConfig, directory: Path, split: Split) -> None:
    """Refuse a folder in which the split lies in a form that is not read; that it is missing would be wrong to say."""
    names = DATASET_SPLITS[split] if stream.source == "datasets" else (split,)
    found = [
        path for folder in (directory, directory / "data") for name in names for path in folder.glob(f"{name}[-.]*")
    ]
    for path in sorted(filter(Path.is_file, found)):
        stem, *suffixes = path.name.lower().split(".")
        if not suffixes:
            continue
        suffix = f".{suffixes[-1]}"
        if suffix in _COMPRESSED:
            mend = f"is compressed, and only plain files are read; unpack it (to {path.name[: -len(suffix)]})"
        elif suffix in _TABS:
            also = "" if stream.source == "datasets" else ", and set stream.source to datasets"
            mend = f"is separated by tabs; write it again with commas, as {stem}.csv{also}"
        elif suffix in _SOURCES and stream.source != "datasets":
            mend = f"is not read by stream.source {stream.source}; set stream.source to {_SOURCES[suffix]}"
        else:
            mend = f"is of no kind that is read; write it as one of {', '.join(_DATASET_SUFFIXES)}"
        raise DataError(f"{path}: {mend}")


def check_inside(path: Path, stream: StreamConfig) -> None:
    """Refuse a file that is not there, or is a link out of the root."""
    _require_no_dangling(path)
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file; add it")
    if not path.resolve().is_relative_to(root_of(stream).resolve()):
        raise DataError(f"{path}: a link out of stream.root; copy the file under {root_of(stream)}")


def _require_no_dangling(path: Path, where: str = "") -> None:
    broken = dangling(path)
    if broken is not None:
        raise DataError(f"{where}{path}: {broken}; {MEND_LINK}")


def task_directory(stream: StreamConfig, task: str) -> Path:
    """The folder of a task, which must lie under the root even when links are followed."""
    root, name = root_of(stream), PurePosixPath(task)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise DataError(f"stream.tasks: {task!r} leads outside stream.root; name a folder under {root}")
    if str(name) != task:
        raise DataError(f"stream.tasks: write {task!r} as {str(name)!r}")
    directory = root / name
    _require_no_dangling(directory, "stream.tasks: ")
    if not os.path.isdir(directory):
        raise DataError(f"stream.tasks: no folder {task!r} under {root}; {_hint(task, _task_names(root))}")
    if not directory.resolve().is_relative_to(root.resolve()):
        raise DataError(f"stream.tasks: {directory} is a link out of stream.root; copy the task's folder under {root}")
    return directory


def _places(directory: Path, name: str) -> list[Place]:
    """All that is called like a split in a task's folder: saved by `save_to_disk`, one file, or several parts."""
    found = []
    if os.path.isfile(directory / name / "dataset_info.json"):
        found.append(Place(f"{name}/", saved=directory / name))
    for folder in (directory, directory / "data"):
        prefix = "" if folder == directory else "data/"
        for suffix in _DATASET_SUFFIXES:
            if os.path.lexists(folder / f"{name}{suffix}"):
                found.append(Place(f"{prefix}{name}{suffix}", (folder / f"{name}{suffix}",)))
            parts = tuple(sorted(folder.glob(f"{name}-*{suffix}")))
            if parts:
                _check_parts(parts)
                found.append(Place(f"{prefix}{parts[0].name}", parts))
    return found


def _check_parts(parts: Sequence[Path]) -> None:
    """Refuse parts that are numbered (`train-00000-of-00002.parquet`) and not all there, each once."""
    matches = [_SHARD.fullmatch(path.stem) for path in parts]
    numbers = [match.groups()[:2] for match in matches if match]
    if not numbers:
        return
    count = numbers[0][1]
    expected = [(f"{number:05d}", count) for number in range(int(count))] if int(count) <= len(parts) else None
    if len(numbers) < len(parts) or sorted(numbers) != expected:
        names = ", ".join(path.name for path in parts[:_SHOWN])
        raise DataError(
            f"{parts[0].parent}: {names} are not the {int(count)} parts of one split, each there once; add what is "
            "missing, and move what is too much out of the folder"
        )


def _task_names(root: Path) -> list[str]:
    """Folders under the root that hold files, as task names, to two levels."""
    folders = [path for pattern in ("*", "*/*") for path in sorted(root.glob(pattern)) if path.is_dir()]
    return [path.relative_to(root).as_posix() for path in folders if any(item.is_file() for item in path.iterdir())]


def _hint(name: str, known: Sequence[str]) -> str:
    if not known:
        return "there are no task folders: check stream.root"
    return hint(name, known, f"choose from {', '.join(known[:_SHOWN])}{', ...' if len(known) > _SHOWN else ''}")
