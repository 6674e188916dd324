"""How sure a score is by the samples that it is the mean of: Student's interval, and the columns that it needs.

`op` is a mean of T tasks with samples of their own: its standard error is sqrt(sum of the tasks' squared errors) / T.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated

from seekr_tune.records import ProspectRow, Row, ScoreCell, ScoredSplit, TrialRecord
from seekr_tune.records.meaning import Meaning

LEVEL = 0.95
"""Nominal coverage of the intervals."""


def interval(mean: float, error: float, samples: int) -> tuple[float, float]:
    """Student's interval of a mean.

    Args:
        mean: of the samples.
        error: its standard error.
        samples: how many there are, at least 2.
    """
    reach = _quantile(max(1, samples - 1)) * error
    return mean - reach, mean + reach


@cache
def _quantile(freedom: int) -> float:
    from scipy.special import stdtrit  # half a second of import, which what has no errors need not wait for

    return float(stdtrit(freedom, 0.5 + LEVEL / 2))


class Sampled(Row):
    """What the scores of a run are worth; None where it does not tell."""

    op_floor: Annotated[float | None, Meaning(unit="%", reads=("prospects.floor",), heading="floor")]
    """Mean over tasks of what the best constant answer scores: the train answer that does best on the split. Op has to
    be above it: below, nothing was learned, and nothing can be forgotten. Beware: null where an earlier version ran
    it."""
    op_ceiling: Annotated[float | None, Meaning(unit="%", reads=("prospects.ceiling",), heading="ceiling")]
    """Mean over tasks of what the answers themselves score once they have been tokens, cut as in training. The most
    that any model can reach; below 100, answers are cut or lose characters. Beware: null where an earlier version ran
    it."""
    op_adjusted: Annotated[
        float | None,
        Meaning(unit="share", better="higher", reads=("scores.score", "prospects.floor"), heading="adjusted"),
    ]
    """Mean over tasks of (a - c) / (100 - c): score a at the end, c what the best constant answer scores. 0 is no
    better than constant answers, 1 is perfect; tasks with other scorers and chance levels add up. Beware: below 0 where
    a task scores below its constant answer; null where an earlier version ran it, or a constant answer is perfect."""
    op_sample_error: Annotated[float | None, Meaning(unit="points", reads=("scores.error",))]
    """Standard error of op over the scored samples: sqrt(sum over tasks of squared scores.error) / T. How far op may be
    off because the scored split is small; the spread over seeds is op_se. Beware: a mean over the runs of a
    configuration: they answer the same samples, so more runs do not lower it."""
    op_margin_error: Annotated[float | None, Meaning(unit="points", reads=("scores.margin_error",))]
    """Standard error of op - op_floor, sample by sample: sqrt(sum over tasks of squared scores.margin_error) / T. Op is
    above the floor where op - op_floor exceeds about twice this. Beware: as of op_sample_error."""
    scored_samples: Annotated[int | None, Meaning(unit="samples", reads=("prospects.rows",))]
    """Samples of the scored split, summed over tasks. What the scores rest on."""
    tasks_learned: Annotated[
        int | None,
        Meaning(unit="tasks", better="higher", reads=("scores.score", "scores.margin_error", "prospects.floor")),
    ]
    """Tasks whose score just after learning is above the best constant answer: Student's 95 % interval of the mean
    difference, sample by sample, lies above 0; of joint training, whose score at the end is. Fewer than all: what was
    not learned cannot be forgotten, and its scores say nothing of replay. Beware: null, and not 0, where an earlier
    version ran it; one in 40 is above by chance."""
    prompts_cut: Annotated[float | None, Meaning(unit="share", reads=("prospects.prompts_cut",))]
    """Share of the prompts, train and scored, that recipe.max_prompt_tokens cuts on the left. Much of it, and the input
    is not in the prompt any more; `validate` says what length cuts nothing."""
    answers_cut: Annotated[float | None, Meaning(unit="share", reads=("prospects.answers_cut",))]
    """Share of the answers, train and scored, that recipe.max_answer_tokens cuts. What is cut can neither be learned
    nor given."""
    unknown_tokens: Annotated[float | None, Meaning(unit="share", reads=("prospects.unknown_tokens",))]
    """Share of the tokens of prompts and answers that stand for what the vocabulary lacks. What the model cannot see of
    the texts. Beware: null where the tokenizer has no token for that: some drop what they do not know."""


def sampled(record: TrialRecord, split: ScoredSplit | None) -> Sampled:
    """What the scores of a run on one split are worth."""
    rows = [row for row in record.prospects if row.split in ("train", split)]
    scored = {row.task: row for row in rows if row.split == split}
    cells = [cell for cell in record.scores if cell.split == split]
    last = [cell for cell in cells if cell.trained_index == len(record.tasks) - 1]
    is_whole = len(last) == len(record.tasks)
    return Sampled(
        op_floor=_mean([scored[task].floor for task in record.tasks if task in scored], len(record.tasks)),
        op_ceiling=_mean([scored[task].ceiling for task in record.tasks if task in scored], len(record.tasks)),
        op_adjusted=_adjusted(last, scored) if is_whole else None,
        op_sample_error=_of_mean([cell.error for cell in last]) if is_whole else None,
        op_margin_error=_of_mean([cell.margin_error for cell in last]) if is_whole else None,
        scored_samples=sum(row.rows for row in scored.values()) or None,
        tasks_learned=tasks_learned(record, split),
        prompts_cut=share_of_rows(rows, "prompts_cut"),
        answers_cut=share_of_rows(rows, "answers_cut"),
        unknown_tokens=share_of_rows(rows, "unknown_tokens"),
    )


def _adjusted(last: Sequence[ScoreCell], scored: Mapping[str, ProspectRow]) -> float | None:
    """`Sampled.op_adjusted` of the scores at the end."""
    floors = [scored[cell.evaluated].floor if cell.evaluated in scored else None for cell in last]
    shares = [
        (cell.score - floor) / (100 - floor)
        for cell, floor in zip(last, floors, strict=True)
        if floor is not None and floor < 100
    ]
    return _mean(shares, len(last))


def tasks_learned(record: TrialRecord, split: ScoredSplit | None) -> int | None:
    """`Sampled.tasks_learned`: tasks whose score just after learning is above the floor; None until known of all."""
    scored = {row.task: row for row in record.prospects if row.split == split}
    known = 0
    learned = 0
    for cell in record.scores:
        index = len(record.tasks) - 1 if record.method == "joint" else cell.evaluated_index
        row = scored.get(cell.evaluated)
        if cell.split == split and cell.trained_index == index and row and row.floor is not None:
            if cell.margin_error is not None:
                known += 1
                learned += interval(cell.score - row.floor, cell.margin_error, row.rows)[0] > 0
    return learned if known == len(record.tasks) else None


def _of_mean(errors: Sequence[float | None]) -> float | None:
    known = [error for error in errors if error is not None]
    return math.sqrt(sum(error**2 for error in known)) / len(known) if known and len(known) == len(errors) else None


def _mean(values: Sequence[float | None], count: int) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / count if len(known) == count else None


def share_of_rows(rows: Sequence[ProspectRow], name: str) -> float | None:
    """A share of these rows together (`prompts_cut`, `unknown_tokens`, ...); None where none of them knows its own."""
    known = [(getattr(row, name), row.rows) for row in rows if getattr(row, name) is not None]
    count = sum(samples for _, samples in known)
    return sum(share * samples for share, samples in known) / count if count else None
