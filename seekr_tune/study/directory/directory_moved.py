"""A directory that is renamed, deleted or replaced while somebody works in it: that ends the work at once, in one line.

Whoever went on would make the directory again under its old name, and stand in the way of putting it back.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from seekr_tune.errors import StudyError
from seekr_tune.study.directory.layout import is_run, is_study, ray_path


class Footing:
    """The directory that a process works in, held open: its number on the disk stays its own as long as it is.

    Args:
        directory: which exists.
        then: what to do when it is put back, to be read behind "and".
    """

    def __init__(self, directory: Path, then: str) -> None:
        self._directory, self._then = directory, then
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def require(self) -> None:
        """Ask whether the directory is still where it was; a disk that does not answer now is no reason to end.

        Raises:
            StudyError: it is not.
        """
        if not self.is_there():
            what = "something else is" if os.path.lexists(self._directory) else "nothing is"
            raise StudyError(
                f"{self._directory}: was moved or deleted while it was worked on, and {what} there now; put back what "
                f"was moved, and {self._then}"
            )

    def is_there(self) -> bool:
        """Whether it is still where it was."""
        try:
            return os.path.samestat(os.stat(self._directory), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Let the directory go; what Ray has made under its old name meanwhile is removed."""
        if not self.is_there():
            remove_made_again(self._directory)
        os.close(self._descriptor)


def remove_made_again(directory: Path) -> None:
    """Remove what Ray made where a study or a run was, unless another one is there now."""
    if is_study(directory) or is_run(directory) or directory.is_symlink():
        return
    shutil.rmtree(ray_path(directory), ignore_errors=True)
    with suppress(OSError):  # it holds something, or is not there
        directory.rmdir()
