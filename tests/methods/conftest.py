"""Tiny random models of every family that is served, and a padded batch for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.seekr.attention import TAP_ATTENTION

VOCABULARY = 61
COMMON = {"vocab_size": VOCABULARY, "max_position_embeddings": 64}
GROUPED = COMMON | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 16},
    "mistral": GROUPED | {"sliding_window": None},
    "mistral, sliding window": GROUPED | {"sliding_window": 5},
    "gpt2": {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4},
    "gpt_neox": COMMON | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4},
}
UNEVEN: dict[str, dict[str, Any]] = {
    "doge": GROUPED | {"keep_window_size": 5},
    "gemma4_text": GROUPED
    | {"head_dim": 8, "global_head_dim": 16, "num_hidden_layers": 4, "num_kv_shared_layers": 2}
    | {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 5}
    | {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY},
    "deepseek_v32": GROUPED
    | {"index_topk": 64, "index_n_heads": 2, "index_head_dim": 8, "q_lora_rank": 16, "kv_lora_rank": 16}
    | {"qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4}
    | {"first_k_dense_replace": 3, "moe_intermediate_size": 8, "n_routed_experts": 4, "num_experts_per_tok": 2}
    | {"n_group": 1, "topk_group": 1},
}
"""Masks that differ by head; heads whose width differs by layer, and keys that layers share; keys that are indexed."""
NUM_LAYERS, NUM_HEADS = 3, 4


def build_model(family: str, implementation: str) -> Any:
    """The same random weights for every implementation: initialisation is large enough for uneven attention."""
    config = AutoConfig.for_model(family.split(",")[0], initializer_range=0.4, **(FAMILIES | UNEVEN)[family])
    for name in ("attn_pdrop", "resid_pdrop", "embd_pdrop", "attention_dropout", "hidden_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()
    for name, weight in model.named_parameters():
        if name.endswith("self_attn.A"):  # zeros would give all keys the same rank in a mask of the best
            torch.nn.init.normal_(weight)
    return model


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """Each served family in turn."""
    return str(request.param)


@pytest.fixture
def tapped_and_eager() -> Callable[[str], tuple[Any, Any]]:
    """Two models with equal weights: one through the tap, one that builds its attention maps."""
    return lambda family: (build_model(family, TAP_ATTENTION), build_model(family, "eager"))


@pytest.fixture
def tokens() -> Tokens:
    """Three rows of 12, 7 and 9 tokens, padded on the left, with 2, 3 and 1 labels."""
    return make_tokens([12, 7, 9], [2, 3, 1])


def make_tokens(lengths: list[int], num_labels: list[int]) -> Tokens:
    """A left-padded batch of random tokens."""
    generator = torch.Generator().manual_seed(1)
    longest = max(lengths)
    input_ids = torch.randint(3, VOCABULARY, (len(lengths), longest), generator=generator)
    positions = torch.arange(longest)
    attention_mask = (positions >= longest - torch.tensor(lengths)[:, None]).long()
    is_label = positions >= longest - torch.tensor(num_labels)[:, None]
    return Tokens(input_ids * attention_mask, attention_mask, input_ids.masked_fill(~is_label, -100))
