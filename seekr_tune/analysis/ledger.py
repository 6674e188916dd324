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
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seekr_tune.analysis.earlier import (
    with_columns,
    with_counts_and_shares,
    with_present_paths,
    with_replayed_samples,
    with_terms,
)
from seekr_tune.analysis.flat import Scalar, flat_config, kind_of, known_kinds
from seekr_tune.analysis.measures import Measures, measure
from seekr_tune.analysis.sampled import Sampled, sampled
from seekr_tune.atomic_files import replacing
from seekr_tune.config.leaves import Kind
from seekr_tune.documents import opened, parse_json
from seekr_tune.errors import DocumentError, NoDocument, StudyError
from seekr_tune.foreign_text import ours
from seekr_tune.records import (
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
from seekr_tune.records.columns import columns_of, table_of

TableName = Literal["trials", "scores", "prospects", "heads", "replay", "timing", "steps", "erased"]
CONFIG_PREFIX = "config."
_VERSION_KEY = b"seekr_tune.schema_version"
_REBUILT = "`{}` writes the ledger again from the records of the trials"
_KIND_TYPES: dict[Kind, pa.DataType] = {"number": pa.float64(), "flag": pa.bool_(), "text": pa.string()}

_ROWS_AT_ONCE = 100_000
"""About as many rows are in memory at a time, and in a group of the file: a reader of one run skips the others."""

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


class Rows(Protocol):
    """Rows of runs by their key: a mapping, or what reads them when it is asked."""

    def get(self, trial: str, default: Any, /) -> Any:
        """Those of one run, a sequence of rows or a table."""


def write_ledger(
    directory: Path,
    records: Sequence[TrialRecord],
    steps: Rows,
    heads: Rows | None = None,
    split: ScoredSplit | None = None,
) -> None:
    """Write `ledger/<table>.parquet` for every table, replacing each file atomically.

    Heads and steps are taken run by run, in the order of the records, and are not held.

    Args:
        directory: the study's (or run's) directory.
        records: one record a run, bounds included.
        steps: steps by the run's key, as rows or as columns; a run that is absent has none.
        heads: the same of its heads; None: what the records hold.
        split: split of the scores in `trials`; None takes `eval` if it was scored, else `test`, trial by trial.
    """
    _write_table(directory, "trials", [trials_table(records, split)])
    tables: dict[TableName, Rows] = {
        "scores": {record.trial: record.scores for record in records},
        "prospects": {record.trial: record.prospects for record in records},
        "replay": {record.trial: record.replay for record in records},
        "timing": {record.trial: record.timing for record in records},
        "heads": {record.trial: record.heads for record in records} if heads is None else heads,
        "steps": steps,
    }
    for name, rows in tables.items():
        _write_table(directory, name, (_of_run(name, record.trial, rows.get(record.trial, ())) for record in records))


def write_erased_table(directory: Path, rows: Sequence[ErasedRow]) -> None:
    """Write `ledger/erased.parquet`."""
    _write_table(directory, "erased", [table_of(rows, COLUMNS["erased"])])


def trials_table(records: Sequence[TrialRecord], split: ScoredSplit | None = None) -> pa.Table:
    """The `trials` table of some records, one row each, in their order."""
    rows = [_trial_row(record, split) for record in records]
    flats = [flat_config(record.config) for record in records]
    for row, flat in zip(rows, flats, strict=True):
        row.update({CONFIG_PREFIX + path: value for path, value in flat.items()})
    own = {name: pa.field(name, pa.float64()) for record in records for name in record.objectives}
    return pa.Table.from_pylist(rows, schema=_versioned({**COLUMNS["trials"], **own, **_config_columns(flats)}))


def runs_in(directory: Path, name: TableName) -> Generator[tuple[str, pa.Table]]:
    """The rows of each run that has some in a table, in its order; of that table, a part is in memory at a time."""
    with opened(table_path(directory, name)) as content:
        key, parts = "", list[pa.RecordBatch]()
        for batch in pq.ParquetFile(content, page_checksum_verification=True).iter_batches():
            runs, start = pc.run_end_encode(batch.column("trial")), 0
            for trial, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                if parts and trial != key:
                    yield key, pa.Table.from_batches(parts)
                    parts.clear()
                parts.append(batch.slice(start, end - start))
                key, start = trial, end
        if parts:
            yield key, pa.Table.from_batches(parts)


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
            wanted = None if trials is None else pc.field("trial").isin(pa.array(sorted(trials), pa.string()))
            table = pq.read_table(content, filters=wanted)
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
    table = with_columns(with_terms(table), COLUMNS[name])
    if name == "trials":
        table = with_present_paths(table)
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


def _write_table(directory: Path, name: TableName, parts: Iterable[pa.Table]) -> None:
    """Write the parts of a table one after the other; small ones are put together."""
    parts = iter(parts)
    first = next(parts, _versioned(COLUMNS[name]).empty_table())
    # What a column means stands in this version's fields, also where rows come from a ledger that lacks it.
    schema = _versioned({field.name: COLUMNS[name].get(field.name, field) for field in first.schema})
    waiting, num_rows = [first], first.num_rows
    with (
        replacing(table_path(directory, name)) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for part in parts:
            if num_rows >= _ROWS_AT_ONCE:
                writer.write_table(pa.concat_tables(waiting))
                waiting, num_rows = [], 0
            waiting.append(part)
            num_rows += part.num_rows
        writer.write_table(pa.concat_tables(waiting))


def _trial_row(record: TrialRecord, split: ScoredSplit | None) -> dict[str, Any]:
    own = record.model_dump(include=set(COLUMNS["trials"]) - {"tasks", "params", "config"})
    return {
        **{name: values[-1] if values else None for name, values in record.objectives.items()},
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
    given = {path: value for flat in flats for path, value in flat.items() if value is not None}
    others = {path: value for path, value in given.items() if path not in known_kinds()}
    kinds = {**known_kinds(), **{path: _kind(path, others[path]) for path in sorted(others)}}
    named = {CONFIG_PREFIX + path: _KIND_TYPES[kind] for path, kind in kinds.items()}
    return {name: pa.field(name, kind) for name, kind in named.items()}


def _kind(path: str, value: Scalar) -> Kind:
    """Of a column that the schema does not have: `flat_config` gives the values of a field one kind."""
    return "flag" if isinstance(value, bool) else "number" if isinstance(value, float) else kind_of(path)


def _of_run(name: TableName, trial: str, rows: Sequence[Any] | pa.Table) -> pa.Table:
    """What one run has in a table."""
    columns = {column: kind for column, kind in COLUMNS[name].items() if column not in _TRIAL}
    own = rows if isinstance(rows, pa.Table) else table_of(rows, columns)
    return own.select(list(columns)).add_column(0, _TRIAL["trial"], pa.repeat(trial, own.num_rows))


def _versioned(columns: Mapping[str, pa.Field]) -> pa.Schema:
    return pa.schema(list(columns.values()), metadata={_VERSION_KEY: str(SCHEMA_VERSION)})
