"""A training loop of PyTorch alone, as short as it allows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from seekr_tune.data.collate import EncodedExample

BETAS, MAX_GRAD_NORM = (0.9, 0.95), 1.0


def bare_steps(
    model: Any, batches: Iterable[Sequence[EncodedExample]], learning_rate: float, precision: torch.dtype | None = None
) -> Generator[float]:
    """A training step on each batch, as short as PyTorch allows (forward, backward, clip, AdamW); their losses."""
    device = next(model.parameters()).device
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=BETAS, weight_decay=0.0, fused=device.type == "cuda"
    )
    for batch in batches:
        ids, mask, labels, kept = padded(batch, device)
        positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
        with torch.autocast(device.type, precision) if precision else nullcontext():
            logits = model(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=kept
            ).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, -kept + 1 :].flatten(), ignore_index=-100)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield float(loss.detach())


def padded(batch: Sequence[EncodedExample], device: torch.device) -> tuple[Tensor, Tensor, Tensor, int]:
    """Ids, mask and labels, `[batch, longest]`, padded on the left; and how many positions' logits the loss needs."""
    length = max(len(example.input_ids) for example in batch)
    ids = torch.tensor([(0,) * (length - len(own.input_ids)) + own.input_ids for own in batch])
    mask = torch.tensor([(0,) * (length - len(own.input_ids)) + (1,) * len(own.input_ids) for own in batch])
    is_label = torch.arange(length) >= length - torch.tensor([own.num_labels for own in batch])[:, None]
    labels = ids.masked_fill(~is_label, -100)
    kept = max(own.num_labels for own in batch) + 1
    return ids.to(device), mask.to(device), labels.to(device), kept
