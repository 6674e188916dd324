"""The runs that are shown one by one, those of the best configurations and of the bounds, and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from seekr_tune.analysis.configurations import TrialRow, grouped
from seekr_tune.analysis.ledger import read_table
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.records import Scores, score_arrays

MOST_CONFIGURATIONS = 6
"""Configurations whose runs are shown one by one: the first ones of the ranking, and the knee."""
MOST_REPLICATES = 4
"""Runs of each that are shown."""


@dataclass(frozen=True)
class ShownRun:
    """One run.

    Attributes:
        key: of the run.
        configuration: its configuration.
        label: what tells it from the others.
        method: its method.
        tasks: in learning order.
        split: split of the scores; None where nothing was scored.
    """

    key: str
    configuration: str
    label: str
    method: str
    tasks: tuple[str, ...]
    split: str | None


@dataclass(frozen=True)
class RunTables:
    """Rows of the shown runs, by table of the ledger."""

    scores: pa.Table
    heads: pa.Table
    steps: pa.Table


def shown_runs(ranking: Ranking, runs: Sequence[TrialRow]) -> tuple[ShownRun, ...]:
    """The runs of the best configurations, best first, then those of the bounds.

    Args:
        ranking: of the study.
        runs: rows of the `trials` table.
    """
    groups = grouped(runs)
    finished = [row for row in ranking.rows if row["status"] == "finished"]
    chosen = [row for place, row in enumerate(finished) if place < MOST_CONFIGURATIONS or row["knee"]]
    shown = (
        [_shown(run, row, len(own)) for run in own[:MOST_REPLICATES]]
        for row in (*chosen, *ranking.bounds)
        for own in [groups[row["role"], row["trial"]]]
    )
    return tuple(chain.from_iterable(shown))


def first_runs(runs: Sequence[ShownRun]) -> tuple[ShownRun, ...]:
    """The first run of each configuration."""
    first: dict[str, ShownRun] = {}
    for run in runs:
        first.setdefault(run.configuration, run)
    return tuple(first.values())


def read_runs(directory: Path, runs: Sequence[ShownRun]) -> RunTables:
    """Their rows; those of other runs are never in memory as a whole."""
    keys = [run.key for run in runs]
    return RunTables(
        read_table(directory, "scores", keys),
        read_table(directory, "heads", keys),
        read_table(directory, "steps", keys),
    )


def rows_of(table: pa.Table, run: str) -> pa.Table:
    """The rows of one run."""
    return table.filter(pc.equal(table.column("trial"), run))


def matrices(scores: pa.Table, run: ShownRun) -> tuple[Scores, Scores]:
    """The score matrix of a run, `[T, T]`, and its scores before any training, `[T]`; nan = not scored."""
    cells = rows_of(scores, run.key).to_pylist()
    found = ((one["trained_index"], one["evaluated_index"], one["score"]) for one in cells if one["split"] == run.split)
    return score_arrays(found, len(run.tasks))


def _shown(run: TrialRow, row: TrialRow, num_runs: int) -> ShownRun:
    place = f"{row['rank']}. " if row["rank"] is not None else ""
    which = f", replicate {run['replicate'] + 1} of {num_runs}" if num_runs > 1 else ""
    return ShownRun(
        key=run["trial"],
        configuration=row["trial"],
        label=f"{place}{row['trial']} ({run['method']}){which}: seed {run['config.seed']:.0f}, "
        f"memory {run['config.memory_draw']:.0f}, {' → '.join(run['tasks'])}",
        method=run["method"],
        tasks=tuple(run["tasks"]),
        split=run["split"],
    )
