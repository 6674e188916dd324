"""Ledgers of earlier versions, read as if this one had written them.

Version 2 called the stored samples `distinct_replayed_samples`. Which of them were replayed is worked out from the
table `replay`, or null where that does not tell. Its columns of fields that take a count or a share were numbers, in
which 1 and 1.0 are the same; the exact value is in the column `config`. Both had columns for each of three loss terms.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from seekr_tune.analysis.flat import flat_config
from seekr_tune.analysis.measures import quotient, replayed_samples
from seekr_tune.config.facts import former_paths
from seekr_tune.config.meaning import counts_or_shares
from seekr_tune.documents import parse_json
from seekr_tune.records import EARLIER_TERMS, ReplayRow

_logger = logging.getLogger(__name__)


def with_columns(table: pa.Table, columns: Mapping[str, pa.Field]) -> pa.Table:
    """The table with the columns that it lacks, in their order; those are null. What it has besides stays behind."""
    for field in [field for name, field in columns.items() if name not in table.schema.names]:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select([*columns, *(name for name in table.schema.names if name not in columns)])


def with_present_paths(trials: pa.Table) -> pa.Table:
    """The `trials` table with settings at the paths that they have now."""
    for former, now in former_paths().items():
        if f"config.{former}" in trials.schema.names:
            place = trials.schema.get_field_index(f"config.{former}")
            column, trials = trials.column(place), trials.remove_column(place)
            for path in [path for path in now if f"config.{path}" not in trials.schema.names]:
                trials = trials.add_column(place, f"config.{path}", column)
    return trials


def with_terms(table: pa.Table) -> pa.Table:
    """A table with a column for each of three loss terms as one with a column of them all, by name."""
    for field, earlier in EARLIER_TERMS.items():
        names = [name for name in earlier if name in table.schema.names]
        if names:
            rows = zip(*(table[name].to_pylist() for name in names), strict=True)
            entries = [
                [(earlier[name], value) for name, value in zip(names, row, strict=True) if value is not None]
                for row in rows
            ]
            if field == "terms" and "other_terms" in table.schema.names:
                others = table["other_terms"].to_pylist()
                entries = [[*own, *(other or ())] for own, other in zip(entries, others, strict=True)]
            table = table.append_column(field, pa.array(entries, pa.map_(pa.string(), pa.float64())))
            table = table.drop_columns([*names, *({"other_terms"} & {*table.schema.names})])
    return table


def with_replayed_samples(trials: pa.Table, replay: pa.Table) -> pa.Table:
    """The `trials` table of version 2 with the counts of this one.

    Args:
        trials: with the columns of this version.
        replay: the same ledger's table of that name.
    """
    rows: dict[str, list[ReplayRow]] = {}
    for row in replay.to_pylist():
        row["shares"] = dict(row["shares"] or ())
        rows.setdefault(row.pop("trial"), []).append(ReplayRow.model_validate(row))
    counted = [_counted(trial, rows.get(trial["trial"], [])) for trial in trials.to_pylist()]
    unknown = [str(row["trial"]) for row in counted if row["distinct_replayed_samples"] is None]
    if unknown:
        _logger.warning(
            "distinct_replayed_samples of %s is null: an earlier version ran it with semantics official, which shows "
            "a part of the memory only, and did not count which part",
            ", ".join(unknown),
        )
    return pa.Table.from_pylist(counted, schema=trials.schema)


def with_counts_and_shares(trials: pa.Table) -> pa.Table:
    """The `trials` table of version 2 with these fields as text, read from the config."""
    configs = [flat_config(parse_json(config)) for config in trials.column("config").to_pylist()]
    for path in counts_or_shares():
        name = f"config.{path}"
        if name in trials.schema.names:
            exact = pa.array([flat.get(path) for flat in configs], pa.string())
            trials = trials.set_column(trials.schema.get_field_index(name), pa.field(name, pa.string()), exact)
    return trials


def _counted(trial: Mapping[str, Any], rows: list[ReplayRow]) -> dict[str, Any]:
    shown = replayed_samples(sorted(rows, key=lambda row: row.task_index), parse_json(trial["config"]))
    return {
        **trial,
        "distinct_replayed_samples": shown,
        "stored_samples": sum(row.stored_samples for row in rows),
        "op_per_replayed_sample": quotient(trial["op"], shown),
    }
