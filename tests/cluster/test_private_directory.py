"""Where the files of a private session lie: nobody else gets in, and what a killed process left is removed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from seekr_tune.cluster import private_directory as module
from seekr_tune.cluster.private_directory import find_place, private_directory
from seekr_tune.errors import StudyError

OWNER = """
import sys
from seekr_tune.cluster.private_directory import private_directory
with private_directory() as directory:
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that is named for temporary files, as short as those of the system."""
    path = tmp_path_factory.mktemp("base")
    monkeypatch.setattr(module, "_most_bytes", lambda: len(os.fsencode(os.path.realpath(path))))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(path))
    return path


def refusal() -> str:
    with pytest.raises(StudyError) as refused, private_directory():
        pass
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- the directory ------------------------------------------------------------------------------------------------


def test_it_is_of_its_owner_alone_and_goes_at_the_end(base: Path) -> None:
    before = os.umask(0)
    try:
        with private_directory() as directory:
            found = directory.stat()
            assert directory.parent == base and stat.S_IMODE(found.st_mode) == 0o700 and found.st_uid == os.geteuid()
            (directory / "r" / "sockets").mkdir(parents=True)
        assert list(base.iterdir()) == []
    finally:
        os.umask(before)


def test_it_goes_when_the_block_fails(base: Path) -> None:
    with pytest.raises(KeyboardInterrupt), private_directory():
        raise KeyboardInterrupt
    assert list(base.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    owners = [
        subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    killed, living = owners
    assert killed.stdout is not None and living.stdout is not None
    theirs, kept = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
    try:
        assert theirs.is_dir() and kept.is_dir()
        (theirs / "r").mkdir()
        (theirs / "r" / "socket").touch()
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert theirs.is_dir()
        with private_directory():
            assert not theirs.exists() and kept.is_dir()
    finally:
        living.communicate("")
    assert living.returncode == 0 and not kept.exists()


def test_what_only_looks_like_it_is_kept(base: Path) -> None:
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (base / "seekr.link0000").symlink_to(elsewhere)
    (base / "seekr.file0000").touch()
    (base / "seekr.longer-name").mkdir()
    (base / "seekr.data2024").mkdir(mode=0o700)
    (base / "seekr.data2024" / "train.json").touch()
    (base / "seekr.empty001").mkdir(mode=0o755)
    with private_directory():
        pass
    assert sorted(path.name for path in base.iterdir()) == [
        *("elsewhere", "seekr.data2024", "seekr.empty001", "seekr.file0000", "seekr.link0000", "seekr.longer-name"),
    ]
    assert (base / "seekr.data2024" / "train.json").exists()
    assert (elsewhere / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_what_another_user_has_left_is_kept(base: Path) -> None:
    theirs = base / "seekr.abcdefgh"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    with private_directory():
        pass
    assert theirs.is_dir()


# --- its place ----------------------------------------------------------------------------------------------------


def test_ray_tmpdir_comes_before_tmpdir(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = base / "r"
    monkeypatch.setattr(module, "_most_bytes", lambda: 4096)
    assert find_place().path == base
    monkeypatch.setenv("RAY_TMPDIR", str(first))
    assert find_place().path == first, "made, as Ray does"


def test_without_a_name_it_is_in_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    assert find_place() == module.Place(Path(os.path.realpath("/tmp")))


def test_a_name_that_is_too_long_for_sockets_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = tmp_path / ("l" * 90)
    monkeypatch.setenv("TMPDIR", str(long))
    place = find_place()
    assert place.path == Path(os.path.realpath("/tmp"))
    assert len(place.passed_over) == 1 and place.passed_over[0].startswith(f"TMPDIR={long} is longer than")
    assert not long.exists()


def test_the_longest_name_is_that_with_which_the_socket_just_fits() -> None:
    place = "/" + "p" * (module._most_bytes() - 1)
    session = f"session_2026-11-30_17-08-36_663712_{os.getpid()}"
    assert len(f"{place}/seekr.abcdefgh/r/{session}/sockets/plasma_store") == module._SOCKET_BYTES


def test_a_place_where_others_can_replace_what_is_not_theirs_is_passed_over(base: Path) -> None:
    base.chmod(0o777)
    assert find_place().passed_over == (f"TMPDIR={base} lets others replace what lies in it",)
    base.chmod(0o1777)
    assert find_place().path == base


def test_a_place_inside_the_virtual_environment_is_passed_over(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(base.parent))
    (reason,) = find_place().passed_over
    assert reason.startswith(f"TMPDIR={base} lies inside the virtual environment")


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_named_place_that_cannot_be_used_is_refused(base: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_most_bytes", lambda: 4096)
    file = base / "file"
    file.touch()
    for place in (file, file / "below"):
        monkeypatch.setenv(name, str(place))
        said = refusal()
        assert said.startswith(f"{name}={place}: cannot be written to (") and said.endswith(f"or unset {name}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_named_place_without_the_right_to_write_is_refused(base: Path) -> None:
    base.chmod(0o500)
    assert refusal().startswith(f"TMPDIR={base}: cannot be written to (Permission denied)")


def test_no_place_at_all_is_one_line_that_says_why(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base.chmod(0o777)
    (base / "file").touch()
    monkeypatch.setattr(module, "_USUAL", (str(base / "file"),))
    monkeypatch.setattr(module, "_most_bytes", lambda: 4096)
    assert refusal() == (
        f"there is no place for Ray's files: TMPDIR={base} lets others replace what lies in it, {base / 'file'} cannot "
        "be written to (File exists); set RAY_TMPDIR to a directory of your own, of 4096 characters at most"
    )
