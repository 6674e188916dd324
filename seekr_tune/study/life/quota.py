"""What a study keeps on disk, and what goes first when that is more than `study.disk_gigabytes`.

Checkpoints are removed in this order, until the rest fits:

1. of runs that have ended, those inside tasks and all but the newest one,
2. of failed runs, what is left,
3. of finished runs that `study.final` cannot choose any more, what is left: bounds first, then trials, the worst first,
4. of pruned runs, what is left: first those with the fewest tasks, then the worst. Revived, they begin anew.

Never removed: checkpoints of runs that have not ended, the newest of those that may still be chosen at the end and of
final runs; results, steps, curves and the ledger. A run without checkpoints stays in the ranking. First stages in the
cache may be of other studies, too, and do not count.
"""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from seekr_tune.checkpoint.directories import Position
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.layout import trial_path
from seekr_tune.study.directory.links import leads_elsewhere
from seekr_tune.study.directory.records import read_all_records
from seekr_tune.study.directory.units import bytes_text
from seekr_tune.study.runs.objectives import prefix
from seekr_tune.study.search.objectives import as_gains, objective_value
from seekr_tune.study.search.progress import finalist_ranks

_logger = logging.getLogger(__name__)
_REMOVED = ".removed-"
"""Hidden name of a checkpoint that is being deleted: it does not count as one any more."""

SUPERSEDED, FAILED, BEATEN, PRUNED = 1, 2, 3, 4
"""Why a checkpoint may go, in the order of the rule."""


@dataclass(frozen=True)
class Entry:
    """Something on disk.

    Attributes:
        path: where it lies.
        num_bytes: what it takes.
        stage: step of the rule at which it may go; None: never.
        order: among those of one stage, lower goes first.
    """

    path: Path
    num_bytes: int
    stage: int | None = None
    order: tuple[float, ...] = ()


@dataclass(frozen=True)
class DiskUsage:
    """Bytes that a study takes.

    Attributes:
        checkpoints: of all its runs.
        rest: results, curves, ledger, and what else lies in its directory.
        is_known: False where this user may not look into a part of it: it takes more then.
    """

    checkpoints: int
    rest: int
    is_known: bool = True

    @property
    def total(self) -> int:
        """All of it."""
        return self.checkpoints + self.rest


def disk_usage(directory: Path) -> DiskUsage:
    """What a study takes; what vanishes meanwhile does not count."""
    return _usage(directory, ())


def removal_plan(entries: Sequence[Entry], quota_bytes: float) -> list[Entry]:
    """What has to go so that the rest fits, in the order of the rule; all that may go, if that is not enough.

    Args:
        entries: everything that counts.
        quota_bytes: most that may stay.
    """
    left = sum(entry.num_bytes for entry in entries)
    removable = [entry for entry in entries if entry.stage is not None]
    chosen = []
    for entry in sorted(removable, key=lambda entry: (entry.stage, entry.order, entry.path.name)):
        if left <= quota_bytes:
            break
        chosen.append(entry)
        left -= entry.num_bytes
    return chosen


def enforce_quota(directory: Path, config: Config) -> list[Path]:
    """Remove checkpoints that nobody needs, if the study takes more than `study.disk_gigabytes`. The caller drives it.

    Safe against kills: a checkpoint is there or not, and what a killed call left is removed by the next.

    Args:
        directory: the study's directory.
        config: its experiment.

    Returns:
        The checkpoints that were removed.

    Raises:
        StudyError: what must stay is more than the quota; the study can be resumed with a higher one.
    """
    if config.study.disk_gigabytes is None:
        return []
    for folder in directory.glob("**/checkpoints"):  # `**` passes no link, but may end in one
        if not folder.is_symlink():
            for left in folder.glob(f"{_REMOVED}*"):
                shutil.rmtree(left, ignore_errors=True)
    quota = config.study.disk_gigabytes * 1e9
    entries = disk_entries(directory, config)
    chosen = removal_plan(entries, quota)
    for entry in chosen:
        _remove(entry.path)
    if chosen:
        freed = sum(entry.num_bytes for entry in chosen)
        names = ", ".join(str(entry.path.relative_to(directory)) for entry in chosen)
        _logger.warning("%s: study.disk_gigabytes: removed %s of checkpoints: %s", directory, bytes_text(freed), names)
    stays = sum(entry.num_bytes for entry in entries) - sum(entry.num_bytes for entry in chosen)
    if stays > quota:
        raise StudyError(
            f"{directory}: {bytes_text(stays)} must stay, more than study.disk_gigabytes ({bytes_text(quota)}); raise "
            "it in experiment.yaml, and go on with `seekr-tune resume`"
        )
    return [entry.path for entry in chosen]


def disk_entries(directory: Path, config: Config) -> list[Entry]:
    """Every checkpoint of a study's runs, and the rest of its directory as one."""
    records, _ = read_all_records(directory)
    ranks = finalist_ranks(records, config)
    entries = [entry for record in records for entry in _entries_of(directory, record, *_rule(record, config, ranks))]
    for final in _finals(directory):  # the models that were reported stay
        for record in read_all_records(final)[0]:
            entries += _entries_of(final, record, None, ())
    rest = _bytes_in(directory) - sum(entry.num_bytes for entry in entries)
    return [*entries, Entry(directory, max(0, rest))]


def _entries_of(directory: Path, record: TrialRecord, stage: int | None, order: tuple[float, ...]) -> Iterator[Entry]:
    """The checkpoints of a run; `stage` and `order` are those of the newest one."""
    folder = trial_path(directory, record.trial) / "checkpoints"
    if leads_elsewhere(folder, directory) or not folder.is_dir():  # what lies behind a link is not the study's
        return
    found = {
        path: position
        for path in folder.iterdir()
        if (position := Position.of(path)) is not None and not path.is_symlink()
    }
    newest = max(found.values(), default=None)
    for path, position in found.items():
        if record.status == "running":
            yield Entry(path, _bytes_in(path))
        elif position != newest:
            yield Entry(path, _bytes_in(path), SUPERSEDED)
        else:
            yield Entry(path, _bytes_in(path), stage, order)


def _finals(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.glob("final*")) if not path.is_symlink()]


def _rule(record: TrialRecord, config: Config, ranks: Mapping[str, int | None]) -> tuple[int | None, tuple[float, ...]]:
    """When the newest checkpoint of a run may go, and before which others."""
    if record.status == "failed":
        return FAILED, ()
    if record.status == "pruned":
        return PRUNED, (record.tasks_done, _worth(record, config))
    if record.role == "bound":
        return BEATEN, (0.0,)
    key = record.configuration_key
    if key not in ranks:  # an objective has no value: it is never chosen
        return BEATEN, (1.0, float("-inf"))
    rank = ranks[key]
    return (None, ()) if rank is None else (BEATEN, (1.0, -float(rank)))


def _worth(record: TrialRecord, config: Config) -> float:
    """How good a pruned run was when it was stopped; those that came as far are compared."""
    name, direction = next(iter(config.study.objectives.items()))
    value = objective_value(prefix(record, record.tasks_done), name)
    return float("-inf") if value is None else as_gains([value], [direction])[0]


def _remove(path: Path) -> None:
    hidden = path.with_name(f"{_REMOVED}{path.name}-{uuid.uuid4().hex[:8]}")
    path.rename(hidden)  # from here on nobody takes it for a checkpoint
    shutil.rmtree(hidden, ignore_errors=True)


def _bytes_in(directory: Path) -> int:
    """Sizes of all files below; those that vanish meanwhile count nothing."""
    return disk_usage(directory).total


def _usage(folder: str | Path, names: tuple[str, ...]) -> DiskUsage:
    """What lies below a folder; `names` lead to it from where the sum began. Links are not followed."""
    size, below = 0, []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(_usage(entry.path, (*names[-2:], entry.name)))
                else:
                    with suppress(FileNotFoundError):
                        size += entry.stat(follow_symlinks=False).st_size
    except (FileNotFoundError, NotADirectoryError):
        return DiskUsage(0, 0)
    except PermissionError:
        return DiskUsage(0, 0, is_known=False)
    is_known = all(found.is_known for found in below)
    checkpoints, rest = sum(found.checkpoints for found in below), size + sum(found.rest for found in below)
    is_of_run = len(names) == 3 and (names[0], names[2]) == ("trials", "checkpoints")
    return DiskUsage(checkpoints + rest, 0, is_known) if is_of_run else DiskUsage(checkpoints, rest, is_known)
