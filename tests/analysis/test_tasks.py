"""Scores by task: final ones and what they changed, over replicates in other orders."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic import NAN, TASKS, RecordFactory

from seekr_tune.analysis.ledger import read_table, read_trials, write_ledger
from seekr_tune.analysis.ranking import rank
from seekr_tune.analysis.table import as_csv, as_terminal
from seekr_tune.analysis.tasks import TaskRow, TaskScore, task_rows, task_table, task_values
from seekr_tune.records import TrialRecord, score_cells

FIRST, TURNED = TASKS, TASKS[::-1]


@pytest.fixture
def rows(tmp_path: Path, make_record: RecordFactory) -> tuple[TaskRow, ...]:
    """`a` has two orders; in the first, flags, rivers, birds end at 60, 70, 95 and were learned at 90, 80, 95."""
    study = {"replicates": {"orders": [list(FIRST), list(TURNED)]}}
    other = [[50.0, NAN, NAN], [NAN, 60.0, NAN], [40.0, 50.0, 80.0]]  # of birds, rivers, flags

    def run(replicate: int, tasks: tuple[str, ...], matrix: list[list[float]] | None) -> TrialRecord:
        cells = {} if matrix is None else {"scores": score_cells(tasks, {"eval": np.array(matrix)}, {})}
        config = make_record.config(study=study)
        key = f"a-r{replicate}" if replicate else "a"
        return make_record(key, configuration="a", replicate=replicate, tasks=tasks, config=config, **cells)

    records = [run(0, FIRST, None), run(1, TURNED, other), make_record("bound-seqft", role="bound", method="seqft")]
    partial = make_record("b", matrix=[[NAN, NAN, NAN], [NAN, 80.0, NAN], [60.0, 70.0, 95.0]])
    write_ledger(tmp_path, [*records, partial], {})
    trials = read_trials(tmp_path)
    return task_rows(rank(trials, "op"), trials, read_table(tmp_path, "scores"))


def test_scores_are_means_over_orders_by_the_name_of_the_task(rows: tuple[TaskRow, ...]) -> None:
    by_key = {one.row["trial"]: one.scores for one in rows}
    assert [one.row["trial"] for one in rows][0] == "bound-seqft"
    assert by_key["a"] == {
        "flags": TaskScore((60 + 80) / 2, (-30 + 0) / 2),
        "rivers": TaskScore((70 + 50) / 2, (-10 - 10) / 2),
        "birds": TaskScore((95 + 40) / 2, (0 - 10) / 2),
    }


def test_the_mean_of_the_final_scores_is_op_and_of_the_changes_bwt(rows: tuple[TaskRow, ...]) -> None:
    for one in rows:
        finals = [score.final for score in one.scores.values()]
        changes = [score.change for score in one.scores.values()]
        assert np.mean(finals) == pytest.approx(one.row["op"])  # type: ignore[arg-type]
        if None not in changes:
            assert sum(changes) / (len(TASKS) - 1) == pytest.approx(one.row["bwt"])  # type: ignore[arg-type]


def test_what_was_not_scored_has_no_change(rows: tuple[TaskRow, ...]) -> None:
    scores = next(one.scores for one in rows if one.row["trial"] == "b")
    assert scores["flags"] == TaskScore(60.0, None) and scores["rivers"] == TaskScore(70.0, -10.0)


def test_the_tables_show_the_same(rows: tuple[TaskRow, ...]) -> None:
    console = Console(width=120, file=io.StringIO(), color_system=None)
    console.print(as_terminal(task_table(rows, "op")))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "70.00 -15.00" in text and "67.50 -5.00" in text and "flags" in text
    first = next(one for one in json.loads(json.dumps(task_values(rows))) if one["trial"] == "a")
    assert first["tasks"]["rivers"] == {"final": 60.0, "change": -10.0} and first["replicates"] == 2
    line = next(one for one in csv.DictReader(io.StringIO(as_csv([task_table(rows, "op")]))) if one["trial"] == "b")
    assert (line["flags"], line["flags_change"], line["rivers_change"]) == ("60.0", "", "-10.0")
