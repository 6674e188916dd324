"""The terms of the replay loss, as sums that the caller divides.

    loss(replay step) = (1 - w_logit) CE + w_logit (logit distillation) + w_attention (attention distillation)
    loss(new step)    = CE

Source: paper equations (1)-(3), (5), (12), (13).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

IGNORED = -100
"""Label of a position that is not learned."""


def answer_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over label tokens of -log p(token | everything before it); a scalar in nats.

    Args:
        logits: of the LAST `kept` positions, `[batch, kept, vocabulary]`.
        labels: `[batch, positions]`, IGNORED where nothing is learned; all labels lie in the last `kept - 1` positions
            (or `kept` equals `positions`).
    """
    targets = labels[:, -logits.shape[1] :][:, 1:]
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum")


def sample_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each sample over its own label tokens, `[batch]`."""
    targets = labels[:, -logits.shape[1] :][:, 1:]
    flat = logits[:, :-1].flatten(0, 1).float()  # classes last: the kernels for any other place are slow on GPUs
    losses = cross_entropy(flat, targets.flatten(), ignore_index=IGNORED, reduction="none").view_as(targets)
    return losses.sum(dim=1) / (targets != IGNORED).sum(dim=1)


def label_rows(logits: Tensor, labels: Tensor, shift: int, count: int | None = None) -> Tensor:
    """Logit rows that belong to the label tokens, sample after sample, `[label tokens, vocabulary]`.

    Args:
        logits: of the last `kept` positions, `[batch, kept, vocabulary]`.
        labels: `[batch, positions]`.
        shift: 1 takes the row that predicts a label token, 0 the row at the token itself.
        count: how many rows there are, where it is known; a GPU is waited for to count them.
    """
    kept = logits.shape[1]
    is_row = (labels[:, -kept:] != IGNORED)[:, shift:].flatten()
    places = is_row.nonzero() if count is None else torch.nonzero_static(is_row, size=count)
    return logits[:, : kept - shift].flatten(0, 1).index_select(0, places[:, 0])


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over rows of -sum_v softmax(teacher)_v log softmax(student)_v; a scalar in nats.

    Its gradient is that of KL(teacher || student); the teacher's entropy is a constant. Temperature 1.
    """
    return -(torch.softmax(teacher.float(), dim=-1) * torch.log_softmax(student.float(), dim=-1)).sum()


def row_divergence(student: Tensor, teacher: Tensor, epsilon: float) -> Tensor:
    """KL(teacher || student) of each attention row, in nats.

    Args:
        student: log-probabilities, `[..., keys]`.
        teacher: probabilities, `[..., keys]`; keys with probability 0 contribute nothing.
        epsilon: added to the student's probability inside the logarithm; 0 for the exact divergence.
    """
    log_student = torch.log(student.exp() + epsilon) if epsilon else student
    return torch.addcmul(torch.xlogy(teacher, teacher), teacher, log_student, value=-1).sum(dim=-1)


def attention_distillation(divergences: Mapping[int, Tensor], weights: Mapping[int, Tensor]) -> Tensor:
    """Weighted sum of row divergences over layers, pairs and queries; a scalar.

    Args:
        divergences: of each row by layer, `[pairs, queries]`.
        weights: weight of each row by layer, `[pairs, queries]`, 0 at filling.
    """
    return torch.stack([(divergences[layer] * own).sum() for layer, own in weights.items()]).sum()
