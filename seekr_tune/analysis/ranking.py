"""Which configurations are worth their replay: rank, Pareto front, gains against the bounds, study-level numbers.

Rows are the `trials` table's rows as dicts, one for each configuration (replicates are averaged, as `configurations`
says), widened by the columns that compare configurations with each other. Formulas are in `glossary.METRICS`. Only
finished configurations are ranked; the bounds (`role` "bound") are references, never ranked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import pyarrow as pa

from seekr_tune.analysis.conditions import parse_conditions
from seekr_tune.analysis.configurations import (
    TrialRow,
    add_gains,
    by_configuration,
    grouped,
    is_point,
    missing_gap,
    nothing_learned,
)
from seekr_tune.analysis.front import Outcome, StudyMeasures, hypervolume, knee, pareto_front, samples_to_target
from seekr_tune.analysis.glossary import more_is_better
from seekr_tune.analysis.inference import Setting, Target, verdicts
from seekr_tune.analysis.uncertainty import (
    INTERVALS,
    add_beats_seqft,
    add_intervals,
    add_p_best,
    paired_difference,
    target_of,
    values_by_setting,
)
from seekr_tune.config.meaning import counts_or_shares
from seekr_tune.config.messages import hint
from seekr_tune.documents import parse_json
from seekr_tune.errors import StudyError

DEFAULT_COLUMN = "op_per_replayed_sample"
TARGET_SHARES = (0.60, 0.75, 0.90)
"""Shares of the gap between the bounds whose price in samples is told."""

AMONG_OTHERS = ("rank", "pareto", "knee", "p_best")
"""Columns that depend on which configurations are compared."""

_COMPARED_NUMBERS = ("normalised_gain", "gain_per_replayed_sample", "op_se", *INTERVALS)
_STATUS_ORDER = {"finished": 0, "running": 1, "pruned": 2, "failed": 3}


@dataclass(frozen=True)
class Ranking:
    """Configurations in order, best first.

    Attributes:
        by: column that ordered them.
        rows: finished configurations with `rank` 1, 2, ..., then the others without rank; none has one in a void study.
        bounds: the references, by method and key.
        no_gap: why there are no gains, no knee and no hypervolume: no replay and joint training are not told apart.
        void: why there is no rank and no front either: no task was learned.
        shown_above: of how many others the best one is shown to be better, and of how many that could be told; None
            where no difference can be told.
    """

    by: str
    rows: tuple[TrialRow, ...]
    bounds: tuple[TrialRow, ...]
    no_gap: str | None = None
    void: str | None = None
    shown_above: tuple[int, int] | None = None


def rank(trials: pa.Table, by: str = DEFAULT_COLUMN, where: Sequence[str] = ()) -> Ranking:
    """Order configurations by a numeric column, the better first.

    Finished ones without a value come after those with one. Ties go to the higher OP, then to the smaller key.
    Those that are running, pruned (one of their replicates was, or they got no further ones) or failed come last and
    get no rank. Where no task was learned, nobody gets one: none is better than another.

    Args:
        trials: the `trials` table.
        by: a numeric column of `trials`, or `normalised_gain`, `gain_per_replayed_sample` or `op_se`. Scores and gains
            are better when higher; everything else (costs, forgetting, settings) is listed from low to high.
        where: conditions such as `method.name=seekr` (`conditions.parse_conditions`) that say which configurations are
            compared. Those on `AMONG_OTHERS` say which of the compared ones are shown.

    Raises:
        StudyError: there is no such column, it is not numeric, or a condition cannot be read.
    """
    _require_numeric(trials.schema, by)
    runs = _exact(trials)
    _require_one_scale(runs, by)
    add_gains(runs)
    no_gap, void = missing_gap(runs), nothing_learned(runs)
    every, groups = by_configuration(runs), list(grouped(runs).values())
    target = target_of(runs)
    add_intervals(every, groups, target)
    add_beats_seqft(every, groups, target, void is not None)
    for row in every:
        row.update(dict.fromkeys(AMONG_OTHERS))
    conditions = parse_conditions(where, every)
    first = [condition for condition in conditions if condition.column not in AMONG_OTHERS]
    compared = [
        (row, group)
        for row, group in zip(every, groups, strict=True)
        if row["role"] != "bound" and all(condition.holds(row) for condition in first)
    ]
    rows = [row for row, _ in compared]
    _mark_front(rows, no_gap or void, void)
    if void is None:
        add_p_best(rows, [group for _, group in compared], by, more_is_better(by, rows), target)
    rows.sort(key=lambda row: _order(row, by))
    for place, row in enumerate(rows, start=1):
        row["rank"] = place if row["status"] == "finished" and void is None else None
    shown = tuple(row for row in rows if all(condition.holds(row) for condition in conditions))
    bounds = sorted((row for row in every if row["role"] == "bound"), key=lambda row: (row["method"], row["trial"]))
    values = {row["trial"]: values_by_setting(group, by) for row, group in compared if by in group[0]}
    above = _shown_above([values[row["trial"]] for row in rows if row["rank"] and row["trial"] in values], target)
    return Ranking(by, shown, tuple(bounds), no_gap, void, above)


def _shown_above(ranked: Sequence[Mapping[Setting, float]], target: Target) -> tuple[int, int] | None:
    """How many of the others the first is shown to differ from, run by run, and how many that can be told of."""
    found = [paired_difference(ranked[0], other, target) for other in ranked[1:]]
    told = [verdict for one, verdict in zip(found, verdicts(found), strict=True) if one.low is not None]
    return (told.count("shown"), len(told)) if told else None


def study_measures(ranking: Ranking, sample_range: tuple[float, float] | None = None) -> StudyMeasures:
    """The numbers of a whole study.

    Args:
        ranking: its ranked trials and bounds.
        sample_range: lowest and highest number of distinct replayed samples that the hypervolume covers, as
            `study.sample_range` declares it; None takes that of the finished configurations.
    """
    outcomes = _outcomes(ranking.rows)
    told = ranking.no_gap is None and ranking.void is None
    covered = sample_range or _range_of(outcomes)
    seqft = [row["op"] for row in ranking.bounds if row["method"] == "seqft" and is_point(row)]
    gains = [
        (row["normalised_gain"], row["distinct_replayed_samples"])
        for row in ranking.rows
        if told and is_point(row) and None not in (row["normalised_gain"], row["distinct_replayed_samples"])
    ]
    return StudyMeasures(
        hypervolume=hypervolume(outcomes, covered, fmean(seqft)) if seqft and outcomes and covered and told else None,
        sample_range=covered,
        samples_to_target={share: samples_to_target(gains, share) for share in TARGET_SHARES},
    )


def _require_numeric(schema: pa.Schema, by: str) -> None:
    numeric = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    numeric = [name for name in numeric if name != "replicate"] + [*_COMPARED_NUMBERS, *_counts_or_shares()]
    if by in numeric:
        return
    if by in schema.names:
        raise StudyError(f"trials cannot be ranked by {by!r}, which is not a number; give one of {_listed(numeric)}")
    there = hint(by, [*numeric, *schema.names], f"give one of {_listed(numeric)}")
    raise StudyError(f"trials have no column {by!r}; {there}")


def _counts_or_shares() -> list[str]:
    return [f"config.{path}" for path in counts_or_shares()]


def _exact(trials: pa.Table) -> list[TrialRow]:
    """The rows, with counts (1) and shares (1.0) as the numbers that they are."""
    rows: list[TrialRow] = trials.to_pylist()
    for column in set(_counts_or_shares()) & set(trials.schema.names):
        for row in rows:
            row[column] = None if row[column] is None else parse_json(row[column])
    return rows


def _require_one_scale(rows: Sequence[TrialRow], by: str) -> None:
    if by in _counts_or_shares() and len({type(row[by]) for row in rows if row.get(by) is not None}) > 1:
        raise StudyError(
            f"trials cannot be ranked by {by}, which is a count in some and a share in others; rank them by another "
            "column"
        )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(column for column in columns if not column.startswith("config.")) + ", config.<number>"


def _mark_front(rows: Sequence[TrialRow], no_knee: str | None, no_front: str | None) -> None:
    """Flag the front and its knee; joint training gets no flags, for its 0 samples are no price: it sees all data.

    Without a gap the bend of the front is noise, and where no task was learned all of it is: those flags stay null.
    """
    for row in rows:
        row.update(pareto=None, knee=None)
    points = [row for row in rows if _is_competitor(row)]
    outcomes = _outcomes(points)
    bend = knee(outcomes)
    for row, outcome, on_front in zip(points, outcomes, pareto_front(outcomes), strict=True):
        row.update(
            pareto=None if no_front else on_front,
            knee=None if no_knee else outcome == bend,
        )


def _is_competitor(row: TrialRow) -> bool:
    return is_point(row) and row["distinct_replayed_samples"] is not None and row["method"] != "joint"


def _outcomes(rows: Sequence[TrialRow]) -> list[Outcome]:
    return [Outcome(row["op"], row["distinct_replayed_samples"]) for row in rows if _is_competitor(row)]


def _range_of(outcomes: Sequence[Outcome]) -> tuple[float, float] | None:
    replayed = [outcome.samples for outcome in outcomes if outcome.samples > 0]
    return (min(replayed), max(replayed)) if replayed and min(replayed) < max(replayed) else None


def _order(row: TrialRow, by: str) -> tuple[Any, ...]:
    sign: Literal[-1, 1] = -1 if more_is_better(by, [row]) else 1
    return (
        _STATUS_ORDER[row["status"]],
        *_missing_last(row[by], sign),
        *_missing_last(row["op"], -1),
        row["trial"],
    )


def _missing_last(value: float | None, sign: Literal[-1, 1]) -> tuple[bool, float]:
    missing = value is None or math.isnan(value)
    return missing, 0.0 if value is None or missing else sign * value
