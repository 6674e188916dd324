"""What a task is worth without learning anything: the score of one constant answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from seekr_tune.config import Split
from seekr_tune.stream.scoring import Scorer
from seekr_tune.stream.task import Example, Task

CANDIDATES = 50
"""Train answers that are tried: those that are most frequent in the scored split, and then in the train split."""
SEARCHED_ROWS = 200
"""Rows of the scored split on which the best constant is chosen; exact match looks at all of them."""
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
    best = candidates[0] if task.scorer.name == "exact_match" else _best_on(examples, task.scorer, candidates)
    answers, prompts = [example.answer for example in examples], [example.prompt for example in examples]
    return ConstantBaseline(best, task.scorer.mean([best] * len(examples), answers, prompts))


def _best_on(examples: Sequence[Example], scorer: Scorer, candidates: Sequence[str]) -> str:
    """The candidate that scores best on the first rows; the first one of several."""
    rows = examples[:SEARCHED_ROWS]
    share = _affordable_share(candidates, rows, reads_prompts=scorer.reads_prompts)
    rows = rows[: max(1, int(share * len(rows)))]
    answers, prompts = [example.answer for example in rows], [example.prompt for example in rows]

    def found(answer: str) -> float:
        return scorer.mean([answer] * len(rows), answers, prompts)

    return max(candidates[: max(1, int(share * len(candidates)))], key=found)


def _affordable_share(candidates: Sequence[str], rows: Sequence[Example], *, reads_prompts: bool) -> float:
    """Which part of the candidates, and of the rows, can be tried with each other; 1 where all can."""
    of_candidates = sum(map(len, candidates))
    of_rows = sum(len(row.answer) + len(row.prompt) * reads_prompts for row in rows)
    characters = of_candidates * len(rows) + of_rows * len(candidates)
    return min(1.0, sqrt(SEARCHED_CHARACTERS / max(characters, 1)))
