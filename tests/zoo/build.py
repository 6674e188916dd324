"""A model directory of any type, as a user has it: random weights in which every term shows, and a tokenizer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

from tests.loop.tiny import tiny_tokenizer

GAIN = 1.5
"""Of a matrix: what it makes of unit inputs. Scores are spread so that attention is uneven."""
NOISE = 0.3
"""Standard deviation of what is added to biases, norms, gates and sinks, which start as constants."""


def save_model(config: PretrainedConfig, directory: Path, seed: int = 0) -> Path:
    """Write a model of this configuration, and a tokenizer; the caller's random state is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            shake(model)
    model.save_pretrained(directory)
    if type(model.config) is not type(config):  # the text part of a composite; its directory says the composite
        config.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def shake(model: nn.Module) -> None:
    """Give weights such values that no term of a layer is zero, one or the same for all heads."""
    for name, weight in [*model.named_parameters(), *model.named_buffers()]:
        if not weight.is_floating_point() or not _is_saved(model, name):
            continue
        if weight.dim() >= 2 and not any(word in name for word in KEPT):
            weight.normal_(0.0, GAIN / math.sqrt(weight.shape[-1]))
        else:
            weight.copy_(weight.nan_to_num(0.0, 0.0, 0.0) + NOISE * torch.randn_like(weight))


KEPT = ("A_log", "conv", "dt_", "lambda")
"""Weights whose first values are kept, but for noise: other values would make their layers blow up."""


def _is_saved(model: nn.Module, name: str) -> bool:
    return name in model.state_dict()


def save_without_weights(config: PretrainedConfig | None, model_type: str, directory: Path) -> None:
    """Write a type that cannot be built: its configuration if there is one, a tokenizer, a weight of nothing."""
    if config is None:
        (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    else:
        config.save_pretrained(directory)
    save_file({"nothing": torch.zeros(1)}, directory / "model.safetensors", metadata={"format": "pt"})
    tiny_tokenizer().save_pretrained(directory)
