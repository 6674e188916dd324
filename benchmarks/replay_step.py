"""What distillation adds to a replay step: CPU time and peak memory, against the same step without it.

    python benchmarks/replay_step.py

Both sides run in one process, in turn, on fresh random inputs with real padding and a teacher unlike the student; the
figure is the median of the pairwise ratios of CPU time. Peak memory is the resident maximum that the operating system
reports, each side in a process of its own, over that of the model and its gradients alone.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from seekr_tune.method.attention import TAP_ATTENTION
from seekr_tune.method.memory import ReplaySample, TeacherSignals
from seekr_tune.method.passes import Tokens, count_rows, replay_losses
from seekr_tune.method.semantics import CORRECTED

LENGTH, LAYERS, HEADS, QUERIES, LABELS, VOCABULARY = 1024, 8, 8, 100, 32, 4096
REPEATS = 7


@dataclass(frozen=True)
class Side:
    """One of the two steps that are compared."""

    name: str
    distil: bool


SIDES = (Side("plain", False), Side("distilled", True))


def build_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=LENGTH,
        initializer_range=0.05,
        attn_implementation=TAP_ATTENTION,
    )
    return LlamaForCausalLM(config).train()


def build_batch(seed: int) -> tuple[Tokens, list[ReplaySample]]:
    """Two samples, one padded by an eighth; 8 of 64 heads in 6 of 8 layers, with random teacher rows."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [LENGTH, LENGTH - LENGTH // 8]
    heads = {0: (1,), 1: (2, 5), 3: (0,), 4: (7,), 5: (3,), 7: (4, 6)}
    samples, ids = [], torch.randint(3, VOCABULARY, (2, LENGTH), generator=generator)
    for row, length in enumerate(lengths):
        queries = torch.randperm(length, generator=generator)[:QUERIES].sort().values - length
        rows = {}
        for layer, own in heads.items():
            scores = 2 * torch.randn(len(own), QUERIES, length, generator=generator)
            future = torch.arange(length) > (queries + length)[:, None]
            rows[layer] = scores.masked_fill(future, float("-inf")).softmax(-1)
        logits = 3 * torch.randn(LABELS, VOCABULARY, generator=generator)
        teacher = TeacherSignals(logits, rows)
        samples.append(ReplaySample(0, row, ids[row, LENGTH - length :], LABELS, queries, heads, teacher=teacher))
    positions = torch.arange(LENGTH)
    mask = (positions >= LENGTH - torch.tensor(lengths)[:, None]).long()
    labels = ids.masked_fill(positions < LENGTH - LABELS, -100)
    return Tokens(ids * mask, mask, labels), samples


def step(model: LlamaForCausalLM, side: Side, seed: int) -> float:
    """CPU seconds of one forward and backward pass."""
    tokens, samples = build_batch(seed)
    model.zero_grad(set_to_none=False)
    started = time.process_time()
    losses = replay_losses(
        model,
        tokens,
        samples,
        CORRECTED,
        distil_logits=side.distil,
        distil_attention=side.distil,
        step_rows=count_rows(samples),
    )
    total = losses.cross_entropy / tokens.num_labels
    if losses.logits is not None and losses.attention is not None:
        total = 0.5 * total + 0.5 * losses.logits / tokens.num_labels + 1000 * losses.attention
    total.backward()  # type: ignore[no-untyped-call]
    return time.process_time() - started


def measure_time() -> None:
    model = build_model()
    for side in SIDES:
        step(model, side, seed=0)
    pairs = [tuple(step(model, side, seed=repeat) for side in SIDES) for repeat in range(1, REPEATS + 1)]
    ratios = [distilled / plain for plain, distilled in pairs]
    plain = statistics.median(pair[0] for pair in pairs)
    print(f"cpu seconds, plain step: median {plain:.2f}")
    print(f"cpu time, distilled / plain: median {statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})")


def measure_memory() -> None:
    peaks = [
        int(subprocess.run([sys.executable, __file__, side.name], check=True, capture_output=True, text=True).stdout)
        for side in SIDES
    ]
    print(f"peak memory, plain step: {peaks[0] / 2**10:.0f} MiB")
    print(f"peak memory, distilled / plain: {peaks[1] / peaks[0]:.3f}")


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        side = next(side for side in SIDES if side.name == sys.argv[1])
        model = build_model()
        for seed in range(3):
            step(model, side, seed)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    measure_time()
    measure_memory()


if __name__ == "__main__":
    main()
