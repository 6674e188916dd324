"""Score matrices and final scores over replicates, against numbers worked out by hand and by `statistics`."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from synthetic import FULL, NAN, TASKS, RecordFactory

from seekr_tune.analysis.configurations import mean
from seekr_tune.analysis.ledger import read_table, read_trials, trials_table, write_ledger
from seekr_tune.analysis.ranking import rank
from seekr_tune.analysis.ranking_tables import printed_ranking
from seekr_tune.analysis.score_tables import RunScores, matrix_tables, run_scores, scores_of, task_table
from seekr_tune.analysis.table import Estimate
from seekr_tune.records import TrialRecord, score_cells

OTHER = [[80.0, 22.0, 10.0], [60.0, 84.0, 15.0], [50.0, 74.0, 89.0]]
ORDER = ("birds", "flags", "rivers")


def replicates(make_record: RecordFactory) -> list[TrialRecord]:
    """Two seeds in one order, a third run in another order, and a bound."""
    common = {"configuration": "trial-0001", "params": {"method.memory.percent": 3.0}}
    return [
        make_record("trial-0001", **common),
        make_record("trial-0001-r1", **common, replicate=1, matrix=OTHER),
        moved(make_record("trial-0001-r2", **common, replicate=2)),
        make_record("bound-seqft", role="bound", method="seqft", configuration="bound-seqft", replay=()),
        make_record("trial-0002", configuration="trial-0002", status="running"),
    ]


def moved(record: TrialRecord) -> TrialRecord:
    """The same numbers in another order of the tasks."""
    return record.model_copy(update={"tasks": ORDER, "scores": score_cells(ORDER, {"eval": np.array(FULL)}, {})})


@pytest.fixture
def runs(make_record: RecordFactory, tmp_path: Path) -> tuple[RunScores, ...]:
    write_ledger(tmp_path, replicates(make_record), {})
    return run_scores(read_trials(tmp_path), read_table(tmp_path, "scores"), "eval")


def estimate(*values: float) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def numbers(one: Estimate) -> tuple[float | None, float | None]:
    return one.mean, one.error


def test_the_ledger_gives_the_scores_of_the_records(runs: tuple[RunScores, ...], make_record: RecordFactory) -> None:
    finished = [record for record in replicates(make_record) if record.status == "finished"]
    assert len(runs) == len(finished) == 4
    for run, record in zip(runs, finished, strict=True):
        expected = scores_of(record, "eval")
        assert (run.configuration, run.role, run.method, run.order) == (
            *(expected.configuration, expected.role, expected.method, expected.order),
        )
        assert str(run.scores) == str(expected.scores) and str(run.initial) == str(expected.initial)


def test_there_is_a_matrix_for_each_order_and_its_cells_are_means_over_the_runs(runs: tuple[RunScores, ...]) -> None:
    one, other = matrix_tables(runs, "trial-0001", "s", "eval")
    assert [(json.loads(t.rows[0]["order"]), t.rows[0]["n"]) for t in (one, other)] == [([*TASKS], 2), ([*ORDER], 1)]
    assert [row["trained"] for row in one.rows] == ["(before training)", *TASKS]
    assert [row["trained"] for row in other.rows] == [*ORDER]
    first = one.rows[0]
    assert [first[f"score/{task}"] for task in TASKS] == [Estimate(10.0, 0.0), Estimate(20.0, 0.0), Estimate(5.0, 0.0)]
    assert first["op"] == Estimate(None, None)
    second = one.rows[2]
    assert numbers(second["score/flags"]) == pytest.approx(estimate(70, 60))
    # After two tasks: OP is the mean of the first two cells, BWT what happened to the first one.
    assert numbers(second["op"]) == pytest.approx(estimate((70 + 80) / 2, (60 + 84) / 2))
    assert numbers(second["bwt"]) == pytest.approx(estimate(70 - 90, 60 - 80))
    assert other.rows[2]["bwt"] == Estimate(-20.0, None)


def test_final_scores_follow_the_tasks_through_all_orders(runs: tuple[RunScores, ...]) -> None:
    table = task_table(runs, ["trial-0001", "bound-seqft", "trial-0002"], TASKS, "s", "eval")
    bound, row = table.rows
    assert (table.num_references, bound["n"], row["n"]) == (1, 1, 3)
    # The third run learned birds, flags, rivers: its last row, 60 70 95, belongs to them in this order.
    for task, values in zip(TASKS, ((60, 50, 70), (70, 74, 95), (95, 89, 60)), strict=True):
        assert numbers(row[f"score/{task}"]) == pytest.approx(estimate(*values))
    assert row["op"].mean == pytest.approx(mean([75.0, 71.0, 75.0]))


def test_a_cell_that_one_run_did_not_score_is_empty(make_record: RecordFactory) -> None:
    holes = [[90.0, NAN, NAN], [NAN, 80.0, NAN], [60.0, 70.0, 95.0]]
    records = [
        make_record("a", configuration="a"),
        make_record("a-r1", configuration="a", matrix=holes, initial=[NAN] * 3),
    ]
    (matrix,) = matrix_tables([scores_of(record, "eval") for record in records], "a", "s", "eval")
    assert [matrix.rows[2][f"score/{task}"].mean for task in TASKS] == [None, 80.0, None]
    assert matrix.rows[2]["op"].mean is None and matrix.rows[3]["op"].mean == 75.0


def test_joint_training_has_one_row(make_record: RecordFactory) -> None:
    last = [[NAN] * 3, [NAN] * 3, [60.0, 70.0, 80.0]]
    (matrix,) = matrix_tables([scores_of(make_record(method="joint", matrix=last), "eval")], "0000", "s", "eval")
    assert [row["trained"] for row in matrix.rows] == ["(before training)", "birds"]
    assert matrix.rows[1]["op"].mean == 70.0


def test_the_printed_matrix_names_the_tasks_and_says_how_many_runs(runs: tuple[RunScores, ...]) -> None:
    table, _ = matrix_tables(runs, "trial-0001", "my study", "eval")
    assert [column.heading for column in table.printed] == ["after task", *TASKS, "OP", "BWT"]
    assert table.caption == "my study, trial-0001 (seekr): scores on eval in percent, 2 runs"
    assert table.label == "my-study-trial-0001" and table.num_references == 1
    assert table.rows[0]["trained"] == "(before training)" and json.loads(str(table.rows[0]["order"])) == list(TASKS)


def test_the_printed_tasks_put_bounds_first_and_tell_alike_methods_apart(runs: tuple[RunScores, ...]) -> None:
    told = {"trial-0001": {"method.seekr.selection": "random"}}
    table = task_table(runs, ["trial-0001", "bound-seqft"], TASKS, "s", "eval", told)
    assert [row["method"] for row in table.rows] == ["seqft", "seekr"] and table.num_references == 1
    assert [column.heading for column in table.printed][:3] == ["method", "selection", "configuration"]
    assert [row.get("method.seekr.selection") for row in table.rows] == [None, "random"]


def test_the_printed_ranking_has_the_bounds_the_ranks_and_what_was_searched(make_record: RecordFactory) -> None:
    records = [
        make_record("bound-seqft", role="bound", method="seqft", replay=(), matrix=make_record.matrix(40.0)),
        make_record("trial-0001", params={"method.name": "replay", "method.seekr.selection": "all"}, method="replay"),
        make_record("trial-0002", params={"method.memory.percent": 2.5}, matrix=make_record.matrix(80.0)),
        make_record("trial-0003", status="failed", error="out of luck"),
    ]
    table = printed_ranking(rank(trials_table(records), "op"), "s", "eval")
    assert [row["trial"] for row in table.rows] == ["bound-seqft", "trial-0002", "trial-0001"]
    assert [row["rank"] for row in table.rows] == [None, 1, 2] and table.num_references == 1
    assert [row["op"] for row in table.rows] == [Estimate(40.0, None), Estimate(80.0, None), Estimate(75.0, None)]
    settings = {column.name: column for column in table.columns if column.name.startswith("method.")}
    assert settings.keys() == {"method.seekr.selection", "method.memory.percent"}
    assert settings["method.memory.percent"].text(2.5) == "2.5" and settings["method.seekr.selection"].text(None) == ""
    assert "ranked by op, on eval" in table.caption
