"""Reading golden vectors: every shape comes from the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.seekr.attention import TAP_ATTENTION


class Arrays:
    """An npz file as tensors."""

    def __init__(self, path: Path) -> None:
        self._file = np.load(path)

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self._file[name]))

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def names(self) -> list[str]:
        return list(self._file)

    def tokens(self, prefix: str, rows: slice = slice(None)) -> Tokens:
        """The batch stored as `<prefix>input_ids`, `<prefix>attention_mask`, `<prefix>labels`."""
        parts = (self[f"{prefix}{name}"][rows] for name in ("input_ids", "attention_mask", "labels"))
        return Tokens(*parts)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def load_model(directory: Path, weights: str) -> PreTrainedModel:
    """A golden model that runs through the tap."""
    config = AutoConfig.from_pretrained(directory)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=TAP_ATTENTION, dtype=torch.float32)
    model.load_state_dict(load_file(directory / weights))
    return model.eval()


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest deviation over the largest expected magnitude."""
    return float((actual - expected).abs().max() / expected.abs().max())
