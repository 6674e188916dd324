"""The numbers that describe one trial.

Numbers that need cells which were not evaluated are null, and so is a quotient whose divisor is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from seekr_tune.analysis.continual_metrics import (
    backward_transfer,
    backward_transfer_official,
    forgetting,
    forward_transfer,
    overall_performance,
)
from seekr_tune.records import (
    ReplayRow,
    Row,
    ScoredSplit,
    TimingRow,
    TrialRecord,
    score_arrays_of,
    tuning_split,
)
from seekr_tune.records.meaning import Meaning

_SCORES = ("scores.score",)


class Measures(Row):
    """The numbers of one trial on one split.

    Notation: T tasks, a[i, j] = score in percent on task j after training task i, b[j] = score on task j before any
    training.
    """

    split: ScoredSplit | None
    """Split whose scores are in the row. Eval while tuning; test after `finalize`."""
    op: Annotated[float | None, Meaning(unit="%", better="higher", reads=_SCORES, heading="OP")]
    """Mean over j of a[T, j], in percent. Overall performance: the mean score of all tasks when the last one was
    learned. Beware: a mean over tasks with different scorers; read it above op_floor."""
    bwt: Annotated[float | None, Meaning(unit="points", better="higher", reads=_SCORES, heading="BWT")]
    """Mean over j < T of (a[T, j] - a[j, j]): divided by T - 1. What later tasks did to earlier ones; below 0 is
    forgetting. Beware: what was never learned cannot be forgotten: 0 with a low op is no success."""
    bwt_official: Annotated[float | None, Meaning(unit="points", better="higher", reads=_SCORES)]
    """Sum over j < T of (a[T, j] - a[j, j]), divided by T as the official code does. Bwt for comparison with numbers
    that the authors' release prints. Beware: smaller in size than bwt by (T - 1) / T; never compare one with the
    other."""
    fwt: Annotated[float | None, Meaning(unit="points", better="higher", reads=_SCORES, heading="FWT")]
    """Mean over j > 1 of (a[j-1, j] - b[j]). What earlier tasks did for a task not yet learned. Beware: null unless
    evaluation.matrix is full, for it needs scores of tasks that were not learned yet."""
    forgetting: Annotated[float | None, Meaning(unit="points", better="lower", reads=_SCORES)]
    """Mean over j < T of (max over j <= i < T of a[i, j] - a[T, j]). Loss from the best since the task was learned.
    Beware: null unless evaluation.matrix is full or seen; Chaudhry's takes scores from before it was learned, too."""
    distinct_replayed_samples: Annotated[
        int | None, Meaning(unit="samples", better="lower", reads=("replay.first_presentations",), heading="samples")
    ]
    """Different samples that were shown in replay at least once. First reading of replayed samples: what the result
    used of the memory; the x of the front. Beware: not what is stored: nothing replays the last task's samples yet, and
    semantics official may show a part of the memory; null where version 2 of the ledger did not count that part."""
    stored_samples: Annotated[
        int, Meaning(unit="samples", better="lower", reads=("replay.stored_samples",), heading="stored")
    ]
    """Samples kept in the replay memory, summed over tasks. What has to be kept, the last task's samples too: `extend`
    replays them."""
    replay_presentations: Annotated[
        int, Meaning(unit="presentations", better="lower", reads=("replay.presentations",), heading="shown")
    ]
    """Times that a replayed sample was shown during training, repeats counted. Second reading: what replay costs in
    samples trained."""
    replay_updates: Annotated[int, Meaning(unit="steps", better="lower", reads=("replay.replay_updates",))]
    """Training steps on replayed samples. What replay costs in optimizer steps."""
    replay_tokens: Annotated[int, Meaning(unit="tokens", better="lower", reads=("replay.tokens",), heading="tokens")]
    """Tokens of the presentations, pads not counted. Third reading: what replay costs in compute, for samples differ in
    length."""
    memory_bytes: Annotated[int, Meaning(unit="bytes", better="lower", reads=("replay.bytes",), heading="bytes")]
    """Bytes of the replay memory, teacher tensors included, summed over tasks. Fourth reading: what the memory takes on
    disk; tells plain replay from distillation."""
    state_bytes: Annotated[
        int | None, Meaning(unit="bytes", better="lower", reads=("replay.state_bytes",), heading="kept bytes")
    ]
    """Most bytes that were kept for old tasks when a task ended: the replay memory, and what the method knows besides
    the model; null where an earlier version ran it. What a method takes beside the model, whatever it keeps (EWC:
    Fisher information and old weights); the same for any number of workers."""
    op_per_replayed_sample: Annotated[
        float | None,
        Meaning(unit="% per sample", better="higher", reads=("op", "distinct_replayed_samples"), heading="OP/sample"),
    ]
    """op / distinct_replayed_samples; null without replay, which ranks last. The literal quotient, and the default
    order; read it beside normalised_gain and the front. Beware: always favours the smallest memory: a model that keeps
    one sample and learns nothing has a fine quotient."""
    op_per_presentation: Annotated[
        float | None,
        Meaning(unit="% per presentation", better="higher", reads=("op", "replay_presentations"), heading="OP/showing"),
    ]
    """op / replay_presentations; null without replay. The literal quotient in the second reading. Beware: always
    favours the smallest memory: a model that keeps one sample and learns nothing has a fine quotient."""
    op_per_replayed_token: Annotated[
        float | None, Meaning(unit="% per token", better="higher", reads=("op", "replay_tokens"), heading="OP/token")
    ]
    """op / replay_tokens; null without replay. The literal quotient in the third reading. Beware: always favours the
    smallest memory: a model that keeps one sample and learns nothing has a fine quotient."""
    op_per_replayed_byte: Annotated[
        float | None, Meaning(unit="% per byte", better="higher", reads=("op", "memory_bytes"), heading="OP/byte")
    ]
    """op / memory_bytes; null without replay. The literal quotient in the fourth reading. Beware: always favours the
    smallest memory: a model that keeps one sample and learns nothing has a fine quotient."""
    tokens_per_second: Annotated[
        float | None,
        Meaning(
            unit="tokens/s",
            better="higher",
            reads=("timing.tokens", "timing.new_seconds", "timing.replay_seconds"),
            heading="tokens/s",
        ),
    ]
    """Tokens trained, new and replayed, in the time of the training steps; summed over tasks. Speed of training, over
    all workers."""
    peak_memory_bytes: Annotated[
        int | None, Meaning(unit="bytes", better="lower", reads=("timing.peak_memory_bytes",), heading="peak bytes")
    ]
    """Most bytes at once on the fullest worker from the start of a task to its end, the largest of the tasks: of device
    memory on a GPU, resident on a CPU; null where the system cannot count a CPU's peak anew (anything but Linux). What
    a worker has to have. Beware: on a CPU some 400 MB of libraries are in it; runs of an earlier version may also count
    what trials before them had left in their process."""
    flops_utilisation: Annotated[
        float | None,
        Meaning(
            unit="share",
            better="higher",
            reads=("timing.model_flops", "timing.flops_utilisation"),
            heading="FLOPs used",
        ),
    ]
    """Operations of the forward and backward passes, by those that the devices could have done in the time of the
    training steps; null where their peak is not known. How well the devices are used; distillation shows as a lower
    share."""


def measure(record: TrialRecord, split: ScoredSplit | None = None) -> Measures:
    """The numbers of a trial.

    Args:
        record: what the trial wrote, finished or not.
        split: split of the scores; None takes `eval` if it was scored, else `test`.
    """
    split = split or tuning_split(record)
    scores, initial = score_arrays_of(record, split) if split else (None, None)
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
        fwt=None if scores is None or initial is None else forward_transfer(scores, initial),
        forgetting=None if scores is None else forgetting(scores),
        distinct_replayed_samples=samples,
        stored_samples=sum(row.stored_samples for row in record.replay),
        replay_presentations=presentations,
        replay_updates=sum(row.replay_updates for row in record.replay),
        replay_tokens=tokens,
        memory_bytes=memory_bytes,
        state_bytes=_peak([row.state_bytes for row in record.replay]),
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
