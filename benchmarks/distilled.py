"""The loss of one replay batch as SEEKR makes it up, outside of a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seekr_tune.config import SeekrOptions
from seekr_tune.methods.draws import SeededDraws
from seekr_tune.methods.losses import answer_cross_entropy
from seekr_tune.methods.passes import Tokens, answer_logits
from seekr_tune.methods.protocol import Setting, StepView
from seekr_tune.methods.seekr.method import Seekr
from seekr_tune.methods.semantics import Semantics
from seekr_tune.methods.targets import TeacherBatch
from seekr_tune.methods.terms import ATTENTION_DISTILLATION, LOGIT_DISTILLATION
from seekr_tune.methods.workers import SingleProcess


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
    model: Any,
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
    options = SeekrOptions(logit_weight=0.5 * distil_logits, attention_weight=1.0 * distil_attention)
    shape = (model.config.num_hidden_layers, model.config.num_attention_heads)
    method = Seekr(options, Setting(model, shape, semantics, SeededDraws(0), SingleProcess(), "float32"))
    step = StepView("replay", tokens, tuple(teacher.samples), teacher.tensors, 1, step_rows, timed)
    logits = answer_logits(model, tokens, semantics, method.watch(step))
    terms = method.terms(step, logits)
    divided = 1 if semantics.accumulation == "within_step" else sum(tokens.answers)
    own = terms[LOGIT_DISTILLATION] * divided if distil_logits else None
    return ReplayLosses(answer_cross_entropy(logits, tokens.labels), own, terms.get(ATTENTION_DISTILLATION))
