"""What counts as a fault of a disk, and what is said of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from seekr_tune.errors import StudyError
from seekr_tune.study.directory.disk import disk_fault, refusing_disk_faults

FAULTS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE]


def of(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/somewhere")


@pytest.mark.parametrize("number", FAULTS)
def test_a_fault_of_a_disk_is_known_behind_what_was_made_of_it(number: int) -> None:
    fault = disk_fault(of(number))
    assert fault is not None and ("no space left" in fault) == (number in (errno.ENOSPC, errno.EDQUOT))
    try:
        try:
            raise of(number)
        except OSError as error:
            raise RuntimeError("saving failed") from error
    except RuntimeError as error:
        assert disk_fault(error) == fault
    assert disk_fault(RuntimeError(f"writer: {os.strerror(number)} (os error {number})")) == fault


@pytest.mark.parametrize("error", [of(errno.EACCES), of(errno.EPIPE), ValueError("no"), FileNotFoundError("no")])
def test_other_errors_are_not_blamed_on_the_disk(error: Exception, tmp_path: Path) -> None:
    assert disk_fault(error) is None
    with pytest.raises(type(error)), refusing_disk_faults(tmp_path, "resume"):
        raise error


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "no space left on its disk; make room, then"), (errno.EIO, "Input/output error); mend that, then")],
)
def test_the_message_names_the_directory_and_how_to_go_on(number: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as refused, refusing_disk_faults(tmp_path, "resume"):
        raise of(number)
    assert str(refused.value).startswith(f"{tmp_path}: ") and said in str(refused.value)
    assert str(refused.value).endswith(f"go on with `seekr-tune resume {tmp_path}`")


def test_what_says_already_what_is_wrong_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="^trial-0001: the disk of its checkpoints"):
        with refusing_disk_faults(tmp_path, "resume"):
            raise StudyError("trial-0001: the disk of its checkpoints") from of(errno.ENOSPC)
