"""What counts as a full disk, and what is said of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from seekr_tune.errors import StudyError
from seekr_tune.study.directory.full_disk import no_space, refusing_full_disk


def of(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/somewhere")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_known_behind_what_was_made_of_it(number: int) -> None:
    assert no_space(of(number))
    try:
        try:
            raise of(number)
        except OSError as error:
            raise RuntimeError("saving failed") from error
    except RuntimeError as error:
        assert no_space(error)
    assert no_space(RuntimeError(f"writer: {os.strerror(number)} (os error {number})"))


@pytest.mark.parametrize("error", [of(errno.EACCES), of(errno.EIO), ValueError("no"), FileNotFoundError("no")])
def test_other_errors_are_not_blamed_on_the_disk(error: Exception, tmp_path: Path) -> None:
    assert not no_space(error)
    with pytest.raises(type(error)), refusing_full_disk(tmp_path, "seekr-tune resume"):
        raise error


def test_the_message_names_the_directory_and_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as refused, refusing_full_disk(tmp_path, "seekr-tune resume"):
        raise of(errno.ENOSPC)
    assert str(refused.value).startswith(f"{tmp_path}: no space left")
    assert f"`seekr-tune resume {tmp_path}`" in str(refused.value)


def test_what_says_already_what_is_wrong_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="^trial-0001: the disk of its checkpoints"):
        with refusing_full_disk(tmp_path, "seekr-tune resume"):
            raise StudyError("trial-0001: the disk of its checkpoints") from of(errno.ENOSPC)
