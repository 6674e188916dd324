"""The tables of a study or of a single run, from its ledger: which rows they have, and where their numbers lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seekr_tune.analysis import ranking_tables
from seekr_tune.analysis.ledger import read_table, read_trials
from seekr_tune.analysis.ranking import DEFAULT_COLUMN, rank
from seekr_tune.analysis.ranking_tables import void_lines
from seekr_tune.analysis.score_tables import RunScores, matrix_tables, run_scores, task_table
from seekr_tune.analysis.table import Table
from seekr_tune.analysis.worth_lines import study_warnings
from seekr_tune.documents import parse_json
from seekr_tune.errors import StudyError
from seekr_tune.experiment import load_experiment
from seekr_tune.records import ScoredSplit
from seekr_tune.study.directory.layout import experiment_path, is_study
from seekr_tune.study.directory.same_inputs import change_lines
from seekr_tune.study.final.reported import reported


def printed_ranking(directory: Path, split: ScoredSplit, by: str | None = None) -> Table:
    """All ranked configurations.

    Args:
        directory: of a study or a single run.
        split: `eval`; `test` ranks the final runs.
        by: column that orders; None: `op_per_replayed_sample`.

    Raises:
        StudyError: there is no ledger, no such column, or no score on this split.
    """
    place = _place(directory, split)
    trials = read_trials(place)
    if split not in trials.column("split").to_pylist():
        raise _not_scored(directory, split)
    ranking = rank(trials, by or DEFAULT_COLUMN)
    no_gap = void_lines(ranking) if ranking.void is None else []
    return _warned(ranking_tables.printed_ranking(ranking, _name(directory), split), directory, split, no_gap)


def printed_matrices(directory: Path, split: ScoredSplit, configurations: Sequence[str] = ()) -> list[Table]:
    """Score matrices: one for each configuration and each order of the tasks.

    Args:
        directory: of a study or a single run.
        split: which scores.
        configurations: keys; none: the best one of a study.

    Raises:
        StudyError: one of them has no finished run that was scored on this split.
    """
    runs = _runs(directory, split)
    keys = [*configurations] or [_best(directory, split, runs)]
    _require_known(directory, split, keys, runs)
    matrices = [matrix for key in keys for matrix in matrix_tables(runs, key, _name(directory), split)]
    return [_warned(matrix, directory, split) for matrix in matrices]


def printed_tasks(directory: Path, split: ScoredSplit, configurations: Sequence[str] = ()) -> Table:
    """Scores after the last task: bounds, and the configurations that the study's rule takes.

    Args:
        directory: of a study or a single run.
        split: which scores.
        configurations: keys of others to show instead, besides the bounds.

    Raises:
        StudyError: one of them has no finished run that was scored on this split.
    """
    runs = _runs(directory, split)
    if configurations:
        keys = list(configurations)
    else:
        keys = list(reported(directory, split).configurations) if is_study(directory) else [runs[0].configuration]
    _require_known(directory, split, keys, runs)
    bounds = dict.fromkeys(run.configuration for run in runs if run.role == "bound")
    tasks = runs[0].order if not is_study(directory) else _columns(directory, runs)
    told = _told_apart(directory, split, keys)
    table = task_table(runs, [*bounds, *keys], tasks, _name(directory), split, told)
    return _warned(table, directory, split)


def _warned(table: Table, directory: Path, split: ScoredSplit, above: Sequence[str] = ()) -> Table:
    """The table with what is wrong with its data and its tasks among its notes."""
    wrong = (*change_lines(directory), *above, *study_warnings(_place(directory, split)))
    return replace(table, notes=(*(f"WARNING: {line}" for line in wrong), *table.notes))


def _runs(directory: Path, split: ScoredSplit) -> tuple[RunScores, ...]:
    place = _place(directory, split)
    runs = run_scores(read_trials(place), read_table(place, "scores"), split)
    if not runs:
        raise _not_scored(directory, split)
    return runs


def _place(directory: Path, split: ScoredSplit) -> Path:
    """Where the ledger with the scores of a split is."""
    return reported(directory, "test").directory if split == "test" and is_study(directory) else directory


def _best(directory: Path, split: ScoredSplit, runs: Sequence[RunScores]) -> str:
    return reported(directory, split).best if is_study(directory) else runs[0].configuration


def _columns(directory: Path, runs: Sequence[RunScores]) -> tuple[str, ...]:
    """The tasks as the experiment lists them, as far as these runs learned them (a protocol may leave some out)."""
    learned = set(runs[0].order)
    return tuple(task for task in load_experiment(experiment_path(directory)).stream.tasks if task in learned)


def _told_apart(directory: Path, split: ScoredSplit, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the groups of `study.final.for_each` differ in besides the method, as far as the search chose it."""
    if not is_study(directory):
        return {}
    paths = load_experiment(experiment_path(directory)).study.final.for_each
    rows = read_trials(_place(directory, split)).select(["trial", "configuration", "params"]).to_pylist()
    params = {row["configuration"]: parse_json(row["params"]) for row in rows}
    return {
        key: {path: params[key][path] for path in paths if path in params[key] and path != "method.name"}
        for key in keys
    }


def _require_known(directory: Path, split: ScoredSplit, keys: Sequence[str], runs: Sequence[RunScores]) -> None:
    known = dict.fromkeys(run.configuration for run in runs)
    for key in keys:
        if key not in known:
            raise StudyError(f"{directory}: no finished run of {key!r} was scored on {split}; there are {_some(known)}")


def _some(keys: dict[str, None]) -> str:
    """Their names, as many as fit in a line."""
    listed = list(keys)
    return ", ".join(listed[:6]) + (", ..." if len(listed) > 6 else "")


def _not_scored(directory: Path, split: ScoredSplit) -> StudyError:
    other = "eval" if split == "test" else "test"
    return StudyError(f"{directory}: no finished run was scored on {split}; try --split {other}")


def _name(directory: Path) -> str:
    return directory.absolute().name
