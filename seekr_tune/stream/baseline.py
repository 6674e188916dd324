"""What a task is worth without learning anything: the score of one constant answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from seekr_tune.config import Split
from seekr_tune.stream.scoring import score
from seekr_tune.stream.task import Task

CANDIDATES = 50
"""Most frequent train answers that are tried."""
SEARCHED_ROWS = 200
"""Train rows on which the best constant is chosen."""


@dataclass(frozen=True)
class ConstantBaseline:
    """The best constant answer and its score in percent."""

    answer: str
    score: float


def constant_baseline(task: Task, split: Split) -> ConstantBaseline:
    """Score a split with the one answer that does best on the train split.

    A model that only learned the label prior scores this much; a score has to be read above it. For exact match the
    answer is the most frequent train answer. The answer is chosen on train rows alone, so it may be a poor one where
    the splits' label distributions differ.
    """
    candidates = [answer for answer, _ in Counter(example.answer for example in task.train).most_common(CANDIDATES)]
    rows = task.train[:SEARCHED_ROWS] if task.metric != "exact_match" else ()

    def train_score(answer: str) -> float:
        return score(task.metric, [answer] * len(rows), [e.answer for e in rows], [e.prompt for e in rows])

    best = max(candidates, key=train_score) if rows else candidates[0]
    examples = task.splits[split]
    answers, prompts = [example.answer for example in examples], [example.prompt for example in examples]
    return ConstantBaseline(best, score(task.metric, [best] * len(examples), answers, prompts))
