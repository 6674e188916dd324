"""An objective, a tracker and a sampler of one's own in a run, and the commands that read it afterwards."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from seekr_tune.analysis.ledger import read_trials
from seekr_tune.cli import main
from seekr_tune.experiment import dump_config, load_experiment
from seekr_tune.study.directory.layout import experiment_path
from seekr_tune.study.runs.single import run_experiment

from ..security.small import small_config, study_of

JSONL = Path(__file__).parents[2] / "examples" / "plugins" / "jsonl" / "jsonl.py"
MINE = """
from optuna.samplers import RandomSampler
from seekr_tune.records import score_matrix
def worst_task(record):
    return score_matrix(record, "eval")[record.tasks_done - 1][: record.tasks_done].min()
def mine(search):
    return RandomSampler(seed=search.seed)
"""


def test_what_the_run_found_is_read_and_not_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    armed, marker = tmp_path / "armed", tmp_path / "imported"
    trap = f"from pathlib import Path\nif Path({str(armed)!r}).exists():\n    Path({str(marker)!r}).touch()\n"
    (tmp_path / "mine.py").write_text(trap + MINE)
    (tmp_path / "jsonl.py").write_text(trap + JSONL.read_text().replace("from __future__ import annotations", ""))
    (tmp_path / "own.yaml").write_text(dump_config(small_config()))
    overrides = [
        "study.objectives={./mine.py:worst_task: maximize}",
        "study.sampler=./mine.py:mine",
        "training.trackers=[./jsonl.py:JsonLines]",
    ]
    config = load_experiment(tmp_path / "own.yaml", overrides)
    record = run_experiment(config, tmp_path / "run")
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
    for command in (["rank", "--by", "worst_task"], ["status"], ["report"], ["show", "trial-0000"]):
        assert (command, main([command[0], str(study), *command[1:]])) == (command, 0), capsys.readouterr().err
    assert not marker.exists()
