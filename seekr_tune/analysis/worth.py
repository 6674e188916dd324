"""What the scores of each task are worth: against the best constant answer, a perfect model, and what is cut.

A task is *learned* where the score just after learning is above its floor, the score of the best constant answer: the
95 % interval of the mean difference, sample by sample, lies above 0. The interval is Student's for the mean of paired
differences (quantiles of scipy), from the standard error that each run keeps beside its scores. Several runs of a study
answer the same samples, so their errors do not average out: the interval over runs is that of the mean difference with
the mean of the errors. What an earlier version ran has no errors, and is unknown, never "not learned".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from seekr_tune.analysis.sampled import interval, share_of_rows
from seekr_tune.records import ProspectRow, ScoreCell, ScoredSplit, TrialRecord, tuning_split

SLIGHT = 0.01
"""A larger share of prompts, answers or tokens that is lost is warned of."""


@dataclass(frozen=True)
class RunTasks:
    """What one run says of its tasks.

    Attributes:
        method: its method.
        tasks: in learning order.
        split: whose scores are looked at; None without any.
        limits: `recipe.max_prompt_tokens` and `recipe.max_answer_tokens`.
        cells: its scores.
        prospects: what data and model allow; empty where an earlier version ran it.
    """

    method: str
    tasks: tuple[str, ...]
    split: ScoredSplit | None
    limits: tuple[int, int]
    cells: Sequence[ScoreCell]
    prospects: Sequence[ProspectRow]

    @cached_property
    def scores(self) -> Mapping[tuple[str, int], ScoreCell]:
        """The cells of its split, by the task that was scored and the place of the one that was learned last."""
        return {(cell.evaluated, cell.trained_index): cell for cell in self.cells if cell.split == self.split}

    @cached_property
    def expected(self) -> Mapping[str, Mapping[str, ProspectRow]]:
        """What its split and `train` allow, by task and split."""
        found: dict[str, dict[str, ProspectRow]] = {}
        for row in self.prospects:
            if row.split in ("train", self.split):
                found.setdefault(row.task, {})[row.split] = row
        return found


@dataclass(frozen=True)
class Measured:
    """A score of a task, a mean over runs, and its margin over the best constant answer.

    Attributes:
        score: in percent.
        low, high: 95 % interval of the margin, in points; None where it is not known.
    """

    score: float
    low: float | None = None
    high: float | None = None

    @property
    def is_above(self) -> bool | None:
        """Whether it is above the best constant answer; None where that is not known."""
        return None if self.low is None else self.low > 0

    @property
    def interval(self) -> str:
        """The interval of the margin."""
        return f"{self.low:+.1f} to {self.high:+.1f}"

    def parts(self, name: str) -> Mapping[str, Any]:
        """The score, and `<name>_low` and `<name>_high` of the margin."""
        return {name: self.score, f"{name}_low": self.low, f"{name}_high": self.high}

    def text(self, number: Callable[[float | None], str]) -> str:
        """The score, and the interval of its margin."""
        return number(self.score) + ("" if self.low is None else f" ({self.interval})")


@dataclass(frozen=True)
class TaskWorth:
    """One task of a run or of a study; numbers are means over runs.

    Attributes:
        task: its name.
        split: whose scores these are; None without any.
        is_known: False where every run of it is an earlier version's: what follows is unknown then.
        prompts_cut, answers_cut: shares that the limits cut, over the train and the scored rows.
        unknown_tokens: share of the tokens that the vocabulary lacks; None where it has no token for that.
        limits: `recipe.max_prompt_tokens` and `recipe.max_answer_tokens`.
        needed: the limits that cut nothing.
        ceiling, floor: what a perfect model and the best constant answer score, in percent.
        zero_shot: score before any training; None where it was not measured.
        own: the score just after learning.
        joint: the score of training on all tasks at once.
    """

    task: str
    split: ScoredSplit | None
    is_known: bool
    prompts_cut: float | None
    answers_cut: float | None
    unknown_tokens: float | None
    limits: tuple[int, int]
    needed: tuple[int, int]
    ceiling: float | None
    floor: float | None
    zero_shot: float | None
    own: Measured | None
    joint: Measured | None

    @property
    def is_learned(self) -> bool | None:
        """By the score just after learning, or of joint training where there is no other run; None: unknown."""
        measured = self.own or self.joint
        return None if measured is None else measured.is_above


def runs_of_records(records: Iterable[TrialRecord], split: ScoredSplit | None = None) -> list[RunTasks]:
    """The runs of a study, or a single one, from their records."""
    return [
        RunTasks(
            record.method,
            record.tasks,
            split or tuning_split(record),
            _limits(record.config["recipe"]),
            record.scores,
            record.prospects,
        )
        for record in records
    ]


def runs_of_ledger(directory: Path) -> list[RunTasks]:
    """The runs of a ledger.

    Raises:
        StudyError: there is no ledger, or it is damaged.
    """
    from seekr_tune.analysis.ledger import (  # with Arrow, which records do without
        read_prospects,
        read_table,
        read_trials,
    )

    names = ["trial", "method", "tasks", "split", *(f"config.recipe.{limit}" for limit in _LIMITS)]
    trials = read_trials(directory).select(names).to_pylist()
    scores, prospects = _by_trial(read_table(directory, "scores")), _by_trial(read_prospects(directory))
    return [
        RunTasks(
            row["method"],
            tuple(row["tasks"]),
            row["split"],
            (int(row[names[-2]]), int(row[names[-1]])),
            [ScoreCell.model_construct(**cell) for cell in scores.get(row["trial"], ())],
            [ProspectRow.model_construct(**one) for one in prospects.get(row["trial"], ())],
        )
        for row in trials
    ]


def task_worths(runs: Sequence[RunTasks]) -> tuple[TaskWorth, ...]:
    """What each task is worth, over all runs that have it, in the order of the first run."""
    return tuple(_worth(task, runs) for task in dict.fromkeys(task for run in runs for task in run.tasks))


def study_worths(directory: Path) -> tuple[TaskWorth, ...]:
    """What each task of a study or of a single run is worth, from its ledger; raises as `runs_of_ledger` does."""
    return task_worths(runs_of_ledger(directory))


def worths_of(prospects: Sequence[ProspectRow], limits: tuple[int, int]) -> tuple[TaskWorth, ...]:
    """What is known of each task before anything is trained."""
    split = next((row.split for row in prospects if row.split != "train"), None)
    tasks = tuple(dict.fromkeys(row.task for row in prospects))
    return task_worths([RunTasks("", tasks, split, limits, (), prospects)])


_LIMITS = ("max_prompt_tokens", "max_answer_tokens")


def _limits(recipe: Any) -> tuple[int, int]:
    return int(recipe[_LIMITS[0]]), int(recipe[_LIMITS[1]])


def _by_trial(table: Any) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in table.to_pylist():
        found.setdefault(row.pop("trial"), []).append(row)
    return found


def _worth(task: str, runs: Sequence[RunTasks]) -> TaskWorth:
    having = [run for run in runs if task in run.tasks]
    rows = [row for run in having for row in run.expected.get(task, {}).values()]
    scored = [row for row in rows if row.split != "train"]
    initial = [run.scores[task, -1].score for run in having if (task, -1) in run.scores]
    return TaskWorth(
        task=task,
        split=next((run.split for run in having if run.split), None),
        is_known=bool(rows),
        prompts_cut=share_of_rows(rows, "prompts_cut"),
        answers_cut=share_of_rows(rows, "answers_cut"),
        unknown_tokens=share_of_rows(rows, "unknown_tokens"),
        limits=having[0].limits,
        needed=(
            max((row.longest_prompt for row in rows), default=0),
            max((row.longest_answer for row in rows), default=0),
        ),
        ceiling=_mean([row.ceiling for row in scored]),
        floor=_mean([row.floor for row in scored]),
        zero_shot=fmean(initial) if initial else None,
        own=_measured(task, [run for run in having if run.method != "joint"], is_joint=False),
        joint=_measured(task, [run for run in having if run.method == "joint"], is_joint=True),
    )


def _measured(task: str, runs: Sequence[RunTasks], is_joint: bool) -> Measured | None:
    scores: list[float] = []
    margins: list[tuple[float, float, int]] = []  # above the floor, its error, and of how many samples
    for run in runs:
        index = len(run.tasks) - 1 if is_joint else run.tasks.index(task)
        cell, row = run.scores.get((task, index)), run.expected.get(task, {}).get(run.split or "")
        if cell is not None:
            scores.append(cell.score)
            if row is not None and row.floor is not None and cell.margin_error is not None:
                margins.append((cell.score - row.floor, cell.margin_error, row.rows))
    if not scores:
        return None
    if not margins:
        return Measured(fmean(scores))
    margin, error, samples = (fmean(column) for column in zip(*margins, strict=True))
    return Measured(fmean(scores), *interval(margin, error, int(samples)))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
