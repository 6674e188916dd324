"""How sure a score is by the samples that it is the mean of: Student's interval, and the columns that it needs.

`op` is a mean of T tasks with samples of their own: its standard error is sqrt(sum of the tasks' squared errors) / T.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seekr_tune.analysis.record import ProspectRow, ScoreCell, ScoredSplit, TrialRecord

LEVEL = 0.95
"""Nominal coverage of the intervals."""


def interval(mean: float, error: float, samples: int) -> tuple[float, float]:
    """Student's interval of a mean.

    Args:
        mean: of the samples.
        error: its standard error.
        samples: how many there are, at least 2.
    """
    from scipy.special import stdtrit  # half a second of import, which what has no errors need not wait for

    reach = float(stdtrit(max(1, samples - 1), 0.5 + LEVEL / 2)) * error
    return mean - reach, mean + reach


@dataclass(frozen=True)
class Sampled:
    """What the scores of a run are worth; None where it does not tell. `glossary.METRICS` says what each one is."""

    op_floor: float | None
    op_ceiling: float | None
    op_sample_error: float | None
    op_margin_error: float | None
    scored_samples: int | None
    tasks_learned: int | None
    prompts_cut: float | None
    answers_cut: float | None
    unknown_tokens: float | None


def sampled(record: TrialRecord, split: ScoredSplit | None) -> Sampled:
    """What the scores of a run on one split are worth."""
    rows = [row for row in record.prospects if row.split in ("train", split)]
    scored = {row.task: row for row in rows if row.split == split}
    cells = [cell for cell in record.scores if cell.split == split]
    last = [cell for cell in cells if cell.trained_index == len(record.tasks) - 1]
    own = last if record.method == "joint" else [cell for cell in cells if cell.trained_index == cell.evaluated_index]
    is_whole = len(last) == len(record.tasks)
    return Sampled(
        op_floor=_mean([scored[task].floor for task in record.tasks if task in scored], len(record.tasks)),
        op_ceiling=_mean([scored[task].ceiling for task in record.tasks if task in scored], len(record.tasks)),
        op_sample_error=_of_mean([cell.error for cell in last]) if is_whole else None,
        op_margin_error=_of_mean([cell.margin_error for cell in last]) if is_whole else None,
        scored_samples=sum(row.rows for row in scored.values()) or None,
        tasks_learned=_num_learned(own, scored, len(record.tasks)),
        prompts_cut=_share(rows, "prompts_cut"),
        answers_cut=_share(rows, "answers_cut"),
        unknown_tokens=_share(rows, "unknown_tokens"),
    )


def _num_learned(own: Sequence[ScoreCell], scored: dict[str, ProspectRow], num_tasks: int) -> int | None:
    """Tasks whose score just after learning is above the floor; None until that is known of all."""
    known = 0
    learned = 0
    for cell in own:
        row = scored.get(cell.evaluated)
        if row is not None and row.floor is not None and cell.margin_error is not None:
            known += 1
            learned += interval(cell.score - row.floor, cell.margin_error, row.rows)[0] > 0
    return learned if known == num_tasks else None


def _of_mean(errors: Sequence[float | None]) -> float | None:
    known = [error for error in errors if error is not None]
    return math.sqrt(sum(error**2 for error in known)) / len(known) if known and len(known) == len(errors) else None


def _mean(values: Sequence[float | None], count: int) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / count if len(known) == count else None


def _share(rows: Sequence[ProspectRow], name: str) -> float | None:
    """Of the samples of all tasks and splits."""
    known = [(getattr(row, name), row.rows) for row in rows if getattr(row, name) is not None]
    count = sum(samples for _, samples in known)
    return sum(share * samples for share, samples in known) / count if count else None
