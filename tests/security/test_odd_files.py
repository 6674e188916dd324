"""Whatever stands where a file of a study belongs, a command ends with a result or with one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from seekr_tune.cli import main

from .small import finished_run, study_of

KIND = "odd file inside a study"
READS = {"rank": (), "status": (), "log": (), "show": ("trial-0000",), "report": ()}
DOCUMENTS = ("study/driver.json", "provenance.json", "openings.json", "erased.json", "trials/trial-0000/result.json")
LINES = ("log.jsonl", "study/journal.log", "trials/trial-0000/log.jsonl")
OTHERS = ("ledger/trials.parquet", "experiment.yaml", "space.yaml", "trials/trial-0000/config.yaml")
PLACES = {
    "pipe": (*DOCUMENTS, *LINES, *OTHERS),
    "folder": (DOCUMENTS[0], DOCUMENTS[-1], LINES[0], OTHERS[0], OTHERS[1]),
    "nest": (*DOCUMENTS, LINES[0]),
    "no number": DOCUMENTS,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with its ledger."""
    room = tmp_path_factory.mktemp("made")
    study_of(finished_run(room / "run"), room / "study")
    assert main(["resume", str(room / "study")]) == 0
    return room / "study"


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Iterator[Path]:
    yield shutil.copytree(made, tmp_path / "study")


def stand(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "nest":
        path.write_text("[" * 100_000)
    else:
        path.write_text('{"pid": 1e400, "host": 1e400, "schema_version": 1e400, "a": NaN}\n')


@pytest.mark.parametrize("kind", PLACES)
def test_no_command_that_reads_waits_or_falls(study: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    for place in PLACES[kind]:
        aside = study.parent / "aside"
        was_there = (study / place).exists()
        if was_there:
            shutil.copy2(study / place, aside)
        stand(study / place, kind)
        for command, more in READS.items():
            code = main([command, str(study), *more])
            err = capsys.readouterr().err
            assert code in (0, 2) and "Traceback" not in err, f"{command} with {place}: {err}"
            assert code == 0 or sum(line.startswith("error: ") for line in err.splitlines()) == 1
        shutil.rmtree(study / place) if kind == "folder" else (study / place).unlink()
        if was_there:
            shutil.copy2(aside, study / place)


def test_a_ledger_that_was_removed_comes_back_as_the_message_says(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rank", str(study)]) == 0
    before = capsys.readouterr().out
    shutil.rmtree(study / "ledger")
    assert main(["rank", str(study)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not a study" not in line
    assert f"`seekr-tune resume {study}` writes the ledger again" in line
    assert main(["resume", str(study)]) == 0
    capsys.readouterr()
    assert main(["rank", str(study)]) == 0
    assert capsys.readouterr().out == before


def test_a_directory_that_is_none_is_not_called_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "absent", tmp_path / "file"):
        assert main(["rank", str(path)]) == 2
        assert f"there is no directory {path}; name the one that" in capsys.readouterr().err


def test_a_working_directory_that_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["ls"]) == 2
    assert capsys.readouterr().err == (
        "error: the working directory was removed or replaced; change into one that is there (`cd`)\n"
    )


def test_a_study_that_lost_its_experiment_is_not_called_none(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "experiment.yaml").unlink()
    for command in ("status", "finalize", "stop", "report", "resume"):
        assert main([command, str(study)]) == 2
        said = f"{study / 'experiment.yaml'}: is missing, but runs of a study are there; restore it from a copy"
        assert said in capsys.readouterr().err
