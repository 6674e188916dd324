"""What this user may not read: said as such, never taken for nothing and never for damage.

`Path.glob` and `Path.rglob` leave out what they may not look into, so what decides something is listed here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seekr_tune.errors import AccessError


def dangling(path: Path | str) -> str | None:
    """That a path is, or leads through, a link to something that is not there, in words; None where it does not."""
    for place in (Path(path), *Path(path).parents):
        if os.path.islink(place) and not os.path.exists(place):
            which = "is a link" if place == Path(path) else f"lies behind {place}, a link"
            return f"{which} to {os.readlink(place)}, which is not there"
    return None


MEND_LINK = "mend the link, or put what it meant in its place"
"""What to do about what `dangling` says."""


@contextmanager
def access_told(place: Path) -> Iterator[None]:
    """Turn a refusal of the system inside of the block into one line.

    Args:
        place: what was to be read, where the system does not say.

    Raises:
        AccessError: this user may not.
    """
    try:
        yield
    except PermissionError as error:
        raise access_error(place, error) from None


def access_error(place: Path, error: PermissionError) -> AccessError:
    """A refusal of the system in one line.

    Args:
        place: what was to be read, where the system does not say.
        error: the refusal.
    """
    return AccessError(
        f"{error.filename or place}: this user may not read it ({error.strerror or 'permission denied'}), so nobody "
        "knows what it holds; give the command as its owner, or allow it"
    )


def listed(directory: Path) -> list[Path]:
    """What lies in a directory, by name; nothing where there is none.

    Raises:
        AccessError: this user may not look into it.
    """
    with access_told(directory):
        try:
            return sorted(directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


def walked(directory: Path) -> Iterator[Path]:
    """Every file and directory below, links not followed; nothing where there is none. What vanishes meanwhile is
    passed over.

    Raises:
        AccessError: this user may not look into one of them.
    """

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise error

    with access_told(directory):
        for folder, folders, files in os.walk(directory, onerror=refuse):
            yield from (Path(folder, name) for name in sorted([*folders, *files]))
