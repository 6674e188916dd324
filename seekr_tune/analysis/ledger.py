"""The ledger of a study: Parquet tables, whose columns are the fields of the classes of their rows.

`trials` has one row a run (each replicate of a configuration has its own): what it was, what came out, what it cost,
its config as JSON (`config`, exact) and as flat columns (`config.<path>`, typed by the schema as `flat.py` says).
`scores`, `prospects` (what data and model allow of each task and split), `heads`, `replay`, `timing` and `steps` are
the long tables behind it, joined by `trial`; a ledger of an earlier version has no `prospects`. `erased` is there
where samples were taken out (`seekr-tune forget`), with one row each. Each file is
replaced atomically and carries the schema version.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seekr_tune.analysis.columns import columns_of
from seekr_tune.analysis.earlier import with_columns, with_counts_and_shares, with_replayed_samples
from seekr_tune.analysis.flat import Kind, Scalar, flat_config, kind_of, known_kinds
from seekr_tune.analysis.measures import Measures, measure
from seekr_tune.analysis.record import (
    READABLE_VERSIONS,
    SCHEMA_VERSION,
    ErasedRow,
    HeadRow,
    ProspectRow,
    ReplayRow,
    ScoreCell,
    ScoredSplit,
    StepRow,
    TimingRow,
    TrialRecord,
    readable_versions,
)
from seekr_tune.analysis.sampled import Sampled, sampled
from seekr_tune.documents import opened, parse_json
from seekr_tune.errors import DocumentError, NoDocument, StudyError
from seekr_tune.files import replacing
from seekr_tune.shown import ours

TableName = Literal["trials", "scores", "prospects", "heads", "replay", "timing", "steps", "erased"]
CONFIG_PREFIX = "config."
_VERSION_KEY = b"seekr_tune.schema_version"
_REBUILT = "`{}` writes the ledger again from the records of the trials"
_KIND_TYPES: dict[Kind, pa.DataType] = {"number": pa.float64(), "flag": pa.bool_(), "text": pa.string()}

_TRIAL = columns_of(TrialRecord, {"trial"})
COLUMNS: dict[TableName, dict[str, pa.Field]] = {
    "trials": {
        **columns_of(TrialRecord, {"trial", "role", "configuration", "replicate", "status", "method", "semantics"}),
        **columns_of(TrialRecord, {"tasks", "tasks_done"}),
        **columns_of(Measures),
        **columns_of(Sampled),
        **columns_of(TrialRecord, {"wall_seconds"}),
        **columns_of(TimingRow, {"shared_seconds"}),
        **columns_of(TrialRecord, {"error", "optuna_number", "ray_trial_id", "num_layers", "num_heads"}),
        **columns_of(TrialRecord, {"code_version", "accepted_changes"}),
        **{name: pa.field(name, pa.string()) for name in ("params", "config")},
    },
    "scores": _TRIAL | columns_of(ScoreCell),
    "prospects": _TRIAL | columns_of(ProspectRow),
    "heads": _TRIAL | columns_of(HeadRow),
    "replay": _TRIAL | columns_of(ReplayRow),
    "timing": _TRIAL | columns_of(TimingRow) | columns_of(Measures, {"tokens_per_second"}),
    "steps": _TRIAL | columns_of(StepRow),
    "erased": columns_of(ErasedRow),
}
"""`params` and `config` are JSON."""


def write_ledger(
    directory: Path,
    records: Sequence[TrialRecord],
    steps: Mapping[str, Sequence[StepRow]],
    split: ScoredSplit | None = None,
) -> None:
    """Write `ledger/<table>.parquet` for every table, replacing each file atomically.

    Args:
        directory: the study's (or run's) directory.
        records: one record a run, bounds included.
        steps: steps by the run's key; a run that is absent has none.
        split: split of the scores in `trials`; None takes `eval` if it was scored, else `test`, trial by trial.
    """
    tables: dict[TableName, pa.Table] = {
        "trials": trials_table(records, split),
        "scores": _long_table("scores", ((record.trial, record.scores) for record in records)),
        "prospects": _long_table("prospects", ((record.trial, record.prospects) for record in records)),
        "heads": _long_table("heads", ((record.trial, record.heads) for record in records)),
        "replay": _long_table("replay", ((record.trial, record.replay) for record in records)),
        "timing": _long_table("timing", ((record.trial, record.timing) for record in records)),
        "steps": _long_table("steps", ((record.trial, steps.get(record.trial, ())) for record in records)),
    }
    for name, table in tables.items():
        _write_table(directory, name, table)


def write_erased_table(directory: Path, rows: Sequence[ErasedRow]) -> None:
    """Write `ledger/erased.parquet`."""
    table = pa.Table.from_pylist([row.model_dump() for row in rows], schema=_versioned(COLUMNS["erased"]))
    _write_table(directory, "erased", table)


def trials_table(records: Sequence[TrialRecord], split: ScoredSplit | None = None) -> pa.Table:
    """The `trials` table of some records, one row each, in their order."""
    rows = [_trial_row(record, split) for record in records]
    flats = [flat_config(record.config) for record in records]
    for row, flat in zip(rows, flats, strict=True):
        row.update({CONFIG_PREFIX + path: value for path, value in flat.items()})
    return pa.Table.from_pylist(rows, schema=_versioned({**COLUMNS["trials"], **_config_columns(flats)}))


def read_table(directory: Path, name: TableName, trials: Collection[str] | None = None) -> pa.Table:
    """One table of a study's ledger.

    Args:
        directory: the study's (or run's) directory.
        name: which table.
        trials: keep the rows of these runs only; what is left out is never in memory as a whole. None: all rows.

    Returns:
        The table; columns that an earlier version did not write are null.

    Raises:
        StudyError: there is no ledger, the file is damaged, or it has another schema version.
    """
    path = table_path(directory, name)
    try:
        with opened(path) as content:
            file = pq.ParquetFile(content)
            table = file.read() if trials is None else _rows_of(file, trials)
    except NoDocument:
        raise StudyError(f"{path}: no such table; {_why_there_is_none(directory)}") from None
    except DocumentError as error:
        if not directory.is_dir():
            raise StudyError(f"{path}: no such table; {_why_there_is_none(directory)}") from None
        again = _REBUILT.format(ours("resume", directory))
        raise StudyError(f"{path}: {error.reason}; remove it, then {again}") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StudyError(f"{path}: is damaged ({reason}); resume the study to write its ledger again") from None
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version not in map(str, READABLE_VERSIONS):
        raise StudyError(
            f"{path}: has schema version {version}, but this package reads {readable_versions()}; "
            "use the package version that wrote it, or resume the study to write its ledger again"
        )
    table = with_columns(table, COLUMNS[name])
    if name == "trials":
        _require_json(path, table)
    if version != str(SCHEMA_VERSION) and name == "trials":
        table = with_counts_and_shares(with_replayed_samples(table, read_table(directory, "replay")))
    return table


def _why_there_is_none(directory: Path) -> str:
    if not directory.is_dir():
        return f"there is no directory {directory}; name the one that `seekr-tune` printed"
    if any(directory.glob("trials/*/result.json")):
        return f"it was removed, or never finished: {_REBUILT.format(ours('resume', directory))}"
    if (directory / "result.json").is_file():
        return "it was removed, or never finished: give the command again that made this run, which takes no step anew"
    return f"{directory} holds no results yet, or is not a study"


def _require_json(path: Path, table: pa.Table) -> None:
    """Refuse a table of trials whose columns of JSON are damaged: all that is behind takes them for granted.

    Raises:
        StudyError: naming the trial.
    """
    for column in ("params", "config"):
        for trial, text in zip(table.column("trial").to_pylist(), table.column(column).to_pylist(), strict=True):
            if text is None:  # an earlier version did not write it
                continue
            try:
                found = parse_json(text)
                reason = None if isinstance(found, dict) else "is no JSON object"
            except DocumentError as error:
                reason = error.reason
            if reason is not None:
                raise StudyError(
                    f"{path}: is damaged ({column} of {trial}: {reason}); resume the study to write its ledger again"
                )


def read_trials(directory: Path) -> pa.Table:
    """The `trials` table of a study's ledger; raises as `read_table` does."""
    return read_table(directory, "trials")


def read_prospects(directory: Path) -> pa.Table:
    """What data and model allow of each run's tasks; empty in an earlier version's ledger. Raises as `read_table`."""
    if table_path(directory, "trials").is_file() and not table_path(directory, "prospects").exists():
        return pa.Table.from_pylist([], schema=_versioned(COLUMNS["prospects"]))
    return read_table(directory, "prospects")


def table_path(directory: Path, name: TableName) -> Path:
    """Where a table lies in a study's directory."""
    return directory / "ledger" / f"{name}.parquet"


def _write_table(directory: Path, name: TableName, table: pa.Table) -> None:
    with replacing(table_path(directory, name)) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _rows_of(file: pq.ParquetFile, trials: Collection[str]) -> pa.Table:
    wanted = pa.array(sorted(trials), pa.string())
    kept = (batch.filter(pc.is_in(batch.column("trial"), wanted)) for batch in file.iter_batches())
    return pa.Table.from_batches(kept, file.schema_arrow)


def _trial_row(record: TrialRecord, split: ScoredSplit | None) -> dict[str, Any]:
    own = record.model_dump(include=set(COLUMNS["trials"]) - {"tasks", "params", "config"})
    return {
        **own,
        **(measures := measure(record, split)).model_dump(),
        **sampled(record, measures.split).model_dump(),
        "shared_seconds": sum(row.shared_seconds for row in record.timing),
        "tasks": list(record.tasks),
        "params": json.dumps(record.params),
        "config": json.dumps(record.config),
    }


def _config_columns(flats: Sequence[Mapping[str, Scalar]]) -> dict[str, pa.Field]:
    """Every field of the schema, then what some trial has besides (a task's metric, a resource of a worker)."""
    others = sorted({path for flat in flats for path, value in flat.items() if value is not None} - {*known_kinds()})
    named = {CONFIG_PREFIX + path: _KIND_TYPES[kind_of(path)] for path in (*known_kinds(), *others)}
    return {name: pa.field(name, kind) for name, kind in named.items()}


def _long_table(name: TableName, rows_by_trial: Iterable[tuple[str, Sequence[Any]]]) -> pa.Table:
    columns = COLUMNS[name]
    values: dict[str, list[Any]] = {column: [] for column in columns}
    for trial, rows in rows_by_trial:
        for row in rows:
            for column, cells in values.items():
                cells.append(trial if column == "trial" else getattr(row, column))
    return pa.table(values, schema=_versioned(columns))


def _versioned(columns: Mapping[str, pa.Field]) -> pa.Schema:
    return pa.schema(list(columns.values()), metadata={_VERSION_KEY: str(SCHEMA_VERSION)})
