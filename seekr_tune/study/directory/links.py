"""Links inside a study or a run: what lies behind one may be of others, so no command writes or deletes there.

The directory itself may be reached through a link (`runs -> /scratch/runs`): that is where the user wants it. Below,
what this package writes is refused where a link stands in its way, or a pipe, a socket or a device. Other names are the
user's own and let be.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from seekr_tune.atomic_files import odd_kind, refusal_of
from seekr_tune.errors import StudyError

_OURS = re.compile(
    r"(experiment|space|config)\.yaml|storage\.json|erased\.json|erasing\.json|table\.(csv|json|md)"
    r"|result(\.damaged-\d+|\.json|\.heads\.parquet)|log\.jsonl|steps(\.partial)?\.jsonl"
    r"|study|trials|final(-\d+)?|ledger|report|rejected|checkpoints|events|ray"
    r"|\.lock|\.stop|\.extending(\..*)?|\..*\.partial"
)
"""What is written at the top of a study, of final runs and of a run."""
_RUNS = re.compile(r"trials|final(-\d+)?|\.extending(\..*)?")
"""Directories whose entries are again such tops, or hold them."""
_LOCK_OF_OPTUNA = re.compile(r"journal\.log\.(new\.)?lock.*")
"""Optuna locks a journal by a link beside it, which is made and removed and never opened."""
_GROWING = ("log.jsonl", "journal.log", ".lock")
"""Files that are written to in their place; others are replaced, which leaves another name of the old one as it was."""


def require_no_links(directory: Path, *, everywhere: bool = False) -> None:
    """Refuse to write into a study or a run in which a link stands where something is written.

    Args:
        directory: of the study or run; it need not exist.
        everywhere: links that are in nobody's way, too.

    Raises:
        StudyError: naming the link, the pipe, the socket, the device or the file with a second name.
    """
    _require_plain(_all(directory) if everywhere else _ours(directory))


def require_no_links_below(directory: Path) -> None:
    """Refuse the same in a directory of which everything is ours, such as a cache."""
    _require_plain(_all(directory))


def leads_elsewhere(path: Path, directory: Path) -> bool:
    """Whether a path below a directory passes a link, or is one."""
    below = path.relative_to(directory).parts
    return any(directory.joinpath(*below[: number + 1]).is_symlink() for number in range(len(below)))


def _require_plain(entries: Iterator[os.DirEntry[str]]) -> None:
    for entry in entries:
        is_file = entry.is_file(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False) or (is_file and entry.name not in _GROWING):
            continue  # as nearly all are; nobody has to ask the disk for more
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # it was removed meanwhile
            continue
        kind = odd_kind(found.st_mode)
        if kind is not None and not _LOCK_OF_OPTUNA.fullmatch(entry.name):
            raise refusal_of(Path(entry.path), kind)
        if is_file and found.st_nlink > 1:
            raise StudyError(
                f"{entry.path}: has another name elsewhere (a hard link), and would be changed there, too; put a copy "
                "in its place"
            )


def _ours(directory: Path) -> Iterator[os.DirEntry[str]]:
    for entry in _entries(directory, _OURS.fullmatch):
        yield entry
        if not entry.is_dir(follow_symlinks=False) or entry.name == "ray":  # what Ray has there is disposable
            continue
        if entry.name == "trials":
            for run in _entries(Path(entry.path)):
                yield run
                if run.is_dir(follow_symlinks=False):
                    yield from _ours(Path(run.path))
        else:
            yield from (_ours if _RUNS.fullmatch(entry.name) else _all)(Path(entry.path))


def _all(directory: Path) -> Iterator[os.DirEntry[str]]:
    for entry in _entries(directory):
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _all(Path(entry.path))


def _entries(directory: Path, wanted: Callable[[str], object] = bool) -> list[os.DirEntry[str]]:
    """What lies in a directory; nothing where there is none, or where it vanished meanwhile."""
    try:
        with os.scandir(directory) as entries:
            return [entry for entry in entries if wanted(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
