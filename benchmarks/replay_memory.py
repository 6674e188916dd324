"""What a replay sample costs in memory and on disk, and how long a replay step waits for its teacher signals.

    python -m benchmarks.replay_memory          # half a minute on a CPU

Bytes are those of one sample with the shapes of Llama-2-7B: 1536 tokens, 64 labels, 128 heads, 100 query rows, a
vocabulary of 32000, mean of 16 samples; the authors' script keeps 801 MB of it, or 236 MB with 100 query rows. The wait
is that of a step of a small Llama whose samples lie in main memory, and in a checkpoint's file that the system has to
read again.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu import table
from benchmarks.gpu.batches import build_batch, sizes
from benchmarks.gpu.models import Setting, build_model
from benchmarks.gpu.replay import distilled_step
from benchmarks.results import Figure, keep
from seekr_tune.checkpoint.codec import signal_tensors
from seekr_tune.checkpoint.tensorfiles import read_signals, tensor_file
from seekr_tune.methods.memory import ReplayMemory, ReplaySample, TeacherSignals
from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.storage import Form, keep_logits, keep_rows, visible_keys
from seekr_tune.methods.targets import teacher_batch

LENGTH, LABELS, HEADS, QUERIES, VOCABULARY = 1536, 64, 128, 100, 32000
GOALS: dict[Form, float | None] = {"exact": None, "half": 25.0, "compact": 3.0}
SIZES = "--device cpu --dtype float32 --shapes small --lengths 512 --tokens 1024"
SAMPLES, REPEATS = 16, 5
MOST_WAITING = 0.01


def llama_sample(form: Form, seed: int) -> ReplaySample:
    """One sample with the shapes of Llama-2-7B, its signals random."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randperm(LENGTH, generator=generator)[:QUERIES].sort().values - LENGTH
    visible = int(visible_keys(queries, LENGTH).sum())
    rows = keep_rows(torch.rand(HEADS, visible, generator=generator), queries, LENGTH, form)
    logits = keep_logits(torch.randn(LABELS, VOCABULARY, generator=generator), form)
    heads = {layer: tuple(range(HEADS // 24 + (layer < HEADS % 24))) for layer in range(24)}
    return ReplaySample(0, 0, torch.arange(LENGTH), LABELS, queries, heads, 0, TeacherSignals(logits, rows))


def bytes_of(form: Form, directory: Path) -> dict[str, list[int]]:
    """Of samples in main memory, and of their signals in a file."""
    found: dict[str, list[int]] = {"main memory": [], "a checkpoint": []}
    for seed in range(SAMPLES):
        sample, path = llama_sample(form, seed), directory / "sample.safetensors"
        tensor_file(signal_tensors(ReplayMemory((sample,))))(path)
        found["main memory"].append(sample.num_bytes)
        found["a checkpoint"].append(path.stat().st_size)
    return found


def waits(directory: Path) -> dict[str, list[float]]:
    """Shares of a replay step that go by until its signals are together, turn by turn."""
    options = table.parse(SIZES.split())
    setting = Setting("small", lora=False, checkpointing=False)
    model = build_model(setting, options)
    tokens, samples = build_batch(sizes(setting, options.lengths[0], options), 0)
    path = directory / "memory.safetensors"
    tensor_file(signal_tensors(ReplayMemory(tuple(samples))))(path)
    found: dict[str, list[float]] = {"main memory": [], "a checkpoint's file": []}
    for turn in range(REPEATS + 1):
        for place, own in found.items():
            stored = samples if place == "main memory" else from_file(samples, path)
            share = waiting_share(model, tokens, stored)
            if turn:  # the first one warms up
                own.append(share)
    return found


def from_file(samples: Sequence[ReplaySample], path: Path) -> list[ReplaySample]:
    """The samples as a resumed run has them, and the file as good as never read."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    signals = read_signals([path], set(range(len(samples))))
    return [
        ReplaySample(s.task, s.index, s.input_ids, s.num_labels, s.queries, s.heads, s.shard, signals[i])
        for i, s in enumerate(samples)
    ]


def waiting_share(model: torch.nn.Module, tokens: Tokens, samples: Sequence[ReplaySample]) -> float:
    model.zero_grad(set_to_none=False)
    started = time.perf_counter()
    batch = teacher_batch(samples, tokens.input_ids.shape[1])
    together = time.perf_counter()
    distilled_step(model, tokens, batch, tokens.num_labels)
    return (together - started) / (time.perf_counter() - started)


def main() -> int:
    torch.set_num_threads(1)
    started = time.perf_counter()
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        for form, goal in GOALS.items():
            for place, found in bytes_of(form, Path(scratch)).items():
                name = f"a replay sample of Llama-2-7B in {place}, `method.seekr.signals: {form}`"
                value, spread = statistics.mean(found) / 1e6, (min(found) / 1e6, max(found) / 1e6)
                figures.append(Figure(name=name, value=value, unit="MB", spread=spread, goal=goal))
        for place, shares in waits(Path(scratch)).items():
            figures.append(
                Figure(
                    name=f"waiting of a replay step for signals that lie in {place}",
                    against="the step",
                    value=statistics.median(shares),
                    spread=(min(shares), max(shares)),
                    goal=MOST_WAITING,
                )
            )
    keep("replay_memory", time.perf_counter() - started, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
