"""A link in a study, or a pipe, leads no command to write or delete elsewhere, nor to wait for ever."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from seekr_tune.atomic_files import replacing, write_atomically
from seekr_tune.checkpoint.writing import remove_rooms
from seekr_tune.cli import app, main
from seekr_tune.errors import StudyError
from seekr_tune.experiment import dump_config, load_experiment, with_values
from seekr_tune.leftovers import remove_remains, unfinished
from seekr_tune.store import Store
from seekr_tune.study.directory.links import leads_elsewhere, require_no_links
from seekr_tune.study.life.quota import enforce_quota
from seekr_tune.study.runs.storage import home_of, require_no_links_at

from .small import SPACE, finished_run, small_config, study_of

KIND = "link inside a study"

WRITES_STUDY = {
    "sweep": ("EXPERIMENT", "--out", "DIR"),
    "resume": ("DIR",),
    "finalize": ("DIR",),
    "revive": ("DIR", "trial-0000"),
    "stop": ("DIR",),
    "report": ("DIR",),
    "forget": ("DIR", "--sample", "star:1"),
}
WRITES_RUN = {
    "run": ("EXPERIMENT", "--out", "DIR"),
    "extend": ("DIR", "--task", "paren"),
    "forget": ("DIR", "--sample", "star:1"),
}
READS = {
    "rank": ("DIR",),
    "status": ("DIR",),
    "show": ("DIR", "trial-0000"),
    "log": ("DIR",),
    "samples": ("DIR",),
    "compare": ("DIR", "DIR/../run"),
    "importance": ("DIR",),
    "export": ("DIR", "--table", "ranking"),
}
ELSEWHERE = {"validate", "explain", "ls", "plan", "doctor", "tensorboard", "dashboard"}
"""Write nothing into a study: TensorBoard gets a directory of links in TMPDIR, and Optuna's dashboard only reads."""

PLACES = ("log.jsonl", ".lock", "study", "study/journal.log", "study/driver.json", "study/stop", "ledger", "trials")
PLACES += ("ledger/trials.parquet", "report", "report/index.html", "ray", "final", "experiment.yaml", "storage.json")
PLACES += ("trials/trial-0000", "trials/trial-0000/log.jsonl", "trials/trial-0000/checkpoints", "trials/trial-0001")
PLACES += ("trials/trial-0000/checkpoints/task-0002", "trials/trial-0000/events", ".log.jsonl.x-1.partial")
PLACES_OF_RUN = ("log.jsonl", ".lock", ".stop", "ledger", "events", "checkpoints", "steps.partial.jsonl", ".extending")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, a study made of it, and an experiment."""
    room = tmp_path_factory.mktemp("made")
    study_of(finished_run(room / "run"), room / "study")
    assert main(["resume", str(room / "study")]) == 0
    (room / "mine.yaml").write_text(dump_config(small_config()))
    (room / "space.yaml").write_text(SPACE)
    return room


@pytest.fixture
def room(made: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of them, beside which lies what nobody may touch."""
    room = shutil.copytree(made, tmp_path / "room")
    shutil.copytree(made / "study", tmp_path / "outside" / "study")
    (tmp_path / "outside" / "precious").write_text("first line\nlast line, without an end")
    before = content_of(tmp_path / "outside")
    yield room
    assert content_of(tmp_path / "outside") == before


def content_of(directory: Path) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for path in sorted(directory.rglob("*")):
        is_file = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(directory))] = path.read_bytes() if is_file else str(path.is_symlink())
    return found


def lead_away(directory: Path, place: str) -> Path:
    """Put a link where something is, or could be; it leads to the like of it in another study."""
    path, outside = directory / place, directory.parent.parent / "outside"
    target = outside / "study" / place
    is_folder = target.is_dir() or place in ("ray", "final", "report", ".extending", "trials/trial-0001")
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target if target.exists() else outside if is_folder else outside / "precious")
    return path


def give(name: str, room: Path, directory: Path, arguments: tuple[str, ...]) -> int:
    words = [word.replace("DIR", str(directory)).replace("EXPERIMENT", str(room / "mine.yaml")) for word in arguments]
    return main([name, *words])


def test_every_command_is_known_here() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names == {*WRITES_STUDY, *WRITES_RUN, *READS, *ELSEWHERE}, "say here what the new command writes"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WRITES_STUDY)
def test_a_command_that_writes_into_a_study_in_which_is_a_link(
    room: Path, capsys: pytest.CaptureFixture[str], name: str, place: str
) -> None:
    if place == "experiment.yaml" and name == "sweep":
        pytest.skip("then it is a study all the same, and refused as one")
    link = lead_away(room / "study", place)
    before = content_of(room / "study")
    assert give(name, room, room / "study", WRITES_STUDY[name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {link}: is a link") and "put what it leads to in its place" in line
    assert content_of(room / "study") == before


@pytest.mark.parametrize("place", PLACES_OF_RUN)
@pytest.mark.parametrize("name", WRITES_RUN)
def test_a_command_that_writes_into_a_run_in_which_is_a_link(
    room: Path, capsys: pytest.CaptureFixture[str], name: str, place: str
) -> None:
    link = lead_away(room / "run", place)
    before = content_of(room / "run")
    assert give(name, room, room / "run", WRITES_RUN[name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {link}: is a link")
    assert content_of(room / "run") == before


@pytest.mark.parametrize("place", ["trials", "ledger", "study", "log.jsonl", "trials/trial-0000/checkpoints"])
@pytest.mark.parametrize("name", READS)
def test_a_command_that_only_reads_still_does(room: Path, name: str, place: str) -> None:
    lead_away(room / "study", place)
    before = content_of(room / "study")
    assert give(name, room, room / "study", READS[name]) == (2 if name == "importance" else 0)  # of a single trial
    assert content_of(room / "study") == before


def test_whatever_a_study_or_a_run_holds_is_refused_as_a_link(room: Path) -> None:
    for name in ("study", "run", "study/trials/trial-0000"):
        directory = room / name
        for path in sorted(directory.iterdir()):
            aside = path.rename(room / "aside")
            path.symlink_to(aside)
            with pytest.raises(StudyError, match="is a link"):
                require_no_links(directory)
            path.unlink()
            aside.rename(path)
        require_no_links(directory)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize("place", ["log.jsonl", "study/driver.json", "trials/trial-0000/log.jsonl", "ledger/x"])
def test_a_pipe_or_a_socket_where_something_is_written(
    room: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str, kind: str
) -> None:
    path = room / "study" / place
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        monkeypatch.chdir(path.parent)  # such a name may have 108 bytes
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    for command in ("resume", "finalize", "stop"):
        assert give(command, room, room / "study", ("DIR",)) == 2
        assert capsys.readouterr().err == f"error: {path}: is a {kind}, not a file; remove it\n"


@pytest.mark.parametrize(
    "place", ["log.jsonl", "study/driver.json", "trials/trial-0000/result.json", "experiment.yaml"]
)
def test_nobody_waits_for_a_pipe(room: Path, place: str) -> None:
    (room / "study" / place).unlink(missing_ok=True)
    os.mkfifo(room / "study" / place)

    def hangs(number: int, frame: FrameType | None) -> None:
        raise AssertionError("waits for a pipe")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(120)
    try:
        for name in ("status", "log", "show", "rank"):
            assert give(name, room, room / "study", READS[name]) in (0, 2)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("place", ["log.jsonl", ".lock", "study/journal.log", "trials/trial-0000/log.jsonl"])
def test_a_file_that_grows_in_its_place_and_has_another_name(
    room: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    path = room / "study" / place
    path.unlink(missing_ok=True)
    path.hardlink_to(room.parent / "outside" / "precious")
    assert give("resume", room, room / "study", ("DIR",)) == 2
    assert f"error: {path}: has another name elsewhere (a hard link)" in capsys.readouterr().err
    shutil.copy(path, room / "copy")
    os.replace(room / "copy", path)  # what the message says
    require_no_links(room / "study")


def test_checkpoints_that_share_files_are_no_matter(room: Path) -> None:
    (checkpoint,) = (room / "study" / "trials" / "trial-0000" / "checkpoints").glob("task-0002")
    (room / "twin").hardlink_to(checkpoint / "manifest.json")  # as `extend` and `forget` do
    require_no_links(room / "study")
    (room / "other").hardlink_to(room / "study" / "trials" / "trial-0000" / "log.jsonl")  # which grows in its place
    with pytest.raises(StudyError, match="has another name elsewhere"):
        require_no_links(room / "study")


def test_a_study_that_is_reached_through_a_link(room: Path) -> None:
    (room / "runs").symlink_to(room, target_is_directory=True)
    (room / "runs" / "mine").symlink_to(room / "study", target_is_directory=True)
    for command in ("resume", "report", "stop"):
        assert give(command, room, room / "runs" / "mine", ("DIR",)) == 0
    assert (room / "study" / "report" / "index.html").is_file()
    assert main(["run", str(room / "mine.yaml"), "--out", str(room / "runs" / "run")]) == 0


def test_a_link_that_is_in_nobodys_way(room: Path) -> None:
    (room / "study" / "notes.md").symlink_to(room.parent / "outside" / "precious")
    (room / "study" / "trials" / "trial-0000" / "plots").symlink_to(room.parent / "outside")
    assert give("resume", room, room / "study", ("DIR",)) == 0
    with pytest.raises(StudyError, match="is a link"):  # it may lead to samples
        require_no_links(room / "study", everywhere=True)


def test_the_lock_that_optuna_lays_beside_a_journal(room: Path) -> None:
    journal = room / "study" / "study" / "journal.log"
    journal.with_name("journal.log.lock").symlink_to(journal)
    assert give("resume", room, room / "study", ("DIR",)) == 0
    assert not journal.with_name("journal.log.lock").is_symlink()


def test_the_quota_removes_nothing_behind_a_link(room: Path) -> None:
    """One that was laid after the study was begun, so that the check at its beginning has not seen it."""
    config = with_values(load_experiment(room / "study" / "experiment.yaml"), {"study.disk_gigabytes": 1e-9})
    lead_away(room / "study", "trials/trial-0000/checkpoints")
    with pytest.raises(StudyError, match="must stay"):
        enforce_quota(room / "study", config)
    lead_away(room / "study", "trials/trial-0000")
    with pytest.raises(StudyError, match="must stay"):
        enforce_quota(room / "study", config)


def test_what_killed_processes_left_is_removed_and_not_what_it_leads_to(room: Path) -> None:
    outside = room.parent / "outside"
    gone = unfinished(room / "study" / "log.jsonl")
    left = gone.with_name(gone.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))  # no process has this number
    left.symlink_to(outside, target_is_directory=True)
    remove_remains(room / "study")
    assert not left.is_symlink() and outside.is_dir()
    (outside / "study" / ".writing-1").mkdir()
    (room / "checkpoints").symlink_to(outside / "study", target_is_directory=True)
    remove_rooms(room / "checkpoints")
    (outside / "study" / ".writing-1").rmdir()  # it is there


def test_a_link_in_the_directory_of_a_store(room: Path) -> None:
    config = small_config(training={"storage_path": str(room / "link-to-store"), "workers": 1})
    (room / "store").mkdir()
    (room / "link-to-store").symlink_to(room / "store")  # where the user wants it
    home = home_of(room / "run", config)
    assert home is not None
    home.write("owner", b"me")
    folder = Path(home.path)
    (folder / "checkpoints").symlink_to(room.parent / "outside", target_is_directory=True)
    with pytest.raises(StudyError, match=f"{folder}/checkpoints: is a link"):
        home_of(room / "run", config)
    home.remove("checkpoints")
    assert not (folder / "checkpoints").is_symlink()
    require_no_links_at(home)
    shutil.move(folder, room / "moved")
    folder.symlink_to(room / "moved", target_is_directory=True)
    with pytest.raises(StudyError, match=f"{folder}: is a link"):
        home_of(room / "run", config)
    Store.open(str(room / "store")).remove(folder.name)
    assert (room / "moved" / "owner").read_text() == "me" and not folder.is_symlink()


def test_a_link_in_what_studies_share(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (room / ".cache" / "stages").mkdir(parents=True)
    link = room / ".cache" / "stages" / "0123"
    link.symlink_to(room.parent / "outside", target_is_directory=True)
    assert give("resume", room, room / "study", ("DIR",)) == 2
    assert f"error: {link}: is a link" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("command", ["export", "report", "model"])
def test_where_an_export_is_to_go(room: Path, capsys: pytest.CaptureFixture[str], command: str, kind: str) -> None:
    target = room / "target"
    target.symlink_to(room.parent / "outside" / "precious") if kind == "link" else os.mkfifo(target)
    words = {"export": ("--table", "ranking", "--to"), "report": ("--out",), "model": ("--best", "--to")}[command]
    name = "export" if command == "model" else command
    assert main([name, str(room / "study"), *words, str(target)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {target}: is ")
    assert target.is_symlink() if kind == "link" else target.is_fifo()


def test_a_page_in_the_place_of_a_directory(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(room / "study"), "--out", str(room)]) == 2
    assert capsys.readouterr().err == f"error: {room}: cannot be written to (Is a directory); give another --out\n"


def test_a_name_that_is_written_to_cannot_be_guessed_nor_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    assert len({unfinished(path) for _ in range(20)}) == 20
    known = unfinished(path)
    monkeypatch.setattr("seekr_tune.atomic_files.unfinished", lambda path: known)
    (tmp_path / "precious").write_text("mine")
    known.symlink_to(tmp_path / "precious")
    with pytest.raises(FileExistsError):
        write_atomically(path, b"ours")
    assert (tmp_path / "precious").read_text() == "mine"


def test_what_is_being_written_can_be_read_by_nobody_else_if_it_must_not(tmp_path: Path) -> None:
    with replacing(tmp_path / "secret", mode=0o600) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_driver_whose_number_no_process_can_have(room: Path) -> None:
    driver = {"pid": 10**30, "host": socket.gethostname(), "since": "now", "slots": "many"}
    for values in (driver, driver | {"slots": None}, driver | {"pid": -1}):
        (room / "study" / "study" / "driver.json").write_text(json.dumps(values))
        assert give("status", room, room / "study", ("DIR",)) == 0


def test_a_path_that_passes_a_link_is_told(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert not leads_elsewhere(tmp_path / "a" / "b", tmp_path)
    assert leads_elsewhere(tmp_path / "link" / "b", tmp_path) and leads_elsewhere(tmp_path / "link", tmp_path)
    assert not leads_elsewhere(tmp_path / "link" / "b", tmp_path / "link")
