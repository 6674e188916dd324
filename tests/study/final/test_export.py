"""Models and tables that leave a study: loaded by plain transformers and PEFT they are what the run ended with."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from seekr_tune.analysis.ledger import write_ledger
from seekr_tune.checkpoint.keeper import CheckpointKeeper
from seekr_tune.cli import main
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import dump_config, load_experiment, parse_config, with_values
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models.loading import load_model
from seekr_tune.records import read_record, write_record
from seekr_tune.study.directory.layout import experiment_path, trial_path
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.directory.test_split_log import Finalist, Opening, write_openings
from seekr_tune.study.final.export import Export, export_model
from seekr_tune.study.final.model_card import CardSource, model_card
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.trial import run_trial
from tests.loop.tiny import saved_model

TASKS = ["star", "last"]
FIRST = "first in tuning, and no better than another: no task was learned"


def experiment(model: Path, **values: Any) -> Config:
    settings = {
        "name": "tiny",
        "stream": {"tasks": TASKS, "limits": {"train": 16, "eval": 8, "test": 8}},
        "model": {"path": str(model)},
        "recipe": {"learning_rate": 5e-3, "batch_size": 8, "max_prompt_tokens": 40, "max_answer_tokens": 4},
        "method": {"replay_percent": 20, "head_budget": 0.25, "query_budget": 8, "attention_weight": 10},
        "evaluation": {"matrix": "diagonal_and_last"},
        "study": {"trials": 2, "bounds": ["seqft"], "replicates": {"seeds": [0, 1]}},
    }
    return with_values(parse_config(settings, "test"), values)


def run(directory: Path, config: Config, key: str, role: Any, params: dict[str, Any], replicate: int = 0) -> None:
    number = int(key[-1]) if role == "trial" else None
    name = f"{key}-r{replicate}" if replicate else key
    request = TrialRequest(name, role, params, number, key, replicate, {"seed": replicate})
    run_trial(request.config(config), trial_path(directory, name), request)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two configurations in two seeds and a bound, really trained; the second configuration is made the better one."""
    root = tmp_path_factory.mktemp("export")
    model = saved_model(root / "model")
    GenerationConfig(max_new_tokens=7).save_pretrained(model)  # type: ignore[no-untyped-call]
    config = experiment(model)
    directory = root / "study"
    directory.mkdir()
    experiment_path(directory).write_text(dump_config(config))
    for replicate in (0, 1):
        run(directory, config, "bound-seqft", "bound", {"method.name": "seqft"}, replicate)
        for number, percent in enumerate((10.0, 20.0)):
            run(directory, config, f"trial-000{number}", "trial", {"method.memory.percent": percent}, replicate)
    raise_scores(directory, "trial-0001", 2.5)
    write_ledger(directory, read_records(directory), {})
    return directory


def raise_scores(directory: Path, configuration: str, points: float) -> None:
    for path in (directory / "trials").glob(f"{configuration}*/result.json"):
        record = read_record(path)
        cells = tuple(cell.model_copy(update={"score": cell.score + points}) for cell in record.scores)
        write_record(path, record.model_copy(update={"scores": cells}))


@pytest.fixture
def study(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def finalized(study: Path) -> Path:
    """`test` was opened for the worse configuration in tuning's eyes, too; the final runs are of another seed."""
    config = load_experiment(experiment_path(study))
    final = study / "final"
    for number in (0, 1):
        values = {"evaluation.splits": ["test"], "seed": 9}
        params = {"method.memory.percent": 10.0 + 10 * number}
        run(final, with_values(config, values), f"trial-000{number}", "trial", params)
    raise_scores(final, "trial-0000", 40.0)  # a winner on test must not win
    write_ledger(final, read_records(final), {})
    finalists = [
        Finalist(configuration=f"trial-000{number}", params={"method.memory.percent": 1.0}, tuned={"op": 10.0 + number})
        for number in (0, 1)
    ]
    opening = Opening(
        when="2026-01-31T00:00:00+00:00",
        code_version="0",
        rule="best 2 by op",
        configurations=tuple(finalists),
        orders=(tuple(TASKS),),
        seeds=(9,),
        memory_draws=(0,),
        folder="final",
        again=False,
        finished=True,
    )
    write_openings(study, [opening])
    return study


def restored(run: Path) -> Any:
    """The model as a run that goes on would find it."""
    loaded = load_model(load_experiment(run / "config.yaml").model)
    keeper = CheckpointKeeper(run / "checkpoints", SingleProcess(), kept=2)
    assert keeper.restore_stage(loaded.trainable()) is not None
    keeper.close()
    return loaded.model


def logits(model: Any) -> Tensor:
    ids = torch.arange(1, 13).reshape(2, 6)
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits  # type: ignore[no-any-return]


def front_matter(path: Path) -> dict[str, Any]:
    _, head, _ = (path / "README.md").read_text().split("---\n", 2)
    return dict(yaml.safe_load(head))


def test_plain_transformers_loads_the_best_model_and_gives_its_logits_bit_for_bit(study: Path, tmp_path: Path) -> None:
    made = export_model(study, tmp_path / "out")
    assert made == Export("trial-0001", FIRST, "task-0002", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(model), logits(restored(trial_path(study, "trial-0001"))))
    assert not torch.equal(logits(model), logits(restored(trial_path(study, "trial-0000"))))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").generation_config.max_new_tokens == 7
    ours, base = (
        AutoTokenizer.from_pretrained(path)
        for path in (tmp_path / "out", load_experiment(experiment_path(study)).model.path)
    )
    assert ours("w1 first")["input_ids"] == base("w1 first")["input_ids"]


def test_what_is_exported_is_readable_by_all_and_holds_no_pickle(study: Path, tmp_path: Path) -> None:
    export_model(study, tmp_path / "out")
    files = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "experiment.yaml"} <= files.keys()
    assert {path.suffix for path in files.values()} <= {".json", ".safetensors", ".md", ".yaml", ".jinja"}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in files.values())
    assert load_experiment(files["experiment.yaml"]) == load_experiment(trial_path(study, "trial-0001") / "config.yaml")


def test_peft_loads_an_adapter_and_gives_its_logits_bit_for_bit(built: Path, tmp_path: Path) -> None:
    config = experiment(built.parent / "model", **{"model.lora": {"rank": 2, "alpha": 4}})
    request = TrialRequest("run", "run")
    run_trial(request.config(config), tmp_path / "run", request)
    made = export_model(tmp_path / "run", tmp_path / "out")
    assert made.why == "a single run"
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "out" / "model.safetensors").exists()
    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(model), logits(restored(tmp_path / "run")))
    assert front_matter(tmp_path / "out")["library_name"] == "peft"


def test_the_card_says_what_the_model_scores_and_where_it_is_from(study: Path, tmp_path: Path) -> None:
    export_model(study, tmp_path / "out")
    record = read_record(trial_path(study, "trial-0001") / "result.json")
    last = {cell.evaluated: cell.score for cell in record.scores if cell.trained_index == 1}
    head = front_matter(tmp_path / "out")
    assert "model-index" not in head  # nothing was learned here
    config = load_experiment(tmp_path / "out" / "experiment.yaml")
    unknown = record.model_copy(update={"prospects": ()})
    parts = ("study", "trial-0001", "best in tuning", "tuned on eval; test sealed", (), "task-0002")
    (tmp_path / "out" / "unknown").mkdir()
    (tmp_path / "out" / "unknown" / "README.md").write_text(model_card(CardSource(*parts, config, unknown, ())))
    results = front_matter(tmp_path / "out" / "unknown")["model-index"][0]["results"]
    assert {one["dataset"]["name"]: one["metrics"][0]["value"] for one in results} == last
    assert {one["dataset"]["split"] for one in results} == {"eval"} and "base_model" not in head
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| last | {last['star']:.2f} | {last['last']:.2f} |" in card
    for told in (
        *(f"run: `trial-0001` of `study` ({FIRST}); checkpoint `task-0002`", "tuned on eval; test sealed"),
        *("| method.memory.percent | 20.0 | chosen by the search |", "seed 0, memory draw 0", "one of 2 runs"),
        *("order of the tasks: star, last", f"torch {torch.__version__}", "chose its settings by scores on `eval`"),
    ):
        assert told in card
    export_model(study, tmp_path / "bound", trial="bound-seqft")
    card = (tmp_path / "bound" / "README.md").read_text()
    assert "method.memory.percent" not in card and "chose its settings" not in card


def test_a_finalized_study_gives_the_final_run_of_what_was_best_in_tuning(finalized: Path, tmp_path: Path) -> None:
    made = export_model(finalized, tmp_path / "out")
    assert (made.run, made.why) == ("final/trial-0001", f"{FIRST}; the run that test was opened for")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "scores on test in percent" in card and "test opened 2026-01-31 (1 time)" in card
    assert export_model(finalized, tmp_path / "named", trial="final/trial-0000").run == "final/trial-0000"
    assert export_model(finalized, tmp_path / "tuned", trial="trial-0001-r1").run == "trial-0001-r1"


def remove_checkpoints(study: Path) -> None:
    shutil.rmtree(trial_path(study, "trial-0001") / "checkpoints")


def damage_checkpoint(study: Path) -> None:
    weights = next((trial_path(study, "trial-0001") / "checkpoints" / "task-0002").glob("weights-*"))
    weights.write_bytes(b"")


def interrupt(study: Path) -> None:
    path = trial_path(study, "trial-0001") / "result.json"
    write_record(path, read_record(path).model_copy(update={"status": "running"}))


@pytest.mark.parametrize(
    ("change", "trial", "message"),
    [
        (remove_checkpoints, "trial-0001", r"checkpoints were removed \(study.disk_gigabytes\)"),
        (damage_checkpoint, "trial-0001", "no intact checkpoint task-0002"),
        (interrupt, "trial-0001", "is running, not finished"),
        (None, "trial-0009", "no run 'trial-0009'; it has bound-seqft to trial-0001-r1"),
        (None, "final/trial-0001", "no run 'trial-0001'; it has none"),
    ],
)
def test_what_has_no_model_is_refused_in_one_line(
    study: Path, tmp_path: Path, change: Callable[[Path], None] | None, trial: str, message: str
) -> None:
    if change is not None:
        change(study)
    with pytest.raises(StudyError, match=message):
        export_model(study, tmp_path / "out", trial=trial)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_a_study_without_a_complete_configuration_has_no_best_one(study: Path, tmp_path: Path) -> None:
    for key in ("trial-0000", "trial-0001"):
        shutil.rmtree(trial_path(study, f"{key}-r1"))
    with pytest.raises(StudyError, match="no configuration has finished all of its runs yet; name one with --trial"):
        export_model(study, tmp_path / "out")


def test_a_place_that_is_taken_is_refused_and_an_empty_one_is_filled(study: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(StudyError, match="is there already; give a directory that does not exist"):
        export_model(study, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    export_model(study, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_a_killed_export_leaves_nothing_that_looks_finished(study: Path, tmp_path: Path) -> None:
    """The process kills itself when weights and tokenizer are written and the card is not."""
    code = f"""
        import os, signal
        from seekr_tune.study.final import export
        export.model_card = lambda source: os.kill(os.getpid(), signal.SIGKILL)
        export.export_model({str(study)!r}, {str(tmp_path / "out")!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (left,) = tmp_path.glob(".out.*.partial")
    assert (left / "model.safetensors").is_file()
    export_model(study, tmp_path / "out")  # and it does not stand in the way
    assert (tmp_path / "out" / "README.md").is_file()
    assert not left.exists()


def test_the_command_writes_tables_and_models(
    finalized: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(finalized), "--table", "tasks", "--format", "csv", "--to", str(tmp_path / "t.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [(row["method"], row["configuration"], row["n"]) for row in rows] == [
        *[("seqft", "bound-seqft", "2"), ("seekr", "trial-0001", "2")]
    ]
    assert main(["export", str(finalized), "--table", "tasks", "--split", "test", "--format", "json"]) == 0
    (table,) = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert [row["configuration"] for row in table["rows"]] == ["trial-0000", "trial-0001"]
    assert main(["export", str(finalized), "--table", "matrix", "--trial", "trial-0000", "--format", "latex"]) == 0
    assert "trial-0000 (seekr): scores on eval in percent, 2 runs" in capsys.readouterr().out
    assert main(["export", str(finalized), "--table", "ranking", "--by", "op"]) == 0
    assert "**study: configurations ranked by op, on eval**" in capsys.readouterr().out
    assert main(["export", str(finalized), "--best", "--to", str(tmp_path / "model")]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "model") and f"final/trial-0001 ({FIRST}" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what: --table ranking|matrix|tasks, --best, or --trial KEY"),
        (["--best"], "give a new directory with --to PATH"),
        (["--best", "--trial", "trial-0000", "--to", "x"], "one model at a time"),
        (["--table", "tasks", "--best"], "give one of them"),
        (["--table", "tasks", "--split", "test"], "has no scores on test"),
        (["--table", "matrix", "--trial", "trial-0009"], "no finished run of 'trial-0009' was scored on eval"),
        (["--table", "ranking", "--by", "nothing"], "no column 'nothing'"),
        (["--table", "ranking", "--to", "/dev/null/x"], "cannot be written to"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(
    built: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(built), *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
