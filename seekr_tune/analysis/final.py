"""The final table: what the chosen configurations reach on the test split, beside what tuning promised.

A number is the mean over the final runs of a configuration (orders x seeds x memory draws), with its standard error:
sample standard deviation / sqrt(n). The normalised gain is taken within each order and seed, against the bounds there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seekr_tune.analysis.configurations import (
    TrialRow,
    add_gains,
    configuration_key,
    estimate,
    missing_gap,
    nothing_learned,
)
from seekr_tune.analysis.glossary import column
from seekr_tune.analysis.ledger import trials_table
from seekr_tune.analysis.table import Column, Estimate, Table
from seekr_tune.analysis.worth import runs_of_records, task_worths
from seekr_tune.analysis.worth_lines import warnings
from seekr_tune.records import TrialRecord

FINAL_COLUMNS = ("op", "bwt", "forgetting", "distinct_replayed_samples", "normalised_gain")
"""What is reported."""


@dataclass(frozen=True)
class FinalRow:
    """One chosen configuration, or a bound.

    Attributes:
        configuration: its key.
        role: `trial` or `bound`.
        method: its method.
        params: what the search chose, by config path.
        n: finished runs; the estimates are over them.
        failed: runs that failed.
        estimates: by column of `FINAL_COLUMNS`, on the test split.
        tuned: what decided the choice: the objective on the eval split, mean over the replicates of the study.
    """

    configuration: str
    role: str
    method: str
    params: Mapping[str, Any]
    n: int
    failed: int
    estimates: Mapping[str, Estimate]
    tuned: float | None


@dataclass(frozen=True)
class FinalTable:
    """The result of a study.

    Attributes:
        by: the objective in `tuned`.
        rule: how the configurations were chosen.
        protocol: what was tuned on, and when `test` was opened.
        orders, seeds, memory_draws: of the final runs.
        rows: bounds first, then the configurations, in the order of the choice, not of their results.
        warnings: what is wrong with its tasks, or with all of it; empty in a table of an earlier version.
    """

    by: str
    rule: str
    protocol: str
    orders: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    memory_draws: tuple[int, ...]
    rows: tuple[FinalRow, ...]
    warnings: tuple[str, ...] = ()


def final_rows(
    records: Sequence[TrialRecord], chosen: Sequence[str], tuned: Mapping[str, float | None]
) -> tuple[FinalRow, ...]:
    """The rows of a final table.

    Args:
        records: of the final runs, bounds included.
        chosen: keys of the configurations, best first.
        tuned: by key of a configuration or bound: the objective that decided, on the eval split.
    """
    runs: list[TrialRow] = trials_table(records, "test").to_pylist()
    add_gains(runs)
    groups: dict[str, list[TrialRow]] = {}
    for run in runs:
        groups.setdefault(configuration_key(run), []).append(run)
    bounds = sorted(key for key, group in groups.items() if group[0]["role"] == "bound")
    params = {record.configuration_key: record.params for record in records}
    return tuple(_row(key, groups[key], params[key], tuned.get(key)) for key in (*bounds, *chosen) if key in groups)


def final_warnings(records: Sequence[TrialRecord]) -> tuple[str, ...]:
    """What is wrong with the final runs: nothing learned, no gap to close, and task by task."""
    runs: list[TrialRow] = trials_table(records, "test").to_pylist()
    void, no_gap = nothing_learned(runs), missing_gap(runs)
    whole = [line for line in (void, no_gap and f"no gain: {no_gap}") if line is not None]
    return (*whole, *warnings(task_worths(runs_of_records(records, "test"))))


def final_table(whole: Mapping[str, Any]) -> Table:
    """The table to be shown.

    Args:
        whole: a `FinalTable` by `asdict`, or as `finalize` has written it; an earlier version may have left out some.
    """
    by, rows = whole["by"], whole["rows"]
    failed = "failed" if any(row.get("failed") for row in rows) else None
    return Table(
        caption="On test: mean ± standard error over n runs",
        columns=(
            Column("configuration", "configuration", is_text=True),
            Column("role"),
            column("method"),
            Column("n", "n"),
            Column("failed", failed),
            *map(column, FINAL_COLUMNS),
            Column(f"tuned_{by}", f"{by} in tuning", ".6g"),
            Column("params"),
        ),
        rows=tuple(_cells(row, by) for row in rows),
        notes=tuple(_notes(whole)),
        num_references=sum(row["role"] == "bound" for row in rows),
    )


def _cells(row: Mapping[str, Any], by: str) -> dict[str, Any]:
    estimates = {name: Estimate(one["mean"], one["error"]) for name, one in row["estimates"].items()}
    return {**row, **estimates, f"tuned_{by}": row["tuned"], "params": json.dumps(row.get("params"))}


def _notes(whole: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"WARNING: {line}" for line in whole.get("warnings", ()))
    yield whole.get("protocol", "")
    yield f"chosen: {whole['rule']}"
    drawn = [("orders", "orders"), ("seeds", "seeds"), ("memory_draws", "memory draws")]
    yield "runs: " + "; ".join(f"{name} {json.dumps(whole[key])[1:-1]}" for key, name in drawn if key in whole)
    gains = [row["estimates"].get("normalised_gain", {}).get("mean") for row in whole["rows"]]
    bounds = {row["method"] for row in whole["rows"] if row["role"] == "bound"}
    if any(gain is not None for gain in gains):
        yield "gain: (op - op_seqft) / (op_joint - op_seqft), within each order and seed, then averaged"
    elif not whole.get("warnings") and {"seqft", "joint"} <= bounds:
        yield "gain: not defined, for in one of the orders and seeds joint training is not better than seqft"
    for row in whole["rows"]:
        if row.get("params"):
            chosen = ", ".join(f"{path}={json.dumps(value)}" for path, value in row["params"].items())
            yield f"{row['configuration']}: {chosen}"


def _row(key: str, runs: Sequence[TrialRow], params: Mapping[str, Any], tuned: float | None) -> FinalRow:
    finished = [run for run in runs if run["status"] == "finished"]
    values = {column: [run[column] for run in finished] for column in FINAL_COLUMNS}
    return FinalRow(
        configuration=key,
        role=runs[0]["role"],
        method=runs[0]["method"],
        params=params,
        n=len(finished),
        failed=sum(run["status"] == "failed" for run in runs),
        estimates={column: estimate(own) for column, own in values.items()},
        tuned=tuned,
    )
