"""Files that are being written: their names say by whom, so that what a killed process left can be told apart."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterable
from glob import escape
from pathlib import Path


def unfinished(path: Path) -> Path:
    """Where this process writes what will be at `path`, a file or a directory."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial")


def remove_remains(folder: Path) -> None:
    """Remove, anywhere below a folder, what processes of this machine were writing when they were killed."""
    _remove(folder.rglob(".*.partial"))


def remove_remains_of(path: Path) -> None:
    """Remove what processes of this machine were writing, when they were killed, to be at `path`."""
    _remove(path.parent.glob(f".{escape(path.name)}.*.partial"))


def _remove(paths: Iterable[Path]) -> None:
    ours = re.compile(rf"\..*\.{re.escape(socket.gethostname())}-(\d+)\.partial")
    for path in list(paths):
        found = ours.fullmatch(path.name)
        if found is None or is_alive(int(found[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether there is a process of this machine with that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
