"""The numbers that describe one trial; `glossary.METRICS` says what each of them is.

Numbers that need cells which were not evaluated are null, and so is a quotient whose divisor is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seekr_tune.analysis.record import (
    ReplayRow,
    ScoredSplit,
    TimingRow,
    TrialRecord,
    initial_scores,
    score_matrix,
    tuning_split,
)
from seekr_tune.stream.metrics import (
    backward_transfer,
    backward_transfer_official,
    forgetting,
    forward_transfer,
    overall_performance,
)


@dataclass(frozen=True)
class Measures:
    """The numbers of one trial on one split; `glossary.METRICS` says what each one is."""

    split: ScoredSplit | None
    op: float | None
    bwt: float | None
    bwt_official: float | None
    fwt: float | None
    forgetting: float | None
    distinct_replayed_samples: int | None
    stored_samples: int
    replay_presentations: int
    replay_updates: int
    replay_tokens: int
    memory_bytes: int
    op_per_replayed_sample: float | None
    op_per_presentation: float | None
    op_per_replayed_token: float | None
    op_per_replayed_byte: float | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    flops_utilisation: float | None


def measure(record: TrialRecord, split: ScoredSplit | None = None) -> Measures:
    """The numbers of a trial.

    Args:
        record: what the trial wrote, finished or not.
        split: split of the scores; None takes `eval` if it was scored, else `test`.
    """
    split = split or tuning_split(record)
    scores = score_matrix(record, split) if split else None
    op = overall_performance(scores) if scores is not None else None
    samples = replayed_samples(record.replay, record.config)
    presentations = sum(row.presentations for row in record.replay)
    tokens = sum(row.tokens for row in record.replay)
    memory_bytes = sum(row.bytes for row in record.replay)
    trained = sum(row.tokens for row in record.timing)
    return Measures(
        split=split,
        op=op,
        bwt=None if scores is None else backward_transfer(scores),
        bwt_official=None if scores is None else backward_transfer_official(scores),
        fwt=None if scores is None or split is None else forward_transfer(scores, initial_scores(record, split)),
        forgetting=None if scores is None else forgetting(scores),
        distinct_replayed_samples=samples,
        stored_samples=sum(row.stored_samples for row in record.replay),
        replay_presentations=presentations,
        replay_updates=sum(row.replay_updates for row in record.replay),
        replay_tokens=tokens,
        memory_bytes=memory_bytes,
        op_per_replayed_sample=quotient(op, samples),
        op_per_presentation=quotient(op, presentations),
        op_per_replayed_token=quotient(op, tokens),
        op_per_replayed_byte=quotient(op, memory_bytes),
        tokens_per_second=quotient(trained, sum(row.step_seconds for row in record.timing)),
        peak_memory_bytes=_peak([row.peak_memory_bytes for row in record.timing]),
        flops_utilisation=_utilisation(record.timing),
    )


def _peak(peaks: Sequence[int | None]) -> int | None:
    """Of several stages; None where that of one is not known."""
    known = [peak for peak in peaks if peak is not None]
    return max(known, default=None) if len(known) == len(peaks) else None


def replayed_samples(rows: Sequence[ReplayRow], config: Mapping[str, Any]) -> int | None:
    """How many different samples were replayed; None where nobody can tell.

    Rows of schema version 2 do not say how many presentations were the first of their sample. It is certain where a
    task showed nothing, and where it showed as much as all stored samples in all of its epochs: an epoch shows none of
    them twice before it has shown each once.

    Args:
        rows: of the tasks that are finished, in order.
        config: the resolved experiment.
    """
    epochs = config["recipe"]["epochs"]
    shown: int | None = 0
    stored = 0
    for row in rows:
        of_each = epochs if isinstance(epochs, int) else epochs[row.task_index]
        if row.first_presentations is not None:
            shown = None if shown is None else shown + row.first_presentations
        elif row.presentations >= of_each * stored:
            shown = stored
        elif row.presentations:
            shown = None
        stored += row.stored_samples
    return shown


def _utilisation(timing: Sequence[TimingRow]) -> float | None:
    """Of several stages: all that was computed by all that could have been; None where that is not known of one."""
    possible = [row.model_flops / row.flops_utilisation for row in timing if row.flops_utilisation]
    return quotient(sum(row.model_flops for row in timing), sum(possible)) if len(possible) == len(timing) else None


def quotient(value: float | None, divisor: float | None) -> float | None:
    """`value / divisor`; None where one of them has no value, or where the divisor is 0."""
    return None if value is None or not divisor else value / divisor
