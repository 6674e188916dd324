"""A ranking as tables: for a terminal, for a paper, and whole for programs; and what is said around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from seekr_tune.analysis.configurations import TrialRow, void_line
from seekr_tune.analysis.front import StudyMeasures
from seekr_tune.analysis.glossary import METRICS, column, setting_column
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.analysis.table import COUNT, Column, Estimate, Table, rounded
from seekr_tune.documents import parse_json
from seekr_tune.records import ScoredSplit

_FIRST = (
    *("rank", "trial", "role", "status", "method", "semantics", "op", "op_se", "op_low", "op_high", "op_floor"),
    *("op_ceiling", "tasks_learned", "replicates", "p_best", "bwt", "distinct_replayed_samples", "stored_samples"),
    *("replay_presentations", "op_per_replayed_sample", "normalised_gain", "normalised_gain_low"),
    *("normalised_gain_high", "gain_per_replayed_sample", "gain_per_replayed_sample_low"),
    *("gain_per_replayed_sample_high", "why_no_gain", "beats_seqft", "op_seqft", "op_joint", "pareto", "knee"),
    "wall_seconds",
)
"""Columns that lead a row of JSON or CSV; the others follow in the ledger's order."""

_PRINTED = (
    *("rank", "trial", "method", "replicates", "op", "bwt", "distinct_replayed_samples", "op_per_replayed_sample"),
    *("normalised_gain", "pareto"),
)

_JSON_COLUMNS = ("config", "params")
"""Columns that the ledger holds as JSON text and that JSON rows hold as objects."""

_MARKS = {"*": "on the front", "K": "its knee", "!": "op is not above that of no replay"}
ERRORS = "± is the standard error over n runs"


def terminal_ranking(ranking: Ranking) -> Table:
    """The ranking for a terminal of 120 columns: bounds first, then configurations in order.

    Marks: `*` on the front, `K` its knee, `!` not better than no replay. Where there are replicates, `n` says how many
    runs a row is the mean of, OP has its standard error, and `best` is the probability of being first.
    """
    every = (*ranking.bounds, *ranking.rows)
    replicated = any(row["replicates"] > 1 for row in every)
    measured = ("op", "bwt", "distinct_replayed_samples", "replay_presentations", "op_per_replayed_sample")
    names = ["rank", "trial", *["replicates"] * replicated, *measured, "normalised_gain"]
    columns = [*map(column, names), Column("marks", "P", folds=False), *map(column, ["p_best"] * replicated)]
    columns += map(setting_column, searched_paths(ranking.rows))
    if ranking.by not in {"op_se", "wall_seconds", *names}:
        columns.append(replace(column(ranking.by), folds=True))
    columns.append(column("wall_seconds"))
    if any(row["status"] != "finished" for row in every):  # else the settings need the room
        columns.append(column("status"))
    return Table(
        caption=f"{'Ranked' if ranking.void is None else 'No ranks; ordered'} by {ranking.by}",
        columns=tuple(columns),
        rows=tuple(map(with_settings, every)),
        notes=tuple(_legend(ranking)),
        num_references=len(ranking.bounds),
        num_unranked=sum(row["rank"] is None for row in ranking.rows),
    )


def printed_ranking(ranking: Ranking, name: str, split: ScoredSplit) -> Table:
    """The bounds, then the finished configurations with what the search chose.

    Args:
        ranking: of a study or a single run.
        name: of the study.
        split: which scores were ranked.
    """
    rows = [row for row in ranking.rows if row["status"] == "finished"]
    references = [row for row in ranking.bounds if row["status"] == "finished"]
    columns = [*map(column, _PRINTED), *(setting_column(one) for one in searched_paths(rows) if one != "method.name")]
    if ranking.by not in _PRINTED:
        columns.append(column(ranking.by))
    printed = {one.name: one.heading for one in columns}
    explained = dict.fromkeys(("op", "bwt", "normalised_gain", "op_per_replayed_sample", ranking.by))
    return Table(
        label=f"{label(name)}-ranking",
        caption=f"{name}: configurations ranked by {ranking.by}, on {split}",
        columns=tuple(columns),
        rows=tuple(map(with_settings, (*references, *rows))),
        num_references=len(references),
        notes=(
            *(f"{printed[one]}: {METRICS[one].formula}" for one in explained if one in METRICS),
            "samples: distinct samples in the replay memory; * marks the Pareto front of OP over samples",
            *([ERRORS] if any(row["op_se"] is not None for row in (*references, *rows)) else []),
        ),
    )


def whole_ranking(ranking: Ranking) -> Table:
    """Every column of the ledger, trials in order."""
    rows = [_ordered(row) for row in ranking.rows]
    return Table("", tuple(map(Column, rows[0] if rows else _FIRST)), tuple(rows))


def json_rows(ranking: Ranking) -> list[dict[str, Any]]:
    """The same as JSON values: the nested config instead of its flat columns."""
    whole = [{name: row[name] for name in _ordered(row) if not name.startswith("config.")} for row in ranking.rows]
    return [row | {name: parse_json(row[name]) for name in _JSON_COLUMNS} for row in whole]


def study_lines(study: StudyMeasures, is_declared: bool) -> list[str]:
    """What stands below the table: the numbers of the whole study, as far as it has bounds.

    Args:
        study: the numbers.
        is_declared: whether the sample range is that of the experiment file.
    """
    lines = []
    if study.hypervolume is not None and study.sample_range is not None:
        low, high = study.sample_range
        origin = "study.sample_range" if is_declared else "those of the study; declare study.sample_range to compare"
        lines.append(f"hypervolume {study.hypervolume:.4g} % x decades over {low:g} to {high:g} samples ({origin})")
    if any(samples is not None for samples in study.samples_to_target.values()):
        told = ", ".join(f"{share:.0%}: {rounded(price, COUNT)}" for share, price in study.samples_to_target.items())
        lines.append(f"fewest samples that close a share of the gap to joint training: {told}")
    return lines


def void_lines(ranking: Ranking) -> list[str]:
    """Why no number says anything, or else why there are no gains; first of all that is said of a study."""
    if ranking.void is not None:
        return [void_line(ranking.void)]
    return [] if ranking.no_gap is None else [f"No gain, no knee, no hypervolume: {ranking.no_gap}."]


def searched_paths(rows: Iterable[TrialRow]) -> tuple[str, ...]:
    """Config paths that the search chose in some configuration, in the order in which they first appear."""
    return tuple(dict.fromkeys(path for row in rows for path in parse_json(row["params"])))


def with_settings(row: TrialRow) -> Mapping[str, Any]:
    """A row with its marks, the error of its OP, and what the search chose, by config path."""
    chosen = {} if row["role"] == "bound" else parse_json(row["params"])
    return {**row, **chosen, "op": Estimate(row["op"], row["op_se"]), "marks": _marks(row)}


def label(text: str) -> str:
    """Letters and digits, which a label may have, and `-` for all else."""
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in text)


def _legend(ranking: Ranking) -> Iterable[str]:
    shown = dict.fromkeys(("op_per_replayed_sample", "normalised_gain", ranking.by))
    yield from (f"{name} = {METRICS[name].formula}" for name in shown if name in METRICS)
    used = "".join(map(_marks, ranking.rows))
    marks = [f"{mark} {meaning}" for mark, meaning in _MARKS.items() if mark in used]
    if marks:
        yield f"P: {', '.join(marks)}"
    if any(row["p_best"] is not None for row in ranking.rows):
        yield f"best: probability of being first by {ranking.by}, if all spread alike over their settings"


def _marks(row: TrialRow) -> str:
    buys_nothing = row["beats_seqft"] is False and row["role"] != "bound"
    return "*" * bool(row["pareto"]) + "K" * bool(row["knee"]) + "!" * buys_nothing


def _ordered(row: TrialRow) -> TrialRow:
    return {name: row[name] for name in (*_FIRST, *(name for name in row if name not in _FIRST))}
