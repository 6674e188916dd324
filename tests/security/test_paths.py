"""Names that come from data, settings or a study's files lead nowhere but where they should."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from seekr_tune.checkpoint.directories import MANIFEST, read_json
from seekr_tune.checkpoint.forget_in_checkpoint import erase, stage_checkpoints
from seekr_tune.cli import main
from seekr_tune.data.sources import load_stream
from seekr_tune.errors import CheckpointError, ConfigError, DataError, StudyError
from seekr_tune.records import read_record, write_record
from seekr_tune.study.directory.records import read_all_records
from seekr_tune.study.directory.test_split_log import openings
from seekr_tune.study.runs.storage import forget, known_home

from .small import finished_run, small_config, study_of

KIND = "path that leads elsewhere"
ROWS = [{"prompt": f"note : star is {i} ?", "answer": "star"} for i in range(3)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A study, beside which lies what nobody may touch."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    yield study_of(finished, tmp_path / "study")
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert (outside / "precious").read_text() == "mine"


def write_task(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split in ("train", "eval"):
        (folder / f"{split}.json").write_text(json.dumps([{**row, "prompt": row["prompt"] + split} for row in ROWS]))


OUTSIDE = ["../outside", "/etc", "good/../../outside", "..", ".", "", "good/", "./good", "linked", "~", "C:\\x"]


@pytest.mark.parametrize("task", [*OUTSIDE, "good\0", "a\nb"])
def test_a_task_name(tmp_path: Path, task: str) -> None:
    write_task(tmp_path / "outside")
    write_task(tmp_path / "data" / "good")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "outside")
    with pytest.raises((DataError, ConfigError)):
        load_stream(
            small_config(stream={"source": "trace_json", "root": str(tmp_path / "data"), "tasks": [task]}), ("train",)
        )


def test_a_file_of_a_task_that_is_a_link(tmp_path: Path) -> None:
    write_task(tmp_path / "data" / "good")
    (tmp_path / "secret.json").write_text(json.dumps(ROWS))
    (tmp_path / "data" / "good" / "train.json").unlink()
    (tmp_path / "data" / "good" / "train.json").symlink_to(tmp_path / "secret.json")
    config = small_config(stream={"source": "trace_json", "root": str(tmp_path / "data"), "tasks": ["good"]})
    with pytest.raises(DataError, match=r"a link out of stream\.root"):
        load_stream(config, ("train",))


@pytest.mark.parametrize("name", ["../outside", "/tmp/x", "a/b", "..", "", "-rf", "a\0b", "~root"])
def test_a_name_of_an_experiment(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        small_config(name=name)


@pytest.mark.parametrize("key", ["../../outside", "/etc", "..", "final/../../outside"])
@pytest.mark.parametrize("command", ["show", "revive", "export"])
def test_a_key_of_a_trial(study: Path, tmp_path: Path, command: str, key: str) -> None:
    more = ["--trial", key, "--to", str(tmp_path / "model")] if command == "export" else [key]
    assert main([command, str(study), *more]) == 2
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("folder", ["../outside", "/etc", "..", "", "a/../../outside"])
def test_a_folder_at_a_store(study: Path, tmp_path: Path, folder: str) -> None:
    (study / "storage.json").write_text(json.dumps({"storage_path": str(tmp_path / "store"), "folder": folder}))
    for use in (forget, known_home):
        with pytest.raises(StudyError, match=r"storage\.json: is damaged"):
            use(study)


def test_a_folder_of_final_runs(study: Path) -> None:
    (study / "study").mkdir()
    opening = {"when": "2026-01-01T00:00:00", "code_version": "0", "rule": "", "configurations": [], "orders": []}
    opening |= {"seeds": [], "memory_draws": [], "folder": "../outside", "again": False, "finished": True}
    (study / "study" / "openings.json").write_text(json.dumps([opening]))
    with pytest.raises(StudyError, match=r"openings\.json"):
        openings(study)


def test_a_record_that_names_another_trial(study: Path) -> None:
    path = study / "trials" / "trial-0000" / "result.json"
    write_record(path, read_record(path).model_copy(update={"trial": "../../outside"}))
    records, damaged = read_all_records(study)
    assert not records and "is the record of '../../outside'" in damaged["trial-0000"]


def test_a_manifest_that_names_other_files(study: Path, tmp_path: Path) -> None:
    (path, *_) = stage_checkpoints(study / "trials" / "trial-0000" / "checkpoints")
    manifest = read_json(path / MANIFEST)
    manifest["files"]["../../../../../outside/precious"] = {"bytes": 4, "sha256": ""}
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="names files of other directories"):
        erase(path, {0})


@pytest.mark.parametrize("place", ["trials/trial-0000/checkpoints/task-0002", "ray", "trials/trial-0000/checkpoints"])
def test_a_link_in_a_study_whose_samples_are_erased(study: Path, tmp_path: Path, place: str) -> None:
    path = study / place
    if path.exists():
        shutil.rmtree(path)
    path.symlink_to(tmp_path / "outside", target_is_directory=True)
    assert main(["forget", str(study), "--sample", "star:1"]) == 2  # the fixture looks at what is outside


@pytest.mark.parametrize("sample", ["../outside:1", "/etc/passwd:1", "star/../../outside:0"])
def test_a_sample_to_forget(study: Path, sample: str) -> None:
    assert main(["forget", str(study), "--sample", sample]) == 2
