"""A finished study of version 0.2.0, with its final test runs: every later version shows, ranks and exports it.

Beside it lies what `rank --format json` of 0.2.0 said. A column that has been redefined since is listed here with the
right value; everything else must still be what it was.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.cli import main

HERE = Path(__file__).parent
REPLAYED = {"trial-0000": 4, "trial-0001": 10, "trial-0002": 12, "trial-0003": 6}
"""Samples that were replayed: those of the last task of three are stored, and were never shown."""

OP = {"trial-0000": 125 / 3, "trial-0001": 50.0, "trial-0002": 50.0, "trial-0003": 50.0}
REDEFINED: dict[str, dict[str, Any]] = {
    "distinct_replayed_samples": REPLAYED,
    "op_per_replayed_sample": {trial: op / REPLAYED[trial] for trial, op in OP.items()},
    "gain_per_replayed_sample": {trial: (op - 125 / 3) / REPLAYED[trial] for trial, op in OP.items()},
}
"""By column, its value in each row of the ranking."""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HERE / "study-0.2.0", tmp_path / "study"))


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["rank"],
        ["rank", "--tasks"],
        ["rank", "--format", "csv"],
        ["report"],
        ["samples"],
        ["log"],
        ["importance"],
        ["show", "trial-0001"],
        ["log", "trial-0001"],
    ],
    ids=" ".join,
)
def test_it_is_shown(study: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command[0], str(study), *command[1:]]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_it_is_compared_with_another(study: Path, tmp_path: Path) -> None:
    other = shutil.copytree(study, tmp_path / "other")
    assert main(["compare", str(study), str(other)]) == 0


def test_what_its_ranking_said_is_said_still(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", str(study), "--format", "json"]) == 0
    now = {row["trial"]: row for row in json.loads(capsys.readouterr().out)}
    then = json.loads((HERE / "study-0.2.0-rank.json").read_text(encoding="utf-8"))
    assert now.keys() == {row["trial"] for row in then}
    for row in then:
        for column in row.keys() - REDEFINED.keys():
            assert now[row["trial"]][column] == row[column], (row["trial"], column)


@pytest.mark.parametrize("column", REDEFINED)
def test_what_was_redefined_has_its_right_value(column: str, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", str(study), "--format", "json"]) == 0
    found = {row["trial"]: row[column] for row in json.loads(capsys.readouterr().out)}
    assert found == pytest.approx(REDEFINED[column])


@pytest.mark.parametrize("trial", ["trial-0001", "bound-joint"])
def test_its_models_are_exported(study: Path, trial: str, tmp_path: Path) -> None:
    assert main(["export", str(study), "--trial", trial, "--to", str(tmp_path / "model")]) == 0
    assert (tmp_path / "model" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("split", ["eval", "test"])
@pytest.mark.parametrize("table", ["ranking", "tasks"])
def test_its_tables_are_exported(study: Path, table: str, split: str, tmp_path: Path) -> None:
    to = tmp_path / "table.md"
    assert main(["export", str(study), "--table", table, "--split", split, "--to", str(to)]) == 0
    assert "trial-0003" in to.read_text(encoding="utf-8")
