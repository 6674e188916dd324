"""The figures of each section of the page."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa

from seekr_tune.analysis.configurations import TrialRow, grouped
from seekr_tune.analysis.head_maps import head_maps, importance_drift, selection_overlap, task_importance
from seekr_tune.analysis.hyperparameters import LEVEL, TOLD, chosen_evaluator, importances
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.analysis.ranking_tables import void_lines
from seekr_tune.analysis.report.embed import Panel, Plot, plot
from seekr_tune.analysis.report.figures.cost import resources_figure, time_figure
from seekr_tune.analysis.report.figures.heads import drift_figure, head_map_figure, overlap_figure
from seekr_tune.analysis.report.figures.losses import losses_figure
from seekr_tune.analysis.report.figures.matrices import forgetting_figure, matrix_figure
from seekr_tune.analysis.report.figures.pareto import pareto_figure
from seekr_tune.analysis.report.figures.settings import importance_figure, slice_figure
from seekr_tune.analysis.report.runs import RunTables, ShownRun, first_runs, matrices, rows_of
from seekr_tune.analysis.report.texts import short_path
from seekr_tune.analysis.spent import spent_seconds
from seekr_tune.errors import StudyError
from seekr_tune.records import HeadRow
from seekr_tune.records.meaning import meanings_of

MOST_BARS = 20
"""Configurations in a bar chart: the first ones of the ranking, after the bounds."""


def front_plot(ranking: Ranking) -> Plot:
    """OP over samples."""
    caption = (
        "Each mark is a finished configuration: its mean OP over its replicates, with its 95 % interval where there "
        "are several. The line is the best OP that was had for so many samples; the ring is its knee."
    )
    caption = " ".join([*void_lines(ranking), caption])
    return plot("front", "OP over distinct replayed samples", caption, pareto_figure(ranking))


def score_panels(tables: RunTables, runs: Sequence[ShownRun]) -> tuple[Panel, ...]:
    """The score matrix and the forgetting curves of each run that has scores."""
    return tuple(_score_panel(tables, run) for run in runs if run.split is not None)


def _score_panel(tables: RunTables, run: ShownRun) -> Panel:
    scores, initial = matrices(tables.scores, run)
    caption = f"In percent, on {run.split}. A white cell was not scored."
    shown = [plot(f"matrix-{run.key}", "Score matrix", caption, matrix_figure(scores, run.tasks, initial))]
    if np.isfinite(scores).sum() > len(run.tasks):  # else there is one score a task, and no curve
        caption = "The score of each task when it was learned and after later ones, where it was scored."
        shown.append(plot(f"curves-{run.key}", "Forgetting", caption, forgetting_figure(scores, run.tasks)))
    return Panel(run.key, run.label, tuple(shown))


def setting_plots(ranking: Ranking, space: Mapping[str, Any]) -> Iterator[Plot]:
    """How much each setting matters, and one by one."""
    logarithmic: Collection[str] = [
        path for path, dimension in space.items() if isinstance(dimension, Mapping) and dimension.get("log")
    ]
    with suppress(StudyError):  # too few configurations: the page says so
        important = importances(ranking.rows, ranking.by)
        few = chosen_evaluator(ranking.rows, ranking.by) == "ranks"
        measured = (
            f"How strongly a setting goes with {ranking.by}, from 0 to 1, by ranks."
            if few
            else f"How much of the spread of {ranking.by} a setting explains by itself: Optuna's fANOVA over the "
            f"finished configurations, with its {100 * LEVEL:.0f} % interval from configurations drawn again."
        )
        told = [short_path(one.path) for one in important if one.p <= TOLD]
        verdict = f"Told from chance: {', '.join(told)}." if told else "No setting is distinguishable from chance."
        caption = f"{measured} A setting that only some configurations have is judged among those. {verdict}"
        yield plot("importance", "Importance of the settings", caption, importance_figure(important))
    slices = slice_figure(ranking.rows, ranking.by, logarithmic)
    if slices is not None:
        caption = f"{ranking.by} of every finished configuration; the other settings differ, too."
        yield plot("slices", "One setting at a time", caption, slices)


def head_panels(tables: RunTables, runs: Sequence[ShownRun]) -> tuple[Panel, ...]:
    """What was measured of the heads, and which were selected: in the first run of each configuration, if any."""
    with_heads = set(tables.heads.column("trial").unique().to_pylist())
    return tuple(_head_panel(tables, run) for run in first_runs(runs) if run.key in with_heads)


def _head_panel(tables: RunTables, run: ShownRun) -> Panel:
    maps = head_maps(tables.heads, run.key)
    chosen = head_map_figure(maps.selected, maps.tasks, "selected")
    shown = [
        plot(
            f"selected-{run.key}",
            "Selected heads",
            "Heads that the method selected when a task ended. Rows: layers; columns: heads.",
            chosen,
        )
    ]
    if len(maps.tasks) > 1:
        overlap = overlap_figure(selection_overlap(maps.selected), maps.tasks)
        caption = "Heads selected for both tasks / heads selected for either; 1: the same heads."
        shown.append(plot(f"overlap-{run.key}", "Overlap of the selections", caption, overlap))
        running, own = (importance_drift(values) for values in (maps.importance, task_importance(maps.importance)))
        caption = "Spearman's correlation of the heads' importance; 1: the same order. The running sum changes less."
        if not np.isnan(running).all():  # nor has `own` a value then
            drift = drift_figure(running, own, maps.tasks)
            shown.append(plot(f"drift-{run.key}", "Drift of the importance", caption, drift))
    measured = {"importance": maps.importance, "sensitivity": maps.sensitivity, "forgettability": maps.forgettability}
    meant = {name: one.formula for name, one in meanings_of(HeadRow).items()}
    folded = [
        plot(
            f"{name}-{run.key}",
            name.capitalize(),
            f"{meant[name][:1].upper()}{meant[name][1:]}.",
            head_map_figure(values, maps.tasks, name),
        )
        for name, values in measured.items()
    ]
    return Panel(run.key, run.label, tuple(shown), tuple(folded))


def loss_panels(tables: RunTables, runs: Sequence[ShownRun]) -> tuple[Panel, ...]:
    """The losses of the first run of each configuration."""
    found = []
    for run in first_runs(runs):
        steps = rows_of(tables.steps, run.key)
        if len(steps):
            caption = "Vertical lines: ends of tasks. A point is a mean over neighbouring steps where there are many."
            shown = plot(f"losses-{run.key}", "Losses", caption, losses_figure(steps, run.tasks))
            found.append(Panel(run.key, run.label, (shown,)))
    return tuple(found)


def cost_plots(ranking: Ranking, runs: Sequence[TrialRow], timing: pa.Table) -> Iterator[Plot]:
    """Time and resources of the bounds and of the first configurations."""
    ranked = [row for row in ranking.rows if row["status"] == "finished"]
    rows = [*ranking.bounds, *ranked[:MOST_BARS]]
    seconds = _seconds(rows, runs, timing)
    if seconds:
        caption = (
            "Mean over the runs of a configuration; a bar is as long as its run took. What a run was spared stands "
            "beside it and is no part of it: another run had trained or scored the same, and it was taken from there."
        )
        yield plot("time", "Where the time went", caption, time_figure(seconds))
    if rows:
        caption = "Means over the runs; peak memory is that of the fullest worker, libraries included on a CPU."
        yield plot("resources", "Tokens and bytes", caption, resources_figure(rows))


def _seconds(rows: Sequence[TrialRow], runs: Sequence[TrialRow], timing: pa.Table) -> dict[str, dict[str, float]]:
    """By configuration: mean seconds of a run by part, and those that it was spared."""
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for stage in timing.to_pylist():
        stages.setdefault(stage["trial"], []).append(stage)
    groups, found = grouped(runs), {}
    for row in rows:
        own = [
            spent_seconds(stages[run["trial"]], run["wall_seconds"])
            for run in groups[row["role"], row["trial"]]
            if run["trial"] in stages
        ]
        if own:
            found[row["trial"]] = {part: fmean(one[part] for one in own) for part in own[0]}
    return found
