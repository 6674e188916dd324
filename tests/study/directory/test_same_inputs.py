"""Whether somebody goes on with what was begun, or with something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.data.collate import Encoder
from seekr_tune.data.special_tokens import SpecialTokens
from seekr_tune.data.task import Example, digest_of_examples
from seekr_tune.errors import StudyError
from seekr_tune.experiment import parse_config, with_values
from seekr_tune.study.directory.layout import provenance_path
from seekr_tune.study.directory.provenance import read_provenance, write_provenance
from seekr_tune.study.directory.same_inputs import (
    accepted_changes,
    change_lines,
    require_same_special_tokens,
    require_unchanged,
)
from seekr_tune.study.runs.single import run_experiment

CONFIG = parse_config({"stream": {"tasks": ["star", "last"], "limits": {"train": 12, "eval": 4}}}, "test")


def test_a_study_is_not_mixed_of_runs_with_other_special_tokens(tmp_path: Path) -> None:
    write_provenance(tmp_path, CONFIG)
    require_same_special_tokens(tmp_path, CONFIG)
    path = provenance_path(tmp_path)
    path.write_text(path.read_text().replace('"[1]"', '"[]"'))
    with pytest.raises(StudyError, match=r"special tokens \[\] before prompts and \[2\] .* go on with \[1\]"):
        require_same_special_tokens(tmp_path, CONFIG)
    path.write_text(path.read_text().replace('"[]"', '"[1"'))
    with pytest.raises(StudyError, match="is damaged"):
        require_same_special_tokens(tmp_path, CONFIG)


def test_a_study_of_an_earlier_version_goes_on_where_its_tokens_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notes none: earlier versions put the model's own before prompts and its end behind answers."""
    require_same_special_tokens(tmp_path, CONFIG)
    monkeypatch.setattr(Encoder, "earlier_special_tokens", lambda self, prompts: SpecialTokens((9,), (2,)))
    with pytest.raises(StudyError, match=r"special tokens \[9\] before prompts .* go on with \[1\]"):
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


def test_a_finished_run_is_not_shown_as_if_it_were_of_what_is_there_now(own: Config, tmp_path: Path) -> None:
    own = with_values(own, {"recipe.max_prompt_tokens": 24, "recipe.max_answer_tokens": 4, "evaluation.splits": ()})
    run_experiment(own, tmp_path / "run")
    answer_otherwise(tmp_path / "data" / "first" / "train.json")
    with pytest.raises(StudyError, match="data first, train changed since it was begun"):
        run_experiment(own, tmp_path / "run")
    assert run_experiment(own, tmp_path / "run", accept_change=True).status == "finished"
