"""The passes of training: the answer's logits, and the replay step with what it distils.

All take a model that was loaded with `TAP_ATTENTION` and batches that are padded on the left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seekr_tune.method.attention import AttentionTap
from seekr_tune.method.losses import (
    IGNORED,
    answer_cross_entropy,
    attention_distillation,
    label_rows,
    row_divergence,
    soft_cross_entropy,
)
from seekr_tune.method.memory import ReplaySample
from seekr_tune.method.semantics import Semantics
from seekr_tune.method.targets import TeacherBatch


@dataclass(frozen=True)
class Tokens:
    """A batch, padded on the left; each tensor is `[batch, positions]`, int64.

    Attributes:
        input_ids: token ids.
        attention_mask: 1 at real tokens.
        labels: token ids to learn at the end of each row, IGNORED elsewhere.
        known_lengths, known_answers: real tokens and label tokens of each row; None: counted where they are needed, and
            a GPU waited for.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    known_lengths: Sequence[int] | None = None
    known_answers: Sequence[int] | None = None

    @property
    def lengths(self) -> Sequence[int]:
        """Real tokens of each row."""
        if self.known_lengths is not None:
            return self.known_lengths
        counted: list[int] = self.attention_mask.sum(dim=1).tolist()
        return counted

    @property
    def answers(self) -> Sequence[int]:
        """Label tokens of each row."""
        if self.known_answers is not None:
            return self.known_answers
        counted: list[int] = (self.labels != IGNORED).sum(dim=1).tolist()
        return counted

    def label_counts(self, shift: int) -> list[int]:
        """Label tokens of each row that have a position `shift` before them."""
        reachable = self.labels.shape[1] - shift
        return [min(own, reachable) for own in self.answers]

    @property
    def num_labels(self) -> int:
        """Label tokens of the whole batch that have a predecessor to be predicted from."""
        return sum(self.label_counts(1))


def answer_logits(
    model: nn.Module,
    tokens: Tokens,
    semantics: Semantics,
    tap: AttentionTap | None = None,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Logits of the last positions only, as many as the longest answer of the batch needs.

    Args:
        attention_mask: given to the model instead of the batch's own mask.

    Returns:
        `[batch, kept, vocabulary]`, the last `kept` positions.
    """
    width = tokens.labels.shape[1]
    kept = min(max(tokens.answers) + 1, width)
    options: dict[str, object] = {} if tap is None else {"attention_tap": tap}
    positions = semantics.position_ids(tokens.attention_mask)
    if positions is not None:
        options["position_ids"] = positions
    output = model(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask if attention_mask is None else attention_mask,
        use_cache=False,
        # Places, not a number: with a number some models drop the other positions before their last layers are through.
        logits_to_keep=torch.arange(width - kept, width, device=tokens.input_ids.device),
        **options,
    )
    if tap is not None:
        tap.require_complete()
    logits: Tensor = output.logits
    return logits


@dataclass(frozen=True)
class ReplayLosses:
    """Terms of one replay batch, each a scalar; None where a term is not distilled.

    Attributes:
        cross_entropy: sum over label tokens.
        logits: soft cross-entropy, sum over label tokens.
        attention: weighted sum of row divergences; its weights already divide it.
    """

    cross_entropy: Tensor
    logits: Tensor | None
    attention: Tensor | None


def replay_losses(
    model: nn.Module,
    tokens: Tokens,
    teacher: TeacherBatch,
    semantics: Semantics,
    *,
    distil_logits: bool,
    distil_attention: bool,
    step_rows: int,
    timed: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> ReplayLosses:
    """Cross-entropy and distillation terms of a batch of stored samples, in one forward pass.

    Args:
        teacher: signals of the batch, in the order of the rows of `tokens`.
        step_rows: attention rows of the whole step, over all its micro-batches and workers.
        timed: entered wherever there is work for distillation alone.
    """
    with timed():
        targets = teacher.rows() if distil_attention else {}

        def diverge(layer: int, rows: Tensor) -> Tensor:
            return row_divergence(rows, targets[layer].probabilities, semantics.student_epsilon)

        tap = AttentionTap({layer: target.request for layer, target in targets.items()}, timed=timed, reduce=diverge)
    logits = answer_logits(model, tokens, semantics, tap)
    logit_term = attention_term = None
    with timed():
        if distil_logits:
            student = label_rows(logits, tokens.labels, semantics.logit_shift, teacher.num_logits)
            logit_term = soft_cross_entropy(student, teacher.logits(student.shape[1]))
        if distil_attention:
            weights = semantics.row_weights(targets, len(teacher.samples), step_rows)
            attention_term = attention_distillation(tap.rows, weights)
    return ReplayLosses(answer_cross_entropy(logits, tokens.labels), logit_term, attention_term)


def count_rows(samples: Sequence[ReplaySample]) -> int:
    """Selected (layer, head, query) rows of stored samples."""
    return sum(len(sample.queries) * len(heads) for sample in samples for heads in sample.heads.values())
