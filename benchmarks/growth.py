"""How the cost of distillation grows: a replay step with and without it, for sizes of model and samples.

    python -m benchmarks.growth                 # about a minute on a CPU

One size grows at a time: tokens of a sample, distilled heads, layers (one head of each is distilled), entries of the
vocabulary. The step is that of the `replay` case of `benchmarks/gpu`: forward and backward pass of four samples of a
random Llama in float32, with one thread, sides in turn; the ratio is the median over the turns. Its memory is counted,
for at these sizes the system's figures say little: what autograd holds for the backward pass, weights left out. So is
what is stored of one sample.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from benchmarks.gpu.batches import build_batch
from benchmarks.gpu.compare import ratios
from benchmarks.gpu.models import Shape, free, random_llama
from benchmarks.gpu.replay import Replay, sides_in_turn
from benchmarks.results import Curve, keep
from seekr_tune.methods.memory import ReplaySample
from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.transfer import Uploads

CPU = torch.device("cpu")
REPEATS, BATCH, QUERIES, HIDDEN, HEADS = 9, 4, 32, 128, 8


@dataclass(frozen=True)
class Size:
    """One point of a curve.

    Attributes:
        length: tokens of a sample.
        heads: distilled ones, spread evenly over the layers.
    """

    length: int = 128
    heads: int = 4
    layers: int = 4
    vocabulary: int = 1024

    @property
    def selected(self) -> dict[int, tuple[int, ...]]:
        """Distilled heads by layer."""
        found: dict[int, list[int]] = {}
        for number in range(self.heads):
            found.setdefault(number % self.layers, []).append(number // self.layers)
        return {layer: tuple(own) for layer, own in found.items()}


BASE = Size()
GROWING = {
    "tokens of a sample": [replace(BASE, length=length) for length in (64, 128, 256, 512)],
    "distilled heads": [replace(BASE, heads=heads) for heads in (1, 4, 8, 16, 32)],
    "layers": [replace(BASE, layers=layers, heads=layers) for layers in (2, 4, 8, 16)],
    "vocabulary": [replace(BASE, vocabulary=vocabulary) for vocabulary in (512, 2048, 8192, 32768)],
}
AXES = {"tokens of a sample": "length", "distilled heads": "heads", "layers": "layers", "vocabulary": "vocabulary"}


@dataclass(frozen=True)
class Cost:
    """What distillation adds at one size.

    Attributes:
        time: of the distilled step over the plain one.
        memory: the same of what is held for the backward pass.
        kilobytes: of the teacher's signals of one stored sample.
    """

    time: float
    memory: float
    kilobytes: float


def cost_at(size: Size, repeats: int = REPEATS) -> Cost:
    shape = Shape(size.layers, HIDDEN, 3 * HIDDEN, HEADS, HEADS, size.vocabulary)
    options = argparse.Namespace(
        device="cpu",
        layers=size.layers,
        heads=HEADS,
        vocabulary=size.vocabulary,
        length=size.length,
        batch=BATCH,
        queries=QUERIES,
    )
    model = random_llama(shape, size.length)
    batches = [build_batch(options, seed, heads=size.selected) for seed in range(2)]
    free(CPU)
    sides = sides_in_turn(model, batches, ("plain", "distilled"), CPU, repeats)
    time_ratio = ratios(sides, "distilled", "plain")["distilled/plain time"]
    assert time_ratio is not None
    held = {name: held_bytes(model, batches, name) for name in sides}
    sample = batches[0][1][0]
    assert sample.teacher is not None
    kept = sum(tensor.nbytes for tensor in sample.teacher.tensors().values())
    return Cost(time_ratio, held["distilled"] / held["plain"], kept / 1000)


def held_bytes(model: Any, batches: Sequence[tuple[Tokens, list[ReplaySample]]], side: str) -> int:
    """Bytes of all tensors that a step keeps for its backward pass; each counts once, weights do not."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with Uploads(CPU) as uploads:
        replay = Replay(model, batches, uploads)
        replay.prepare(side)
        with saved_tensors_hooks(note, lambda tensor: tensor):
            replay.run(side, 0)
    return sum(size for place, size in held.items() if place not in weights)


def curves_of(sizes: Sequence[Size], x: str, costs: Sequence[Cost]) -> Iterator[Curve]:
    """The curves along one axis."""
    xs = [float(getattr(size, AXES[x])) for size in sizes]
    shown = {
        ("distillation-time", "time, distilled / plain"): [cost.time for cost in costs],
        ("distillation-memory", "held for the backward pass, distilled / plain"): [cost.memory for cost in costs],
        ("distillation-stored", "KB stored of a sample"): [cost.kilobytes for cost in costs],
    }
    for (chart, y), values in shown.items():
        yield Curve(chart=chart, name=x, x=x, y=y, points=tuple(zip(xs, values, strict=True)))


def main() -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    curves: list[Curve] = []
    for x, sizes in GROWING.items():
        curves += curves_of(sizes, x, [cost_at(size) for size in sizes])
    keep("growth", time.perf_counter() - started, curves=curves)


if __name__ == "__main__":
    main()
