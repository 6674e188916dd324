"""A study that an earlier version began: what it shows and goes on with, and what is refused with a hint.

`schema-2` was begun by the version before teacher signals had a compact form: two trials and a bound of the built-in
stream with adapters, killed while its second trial had one task left. Its records and its ledger are of the present
schema, its checkpoints are not, and its experiment lacks the fields that came since.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seekr_tune.cli import main
from seekr_tune.errors import StudyError
from seekr_tune.records import read_record
from seekr_tune.study.directory.log import read_log
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.runs.extend import extend_run

HERE = Path(__file__).parent


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HERE / "schema-2", tmp_path / "study"))


@pytest.mark.parametrize("command", ["status", "rank", "report", "samples"])
def test_it_is_shown(study: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(study)]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_its_trials_are_shown(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(study), "trial-0001"]) == 0
    assert "running, 2 of 3 tasks" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.slow
def test_it_is_resumed_and_what_was_finished_stays(
    study: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = (study / "trials" / "trial-0000" / "result.json").read_bytes()
    assert main(["resume", str(study)]) == 0
    assert [record.status for record in read_records(study)] == ["finished"] * 3
    assert (study / "trials" / "trial-0000" / "result.json").read_bytes() == before
    log = "\n".join(map(str, read_log(study / "trials" / "trial-0001")))
    assert "task-0002: has schema version 2" in log and "the run begins anew" in log


@pytest.mark.ray
def test_it_is_resumed_with_more_trials(study: Path) -> None:
    shutil.rmtree(study / "trials" / "trial-0001")
    assert main(["resume", str(study), "--trials", "3"]) == 0
    assert [record.status for record in read_records(study)] == ["finished"] * 4


def test_a_checkpoint_of_another_version_is_no_model_to_export(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(study), "--best", "--to", str(tmp_path / "model")]) == 2
    assert "has no intact checkpoint task-0003" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_run_whose_checkpoint_is_of_another_version_is_not_learned_anew_by_an_update(study: Path) -> None:
    run = study / "trials" / "trial-0000"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(StudyError, match="no checkpoint that this version can go on from; use the version that saved"):
        extend_run(run, "runnerup")
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before


def test_samples_leave_an_earlier_study_too(study: Path) -> None:
    assert main(["forget", str(study), "--sample", "star:2"]) == 0
    assert "version 2" not in json.dumps([record.error for record in read_records(study)])


def older(path: Path) -> None:
    path.write_text(path.read_text().replace('"schema_version":2', '"schema_version":1'))


def test_a_record_of_an_older_schema_is_refused_with_a_hint(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study / "trials" / "trial-0000" / "result.json"
    older(path)
    with pytest.raises(StudyError, match="schema version 1, but this package reads versions 2 and 3; use the package"):
        read_record(path)
    assert main(["status", str(study)]) == 0
    assert "trial-0000  damaged" in capsys.readouterr().out


def test_a_ledger_of_an_older_schema_is_refused_in_one_line_with_a_hint(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study / "ledger" / "trials.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"seekr_tune.schema_version": b"1"}), path)
    for command in ("rank", "report"):
        assert main([command, str(study)]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1 and "has schema version 1" in errors[0] and "resume the study" in errors[0]
