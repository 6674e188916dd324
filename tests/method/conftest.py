"""Tiny random models of every family that is served, and a padded batch for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from seekr_tune.method.attention import TAP_ATTENTION
from seekr_tune.method.passes import Tokens

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
NUM_LAYERS, NUM_HEADS = 3, 4


def build_model(family: str, implementation: str) -> Any:
    """The same random weights for every implementation: initialisation is large enough for uneven attention."""
    config = AutoConfig.for_model(family.split(",")[0], initializer_range=0.4, **FAMILIES[family])
    for name in ("attn_pdrop", "resid_pdrop", "embd_pdrop", "attention_dropout", "hidden_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()


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
