"""One GPU, no Ray: is the tap right there, and what does distillation add to a replay step?

    python -m benchmarks.gpu.smoke                                        # a Llama of 1.1 billion weights, bfloat16
    python -m benchmarks.gpu.smoke --device cpu --layers 2 --hidden 128 --intermediate 352 --heads 4 --kv-heads 2 \
        --vocabulary 512 --batch 2 --length 128 --queries 20

Checks, in float32 and in the precision that is timed, with activation checkpointing: attention rows of the tap and
their gradient against those of eager attention; the gradient energy of every head against autograd at eager's map.
Then forward and backward passes of a replay batch, with distillation and without, in turn: the median time and the
peak memory. The last line is JSON. Exit code 1 where a check fails, 2 where the device is not there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.batches import build_batch
from benchmarks.gpu.models import Shape, random_llama
from benchmarks.gpu.replay import distilled_step, plain_step
from seekr_tune.loop.throughput import (
    FlopRates,
    Stopwatch,
    flops_utilisation,
    peak_memory,
    reset_peak_memory,
    step_flops,
)
from seekr_tune.methods.losses import sample_cross_entropy
from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.reading import observe
from seekr_tune.methods.seekr.attention import AttentionTap, all_heads_request, recompute_activations
from seekr_tune.methods.semantics import CORRECTED, positions_of_tokens
from seekr_tune.methods.targets import teacher_batch

WARM_UP = 2
BOUNDS = {"attention rows": (1e-4, 1e-1), "their gradient": (1e-3, 2e-1), "gradient energy": (1e-3, 5e-2)}
"""Largest |tap - eager| / |eager| in float32, and in bfloat16, where the kernels round differently in every layer."""


@dataclass(frozen=True)
class Check:
    """One comparison with eager attention: |tap - eager| / |eager|."""

    name: str
    dtype: torch.dtype
    difference: float

    @property
    def bound(self) -> float:
        return BOUNDS[self.name][0 if self.dtype == torch.float32 else 1]

    @property
    def passed(self) -> bool:
        return self.difference <= self.bound


@dataclass(frozen=True)
class Cost:
    """What one side of the comparison takes."""

    milliseconds: float
    peak_bytes: int
    tokens_per_second: float
    flops_utilisation: float | None


def build_model(options: argparse.Namespace, dtype: torch.dtype) -> Any:
    """A random Llama, its layers checkpointed."""
    shape = Shape(
        options.layers, options.hidden, options.intermediate, options.heads, options.kv_heads, options.vocabulary
    )
    with torch.device(options.device):
        model = random_llama(shape, options.length)
    recompute_activations(model)
    return model.to(dtype)


def check(options: argparse.Namespace, dtype: torch.dtype) -> list[Check]:
    """The tap against eager attention, on the padded sample alone."""
    model = build_model(options, dtype)
    both, samples = build_batch(options, seed=0)
    tokens = Tokens(both.input_ids[1:2], both.attention_mask[1:2], both.labels[1:2])
    queries = samples[1].queries.to(options.device) + options.length
    inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask, "use_cache": False}
    inputs["position_ids"] = positions_of_tokens(tokens.attention_mask)
    rows = range(options.layers)
    tap = AttentionTap(dict.fromkeys(rows, all_heads_request(options.heads, queries[None])))
    model(**inputs, attention_tap=tap)
    found = torch.stack([tap.rows[layer].exp() for layer in rows])
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(found)
    found_gradients = _key_gradients(model, (found * weights).sum())
    energy = observe(model, tokens, [samples[1].queries], CORRECTED, (options.layers, options.heads))().energy[0]

    model.set_attn_implementation("eager")
    model.eval()  # no checkpointing: its maps would be recomputed
    output = model(**inputs, output_attentions=True)
    expected = torch.stack([attention[0, :, queries].float() for attention in output.attentions])
    expected_gradients = _key_gradients(model, (expected * weights).sum(), retain_graph=True)
    gradients = torch.autograd.grad(sample_cross_entropy(output.logits, tokens.labels).sum(), output.attentions)
    expected_energy = _mean_squares(gradients, tokens.attention_mask[0])
    differences = (
        _relative(found.detach(), expected.detach()),
        _relative(found_gradients, expected_gradients),
        _relative(energy, expected_energy),
    )
    return [Check(name, dtype, difference) for name, difference in zip(BOUNDS, differences, strict=True)]


def _key_gradients(model: Any, loss: Tensor, **options: Any) -> Tensor:
    keys = [layer.self_attn.k_proj.weight for layer in model.model.layers]
    return torch.cat([gradient.float().flatten() for gradient in torch.autograd.grad(loss, keys, **options)])


def _mean_squares(gradients: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Mean over real queries and the real keys before them of the squared gradient at the map, `[layers, heads]`."""
    real = (mask[:, None] * mask).tril().float()
    return torch.stack([(own[0].float().square() * real).sum(dim=(1, 2)) / real.sum() for own in gradients]).cpu()


def _relative(found: Tensor, expected: Tensor) -> float:
    # Energies are small enough that their squares would vanish in float32.
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def measure(options: argparse.Namespace, dtype: torch.dtype) -> dict[str, Cost]:
    """The replay step without and with distillation, in turn, after warming up."""
    device = torch.device(options.device)
    model = build_model(options, dtype)
    watch = Stopwatch(device)
    seconds: dict[str, list[float]] = {"plain": [], "distilled": []}
    peaks = dict.fromkeys(seconds, 0)
    for repeat in range(WARM_UP + options.repeats):
        tokens, samples = build_batch(options, repeat)
        for side in seconds:
            model.zero_grad(set_to_none=False)
            watch.reset()
            reset_peak_memory(device)
            with watch.part("step"):
                if side == "plain":
                    plain_step(model, tokens, tokens.num_labels)
                else:
                    distilled_step(model, tokens, teacher_batch(samples, options.length, device), tokens.num_labels)
            taken = watch.seconds("step")
            if repeat >= WARM_UP:
                seconds[side].append(taken)
                peaks[side] = max(peaks[side], peak_memory(device) or 0)
    flops = step_flops(FlopRates.of(model), tokens.lengths, tokens.num_labels)
    medians = {side: statistics.median(own) for side, own in seconds.items()}
    return {
        side: Cost(1000 * own, peaks[side], sum(tokens.lengths) / own, flops_utilisation(flops, own, device, dtype))
        for side, own in medians.items()
    }


def report(options: argparse.Namespace, checks: Sequence[Check], costs: dict[str, Cost]) -> None:
    """One table for people, one JSON line for programs."""
    for one in checks:
        verdict = "ok" if one.passed else "FAILED"
        name = f"{one.name} ({str(one.dtype).removeprefix('torch.')})"
        print(f"{name:<40} {one.difference:>12.2e}   at most {one.bound:.0e}   {verdict}")
    columns: dict[str, Callable[[Cost], str]] = {
        "time, ms": lambda cost: f"{cost.milliseconds:.1f}",
        "peak memory, MiB": lambda cost: f"{cost.peak_bytes / 2**20:.0f}",
        "tokens/s": lambda cost: f"{cost.tokens_per_second:.0f}",
        "share of the device's peak": lambda cost: _share(cost.flops_utilisation),
    }
    plain, distilled = costs["plain"], costs["distilled"]
    print(f"\n{'replay step':<40} {'plain':>12} {'distilled':>12}")
    for name, show in columns.items():
        print(f"{name:<40} {show(plain):>12} {show(distilled):>12}")
    ratio, memory = distilled.milliseconds / plain.milliseconds, distilled.peak_bytes / plain.peak_bytes
    print(f"distilled / plain: time {ratio:.3f}, peak memory {memory:.3f}\n")
    is_gpu = torch.device(options.device).type == "cuda"
    line = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(options.device) if is_gpu else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "settings": vars(options),
        "checks": {f"{one.name}, {str(one.dtype).removeprefix('torch.')}": one.difference for one in checks},
        "costs": {side: vars(cost) for side, cost in costs.items()},
        "time_ratio": ratio,
        "memory_ratio": memory,
        "passed": all(one.passed for one in checks),
    }
    print(json.dumps(line))


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    sizes = {"layers": 16, "hidden": 2048, "intermediate": 8192, "heads": 32, "kv-heads": 8, "vocabulary": 32000}
    for name, default in {**sizes, "batch": 8, "length": 1024, "queries": 100, "repeats": 7}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        print("error: torch sees no CUDA device here; run this on one, or name --device cpu", file=sys.stderr)
        return 2
    dtype = getattr(torch, options.dtype)
    checks = [one for each in dict.fromkeys((torch.float32, dtype)) for one in check(options, each)]
    report(options, checks, measure(options, dtype))
    return 0 if all(one.passed for one in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
