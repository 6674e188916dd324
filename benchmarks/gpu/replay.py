"""Forward and backward pass of a replay batch: with distillation, without, and with full attention maps."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.distilled import replay_losses
from benchmarks.gpu.batches import build_batch, sizes
from benchmarks.gpu.compare import Side, compare, described, ratios
from benchmarks.gpu.full_maps import FULL_MAPS, full_map_step
from benchmarks.gpu.models import Setting, build_model, free
from seekr_tune.methods.losses import answer_cross_entropy
from seekr_tune.methods.memory import ReplaySample
from seekr_tune.methods.passes import Tokens, answer_logits, count_rows
from seekr_tune.methods.seekr.attention import TAP_ATTENTION
from seekr_tune.methods.semantics import CORRECTED
from seekr_tune.methods.storage import Form
from seekr_tune.methods.targets import TeacherBatch, joined
from seekr_tune.methods.transfer import Uploads


def measure_replay(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Forward and backward pass of a replay batch: with distillation, without, and with full attention maps."""
    model, device = build_model(setting, options), torch.device(options.device)
    for length in options.lengths:
        form: Form = "half" if options.dtype == "bfloat16" else "exact"
        batches = [build_batch(sizes(setting, length, options), seed, form) for seed in range(2)]
        names = ("plain", "distilled", "maps") if options.maps else ("plain", "distilled")
        sides = sides_in_turn(model, batches, names, device, options.repeats)
        row = {"case": "replay", "setting": setting.name, "length": length, "batch": len(batches[0][1])}
        yield {
            **row,
            **described(sides),
            **ratios(sides, "distilled", "plain"),
            **ratios(sides, "maps", "plain"),
            **ratios(sides, "maps", "distilled"),
        }
        free(device)


def sides_in_turn(
    model: Any,
    batches: Sequence[tuple[Tokens, list[ReplaySample]]],
    names: Sequence[str],
    device: torch.device,
    repeats: int,
) -> dict[str, Side]:
    """Time `plain`, `distilled` and `maps`, as far as they are asked for."""
    with Uploads(device) as uploads:
        replay = Replay(model, batches, uploads)
        return compare({side: partial(replay.run, side) for side in names}, device, repeats, replay.prepare)


class Replay:
    """One replay batch after the other, in three ways.

    As the learner does it, a distilled step finds its teacher signals on the device, and when all of it is launched,
    those of the next one are brought there; the step is over when they have arrived, too. Nothing of them is left when
    another side takes its turn.
    """

    def __init__(self, model: Any, batches: Sequence[tuple[Tokens, list[ReplaySample]]], uploads: Uploads) -> None:
        self._model, self._batches, self._uploads = model, batches, uploads
        self._turn = 0
        self._num_labels = [tokens.num_labels for tokens, _ in batches]
        self._ready: TeacherBatch | None = None

    def prepare(self, side: str) -> None:
        """What happened before a step; not timed."""
        self._model.zero_grad(set_to_none=False)
        self._model.set_attn_implementation(FULL_MAPS if side == "maps" else TAP_ATTENTION)
        self._ready = self._begin(self._turn)() if side == "distilled" else None

    def run(self, side: str, turn: int) -> None:
        """One step."""
        tokens, samples = self._batches[turn % len(self._batches)]
        num_labels = self._num_labels[turn % len(self._batches)]
        if side == "plain":
            plain_step(self._model, tokens, num_labels)
        elif side == "maps":
            full_map_step(self._model, tokens, samples)
        else:
            assert self._ready is not None
            distilled_step(self._model, tokens, self._ready, num_labels)
            self._turn = turn + 1
            self._begin(turn + 1)()

    def _begin(self, turn: int) -> Callable[[], TeacherBatch]:
        tokens, samples = self._batches[turn % len(self._batches)]
        length = tokens.input_ids.shape[1]
        arriving = self._uploads.start(partial(joined, samples, length, logits=True, rows=True, pin=self._uploads.pins))
        return lambda: TeacherBatch(samples, length, arriving())


def plain_step(model: Any, tokens: Tokens, num_labels: int) -> None:
    """Forward and backward pass of a batch."""
    loss = answer_cross_entropy(answer_logits(model, tokens, CORRECTED), tokens.labels) / num_labels
    loss.backward()  # type: ignore[no-untyped-call]


def distilled_step(model: Any, tokens: Tokens, teacher: TeacherBatch, num_labels: int) -> None:
    """Forward and backward pass of a replay batch."""
    rows = count_rows(teacher.samples)
    losses = replay_losses(model, tokens, teacher, CORRECTED, distil_logits=True, distil_attention=True, step_rows=rows)
    assert losses.logits is not None and losses.attention is not None
    total = 0.5 * (losses.cross_entropy + losses.logits) / num_labels + 1000 * losses.attention
    total.backward()  # type: ignore[no-untyped-call]
