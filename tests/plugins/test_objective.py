"""An objective of one's own: asked by the run, a column of the ledger, and never asked again by what only reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seekr_tune.analysis.ledger import read_trials, trials_table, write_ledger
from seekr_tune.analysis.ranking import rank
from seekr_tune.config import Config
from seekr_tune.config.plugins import with_plugins
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import parse_config
from seekr_tune.records import TrialRecord, read_record, write_record
from seekr_tune.study.runs.objectives import own_objectives, prefix, with_objectives
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.fidelity import at_position
from seekr_tune.study.search.objectives import objective_values, require_objectives
from tests.study.searching import pretend

WORST = """
from seekr_tune.records import score_matrix
def worst_task(record):
    return score_matrix(record, "eval")[record.tasks_done - 1].min()
def op(record):
    return 1.0
def broken(record):
    return record.no_such_field
nothing = 3
"""


def config_of(beside: Path, name: str = "worst_task", direction: str = "maximize") -> Config:
    (beside / "mine.py").write_text(WORST)
    values = {
        "name": "own",
        "stream": {"tasks": ["star", "last", "paren"]},
        "study": {"bounds": [], "objectives": {f"./mine.py:{name}": direction}},
    }
    return parse_config(with_plugins(values, beside, "own"), "own")


def run_of(directory: Path, config: Config, number: int, first: float) -> TrialRecord:
    request = TrialRequest(f"trial-000{number}", "trial", {}, number, f"trial-000{number}")
    return with_objectives(pretend(directory, config, request, lambda run, done: first - done), own_objectives(config))


def test_the_value_of_a_run_is_in_its_record_for_every_position(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert config.study.objectives == {"worst_task": "maximize"}
    record = run_of(tmp_path, config, 0, 50.0)
    assert record.objectives == {"worst_task": (49.0, 48.0, 47.0)}
    write_record(tmp_path / "result.json", record)
    assert read_record(tmp_path / "result.json") == record
    assert objective_values(record, config.study.objectives) == [47.0]
    assert prefix(record, 2).objectives == {"worst_task": (49.0, 48.0)}
    assert at_position([record], config.study.objectives) == {(0, 1): (49.0,), (0, 2): (48.0,), (0, 3): (47.0,)}


@pytest.mark.parametrize(("direction", "best"), [("maximize", "trial-0001"), ("minimize", "trial-0000")])
def test_it_is_a_column_that_ranks_in_its_direction(tmp_path: Path, direction: str, best: str) -> None:
    config = config_of(tmp_path, direction=direction)
    records = [run_of(tmp_path, config, number, 50.0 + number) for number in range(2)]
    write_ledger(tmp_path, records, {})
    assert read_trials(tmp_path).column("worst_task").to_pylist() == [47.0, 48.0]
    ranking = rank(trials_table(records), "worst_task")
    assert (ranking.rows[0]["trial"], ranking.rows[0]["worst_task"]) == (best, 48.0 if best[-1] == "1" else 47.0)


def test_a_run_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    request = TrialRequest("trial-0000", "trial", {}, 0, "trial-0000")
    pretend(tmp_path, config, request, lambda run, done: 1.0)
    record = read_record(tmp_path / "trials" / "trial-0000" / "result.json")
    assert record.objectives == {} and '"objectives":{}' not in record.to_json()
    assert objective_values(record, config.study.objectives) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("op", "op is a column of the ledger already; rename the function"),
        ("nothing", "is no function"),
        ("missing", "has no missing"),
    ],
)
def test_what_is_no_objective_is_refused_in_one_line(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        require_objectives(config_of(tmp_path, name))


def test_one_that_raises_is_said_in_one_line(tmp_path: Path) -> None:
    config: Any = config_of(tmp_path, "broken")
    with pytest.raises(ConfigError, match="objective broken fails after 1 tasks of trial-0000: AttributeError") as said:
        run_of(tmp_path, config, 0, 50.0)
    assert "\n" not in str(said.value)
