"""What is noted when a study begins."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.data.task import Example, digest_of_examples
from seekr_tune.errors import StudyError
from seekr_tune.experiment import parse_config, with_values
from seekr_tune.study.directory.layout import provenance_path
from seekr_tune.study.directory.provenance import read_provenance, write_provenance

CONFIG = parse_config({"stream": {"tasks": ["star", "last"], "limits": {"train": 12, "eval": 4}}}, "test")


def noted(directory: Path, config: Config = CONFIG) -> dict[str, dict[str, str]]:
    write_provenance(directory, config)
    found = read_provenance(directory)
    assert found is not None
    return {heading: dict(facts) for heading, facts in found.items()}


def test_versions_of_packages_are_the_installed_ones(tmp_path: Path) -> None:
    software = noted(tmp_path)["Software"]
    assert software["torch"] == metadata.version("torch") and software["optuna"] == metadata.version("optuna")


def test_every_split_that_is_tuned_on_has_its_rows_and_digest_and_test_stays_sealed(tmp_path: Path) -> None:
    data = noted(tmp_path)["Data"]
    assert list(data) == ["star, train", "star, eval", "last, train", "last, eval"]
    assert data["star, train"].startswith("12 rows, SHA-256 ")


def test_other_data_have_another_digest_and_the_same_data_the_same(tmp_path: Path) -> None:
    first = noted(tmp_path)["Data"]
    assert noted(tmp_path)["Data"] == first
    assert noted(tmp_path, with_values(CONFIG, {"seed": 1}))["Data"]["star, train"] != first["star, train"]


def test_the_digest_is_that_of_prompts_and_answers_in_order() -> None:
    examples = [Example("a", "b"), Example("ü", "")]
    assert digest_of_examples(examples) == hashlib.sha256('["a", "b"]\n["ü", ""]\n'.encode()).hexdigest()
    assert digest_of_examples(examples) != digest_of_examples(examples[::-1])
    assert digest_of_examples([Example("ab", "c")]) != digest_of_examples([Example("a", "bc")])


def test_files_of_the_model_have_their_digests(tmp_path: Path) -> None:
    weights = builtin_model_directory() / "model.safetensors"
    expected = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert noted(tmp_path)["Model"]["model.safetensors"] == f"{weights.stat().st_size} bytes, SHA-256 {expected}"


def test_a_study_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) is None


def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path) -> None:
    noted(tmp_path)
    provenance_path(tmp_path).write_text(json.dumps({"Software": "none"}))
    with pytest.raises(StudyError, match="is damaged; restore it"):
        read_provenance(tmp_path)


def test_special_tokens_are_noted(tmp_path: Path) -> None:
    assert noted(tmp_path)["Special tokens"] == {"before prompts": "[1]", "behind answers": "[2]"}
