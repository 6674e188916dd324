"""Random models in one way of training, and what a configuration of them says."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from seekr_tune.config import Config, LoraConfig
from seekr_tune.experiment import parse_config
from seekr_tune.method.attention import TAP_ATTENTION
from seekr_tune.sequence.model import with_adapters

SHAPES = {  # layers, hidden, intermediate, heads, key-value heads, vocabulary
    "1b": (16, 2048, 8192, 32, 8, 32000),
    "7b": (32, 4096, 11008, 32, 32, 32000),
    "small": (8, 512, 1408, 8, 8, 4096),  # for CPUs
    "tiny": (2, 32, 48, 8, 4, 64),
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
    """A random Llama with uneven attention, its layers checkpointed or not."""
    layers, hidden, intermediate, heads, kv_heads, vocabulary = SHAPES[setting.shape]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=max(options.lengths),
        initializer_range=hidden**-0.5,
    )
    with torch.device(options.device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, options.dtype), attn_implementation=TAP_ATTENTION
        )
    if setting.lora:
        model = with_adapters(model, LoraConfig())
        model.enable_input_require_grads()
    if setting.checkpointing:
        model.activation_checkpointing_enable()
    return model.train()


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
