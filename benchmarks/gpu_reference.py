"""What `gpu_table.py` compares with: distillation by full attention maps, and a training loop of PyTorch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.llama.modeling_llama import eager_attention_forward

from seekr_tune.method.losses import attention_distillation, label_rows, row_divergence, soft_cross_entropy
from seekr_tune.method.memory import ReplaySample, row_targets, teacher_logits
from seekr_tune.method.passes import Tokens, count_rows
from seekr_tune.method.semantics import CORRECTED
from seekr_tune.stream.collate import EncodedExample

FULL_MAPS = "full_maps"


def full_map_step(model: Any, tokens: Tokens, samples: Sequence[ReplaySample]) -> None:
    """Forward and backward pass of a replay batch that distils from whole attention maps, as the release does.

    Selected layers compute eager attention and give their maps, `[batch, heads, positions, positions]`, to the loss.
    The model's attention must be FULL_MAPS.
    """
    device, length = tokens.input_ids.device, tokens.input_ids.shape[1]
    targets = row_targets(samples, length, device)
    maps: dict[int, Tensor | None] = dict.fromkeys(targets)
    output = model(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask,
        position_ids=CORRECTED.position_ids(tokens.attention_mask),
        use_cache=False,
        logits_to_keep=(tokens.longest_answer or 0) + 1,
        full_maps=maps,
    )
    divergences = {}
    for layer, target in targets.items():
        request, weights = target.request, maps[layer]
        assert weights is not None
        rows = weights[request.samples[:, None], request.heads[:, None], request.queries].float()
        divergences[layer] = row_divergence(rows.clamp_min(1e-30).log(), target.probabilities, 0.0)
    attention = attention_distillation(divergences, CORRECTED.row_weights(targets, len(samples), count_rows(samples)))
    teacher = teacher_logits(samples)
    student = label_rows(output.logits, tokens.labels, CORRECTED.logit_shift, len(teacher))
    soft = soft_cross_entropy(student, teacher.to(device))
    hard = cross_entropy(
        output.logits[:, :-1].flatten(0, 1).float(),
        tokens.labels[:, -output.logits.shape[1] + 1 :].flatten(),
        ignore_index=-100,
        reduction="sum",
    )
    loss = 0.5 * (hard + soft) / len(teacher) + 1000 * attention
    loss.backward()  # type: ignore[no-untyped-call]


def _full_maps(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    full_maps: dict[int, Tensor | None] | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    layer = module.layer_idx
    if full_maps is None or layer not in full_maps:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    output, weights = eager_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    full_maps[layer] = weights
    return output, weights


AttentionInterface.register(FULL_MAPS, _full_maps)
AttentionMaskInterface.register(FULL_MAPS, eager_mask)


def bare_steps(
    model: Any, batches: Sequence[Sequence[EncodedExample]], learning_rate: float, precision: torch.dtype | None
) -> Iterator[float]:
    """Training steps without end, as short as PyTorch allows (forward, backward, clip, fused AdamW); their losses."""
    device = next(model.parameters()).device
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=device.type == "cuda"
    )
    while True:
        for batch in batches:
            ids, mask, labels, kept = _padded(batch, device)
            positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
            with torch.autocast(device.type, precision) if precision else nullcontext():
                logits = model(
                    input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=kept
                ).logits
            loss = cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), labels[:, -kept + 1 :].flatten(), ignore_index=-100
            )
            loss.backward()  # type: ignore[no-untyped-call]
            clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield float(loss.detach())


def _padded(batch: Sequence[EncodedExample], device: torch.device) -> tuple[Tensor, Tensor, Tensor, int]:
    length = max(len(example.input_ids) for example in batch)
    ids = torch.tensor([(0,) * (length - len(own.input_ids)) + own.input_ids for own in batch])
    mask = torch.tensor([(0,) * (length - len(own.input_ids)) + (1,) * len(own.input_ids) for own in batch])
    is_label = torch.arange(length) >= length - torch.tensor([own.num_labels for own in batch])[:, None]
    labels = ids.masked_fill(~is_label, -100)
    kept = max(own.num_labels for own in batch) + 1
    return ids.to(device), mask.to(device), labels.to(device), kept
