"""What the device could do: the rate of a matrix product, and the most samples of one pass."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.batches import LABELS, sizes
from benchmarks.gpu.compare import compare
from benchmarks.gpu.models import Setting, build_model, free
from seekr_tune.methods.losses import answer_cross_entropy
from seekr_tune.methods.passes import Tokens, answer_logits
from seekr_tune.methods.semantics import CORRECTED


def measure_matmul(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rate of a large matrix product: what arithmetic could reach."""
    size, device = options.matmul, torch.device(options.device)
    dtype = getattr(torch, options.dtype)
    pairs = [[torch.randn(size, size, device=device, dtype=dtype) for _ in range(2)] for _ in range(2)]
    found = compare({"matmul": lambda turn: torch.mm(*pairs[turn % 2])}, device, 20)["matmul"]
    yield {"case": "matmul", "size": size, "tflops": 2 * size**3 / found.seconds / 1e12}


def measure_largest(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Most samples of one plain forward and backward pass, by doubling."""
    model, device = build_model(setting, options), torch.device(options.device)
    for length in options.lengths[1:]:
        batch, peak = 4, 0
        while batch <= options.most_samples:
            size = sizes(setting, length, options)
            size.batch, size.queries = batch, 1
            found = compare({"pass": partial(_plain_pass, model, size)}, device, 1)
            if not found:
                break
            batch, peak = 2 * batch, found["pass"].peak_bytes
        free(device)
        yield {
            "case": "largest",
            "setting": setting.name,
            "length": length,
            "samples": batch // 2,
            "peak_gb": peak / 1e9,
        }


def _plain_pass(model: Any, size: argparse.Namespace, turn: int) -> None:
    ids = torch.randint(3, size.vocabulary, (size.batch, size.length), device=size.device)
    labels = ids.masked_fill(torch.arange(size.length, device=size.device) < size.length - LABELS, -100)
    tokens = Tokens(ids, torch.ones_like(ids), labels, [size.length] * size.batch, [LABELS] * size.batch)
    model.zero_grad(set_to_none=False)
    answer_cross_entropy(answer_logits(model, tokens, CORRECTED), labels).backward()  # type: ignore[no-untyped-call]
