"""What a task is worth without learning anything: the score of one constant answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from seekr_tune.config import Split
from seekr_tune.data.samples import mean, sample_scores
from seekr_tune.data.task import Example, Task

CANDIDATES = 50
"""Train answers that are tried: those that are most frequent in the scored split, and then in the train split."""
SEARCHED_ROWS = 200
"""Rows of the scored split on which the best constant is chosen; where only an equal answer scores, all of them."""
SEARCHED_CHARACTERS = 5_000_000
"""Characters that the search reads at most, in all pairs of a candidate and a row: a few seconds of the slowest metric.
Of longer texts fewer candidates are tried, on fewer rows."""


@dataclass(frozen=True)
class ConstantBaseline:
    """The best constant answer and its score in percent."""

    answer: str
    score: float


def constant_baseline(task: Task, split: Split) -> ConstantBaseline:
    """Score a split with the one train answer that does best on that split.

    A model that learned nothing but to say one thing scores no more than this, whichever thing it says: a score has to
    be read above it. The answer that is most frequent in train would be too low a floor where label shares differ.
    """
    examples = task.splits[split]
    in_train, in_split = (Counter(example.answer for example in rows) for rows in (task.train, examples))
    candidates = sorted(in_train, key=lambda answer: (-in_split[answer], -in_train[answer]))[:CANDIDATES]
    best = candidates[0] if task.scorer.only_equal else _best_on(task, examples, candidates)
    return ConstantBaseline(best, mean(sample_scores(task, examples, [best] * len(examples))))


def _best_on(task: Task, examples: Sequence[Example], candidates: Sequence[str]) -> str:
    """The candidate that scores best on the first rows; the first one of several."""
    rows = examples[:SEARCHED_ROWS]
    share = _affordable_share(candidates, rows, reads_prompts=task.scorer.reads_prompts)
    rows = rows[: max(1, int(share * len(rows)))]
    tried = candidates[: max(1, int(share * len(candidates)))]
    return max(tried, key=lambda answer: mean(sample_scores(task, rows, [answer] * len(rows))))


def _affordable_share(candidates: Sequence[str], rows: Sequence[Example], *, reads_prompts: bool) -> float:
    """Which part of the candidates, and of the rows, can be tried with each other; 1 where all can."""
    of_candidates = sum(map(len, candidates))
    of_rows = sum(len(row.answer) + len(row.prompt) * reads_prompts for row in rows)
    characters = of_candidates * len(rows) + of_rows * len(candidates)
    return min(1.0, sqrt(SEARCHED_CHARACTERS / max(characters, 1)))
