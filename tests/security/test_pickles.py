"""Nothing foreign is unpickled: bytes that would run code lie where a study looks, and nothing happens."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seekr_tune.analysis.ledger import read_trials
from seekr_tune.cli import main
from seekr_tune.config import ModelConfig
from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.errors import ModelError, SeekrTuneError, StudyError
from seekr_tune.models.loading import load_model
from seekr_tune.study.runs.extend import extend_run

from .small import bomb, finished_run, study_of, vouch_for

KIND = "foreign pickle"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    return study_of(finished, tmp_path / "study")


def test_the_bomb_would_go_off(marker: Path) -> None:
    pickle.loads(bomb(marker))
    assert marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_weights_of_a_model(tmp_path: Path, marker: Path, name: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_model_directory(), model)
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(bomb(marker))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(ModelConfig(path=str(model)))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.safetensors"])
def test_weights_of_an_adapter(tmp_path: Path, marker: Path, name: str) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(builtin_model_directory()), "r": 2}
    settings |= {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM", "lora_alpha": 4}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    (adapter / name).write_bytes(bomb(marker))
    for file in builtin_model_directory().glob("tokenizer*"):
        shutil.copy(file, adapter)
    with pytest.raises(ModelError, match="holds an adapter, not a model"):
        load_model(ModelConfig(path=str(adapter)))
    assert not marker.exists()


FILES = ["weights-00-of-01.safetensors", "memory-00-of-01.safetensors", "samples.safetensors", "heads.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_checkpoint_for_which_the_manifest_vouches(run: Path, marker: Path, name: str) -> None:
    for checkpoint in (run / "checkpoints").glob("task-*"):
        (checkpoint / name).write_bytes(bomb(marker))
        vouch_for(checkpoint)
    with pytest.raises(SeekrTuneError, match="does not hold tensors"):
        extend_run(run, "paren")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["weights-00-of-01.safetensors", "state.json", "manifest.json"])
def test_a_file_of_a_checkpoint_that_has_another_checksum(run: Path, marker: Path, name: str) -> None:
    newest = max((run / "checkpoints").glob("task-*"))
    (newest / name).write_bytes(bomb(marker))
    extended = extend_run(run, "paren")
    assert extended.accepted and not marker.exists(), "the checkpoint before is used"


def test_a_shared_first_stage(tmp_path: Path, marker: Path) -> None:
    from seekr_tune.study.runs.request import TrialRequest
    from seekr_tune.study.runs.trial import run_trial

    from .small import small_config

    cache = tmp_path / "cache"
    run_trial(small_config(), tmp_path / "first", TrialRequest("first", "run"), cache=cache)
    stages = list(cache.glob("stages/*/checkpoints/task-*"))
    assert stages, "else the test would show nothing"
    for stage in stages:
        for file in stage.glob("*.safetensors"):
            file.write_bytes(bomb(marker))
        vouch_for(stage)
    record = run_trial(small_config(), tmp_path / "second", TrialRequest("second", "run"), cache=cache)
    assert record.status == "finished" and not marker.exists(), "the run does without"


def test_a_table_of_the_ledger(study: Path, marker: Path) -> None:
    (study / "ledger" / "trials.parquet").write_bytes(bomb(marker))
    with pytest.raises(StudyError, match=r"trials\.parquet: is damaged"):
        read_trials(study)
    assert not marker.exists()


def test_a_parquet_type_that_is_a_pickle(study: Path, marker: Path) -> None:
    path = study / "ledger" / "trials.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("trial")
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": bomb(marker),
    }
    table = table.cast(table.schema.set(place, pa.field("trial", pa.string(), metadata=extension)))
    pq.write_table(table, path)
    read_trials(study)
    assert not marker.exists()


@pytest.mark.parametrize("command", ["status", "rank", "report", "resume"])
def test_files_of_ray_in_a_study(study: Path, marker: Path, command: str) -> None:
    for name in ("tuner.pkl", "trainable.pkl", "searcher-state-0.pkl", "experiment_state-0.json", "trial_runner.pkl"):
        for folder in (study / "ray", study / "ray" / "study", study):
            folder.mkdir(exist_ok=True, parents=True)
            (folder / name).write_bytes(bomb(marker))
    assert main([command, str(study)]) == 0
    assert not marker.exists()


@pytest.mark.parametrize("name", ["experiment.yaml", "space.yaml", "trials/trial-0000/config.yaml"])
@pytest.mark.parametrize("text", ["!!python/object/apply:os.mkdir [MARKER]", "!!python/name:os.system"])
def test_yaml_of_a_study_that_names_code(study: Path, marker: Path, name: str, text: str) -> None:
    (study / name).write_text(f"name: {text.replace('MARKER', str(marker))}\n")
    assert main(["samples" if name.startswith("trials") else "resume", str(study)]) == 2
    assert not marker.exists()


def test_the_journal_and_the_records_of_a_study(study: Path, marker: Path) -> None:
    (study / "study").mkdir()
    for path in (study / "study" / "journal.log", study / "study" / "given.json", study / "erased.json"):
        path.write_bytes(bomb(marker))
        assert main(["status", str(study)]) in (0, 2)
        assert main(["resume", str(study)]) in (0, 2)
        path.unlink(missing_ok=True)
    assert not marker.exists()
