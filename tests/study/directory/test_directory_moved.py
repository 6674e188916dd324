"""A directory that is moved, deleted or replaced while one works in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from seekr_tune.errors import StudyError
from seekr_tune.study.directory.directory_moved import Footing, remove_made_again

Do = Callable[[Path], object]


def replaced(directory: Path) -> None:
    """Deleted, and made again at once, which gives it the old number on some disks unless the old one is held."""
    shutil.rmtree(directory)
    directory.mkdir()


MOVES: dict[str, tuple[Do, str]] = {
    "renamed": (lambda path: path.rename(path.with_name("other")), "nothing is there now"),
    "deleted": (shutil.rmtree, "nothing is there now"),
    "replaced": (replaced, "something else is there now"),
    "a file in its place": (lambda path: (shutil.rmtree(path), path.touch()), "something else is there now"),
    "moved with what it lies in": (lambda path: path.parent.rename(path.parent.with_name("b")), "nothing is there now"),
}


@pytest.mark.parametrize("how", MOVES)
def test_what_was_moved_is_told_in_one_line_with_how_to_go_on(tmp_path: Path, how: str) -> None:
    directory = tmp_path / "a" / "study"
    directory.mkdir(parents=True)
    footing = Footing(directory, "go on")
    footing.require()
    move, said = MOVES[how]
    move(directory)
    with pytest.raises(StudyError) as refused:
        footing.require()
    told = f"{directory}: was moved or deleted while it was worked on, and {said}; put back what was moved, and go on"
    assert str(refused.value) == told
    footing.close()


def test_what_is_put_back_is_there_again(tmp_path: Path) -> None:
    directory = tmp_path / "study"
    directory.mkdir()
    footing = Footing(directory, "go on")
    directory.rename(tmp_path / "other").rename(directory)
    footing.require()
    (tmp_path / "link").symlink_to(directory)  # a directory may be reached through one
    Footing(tmp_path / "link", "go on").require()
    footing.close()
    assert directory.is_dir()


def test_what_ray_made_again_goes_and_what_is_of_others_stays(tmp_path: Path) -> None:
    for name in ("alone", "beside", "study"):
        (tmp_path / name / "ray" / "20260102-030405").mkdir(parents=True)
    (tmp_path / "beside" / "notes.txt").touch()
    (tmp_path / "study" / "experiment.yaml").touch()
    for name in ("alone", "beside", "study", "nothing"):
        remove_made_again(tmp_path / name)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {
        "beside",
        "beside/notes.txt",
        "study",
        *("study/" + name for name in ("experiment.yaml", "ray", "ray/20260102-030405")),
    }
