"""Two readings of SEEKR, as data: the authors' release number for number, and the same method with its quirks mended.

Everything in which they differ is a field of `Semantics`; no other module asks for a name. docs/method.md explains each
point. `# Differs from official:` marks what the corrected reading changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from seekr_tune.methods.seekr.importance import causal_gradient_energy, dense_gradient_energy
from seekr_tune.methods.storage import visible_keys
from seekr_tune.methods.targets import RowTargets


class ChangeWeights(Protocol):
    """What the squared change of each visible entry of a sample's attention rows counts in forgettability."""

    def __call__(self, queries: Tensor, length: int, padded_length: int, query_budget: int | None) -> Tensor:
        """Weights of the entries in the order of `storage.pack_rows`, `[visible]`.

        Args:
            queries: the sample's query rows, negative positions from the end.
            length: tokens of the sample.
            padded_length: tokens of the batch it is read in.
            query_budget: most query rows of a sample.
        """


@dataclass(frozen=True)
class Semantics:
    """One reading of the method.

    Attributes:
        name: as written in every result.
        gradient_energy: mean square of dL/dA, `(output gradient, value, attention mask) -> [batch, heads]`.
        importance_mask: attention mask of the end-of-task pass, from the 2-D mask.
        position_ids: position ids from the 2-D mask, or None for the model's own.
        leaks_importance_gradients: gradients of the sensitivity pass stay in `.grad` and enter the next update.
        padding_counts: head scores depend on the length to which samples are padded.
        change_weights: of the squared changes that make up the forgettability of one sample.
        logit_shift: 1 distils the rows that predict a label token, 0 the rows at the tokens.
        row_weights: weight of each attention row of a batch, given the batch size and the rows of the whole step.
        student_epsilon: added to the student's attention inside the logarithm.
        collation: `separate` or `joint` tokenisation of prompt and answer.
        draws: `seeded` (nested memory, reshuffled epochs) or `fixed` (first rows, one order for all epochs).
        schedule: replay steps `spread` over the task, or one every `cycle` new steps.
        accumulation: micro-batches make up one step (`within_step`), or steps of either kind make up one update.
        resets_optimizer: each task starts with fresh moments, unless the recipe says otherwise.
    """

    name: Literal["corrected", "official"]
    gradient_energy: Callable[[Tensor, Tensor, Tensor], Tensor]
    importance_mask: Callable[[Tensor], Tensor]
    position_ids: Callable[[Tensor], Tensor | None]
    leaks_importance_gradients: bool
    padding_counts: bool
    change_weights: ChangeWeights
    logit_shift: Literal[0, 1]
    row_weights: Callable[[Mapping[int, RowTargets], int, int], dict[int, Tensor]]
    student_epsilon: float
    collation: Literal["separate", "joint"]
    draws: Literal["seeded", "fixed"]
    schedule: Literal["spread", "cycle"]
    accumulation: Literal["within_step", "across_steps"]
    resets_optimizer: bool


def release_mask(attention_mask: Tensor) -> Tensor:
    """The additive 4-D mask of the release, causal(min) + pad(min), `[batch, 1, positions, positions]`.

    An entry that is both future and pad overflows to -inf, one that is only one of the two holds the lowest finite
    number. So a pad row attends uniformly to the pads up to itself AND to all real tokens, which lie in its future; the
    release's sensitivity depends on it.
    """
    length = attention_mask.shape[1]
    lowest = torch.finfo(torch.float32).min
    causal = torch.full((length, length), lowest, device=attention_mask.device).triu(1)
    pad = torch.where(attention_mask.bool(), 0.0, lowest)
    return causal[None, None] + pad[:, None, None, :]


def positions_of_tokens(attention_mask: Tensor) -> Tensor:
    """Positions counted from the first real token, `[batch, positions]`; generation counts them so, too."""
    return (attention_mask.cumsum(dim=1) - 1).clamp_min(0)


def _dense_mean_square(output_gradient: Tensor, value: Tensor, attention_mask: Tensor) -> Tensor:
    return dense_gradient_energy(output_gradient, value) / attention_mask.shape[1] ** 2


def _causal_mean_square(output_gradient: Tensor, value: Tensor, attention_mask: Tensor) -> Tensor:
    # Differs from official: entries that the softmax can never reach (15-55 % of the release's sum) do not count, so
    # the result does not depend on padding.
    lengths = attention_mask.sum(dim=1, keepdim=True)
    return causal_gradient_energy(output_gradient, value, attention_mask) / (lengths * (lengths + 1) / 2)


def _change_over_padding(queries: Tensor, length: int, padded_length: int, query_budget: int | None) -> Tensor:
    num_queries = padded_length if query_budget is None else query_budget
    num_visible = int(visible_keys(queries, length).sum())
    return torch.full((num_visible,), 1 / (num_queries * padded_length))


def _change_over_keys(queries: Tensor, length: int, padded_length: int, query_budget: int | None) -> Tensor:
    # Differs from official: each row is averaged over the keys it can see, so short samples weigh as much as long ones.
    visible = visible_keys(queries, length)
    return (1 / (visible * len(queries))).repeat_interleave(visible)


def _weights_by_layer(targets: Mapping[int, RowTargets], batch_size: int, step_rows: int) -> dict[int, Tensor]:
    """1 / (layers of the batch x batch size x heads of the sample in the layer x queries of the sample)."""
    weights = {}
    for layer, target in targets.items():
        valid = target.valid.float()
        heads = torch.bincount(target.request.samples, minlength=batch_size)[target.request.samples]
        weights[layer] = valid / (len(targets) * batch_size * heads[:, None] * valid.sum(dim=1, keepdim=True))
    return weights


def _equal_weights(targets: Mapping[int, RowTargets], batch_size: int, step_rows: int) -> dict[int, Tensor]:
    # Differs from official: every selected (sample, layer, head, query) row counts the same, whichever other samples
    # share the batch.
    return {layer: target.valid.float() / step_rows for layer, target in targets.items()}


OFFICIAL = Semantics(
    name="official",
    gradient_energy=_dense_mean_square,
    importance_mask=release_mask,
    position_ids=lambda attention_mask: None,
    leaks_importance_gradients=True,
    padding_counts=True,
    change_weights=_change_over_padding,
    logit_shift=0,
    row_weights=_weights_by_layer,
    student_epsilon=1e-8,
    collation="joint",
    draws="fixed",
    schedule="cycle",
    accumulation="across_steps",
    resets_optimizer=False,
)

CORRECTED = Semantics(
    name="corrected",
    gradient_energy=_causal_mean_square,
    importance_mask=lambda attention_mask: attention_mask,
    position_ids=positions_of_tokens,
    padding_counts=False,  # Differs from official: so batches need not be padded to the longest sample of the task.
    leaks_importance_gradients=False,  # Differs from official: nothing leaks into the next task's first update.
    change_weights=_change_over_keys,
    logit_shift=1,  # Differs from official: the first answer token is distilled, the row behind EOS is not.
    row_weights=_equal_weights,
    student_epsilon=0.0,  # Differs from official: exact divergence.
    collation="separate",  # Differs from official: answers keep their EOS, prompts never become labels.
    draws="seeded",  # Differs from official: random nested memory, epochs are reshuffled.
    schedule="spread",  # Differs from official: never silently without replay.
    accumulation="within_step",  # Differs from official: new and replay gradients are not mixed by accident.
    resets_optimizer=True,  # Differs from official: moments of the old task do not push the new one.
)

SEMANTICS: Mapping[str, Semantics] = {"corrected": CORRECTED, "official": OFFICIAL}
