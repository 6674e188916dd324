"""Examples as a batch on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seekr_tune.data.collate import EncodedExample, collate
from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.transfer import to_device


def tokens_of(
    examples: Sequence[EncodedExample], pad_token_id: int, pad_to_multiple_of: int, device: torch.device
) -> Tokens:
    """Examples padded on the left to the longest one, rounded up to a multiple, on a device that is not waited for."""
    batch = collate(examples, pad_token_id, pad_to_multiple_of)
    return Tokens(
        to_device(batch.input_ids, device),
        to_device(batch.attention_mask, device),
        to_device(batch.labels, device),
        known_lengths=[len(example.input_ids) for example in examples],
        known_answers=[example.num_labels for example in examples],
    )
