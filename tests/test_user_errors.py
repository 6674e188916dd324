"""Mistakes of users at the command line: one line that says what and where, exit code 2, no traceback."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import BloomConfig, BloomForCausalLM

from seekr_tune.cli import main
from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.experiment import dump_config, load_experiment, with_values
from seekr_tune.study.search.queue import open_study
from seekr_tune.study.search.space import load_space

ROOT = Path(__file__).parent.parent
DEMO = str(ROOT / "experiments" / "demo.yaml")
ROW = {"prompt": "say a", "answer": "a"}

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Run a command line that must be refused; returns the line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> str:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        lines = err.splitlines()
        assert code == 2, f"exit code {code}\n{out}\n{err}"
        assert len(lines) == 1 and lines[0].startswith("error: "), err
        assert "Traceback" not in out + err
        return lines[0]

    return run


def write_task(folder: Path, **splits: Any) -> Path:
    """A task folder; each split is a list of rows, or bytes that are written as they are."""
    folder.mkdir(parents=True)
    for split, rows in {"train": [ROW], "eval": [{"prompt": "say b", "answer": "b"}], **splits}.items():
        (folder / f"{split}.json").write_bytes(rows if isinstance(rows, bytes) else json.dumps(rows).encode())
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """An experiment on the folder `data` beside it, with one task `words`, learned by the built-in model."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"name: mine\nstream: {{source: trace_json, root: {tmp_path}/data, tasks: [words]}}\n"
        "recipe: {max_prompt_tokens: 16, max_answer_tokens: 4}\n"
        "study: {space: space.yaml}\n"
    )
    (tmp_path / "space.yaml").write_text("method.memory.percent: {type: float, low: 1, high: 5}\n")
    return path


# --- the command line and the experiment file ---------------------------------------------------------------------


def test_an_unknown_command(refused: Refused) -> None:
    assert "No such command 'swep'" in refused("swep", DEMO)


def test_a_missing_argument(refused: Refused) -> None:
    assert "seekr-tune sweep --help" in refused("sweep")


def test_an_experiment_that_does_not_exist(refused: Refused) -> None:
    assert "experiments/nothing.yaml: no such file" in refused("run", "experiments/nothing.yaml")


def test_an_experiment_that_is_a_directory(refused: Refused, tmp_path: Path) -> None:
    assert "is a folder, not a file; give a YAML file" in refused("run", tmp_path)


def test_an_experiment_that_is_binary(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    assert "binary.yaml" in refused("validate", "binary.yaml")


def test_an_unknown_field(refused: Refused) -> None:
    message = refused("run", DEMO, "--set", "method.replay_percnt=3")
    assert "unknown field 'method.replay_percnt'; did you mean 'method.memory.percent'?" in message


def test_a_ratio_out_of_range(refused: Refused) -> None:
    assert "method.seekr.layer_ratio=1.5 is refused" in refused("sweep", DEMO, "--set", "method.seekr.layer_ratio=1.5")


def test_an_override_without_a_value(refused: Refused) -> None:
    assert "--set seed: must read path=value" in refused("run", DEMO, "--set", "seed")


def test_a_metric_that_does_not_exist(refused: Refused) -> None:
    assert "stream.metrics.star" in refused("run", DEMO, "--set", "stream.metrics.star=accuracy")


def test_no_trials(refused: Refused) -> None:
    assert "--trials" in refused("sweep", DEMO, "--trials", "0")


def test_data_and_model_that_are_still_to_be_given(refused: Refused) -> None:
    message = refused("sweep", ROOT / "experiments" / "superni.yaml")
    assert "--set stream.root=DATA model.path=MODEL" in message


# --- the search space ---------------------------------------------------------------------------------------------


def test_no_search_space(refused: Refused) -> None:
    assert "study.space is null" in refused("sweep", DEMO, "--set", "study.space=null")


def test_a_search_space_that_does_not_exist(refused: Refused) -> None:
    assert "study.space names 'spaces/none.yaml'" in refused("sweep", DEMO, "--set", "study.space=spaces/none.yaml")


def test_a_search_space_with_an_unknown_key(refused: Refused, mine: Path) -> None:
    (mine.parent / "space.yaml").write_text("method.replay_percentage: {type: float, low: 1, high: 5}\n")
    assert "space.yaml: unknown field 'method.replay_percentage'" in refused("sweep", mine)


def test_a_search_space_that_leaves_the_range_of_its_field(refused: Refused, mine: Path) -> None:
    (mine.parent / "space.yaml").write_text("method.seekr.layer_ratio: {type: float, low: 0.5, high: 2.0}\n")
    assert "method.seekr.layer_ratio=2.0 is refused" in refused("sweep", mine)


def test_an_objective_that_is_no_column(refused: Refused) -> None:
    assert "'opp'" in refused("validate", DEMO, "--set", "study.objectives={opp: maximize}")


# --- data ---------------------------------------------------------------------------------------------------------


def test_a_data_root_that_does_not_exist(refused: Refused, mine: Path) -> None:
    assert "is not a directory" in refused("validate", mine)


def test_a_misspelt_task(refused: Refused, mine: Path) -> None:
    write_task(mine.parent / "data" / "words")
    assert "did you mean 'words'?" in refused("run", mine, "--set", "stream.tasks=[wrods]")


def test_a_misspelt_built_in_task(refused: Refused) -> None:
    assert "did you mean 'star'?" in refused("run", DEMO, "--set", "stream.tasks=[stra]", "stream.metrics={}")


def test_a_task_outside_the_root(refused: Refused, mine: Path) -> None:
    write_task(mine.parent / "data" / "words")
    write_task(mine.parent / "secret")
    assert "leads outside stream.root" in refused("validate", mine, "--set", "stream.tasks=[../secret]")


def test_an_empty_split(refused: Refused, mine: Path) -> None:
    write_task(mine.parent / "data" / "words", train=[])
    assert "split 'train' of task 'words' has no rows" in refused("run", mine)


def test_a_missing_split(refused: Refused, mine: Path) -> None:
    (write_task(mine.parent / "data" / "words") / "eval.json").unlink()
    assert "eval.json: no such file" in refused("run", mine)


def test_a_missing_answer_field(refused: Refused, mine: Path) -> None:
    write_task(mine.parent / "data" / "words", train=[ROW, {"prompt": "say c", "output": "c"}])
    assert "row 2: no field 'answer' (fields: prompt, output)" in refused("run", mine)


def test_an_empty_answer(refused: Refused, mine: Path) -> None:
    write_task(mine.parent / "data" / "words", train=[{"prompt": "say c", "answer": " "}])
    assert "row 1: the answer is empty" in refused("run", mine)


def test_binary_garbage_as_json(refused: Refused, mine: Path) -> None:
    write_task(mine.parent / "data" / "words", train=b"\x89PNG\r\n\x1a\n\x00\xff")
    assert "train.json: byte 0 is not UTF-8" in refused("run", mine)


def test_json_that_is_cut_off(refused: Refused, mine: Path) -> None:
    write_task(mine.parent / "data" / "words", train=b'[{"prompt": "a", "ans')
    assert "train.json: not valid JSON" in refused("run", mine)


def test_eval_prompts_inside_train(refused: Refused, mine: Path) -> None:
    write_task(mine.parent / "data" / "words", eval=[ROW])
    assert "train" in refused("run", mine)


def test_test_prompts_inside_train(refused: Refused, mine: Path) -> None:
    write_task(mine.parent / "data" / "words", test=[ROW])
    assert "test" in refused("validate", mine)
    assert "test" in refused("run", mine, "--set", "evaluation.splits=[eval, test]")


def test_a_metric_for_a_misspelt_task(refused: Refused) -> None:
    message = refused("validate", DEMO, "--set", "stream.metrics={parn: exact_match}")
    assert "no task 'parn'; did you mean 'paren'?" in message


# --- the model ----------------------------------------------------------------------------------------------------


def test_a_model_directory_that_does_not_exist(refused: Refused) -> None:
    assert "model.path=./nothing: no such directory" in refused("run", DEMO, "--set", "model.path=./nothing")


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_hub_name_that_cannot_be_had_is_refused_before_anything_is_written(
    refused: Refused, tmp_path: Path, command: str
) -> None:
    line = refused(command, DEMO, "--set", "model.path=nobody/nothing", "--out", "mine")
    assert "model.path=nobody/nothing" in line
    assert not (tmp_path / "mine").exists()


def test_a_directory_without_a_model(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "model.path=./empty" in refused("validate", DEMO, "--set", "model.path=./empty")


def test_a_budget_above_the_heads_of_the_model(refused: Refused) -> None:
    assert "method.seekr.head_budget=99 exceeds the 12 heads" in refused(
        "sweep", DEMO, "--set", "method.seekr.head_budget=99"
    )


def test_prompts_longer_than_the_model_can_read(refused: Refused) -> None:
    message = refused("run", DEMO, "--set", "recipe.max_prompt_tokens=100000")
    assert "recipe.max_prompt_tokens" in message and "positions" in message


def test_a_model_that_the_tap_cannot_serve(
    refused: Refused, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = BloomConfig(vocab_size=160, hidden_size=16, n_layer=2, n_head=2)
    BloomForCausalLM(config).save_pretrained(tmp_path / "bloom")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bloom" / file).write_bytes((builtin_model_directory() / file).read_bytes())
    capsys.readouterr()
    message = refused("run", DEMO, "--set", "model.path=./bloom", "method.seekr.head_budget=1")
    assert "the attention tap cannot serve model type 'bloom'" in message


# --- directories --------------------------------------------------------------------------------------------------


def test_an_output_directory_that_is_a_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    assert "taken: cannot be written to" in refused("run", DEMO, "--out", "taken")
    assert "taken" in refused("sweep", DEMO, "--out", "taken/below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_directory_without_permission(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "closed/mine: cannot be written to" in refused("sweep", DEMO, "--out", "closed/mine")


def test_an_output_directory_that_refuses_to_be_made(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert "cannot be written to (Permission denied)" in refused("sweep", DEMO, "--out", "closed/mine")


@pytest.mark.parametrize("command", ["resume", "status", "rank"])
def test_a_directory_that_does_not_exist(refused: Refused, command: str) -> None:
    assert "runs/none" in refused(command, "runs/none")


@pytest.mark.parametrize("command", ["resume", "status", "rank"])
def test_a_directory_that_is_not_a_study(refused: Refused, tmp_path: Path, command: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert "other" in refused(command, "other")


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The directory of a study that was begun and killed before its first trial."""
    directory = tmp_path / "begun"
    config = with_values(load_experiment(Path(DEMO)), {"study.space": "space.yaml"})
    space = load_space(ROOT / "search_spaces" / "seekr.yaml")
    open_study(directory, config, space)
    (directory / "space.yaml").write_text(space.dump())
    (directory / "experiment.yaml").write_text(dump_config(config))
    return directory


@pytest.mark.parametrize("command", ["sweep", "run"])
def test_a_directory_that_holds_a_study(refused: Refused, begun: Path, command: str) -> None:
    assert f"seekr-tune resume {begun}" in refused(command, DEMO, "--out", begun)


def test_a_directory_that_holds_a_run(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "config.yaml").write_text(dump_config(load_experiment(Path(DEMO))))
    assert "holds a single run" in refused("sweep", DEMO, "--out", "single")


def test_a_study_directory_of_another_experiment(refused: Refused, begun: Path) -> None:
    other = with_values(load_experiment(begun / "experiment.yaml"), {"recipe.learning_rate": 0.1})
    (begun / "experiment.yaml").write_text(dump_config(other))
    assert "recipe.learning_rate changed since the study was started" in refused("resume", begun)


def test_a_study_without_results(refused: Refused, begun: Path) -> None:
    assert "no results yet" in refused("rank", begun)


def test_a_study_whose_experiment_is_damaged(refused: Refused, begun: Path) -> None:
    (begun / "experiment.yaml").write_bytes(b"stream: [")
    assert "experiment.yaml: not valid YAML" in refused("resume", begun)


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "is read-only"), (errno.EACCES, "may not read or write")],
)
def test_a_disk_that_refuses_what_a_command_writes(
    refused: Refused, begun: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def fail(directory: Path) -> None:
        raise OSError(number, os.strerror(number), str(directory / "page.html"))

    monkeypatch.setattr("seekr_tune.study.directory.report_source.report_source", fail)
    line = refused("report", begun)
    assert says in line and f"{begun / 'page.html'}: " in line and ("again" in line or "allow it" in line)
