"""A batch of tokens, and the pass that gives its answers' logits.

The model was loaded with `TAP_ATTENTION`; batches are padded on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seekr_tune.methods.losses import IGNORED
from seekr_tune.methods.memory import ReplaySample
from seekr_tune.methods.seekr.attention import AttentionTap
from seekr_tune.methods.semantics import Semantics


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


def count_rows(samples: Sequence[ReplaySample]) -> int:
    """Selected (layer, head, query) rows of stored samples."""
    return sum(len(sample.queries) * len(heads) for sample in samples for heads in sample.heads.values())
