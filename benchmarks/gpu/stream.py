"""The built-in stream with the built-in model, start to end."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from seekr_tune.data.sources import load_stream
from seekr_tune.experiment import load_experiment
from seekr_tune.loop.loop import run_stream
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models.loading import load_model


def measure_stream(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The built-in stream with the built-in model."""
    device = torch.device(options.device)
    for method in options.methods:
        changes = [f"method.name={method}", "method.memory.percent=3", *options.stream]
        config = load_experiment(Path(__file__).parents[2] / "experiments" / "demo.yaml", changes)
        started = time.perf_counter()
        outcomes = list(
            run_stream(
                config,
                load_stream(config, ("train", "eval")),
                load_model(config.model, device),
                workers=SingleProcess(device),
            )
        )
        last = outcomes[-1].state.scores["eval"][-1]
        yield {"case": "stream", "method": method, "op": float(last.mean()), "seconds": time.perf_counter() - started}
