"""Forward and backward pass of a replay batch: with distillation, without, and with full attention maps."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.batches import build_batch, sizes
from benchmarks.gpu.compare import compare, described, ratios
from benchmarks.gpu.full_maps import FULL_MAPS, full_map_step
from benchmarks.gpu.models import Setting, build_model, free
from seekr_tune.method.attention import TAP_ATTENTION
from seekr_tune.method.memory import ReplaySample
from seekr_tune.method.passes import Tokens, count_rows, replay_losses
from seekr_tune.method.semantics import CORRECTED


def measure_replay(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Forward and backward pass of a replay batch: with distillation, without, and with full attention maps."""
    model, device = build_model(setting, options), torch.device(options.device)
    for length in options.lengths:
        batches = [build_batch(sizes(setting, length, options), seed) for seed in range(2)]

        names = ("plain", "distilled", "maps") if options.maps else ("plain", "distilled")
        runs = {side: partial(replay, model, batches, side) for side in names}
        sides = compare(runs, device, options.repeats, partial(prepare_replay, model))
        row = {"case": "replay", "setting": setting.name, "length": length, "batch": len(batches[0][1])}
        yield {
            **row,
            **described(sides),
            **ratios(sides, "distilled", "plain"),
            **ratios(sides, "maps", "plain"),
            **ratios(sides, "maps", "distilled"),
        }
        free(device)


def prepare_replay(model: Any, side: str) -> None:
    model.zero_grad(set_to_none=False)
    model.set_attn_implementation(FULL_MAPS if side == "maps" else TAP_ATTENTION)


def replay(model: Any, batches: Sequence[tuple[Tokens, list[ReplaySample]]], side: str, turn: int) -> None:
    tokens, samples = batches[turn % len(batches)]
    if side == "maps":
        full_map_step(model, tokens, samples)
    else:
        step(model, tokens, samples, distil=side == "distilled")


def step(model: Any, tokens: Tokens, samples: Sequence[ReplaySample], distil: bool) -> None:
    """Forward and backward pass of a replay batch."""
    rows = count_rows(samples)
    losses = replay_losses(
        model, tokens, samples, CORRECTED, distil_logits=distil, distil_attention=distil, step_rows=rows
    )
    total = losses.cross_entropy / tokens.num_labels
    if losses.logits is not None and losses.attention is not None:
        total = 0.5 * total + 0.5 * losses.logits / tokens.num_labels + 1000 * losses.attention
    total.backward()  # type: ignore[no-untyped-call]
