"""Code of one's own at every seam of one run, and the commands that read it afterwards."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from seekr_tune.analysis.ledger import read_trials
from seekr_tune.cli import main
from seekr_tune.config.plugins import SEAMS, imports
from seekr_tune.experiment import dump_config, load_experiment
from seekr_tune.study.directory.layout import experiment_path
from seekr_tune.study.runs.single import run_experiment

from ..security.small import small_config, study_of

JSONL = Path(__file__).parents[2] / "examples" / "plugins" / "jsonl" / "jsonl.py"
MINE = """
from optuna.pruners import MedianPruner
from optuna.samplers import RandomSampler
from torch.optim import SGD as Steps
from seekr_tune.methods import Method as Mine
from seekr_tune.records import score_matrix
def worst_task(record):
    return score_matrix(record, "eval")[record.tasks_done - 1][: record.tasks_done].min()
def drawn(search):
    return RandomSampler(seed=search.seed)
def pruned(**options):
    return MedianPruner()
def half(prediction, answer):
    return 0.5
def same(model):
    return model
class Rows:
    def __init__(self, root, seed):
        pass
    def splits(self, task):
        return ["train", "eval"]
    def rows(self, task, split):
        return [{"prompt": f"{task} {split} {number}", "answer": "lamp"} for number in range(6)]
"""
NAMED = {
    "method.name": "[replay, ./mine.py:Mine]",
    "stream.source": "./mine.py:Rows",
    "stream.metrics": "{star: ./mine.py:half}",
    "model.converter": "./mine.py:same",
    "recipe.optimizer": "./mine.py:Steps",
    "study.sampler": "./mine.py:drawn",
    "study.pruning.rule": "./mine.py:pruned",
    "study.objectives": "{./mine.py:worst_task: maximize}",
    "training.trackers": "[./jsonl.py:JsonLines]",
}


def test_every_seam_is_named_here() -> None:
    assert NAMED.keys() == SEAMS.keys()


def test_what_a_run_found_is_read_without_the_code_that_found_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    armed, marker = tmp_path / "armed", tmp_path / "imported"
    trap = f"from pathlib import Path\nif Path({str(armed)!r}).exists():\n    Path({str(marker)!r}).touch()\n"
    (tmp_path / "mine.py").write_text(trap + MINE)
    (tmp_path / "jsonl.py").write_text(trap + JSONL.read_text().replace("from __future__ import annotations", ""))
    (tmp_path / "own.yaml").write_text(dump_config(small_config()))
    config = load_experiment(tmp_path / "own.yaml", [f"{field}={value}" for field, value in NAMED.items()])
    assert len(imports(config.model_dump())) == len(NAMED)
    record = run_experiment(config, tmp_path / "run")
    assert {cell.score for cell in record.scores if cell.evaluated == "star"} == {50.0}
    values = record.objectives["worst_task"]
    assert len(values) == record.tasks_done and values[-1] is not None
    assert read_trials(tmp_path / "run").column("worst_task").to_pylist() == [values[-1]]
    lines = [json.loads(line) for line in (tmp_path / "run" / "curves.jsonl").read_text().splitlines()]
    assert [line["tasks_done"] for line in lines if "tasks_done" in line] == list(range(1, record.tasks_done + 1))
    assert lines[-1]["status"] == "finished" and not (tmp_path / "run" / "events").exists()

    study = study_of(tmp_path / "run", tmp_path / "study")
    experiment_path(study).write_text(dump_config(config))
    armed.touch()
    for name in [name for name in sys.modules if name.startswith("_seekr_tune_plugins.")]:
        monkeypatch.delitem(sys.modules, name)
    of_study = (["rank", "--by", "worst_task"], ["status"], ["report"], ["show", "trial-0000"])
    commands = [[command, str(study), *rest] for command, *rest in of_study]
    for line in (*commands, ["log", str(tmp_path / "run")], ["ls"]):
        assert (line, main(line)) == (line, 0), capsys.readouterr().err
    assert not marker.exists()
    overrides = ["recipe.optimizer=./mine.py:Steps", "study.space=null"]
    assert main(["validate", str(tmp_path / "own.yaml"), "--set", *overrides]) == 0
    assert marker.exists()  # else nothing could have been noticed
