"""What a task is worth without learning anything: the score of one constant answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from seekr_tune.config import Split
from seekr_tune.stream.scoring import score
from seekr_tune.stream.task import Example, Task

CANDIDATES = 50
"""Most frequent train answers that are tried."""
SEARCHED_ROWS = 200
"""Train rows on which the best constant is chosen."""
SEARCHED_CHARACTERS = 5_000_000
"""Characters that the search reads at most, in all pairs of a candidate and a row: a few seconds of the slowest metric.
Of longer texts fewer candidates are tried, on fewer rows."""


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
    best = candidates[0] if task.metric == "exact_match" else _best_on_train(task, candidates)
    examples = task.splits[split]
    answers, prompts = [example.answer for example in examples], [example.prompt for example in examples]
    return ConstantBaseline(best, score(task.metric, [best] * len(examples), answers, prompts))


def _best_on_train(task: Task, candidates: Sequence[str]) -> str:
    """The candidate that scores best on the first train rows; the most frequent one of several."""
    rows = task.train[:SEARCHED_ROWS]
    share = _affordable_share(candidates, rows, reads_prompts=task.metric == "sari")
    rows = rows[: max(1, int(share * len(rows)))]
    answers, prompts = [example.answer for example in rows], [example.prompt for example in rows]

    def train_score(answer: str) -> float:
        return score(task.metric, [answer] * len(rows), answers, prompts)

    return max(candidates[: max(1, int(share * len(candidates)))], key=train_score)


def _affordable_share(candidates: Sequence[str], rows: Sequence[Example], *, reads_prompts: bool) -> float:
    """Which part of the candidates, and of the rows, can be tried with each other; 1 where all can."""
    of_candidates = sum(map(len, candidates))
    of_rows = sum(len(row.answer) + len(row.prompt) * reads_prompts for row in rows)
    characters = of_candidates * len(rows) + of_rows * len(candidates)
    return min(1.0, sqrt(SEARCHED_CHARACTERS / max(characters, 1)))
