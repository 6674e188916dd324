"""The final table: means over runs, gains within each order and seed, and what tuning promised beside them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import statistics
from typing import Any

import pytest
from rich.console import Console
from synthetic import RecordFactory

from seekr_tune.analysis.final import FINAL_COLUMNS, FinalTable, final_rows, final_table
from seekr_tune.analysis.table import Table, as_csv, as_markdown, as_terminal, json_text
from seekr_tune.records import TrialRecord

OPS = {"bound-seqft": (40.0, 20.0), "bound-joint": (80.0, 60.0), "trial-0007": (60.0, 50.0), "trial-0003": (70.0, 30.0)}


def runs(make_record: RecordFactory) -> list[TrialRecord]:
    """Two seeds of two configurations and both bounds, scored on test."""
    return [run(make_record, key, seed, op) for key, ops in OPS.items() for seed, op in enumerate(ops)]


def shown(table: FinalTable) -> Table:
    return final_table(json.loads(json_text(dataclasses.asdict(table))))


def run(make_record: RecordFactory, key: str, seed: int, op: float, **fields: Any) -> TrialRecord:
    is_bound = key.startswith("bound")
    role = {"role": "bound", "method": key.removeprefix("bound-")} if is_bound else {"params": {"method.name": "seekr"}}
    defaults = {
        "configuration": key,
        "replicate": seed,
        "matrix": [[op + 6, 0, 0], [op + 2, op + 4, 0], [op, op, op]],
        "split": "test",
        "config": make_record.config(seed=seed),
        "replay": make_record.replay((0 if is_bound else 4 + seed, 0, 0)),
    }
    return make_record(f"{key}-r{seed}", **{**defaults, **role, **fields})


@pytest.fixture
def table(make_record: RecordFactory) -> FinalTable:
    tuned = {"trial-0007": 66.0, "trial-0003": 65.5, "bound-seqft": 41.0, "bound-joint": None}
    return FinalTable(
        by="op",
        rule="best 2 by op",
        protocol="tuned on eval; test opened 2026-01-31 (1 time)",
        orders=(("flags", "rivers", "birds"),),
        seeds=(0, 1),
        memory_draws=(0,),
        rows=final_rows(runs(make_record), ["trial-0007", "trial-0003"], tuned),
    )


def by_key(table: FinalTable) -> dict[str, Any]:
    return {row.configuration: row for row in table.rows}


def test_the_rows_are_the_bounds_and_then_the_configurations_in_the_order_of_the_choice(table: FinalTable) -> None:
    assert [row.configuration for row in table.rows] == ["bound-joint", "bound-seqft", "trial-0007", "trial-0003"]
    assert [row.tuned for row in table.rows] == [None, 41.0, 66.0, 65.5]
    assert [row.n for row in table.rows] == [2, 2, 2, 2]


def test_every_number_is_a_mean_over_runs_with_its_standard_error(table: FinalTable) -> None:
    estimates = by_key(table)["trial-0003"].estimates
    assert estimates["op"].mean == 50.0
    assert estimates["op"].error == pytest.approx(statistics.stdev([70.0, 30.0]) / 2**0.5)
    assert (estimates["bwt"].mean, estimates["bwt"].error) == (-5.0, 0.0)
    assert estimates["forgetting"].mean == 5.0
    assert (estimates["distinct_replayed_samples"].mean, estimates["distinct_replayed_samples"].error) == (4.5, 0.5)


def test_gains_are_taken_within_each_seed(table: FinalTable) -> None:
    rows = by_key(table)
    assert rows["trial-0003"].estimates["normalised_gain"].mean == pytest.approx((30 / 40 + 10 / 40) / 2)
    assert rows["trial-0007"].estimates["normalised_gain"].mean == pytest.approx((20 / 40 + 30 / 40) / 2)
    assert rows["bound-seqft"].estimates["normalised_gain"].mean == 0
    assert rows["bound-joint"].estimates["normalised_gain"].mean == 1


def test_test_scores_are_reported_even_where_eval_was_scored_too(make_record: RecordFactory) -> None:
    record = run(make_record, "trial-0007", 0, 60.0)
    both = record.model_copy(update={"scores": (*record.scores, *make_record(matrix=make_record.matrix(99.0)).scores)})
    (row,) = final_rows([both], ["trial-0007"], {})
    assert row.estimates["op"].mean == 60.0 and row.estimates["op"].error is None and row.tuned is None


def test_a_failed_run_is_counted_and_left_out_of_the_means(make_record: RecordFactory) -> None:
    records = [run(make_record, "trial-0007", 0, 60.0), run(make_record, "trial-0007", 1, 1.0, status="failed")]
    (row,) = final_rows(records, ["trial-0007"], {})
    assert (row.n, row.failed, row.estimates["op"].mean) == (1, 1, 60.0)


def test_json_and_csv_hold_every_number(table: FinalTable) -> None:
    whole = json.loads(json_text(dataclasses.asdict(table)), parse_constant=pytest.fail)
    assert whole["protocol"].endswith("(1 time)") and whole["rows"][2]["estimates"]["op"]["mean"] == 55.0
    rows = list(csv.DictReader(io.StringIO(as_csv([shown(table)]))))
    assert [row["op"] for row in rows] == ["70.0", "30.0", "55.0", "50.0"]
    assert {*FINAL_COLUMNS, *(f"{column}_se" for column in FINAL_COLUMNS), "n", "tuned_op"} <= set(rows[0])
    assert rows[0]["tuned_op"] == "" and json.loads(rows[2]["params"]) == {"method.name": "seekr"}


def test_the_readable_tables_say_when_test_was_opened_and_how_it_was_chosen(table: FinalTable) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(as_terminal(shown(table)))
    for text in (console.export_text(), as_markdown([shown(table)])):
        assert "test opened 2026-01-31 (1 time)" in text and "chosen: best 2 by op" in text
        assert "50.00 ± 20.00" in text and "-5.00 ± 0.00" in text and "0.50 ± 0.25" in text and "65.5" in text
        assert max(map(len, text.splitlines())) <= 160
    assert 'trial-0007: method.name="seekr"' in as_markdown([shown(table)])


def test_a_gain_that_is_not_defined_is_said_to_be_so(make_record: RecordFactory, table: FinalTable) -> None:
    worse = [record for record in runs(make_record) if record.trial != "bound-joint-r1"]
    worse.append(run(make_record, "bound-joint", 1, 19.0))
    without = dataclasses.replace(table, rows=final_rows(worse, ["trial-0007"], {}))
    assert without.rows[-1].estimates["normalised_gain"].mean is None
    assert "gain: not defined, for in one of the orders and seeds joint training is not better" in as_markdown(
        [shown(without)]
    )
    assert "gain: not defined" not in as_markdown([shown(table)])
