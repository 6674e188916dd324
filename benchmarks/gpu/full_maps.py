"""Distillation by full attention maps, as the release does it: what the tap is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.llama.modeling_llama import eager_attention_forward

from seekr_tune.methods.losses import attention_distillation, label_rows, row_divergence, soft_cross_entropy
from seekr_tune.methods.memory import ReplaySample
from seekr_tune.methods.passes import Tokens, count_rows
from seekr_tune.methods.semantics import CORRECTED
from seekr_tune.methods.targets import teacher_batch

FULL_MAPS = "full_maps"


def full_map_step(model: Any, tokens: Tokens, samples: Sequence[ReplaySample]) -> None:
    """Forward and backward pass of a replay batch that distils from whole attention maps, as the release does.

    Selected layers compute eager attention and give their maps, `[batch, heads, positions, positions]`, to the loss.
    The model's attention must be FULL_MAPS.
    """
    device, length = tokens.input_ids.device, tokens.input_ids.shape[1]
    signals = teacher_batch(samples, length, device)
    targets = signals.rows()
    maps: dict[int, Tensor | None] = dict.fromkeys(targets)
    output = model(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask,
        position_ids=CORRECTED.position_ids(tokens.attention_mask),
        use_cache=False,
        logits_to_keep=max(tokens.answers) + 1,
        full_maps=maps,
    )
    divergences = {}
    for layer, target in targets.items():
        request, weights = target.request, maps[layer]
        assert weights is not None
        rows = weights[request.samples[:, None], request.heads[:, None], request.queries].float()
        divergences[layer] = row_divergence(rows.clamp_min(1e-30).log(), target.probabilities, 0.0)
    attention = attention_distillation(divergences, CORRECTED.row_weights(targets, len(samples), count_rows(samples)))
    teacher = signals.logits(output.logits.shape[2])
    student = label_rows(output.logits, tokens.labels, CORRECTED.logit_shift, len(teacher))
    soft = soft_cross_entropy(student, teacher)
    hard = cross_entropy(
        output.logits[:, :-1].flatten(0, 1).float(),
        tokens.labels[:, -output.logits.shape[1] + 1 :].flatten(),
        ignore_index=-100,
        reduction="sum",
    )
    loss = 0.5 * (hard + soft) / len(teacher) + 1000 * attention
    loss.backward()  # type: ignore[no-untyped-call]


def _full_maps(
    module: Any,
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
