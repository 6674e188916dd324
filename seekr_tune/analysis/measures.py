"""The numbers that describe one trial, each with its formula.

Notation: T tasks, a[i, j] = score in percent on task j after training task i, b[j] = score on task j before any
training. Numbers that need cells which were not evaluated are null, and so is a quotient whose divisor is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seekr_tune.analysis.record import ScoredSplit, TimingRow, TrialRecord, initial_scores, score_matrix, tuning_split
from seekr_tune.stream.metrics import (
    backward_transfer,
    backward_transfer_official,
    forgetting,
    forward_transfer,
    overall_performance,
)

FORMULAS: dict[str, str] = {
    "op": "mean over j of a[T, j], in percent",
    "bwt": "mean over j < T of (a[T, j] - a[j, j]): divided by T - 1",
    "bwt_official": "sum over j < T of (a[T, j] - a[j, j]), divided by T as the official code does",
    "fwt": "mean over j > 1 of (a[j-1, j] - b[j])",
    "forgetting": "mean over j < T of (max over j <= i < T of a[i, j] - a[T, j])",
    "distinct_replayed_samples": "samples kept in the replay memory, summed over tasks",
    "replay_presentations": "times that a replayed sample was shown during training, repeats counted",
    "replay_updates": "training steps on replayed samples",
    "replay_tokens": "tokens of the presentations, pads not counted",
    "memory_bytes": "bytes of the replay memory, teacher tensors included, summed over tasks",
    "op_per_replayed_sample": "op / distinct_replayed_samples; null without replay, which ranks last",
    "op_per_presentation": "op / replay_presentations; null without replay",
    "op_per_replayed_token": "op / replay_tokens; null without replay",
    "op_per_replayed_byte": "op / memory_bytes; null without replay",
    "wall_seconds": "time that the trial ran, summed over resumes",
    "shared_seconds": "time of training and scoring that the trial was spared, because another run had done the same; "
    "summed over tasks",
    "tokens_per_second": "tokens trained, new and replayed, in the time of the training steps; summed over tasks",
    "peak_memory_bytes": "most bytes at once on the fullest worker: of device memory on a GPU, resident on a CPU",
    "flops_utilisation": "operations of the forward and backward passes, by those that the devices could have done in "
    "the time of the training steps; null where their peak is not known",
    "replicate": "which run of its configuration, from 0: one for each order, seed and memory draw",
    "replicates": "finished runs of the configuration; its numbers are means over them",
    "op_se": "standard error of op: sample standard deviation over the finished runs / sqrt(replicates); null for one",
    "normalised_gain": "(op - op_seqft) / (op_joint - op_seqft): share of the gap between the bounds that is closed; "
    "taken in each order and seed, then averaged; null where joint training is not better than seqft",
    "gain_per_replayed_sample": "(op - op_seqft) / distinct_replayed_samples; null without replay",
    "op_low": "2.5 % end of the 95 % bootstrap interval of op, over settings (order, seed, memory draw)",
    "op_high": "97.5 % end of that interval",
    "normalised_gain_low": "2.5 % end of the 95 % bootstrap interval of normalised_gain, over settings",
    "normalised_gain_high": "97.5 % end of that interval",
    "gain_per_replayed_sample_low": "2.5 % end of the 95 % bootstrap interval of gain_per_replayed_sample",
    "gain_per_replayed_sample_high": "97.5 % end of that interval",
    "p_best": "share of the paired resamples in which its mean of the column that orders is the best of all finished "
    "configurations",
    "beats_seqft": "op > op_seqft",
    "op_seqft": "op of the bound without replay, in the same stream and with the same seed",
    "op_joint": "op of the bound that learns all tasks at once",
    "pareto": "no finished trial has op at least as high with as few distinct_replayed_samples, and one of them better",
    "knee": "the point of the front with the largest y - x, where x = log10(samples) and y = op, each scaled to [0, 1] "
    "over the front",
    "hypervolume": "integral over x = log10(samples), over the declared range, of max(0, best op of the trials with at "
    "most 10^x distinct_replayed_samples - reference op)",
    "samples_to_target": "fewest distinct_replayed_samples of a trial whose normalised_gain reaches the target",
}
"""What each number is, by its column; shown beside the numbers."""


@dataclass(frozen=True)
class Measures:
    """The numbers of one trial on one split; `FORMULAS` says what each one is."""

    split: ScoredSplit | None
    op: float | None
    bwt: float | None
    bwt_official: float | None
    fwt: float | None
    forgetting: float | None
    distinct_replayed_samples: int
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
    samples = sum(row.stored_samples for row in record.replay)
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
        replay_presentations=presentations,
        replay_updates=sum(row.replay_updates for row in record.replay),
        replay_tokens=tokens,
        memory_bytes=memory_bytes,
        op_per_replayed_sample=quotient(op, samples),
        op_per_presentation=quotient(op, presentations),
        op_per_replayed_token=quotient(op, tokens),
        op_per_replayed_byte=quotient(op, memory_bytes),
        tokens_per_second=quotient(trained, sum(row.step_seconds for row in record.timing)),
        peak_memory_bytes=max((row.peak_memory_bytes for row in record.timing), default=None),
        flops_utilisation=_utilisation(record.timing),
    )


def _utilisation(timing: Sequence[TimingRow]) -> float | None:
    """Of several stages: all that was computed by all that could have been; None where that is not known of one."""
    possible = [row.model_flops / row.flops_utilisation for row in timing if row.flops_utilisation]
    return quotient(sum(row.model_flops for row in timing), sum(possible)) if len(possible) == len(timing) else None


def quotient(value: float | None, divisor: float) -> float | None:
    """`value / divisor`; None where there is no value, or where the divisor is 0."""
    return None if value is None or divisor == 0 else value / divisor
