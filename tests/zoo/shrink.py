"""Tiny configurations: of every type the same shape, so far as the type has it.

A list with one entry a layer keeps each of its different entries, so that a type with several kinds of layers has them
all in a few layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from tests.zoo.sizes import HEADS, LAYERS, SIZES, SPECIAL


def tiny_config(model_type: str, **changes: Any) -> PretrainedConfig:
    """The configuration of a type, shrunk.

    Args:
        model_type: as transformers names it.
        changes: fields that make one face of the type, over all else.
    """
    return _shrunk(CONFIG_MAPPING[model_type], changes)


def _shrunk(kind: Any, changes: Mapping[str, Any]) -> PretrainedConfig:
    special = SPECIAL.get(kind.model_type, {}) | dict(changes)
    default = kind()
    fields = default.to_dict()
    depth = next((fields[name] for name in _DEPTHS if isinstance(fields.get(name), int)), None)
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name in special:
            continue
        if name in getattr(kind, "sub_configs", {}):
            part = getattr(default, name)
            if isinstance(part, PretrainedConfig):
                values[name] = _shrunk(type(part), {}).to_dict()
        elif isinstance(value, list) and len(value) == depth and name in SIZES:
            values[name] = [SIZES[name]] * LAYERS
        elif isinstance(value, list) and len(value) == depth:
            values[name] = _one_of_each(value, LAYERS)
        elif name in SIZES and (value is not None or name.endswith("_token_id")):
            values[name] = SIZES[name]
    config: PretrainedConfig = kind(**(values | _heads(fields, values) | special))
    return config


def _heads(fields: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, int]:
    """Fields of heads that depend on others."""
    found = {}
    if "num_key_value_heads" in values:  # one for all stays so; latent attention has one for each query head
        found["num_key_value_heads"] = 1 if fields["num_key_value_heads"] == 1 else 2
        if "kv_lora_rank" in fields:
            found["num_key_value_heads"] = HEADS
    if "head_dim" in values and fields["head_dim"] == fields.get("qk_rope_head_dim"):  # of the rotated part alone
        found["head_dim"] = SIZES["qk_rope_head_dim"]
    return found


_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers")


def _one_of_each(entries: list[Any], length: int) -> list[Any]:
    """Different entries in the order in which they come, over and over."""
    different = [entry for place, entry in enumerate(entries) if entry not in entries[:place]]
    return [different[place % len(different)] for place in range(length)]
