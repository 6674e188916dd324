"""Names of runs in TensorBoard, and commands that open it."""

from __future__ import annotations

import json
import shlex
import threading
import urllib.request
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.data_ingester import _parse_event_files_spec
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

from seekr_tune.analysis.tensorboard import TrialWriter
from seekr_tune.errors import StudyError
from seekr_tune.study.life import tensorboard_server
from seekr_tune.study.life.tensorboard_server import event_directories, link, named, tensorboard_command
from tests.waiting import PATIENCE, wait_until


def study(directory: Path, *runs: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "experiment.yaml").touch()
    for run in runs:
        (directory / run / "events").mkdir(parents=True)
    return directory


def single(directory: Path) -> Path:
    (directory / "events").mkdir(parents=True)
    (directory / "config.yaml").touch()
    return directory


def test_runs_are_called_by_study_and_key(tmp_path: Path) -> None:
    one = study(tmp_path / "one", "trials/trial-0000", "trials/bound-seqft", "final/trials/trial-0000")
    (one / "trials" / "trial-0001").mkdir()  # has not begun to write yet
    found = event_directories(named([one, single(tmp_path / "run")]))
    assert found == {
        "one/bound-seqft": one / "trials/bound-seqft/events",
        "one/trial-0000": one / "trials/trial-0000/events",
        "one/final/trial-0000": one / "final/trials/trial-0000/events",
        "run": tmp_path / "run/events",
    }


def test_tensorboard_finds_the_runs_behind_the_links_and_later_ones_too(tmp_path: Path) -> None:
    one, links = study(tmp_path / "one", "trials/trial-0000"), tmp_path / "board"

    def names() -> set[str]:
        link(event_directories(named([one])), links)
        runs = EventMultiplexer().AddRunsFromDirectory(str(links))
        return set(runs.Runs())

    TrialWriter(one / "trials/trial-0000/events").close()
    assert names() == {"one/trial-0000"}
    TrialWriter(one / "trials/trial-0001/events").close()
    assert names() == {"one/trial-0000", "one/trial-0001"}


def test_studies_of_the_same_name_are_numbered_and_separators_are_replaced(tmp_path: Path) -> None:
    odd = study(tmp_path / "a" / "de:mo, 1")
    found = named([study(tmp_path / "a" / "demo"), study(tmp_path / "b" / "demo"), odd])
    assert list(found) == ["demo", "demo-2", "de_mo_ 1"]
    with pytest.raises(StudyError, match="is named twice"):
        named([odd, tmp_path / "a" / ".." / "a" / "de:mo, 1"])
    with pytest.raises(StudyError, match="holds no study and no run"):
        named([tmp_path])


def test_the_printed_command_means_the_same_to_tensorboard(tmp_path: Path) -> None:
    """Colons and blanks in a path are no trouble once it has a name."""
    places = [study(tmp_path / "with blank"), study(tmp_path / "co:lon"), single(tmp_path / "run")]
    command = shlex.split(tensorboard_command(named(places)))
    assert command[:2] == ["tensorboard", "--logdir_spec"]
    read = _parse_event_files_spec(command[2])
    assert {Path(path): name for path, name in read.items()} == {
        places[0] / "trials": "with blank",
        places[1] / "trials": "co_lon",
        places[2] / "events": "run",
    }


def test_a_comma_cannot_be_said_to_tensorboard_so_our_own_command_is_named(tmp_path: Path) -> None:
    places = [study(tmp_path / "a,b"), study(tmp_path / "c")]
    assert shlex.split(tensorboard_command(named(places))) == ["seekr-tune", "tensorboard", *map(str, places)]


def test_a_board_that_is_open_shows_runs_that_begin_and_ends_with_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that went on reading would find its directory gone, and say so in the log of whatever runs by then."""
    monkeypatch.setattr(tensorboard_server, "_RELOAD_SECONDS", 0.02)
    one, before = study(tmp_path / "one", "trials/trial-0000"), set(threading.enumerate())

    def names(url: str) -> set[str]:
        with urllib.request.urlopen(f"{url}data/runs", timeout=PATIENCE) as answer:
            return set(json.load(answer))

    TrialWriter(one / "trials/trial-0000/events").close()
    with tensorboard_server.open_board(named([one]), "127.0.0.1", 0) as url:
        wait_until(lambda: names(url) == {"one/trial-0000"}, "the first run is shown")
        TrialWriter(one / "trials/trial-0001/events").close()
        wait_until(lambda: names(url) == {"one/trial-0000", "one/trial-0001"}, "the second run is shown")
    left = {thread.name for thread in threading.enumerate() if thread not in before}
    assert not {name for name in left if "TensorBoard" in name}, left
    with pytest.raises(OSError):
        names(url)
