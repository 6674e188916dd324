"""Where the time of a step goes, by kind of kernel."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.batches import build_batch, sizes
from benchmarks.gpu.models import Setting, build_model
from benchmarks.gpu.replay import distilled_step, plain_step
from seekr_tune.loop.throughput import FlopRates, step_flops
from seekr_tune.methods.storage import Form
from seekr_tune.methods.targets import teacher_batch


def measure_profile(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Milliseconds of a distilled replay step and of an update, by kind of kernel."""
    model, device = build_model(setting, options), torch.device(options.device)
    length = options.lengths[len(options.lengths) // 2]
    form: Form = "half" if options.dtype == "bfloat16" else "exact"
    tokens, samples = build_batch(sizes(setting, length, options), 0, form)
    num_labels = tokens.num_labels
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-6, fused=device.type == "cuda"
    )
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_step(model, tokens, num_labels),
        "distilled": lambda: distilled_step(model, tokens, teacher_batch(samples, length, device), num_labels),
        "update": optimizer.step,
    }
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    for name, run in runs.items():
        run()
        with profile(activities=activities) as seen:
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
        events: Any = seen.events()
        on_gpu = [event for event in events if event.device_type == DeviceType.CUDA]
        kinds: dict[str, float] = {}
        for event in on_gpu:
            if not event.is_user_annotation:
                kind = kind_of_kernel(event.name)
                kinds[kind] = kinds.get(kind, 0.0) + event.self_device_time_total / 1000
        flops = 0.0 if name == "update" else step_flops(FlopRates.of(model), tokens.lengths, tokens.num_labels)
        yield {
            "case": "profile",
            "setting": setting.name,
            "length": length,
            "run": name,
            "kernels": len(on_gpu),
            "flops": flops,
            "kinds_ms": kinds,
        }


def kind_of_kernel(name: str) -> str:
    """Which part of the work a kernel is, by its name."""
    words = {
        "attention": ("sdpa", "flash", "fmha", "cutlassF", "cutlassB", "attention"),
        "float32 products": ("f32f32", "sgemm"),
        "matrix products": ("nvjet", "gemm", "cutlass", "xmma"),
        "optimizer": ("multi_tensor", "adam"),
        "copies": ("Memcpy",),
        "softmax": ("softmax", "SoftMax"),
        "indexing": ("index", "gather", "scatter"),
    }
    return next((kind for kind, own in words.items() if any(word in name for word in own)), "elementwise")
