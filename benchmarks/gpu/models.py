"""Random models in one way of training, and what a configuration of them says."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from seekr_tune.config import Config, LoraConfig
from seekr_tune.experiment import parse_config
from seekr_tune.methods.seekr.attention import TAP_ATTENTION, recompute_activations
from seekr_tune.models.loading import with_adapters


class Shape(NamedTuple):
    """Sizes of a Llama."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int


SHAPES = {
    "1b": Shape(16, 2048, 8192, 32, 8, 32000),
    "7b": Shape(32, 4096, 11008, 32, 32, 32000),
    "small": Shape(8, 512, 1408, 8, 8, 4096),  # for CPUs
    "tiny": Shape(2, 32, 48, 8, 4, 64),
}


@dataclass(frozen=True)
class Setting:
    """One model in one way of training."""

    shape: str
    lora: bool
    checkpointing: bool

    @property
    def name(self) -> str:
        return f"{self.shape} {'lora' if self.lora else 'full'}{' ckpt' if self.checkpointing else ''}"


def build_model(setting: Setting, options: argparse.Namespace) -> Any:
    """A random Llama, its layers checkpointed or not."""
    with torch.device(options.device):
        model = random_llama(SHAPES[setting.shape], max(options.lengths), getattr(torch, options.dtype))
    if setting.lora:
        model = with_adapters(model, LoraConfig())
        model.enable_input_require_grads()
    if setting.checkpointing:
        recompute_activations(model)
    return model.train()


def random_llama(shape: Shape, positions: int, dtype: torch.dtype = torch.float32) -> Any:
    """A random Llama with uneven attention, always the same."""
    torch.manual_seed(0)
    config: Any = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=positions,
        initializer_range=shape.hidden**-0.5,
    )
    auto: Any = AutoModelForCausalLM
    return auto.from_config(config, dtype=dtype, attn_implementation=TAP_ATTENTION).train()


def lengths_of(setting: Setting, options: argparse.Namespace) -> list[int]:
    """The lengths at which a setting is measured, where not all are worth the time."""
    middle = options.lengths[len(options.lengths) // 2]
    return [middle] if setting.shape == "7b" else options.lengths


def config_of(changes: Mapping[str, Mapping[str, Any]], options: argparse.Namespace) -> Config:
    method = {"query_budget": options.queries, **changes.get("method", {})}
    recipe = {"learning_rate": 1e-6, "replay_batch_size": 2}
    values = {"stream": {"tasks": ["task"]}, "recipe": recipe, **changes, "method": method}
    return parse_config(values, "benchmark")


def free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
