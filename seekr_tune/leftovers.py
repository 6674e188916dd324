"""Files that are being written: their names say by whom, so that what a killed process left can be told apart.

Nobody can guess such a name, and nothing is taken for one that was there before: who may write in the same directory
cannot lay a link where this process is going to write.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterable
from glob import escape
from pathlib import Path


def unfinished(path: Path) -> Path:
    """Where this process writes what will be at `path`, a file or a directory; another name at each call."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.partial")


def new_file(path: Path, mode: int = 0o666) -> Path:
    """Make an empty file where there is nothing yet, not even a link.

    Args:
        path: of the file.
        mode: its rights, as far as the umask lets them be.

    Raises:
        FileExistsError: something is there.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode))
    return path


def remove_remains(folder: Path) -> None:
    """Remove, anywhere below a folder, what processes of this machine were writing when they were killed."""
    _remove(folder.rglob(".*.partial"))


def remove_remains_of(path: Path) -> None:
    """Remove what processes of this machine were writing, when they were killed, to be at `path`."""
    _remove(path.parent.glob(f".{escape(path.name)}.*.partial"))


def _remove(paths: Iterable[Path]) -> None:
    # The random part is missing in what earlier versions have left.
    ours = re.compile(rf"\..*\.{re.escape(socket.gethostname())}-(\d+)(-[0-9a-f]{{8}})?\.partial")
    for path in list(paths):
        found = ours.fullmatch(path.name)
        if found is None or is_alive(int(found[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether there is a process of this machine with that id."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # a number that no process can have
        return False
    except PermissionError:
        return True
    return True
