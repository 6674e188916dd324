"""Where a new study, run or model may be made: never inside of another one, and never around one.

What lies in a study's `trials` is ranked as a trial of it, what is called `final` as its final runs, and `forget` and
`samples` look at every run below a directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from seekr_tune.errors import StudyError
from seekr_tune.study.directory.layout import is_run, is_study, journal_path, trials_path


def require_outside(place: Path, what: str) -> None:
    """Refuse a place inside of a study or a run.

    Args:
        place: a directory or a file, which need not exist.
        what: is to be made there, for the message.

    Raises:
        StudyError: it is inside of one.
    """
    for path in dict.fromkeys((*place.absolute().parents, *place.resolve().parents)):
        if holds_study(path) or holds_run(path):
            kind = "study" if holds_study(path) else "run"
            raise StudyError(
                f"{place}: lies inside the {kind} {path}, which would take {what} for a part of itself; choose a place "
                "outside of it"
            )


def require_nothing_inside(place: Path, what: str) -> None:
    """Refuse to make a study or a run around others.

    Args:
        place: a directory that holds neither itself; it need not exist.
        what: is to be made there, for the message.

    Raises:
        StudyError: there are some.
    """
    found = next((path for path in _directories_in(place) if holds_study(path) or holds_run(path)), None)
    if found is not None:
        raise StudyError(
            f"{place}: {found} lies in it, which {what} made there would take for a part of itself; choose another "
            "directory"
        )


def holds_study(path: Path) -> bool:
    """Whether a study was begun there; an experiment file of that name alone is none."""
    return is_study(path) and (journal_path(path).exists() or trials_path(path).is_dir())


def holds_run(path: Path) -> bool:
    """Whether a run was begun there; a settings file of that name alone is none."""
    return is_run(path) and any((path / name).exists() for name in ("result.json", ".lock", "checkpoints"))


def _directories_in(place: Path) -> Iterator[Path]:
    """Where runs would be looked for first: in the directory itself, and in what a study calls `trials`."""
    for folder in (place, trials_path(place)):
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_dir())
