"""Scores sample by sample, and how sure their mean is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from seekr_tune.data.task import Example, Task
from seekr_tune.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TaskScore:
    """The score of a task on one split.

    Attributes:
        score: mean over its samples, in percent.
        error: standard error of that mean, in points: sample standard deviation / sqrt(samples); None for one sample.
        margin_error: the same of the mean difference to the best constant answer, sample by sample; what is hard for
            both cancels in it. None where there is no such answer.
    """

    score: float
    error: float | None = None
    margin_error: float | None = None


def scored(
    task: Task, examples: Sequence[Example], predictions: Sequence[str], constant: Sequence[float] | None = None
) -> TaskScore:
    """The score of predictions.

    Args:
        task: whose metric scores.
        examples: at least one.
        predictions: one for each.
        constant: what the best constant answer scores on each, in percent (`sample_scores`).
    """
    samples = sample_scores(task, examples, predictions)
    margins = [] if constant is None else [own - other for own, other in zip(samples, constant, strict=True)]
    return TaskScore(mean(samples), standard_error(samples), standard_error(margins))


def sample_scores(task: Task, examples: Sequence[Example], predictions: Sequence[str]) -> list[float]:
    """The score of each sample in percent; their mean is the score of the task.

    Raises:
        ConfigError: a scorer of a user's own fails on one of them, with the task and the sample, counted from 1.
    """
    scores: list[float] = []
    try:
        for one, prediction in zip(examples, predictions, strict=True):
            scores.append(task.scorer.score(prediction, one.answer, one.prompt))
    except ConfigError as error:
        raise ConfigError(f"task {task.name!r}, sample {len(scores) + 1}: {error}") from error.__cause__
    return scores


def mean(values: Sequence[float]) -> float:
    """Of at least one."""
    return sum(values) / len(values)


def standard_error(values: Sequence[float]) -> float | None:
    """Of their mean; None for fewer than two."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
