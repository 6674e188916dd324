"""What is noted when a study begins."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import parse_config, with_values
from seekr_tune.stream.builtin import builtin_model_directory
from seekr_tune.stream.task import Example
from seekr_tune.study.directory.layout import provenance_path
from seekr_tune.study.directory.provenance import (
    accepted_changes,
    change_lines,
    digest_of_examples,
    digest_of_file,
    read_provenance,
    require_same_special_tokens,
    require_unchanged,
    write_provenance,
)

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


def test_special_tokens_are_noted_and_a_study_is_not_mixed_of_others(tmp_path: Path) -> None:
    assert noted(tmp_path)["Special tokens"] == {"before prompts": "[1]", "behind answers": "[2]"}
    require_same_special_tokens(tmp_path, CONFIG)
    path = provenance_path(tmp_path)
    path.write_text(path.read_text().replace('"[1]"', '"[]"'))
    with pytest.raises(StudyError, match=r"special tokens \[\] before prompts and \[2\] .* go on with \[1\]"):
        require_same_special_tokens(tmp_path, CONFIG)
    path.write_text(path.read_text().replace('"[]"', '"[1"'))
    with pytest.raises(StudyError, match="is damaged"):
        require_same_special_tokens(tmp_path, CONFIG)


def test_a_study_of_an_earlier_version_goes_on_where_its_tokens_are_the_same(tmp_path: Path) -> None:
    require_same_special_tokens(tmp_path, CONFIG)
@pytest.fixture
def own(tmp_path: Path) -> Config:
    """An experiment whose data and model are files that can be changed."""
    for task in ("first", "second"):
        folder = tmp_path / "data" / task
        folder.mkdir(parents=True)
        for split in ("train", "eval"):
            rows = [{"prompt": f"{task} {split} {number}", "answer": str(number)} for number in range(4)]
            (folder / f"{split}.json").write_text(json.dumps(rows))
    shutil.copytree(builtin_model_directory(), tmp_path / "model")
    stream = {"source": "trace_json", "root": str(tmp_path / "data"), "tasks": ["first", "second"]}
    return parse_config({"stream": stream, "model": {"path": str(tmp_path / "model")}}, "test")


def answer_otherwise(path: Path) -> None:
    rows = json.loads(path.read_text())
    rows[0]["answer"] = "otherwise"
    path.write_text(json.dumps(rows))


def flip_weight(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_what_did_not_change_is_not_refused(own: Config, tmp_path: Path) -> None:
    write_provenance(tmp_path / "study", own)
    assert require_unchanged(tmp_path / "study", own) == 0


def test_changed_data_and_weights_are_refused_by_name_in_one_line(own: Config, tmp_path: Path) -> None:
    write_provenance(tmp_path / "study", own)
    answer_otherwise(tmp_path / "data" / "second" / "eval.json")
    flip_weight(tmp_path / "model" / "model.safetensors")
    with pytest.raises(StudyError, match=r"data second, eval, model model.safetensors changed since") as refused:
        require_unchanged(tmp_path / "study", own)
    assert "--accept-change" in str(refused.value) and "\n" not in str(refused.value)


def test_an_accepted_change_is_noted_with_both_digests_and_is_no_change_any_more(own: Config, tmp_path: Path) -> None:
    study, data = tmp_path / "study", tmp_path / "data" / "first" / "train.json"
    write_provenance(study, own)
    before = (read_provenance(study) or {})["Data"]["first, train"]
    answer_otherwise(data)
    assert require_unchanged(study, own, accept=True) == 1
    noted = read_provenance(study)
    assert noted is not None and noted["Data"]["first, train"] != before
    ((name, text),) = noted["Changes"].items()
    assert name.endswith(" data first, train") and text == f"{before} -> {noted['Data']['first, train']}"
    assert require_unchanged(study, own) == accepted_changes(noted) == 1
    (line,) = change_lines(study)
    assert "data first, train; runs with accepted_changes below 1" in line
    flip_weight(tmp_path / "model" / "model.safetensors")
    assert require_unchanged(study, own, accept=True) == 2


def test_texts_beside_a_model_change_nothing_and_new_weights_do(own: Config, tmp_path: Path) -> None:
    write_provenance(tmp_path / "study", own)
    (tmp_path / "model" / "README.md").write_text("about it")
    assert require_unchanged(tmp_path / "study", own) == 0
    (tmp_path / "model" / "model-2.safetensors").write_bytes(b"more")
    with pytest.raises(StudyError, match="model model-2.safetensors changed"):
        require_unchanged(tmp_path / "study", own)


def test_rows_that_were_erased_are_no_change(own: Config, tmp_path: Path) -> None:
    write_provenance(tmp_path / "study", own)
    path = tmp_path / "data" / "first" / "train.json"
    rows = json.loads(path.read_text())
    rest = digest_of_examples([Example(row["prompt"], row["answer"]) for row in rows[1:]])
    erased = with_values(own, {"stream.erased": {"first": {"rows": [0], "size": 4, "rest": rest}}})
    assert require_unchanged(tmp_path / "study", erased) == 0
    path.write_text(json.dumps(rows[1:]))
    assert require_unchanged(tmp_path / "study", erased) == 0


def test_without_digests_it_is_said_and_goes_on(own: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert require_unchanged(tmp_path / "study", own) == 0
    assert "nobody can see whether they changed" in caplog.text


def test_a_digest_is_kept_for_the_same_untouched_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seekr_tune.study.directory.provenance._KEPT", 1)
    cache, path = tmp_path / "cache", tmp_path / "weights"
    path.write_bytes(b"one")
    first, stat = digest_of_file(cache, path), path.stat()
    (kept,) = (cache / "digests").iterdir()
    kept.write_text("0" * 64)
    assert digest_of_file(cache, path) == "0" * 64  # it is not read again
    other = tmp_path / "other"
    other.write_bytes(b"two")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)  # of the same size and time
    assert digest_of_file(cache, path) == hashlib.sha256(b"two").hexdigest() != first
    path.write_bytes(b"six")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the same inode as well
    assert digest_of_file(cache, path) == hashlib.sha256(b"six").hexdigest()
