"""What training costs: seconds by part, peak memory, model FLOPs and their share of what a device could do."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seekr_tune.checkpoint.state import StageTiming, StepRecord
from seekr_tune.documents import read_text
from seekr_tune.errors import DocumentError
from seekr_tune.methods.workers import Workers
from seekr_tune.models.loading import LoadedModel

StagePart = Literal["teacher", "evaluation", "checkpoint"]
"""What a stage does besides training steps."""

_PROCESS = Path("/proc/self")


class Stopwatch:
    """Seconds that named parts of the work took on one device.

    On a GPU a part is timed by a pair of events in the device's own order of work, and nothing waits for them before
    `seconds` is asked; elsewhere by the wall clock.

    Args:
        device: where the parts compute.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, float] = {}
        self._events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the block as (another piece of) the part `name`; a block that raises counts, too."""
        if self._device.type != "cuda":
            started = time.perf_counter()
            try:
                yield
            finally:
                self._add(name, time.perf_counter() - started)
            return
        start, end = _timer(), _timer()
        start.record(torch.cuda.current_stream(self._device))
        try:
            yield
        finally:
            end.record(torch.cuda.current_stream(self._device))
            self._events.setdefault(name, []).append((start, end))

    def seconds(self, name: str) -> float:
        """Seconds of all pieces of a part since the last `reset`; 0 where it did not run. A GPU is waited for."""
        for start, end in self._events.pop(name, []):
            end.synchronize()
            self._add(name, start.elapsed_time(end) / 1000)
        return self._seconds.get(name, 0.0)

    def reset(self) -> None:
        """Forget all parts."""
        self._seconds.clear()
        self._events.clear()

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds


class StageClock:
    """Time, memory and arithmetic of one stage, from the moment that this is made; one on every rank.

    Args:
        workers: the processes that share the work.
        loaded: the model that they train.
    """

    def __init__(self, workers: Workers, loaded: LoadedModel) -> None:
        self._workers = workers
        self._dtype = workers.compute_dtype or next(loaded.model.parameters()).dtype
        self._watch = Stopwatch(torch.device("cpu"))  # parts end with results on the CPU: the device has caught up
        self._started = time.perf_counter()
        self._counts_anew = reset_peak_memory(workers.device)

    def part(self, name: StagePart) -> AbstractContextManager[None]:
        """Time the block as (another piece of) a part of the stage."""
        return self._watch.part(name)

    def total(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._started

    def timing(
        self, records: Sequence[StepRecord], spared_steps: float = 0.0, spared_scoring: float = 0.0
    ) -> StageTiming:
        """Where the time went; every rank calls this.

        Args:
            records: all steps of the stage, those of earlier launches included; the other parts are those of this one.
            spared_steps, spared_scoring: seconds that were spared.
        """
        seconds = {kind: sum(record.seconds for record in records if record.kind == kind) for kind in ("new", "replay")}
        flops = sum(record.flops for record in records)
        device_seconds = sum(seconds.values()) * self._workers.world_size
        device = self._workers.device
        return StageTiming(
            new_seconds=seconds["new"],
            replay_seconds=seconds["replay"],
            distillation_seconds=sum(record.distillation_seconds or 0.0 for record in records),
            teacher_seconds=self._watch.seconds("teacher"),
            evaluation_seconds=self._watch.seconds("evaluation"),
            checkpoint_seconds=self._watch.seconds("checkpoint"),
            tokens=sum(record.tokens for record in records),
            peak_memory_bytes=self._fullest(),
            model_flops=flops,
            flops_utilisation=flops_utilisation(flops, device_seconds, device, self._dtype),
            shared_seconds=spared_steps + spared_scoring,
            shared_step_seconds=spared_steps,
        )

    def _fullest(self) -> int | None:
        """Peak of the rank that held most; None where one of them cannot say."""
        peaks = self._workers.gather(peak_memory(self._workers.device) if self._counts_anew else None)
        known = [peak for peak in peaks if peak is not None]
        return max(known) if len(known) == len(peaks) else None


def _timer() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def reset_peak_memory(device: torch.device) -> bool:
    """Let `peak_memory` count from now on; False where the system cannot: only Linux counts a CPU's peak anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_memory(device: torch.device) -> int | None:
    """Most bytes held at once since `reset_peak_memory`; None where the system does not say.

    On a GPU, what torch's tensors held there. On a CPU, the resident set of the process, libraries included.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", read_text(_PROCESS / "status"))
    except DocumentError:
        return None
    return int(found[1]) * 1024 if found else None


def give_back_memory() -> None:
    """Return to the system what earlier trials of this process have left: it would count as the next one's peak.

    Python frees what only refers to itself when it comes to it, and the C library keeps freed memory for later; only
    glibc can be told to give it back.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class FlopRates:
    """Floating-point operations that a model's training needs; a multiplication and an addition are two.

    The convention is PaLM's (appendix B; torchtitan counts alike): 2 operations a weight forward, 2 for the gradient
    of its input and, where it is trained, 2 for its own, so 6 x weights for each token; attention takes 12 x layers x
    heads x head_dim for each pair of positions, future ones included. Not counted: embeddings (looked up), vectors
    (norms, biases), recomputed activations, the optimizer, and what distillation adds.

    Differs from PaLM: the output head counts at label tokens only, since training computes it nowhere else.

    Attributes:
        per_token: of the matrices inside the model.
        per_label: of the output head.
        per_pair: of attention, for each of length x length pairs of a sample.
    """

    per_token: float
    per_label: float
    per_pair: float

    @classmethod
    def of(cls, model: Any) -> FlopRates:
        """Rates of a transformers model, with adapters or without; frozen weights need no gradient of their own."""
        config, head = model.config, model.get_output_embeddings()
        embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        per_token = sum(
            _weight_flops(weight) * _passed(weight, config)
            for module in model.modules()
            if module is not head
            for weight in module.parameters(recurse=False)
            if weight.dim() >= 2 and id(weight) not in embedded
        )
        layers = config.per_layer_config if getattr(config, "is_heterogeneous", False) else [config]
        width = sum(map(_attention_width, layers)) * config.num_hidden_layers // len(layers)
        return cls(per_token, _weight_flops(head.weight), 12.0 * width)


def _attention_width(layer: Any) -> int:
    """Heads x width of a head, of one layer's configuration."""
    head_dim = getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads
    return int(layer.num_attention_heads * head_dim)


def _weight_flops(weight: Tensor) -> float:
    return (6.0 if weight.requires_grad else 4.0) * weight.numel()


def _passed(weight: Tensor, config: Any) -> float:
    """Share of a weight that a token passes: of stacked experts, `[experts, out, in]`, it passes only some."""
    chosen: int | None = getattr(config, "num_experts_per_tok", None)
    return 1.0 if weight.dim() < 3 or chosen is None else chosen / weight.shape[0]


def step_flops(rates: FlopRates, lengths: Sequence[int], labels: int) -> float:
    """Forward and backward passes of one step.

    Args:
        rates: of the model.
        lengths: tokens of each sample, padding not counted.
        labels: label tokens of all samples.
    """
    pairs = sum(length * length for length in lengths)
    return rates.per_token * sum(lengths) + rates.per_label * labels + rates.per_pair * pairs


@dataclass(frozen=True)
class _Peak:
    """Dense peak of a GPU in TFLOP/s, from its vendor's data sheet; None where it lacks the format."""

    words: frozenset[str]
    bfloat16: float | None
    tf32: float | None
    float32: float


_PEAKS = tuple(
    _Peak(frozenset(words.split()), *numbers)
    for words, *numbers in (
        ("V100 SXM2", None, None, 15.7),
        ("A10", 125.0, 62.5, 31.2),
        ("A30", 165.0, 82.0, 10.3),
        ("A40", 149.7, 74.8, 37.4),
        ("A100", 312.0, 156.0, 19.5),
        ("H100 HBM3", 989.0, 494.5, 67.0),
        ("H100 PCIe", 756.0, 378.0, 51.0),
        ("H100 NVL", 835.0, 417.5, 60.0),
        ("H200 NVL", 835.5, 417.5, 60.0),
        ("H200", 989.0, 494.5, 67.0),
        ("L4", 121.0, 60.0, 30.3),
        ("L40", 181.0, 90.5, 90.5),
        ("L40S", 362.0, 183.0, 91.6),
        ("RTX 3090", 71.0, 35.6, 35.6),
        ("RTX 4090", 165.2, 82.6, 82.6),
    )
)
_OTHER_CHIPS = frozenset({"MIG", "Laptop", "Max-Q", "Ti", "D"})
"""Words of a device's name that make it another device than the table's."""


def peak_flops(device_name: str, dtype: torch.dtype, tf32: bool = False) -> float | None:
    """Dense peak of a device in FLOP/s; None where it is not known, as for CPUs and parts of a GPU (MIG).

    Args:
        device_name: as `torch.cuda.get_device_name` gives it.
        dtype: format of the matrix products.
        tf32: whether products of float32 matrices may be rounded to TF32 (torch's default is that they may not).
    """
    words = frozenset(re.split(r"[ -]", device_name))
    if words & _OTHER_CHIPS:
        return None
    peak = next((peak for peak in _PEAKS if peak.words <= words), None)
    if peak is None or dtype not in (torch.bfloat16, torch.float32):
        return None
    rounded = peak.tf32 if tf32 else peak.float32
    tera = peak.bfloat16 if dtype == torch.bfloat16 else rounded
    return None if tera is None else tera * 1e12


def flops_utilisation(flops: float, device_seconds: float, device: torch.device, dtype: torch.dtype) -> float | None:
    """Share of what the devices could have computed in the time; None where their peak is not known.

    Args:
        flops: what was computed by all of them.
        device_seconds: seconds x devices.
        device: one of them; all are taken to be alike.
        dtype: format of the matrix products.
    """
    if device.type != "cuda" or device_seconds <= 0:
        return None
    tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
    peak = peak_flops(torch.cuda.get_device_name(device), dtype, tf32)
    return None if peak is None else flops / (peak * device_seconds)
