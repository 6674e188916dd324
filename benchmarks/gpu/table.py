"""One GPU, no Ray: what the steps of a stream take there, against what they could take.

    python -m benchmarks.gpu.table --out runs/gpu                 # all cases, about six minutes on an H100
    python -m benchmarks.gpu.table --cases replay-1b step-1b      # some of them
    python -m benchmarks.gpu.table --device cpu --shapes tiny --lengths 64 72 --tokens 128 --queries 5 --repeats 1

Random Llamas in bfloat16. Sides of a comparison take turns on the same inputs, and each figure is a median. Every case
is written to `table.jsonl` as soon as it is measured; the table comes last.

Cases: `matmul` (what the device reaches), `replay` (distilled / plain / with full attention maps), `step` (a new-task
step of the learner / a bare PyTorch loop / transformers' Trainer), `lesson` (the end-of-task pass / a plain forward and
backward pass), `profile` (where the time of a step goes), `largest` (samples of one pass), `stream` (the built-in
stream).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu.kernels import measure_profile
from benchmarks.gpu.lesson import measure_lesson
from benchmarks.gpu.limits import measure_largest, measure_matmul
from benchmarks.gpu.models import SHAPES, Setting, free
from benchmarks.gpu.replay import measure_replay
from benchmarks.gpu.step import measure_step
from benchmarks.gpu.stream import measure_stream

WAYS = {"1b": (False, True), "7b": (True,)}  # without and with LoRA; other shapes without


def cases(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Iterator[dict[str, Any]]]]]:
    """All measurements, the most important ones first."""
    yield "matmul", partial(measure_matmul, options)
    ways = {shape: WAYS.get(shape, (False,)) for shape in options.shapes}
    settings = [Setting(shape, lora, True) for shape in options.shapes for lora in ways[shape]]
    settings += [Setting(shape, ways[shape][0], False) for shape in options.shapes]
    for setting in settings:
        yield f"replay-{setting.shape}", partial(measure_replay, setting, options)
    for setting in settings[-len(options.shapes) :]:
        yield f"lesson-{setting.shape}", partial(measure_lesson, setting, options)
    for setting in [*settings, *(Setting(shape, False, True) for shape in options.shapes if ways[shape] == (True,))]:
        yield f"step-{setting.shape}", partial(measure_step, setting, options)
    for shape in options.shapes:
        yield f"profile-{shape}", partial(measure_profile, Setting(shape, ways[shape][0], True), options)
    yield "stream", partial(measure_stream, options)
    for shape in options.shapes:
        yield f"largest-{shape}", partial(measure_largest, Setting(shape, True, True), options)


def chosen(options: argparse.Namespace) -> list[tuple[str, Callable[[], Iterator[dict[str, Any]]]]]:
    """The measurements that were asked for, in the order in which they were."""
    known = list(cases(options))
    if not options.cases:
        return known
    return [case for own in options.cases for case in known if own in (case[0], case[0].split("-")[0])]


def run_all(options: argparse.Namespace) -> bool:
    """Measure and write; whether all of it went well."""
    options.out.mkdir(parents=True, exist_ok=True)
    device, rows, whole = torch.device(options.device), [], True
    started = time.perf_counter()
    with (options.out / "table.jsonl").open("w", encoding="utf-8") as file:
        rows.append(environment(device, options))
        for name, measure in chosen(options):
            if time.perf_counter() - started > options.seconds:
                rows.append({"case": "cut", "name": name})
                continue
            try:
                for row in measure():
                    rows.append({**row, "at": round(time.perf_counter() - started, 1)})
                    _write(file, rows[-1])
            except Exception as error:  # the other cases are still worth having
                traceback.print_exc()
                rows.append({"case": "failed", "name": name, "error": f"{type(error).__name__}: {error}"[:300]})
                _write(file, rows[-1])
                whole = False
            free(device)
    print("\n".join(line_of(row) for row in rows))
    return whole


def _write(file: Any, row: Mapping[str, Any]) -> None:
    file.write(json.dumps(row) + "\n")
    file.flush()


def environment(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    is_gpu = device.type == "cuda"
    return {
        "case": "environment",
        "device": torch.cuda.get_device_name(device) if is_gpu else platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": options.dtype,
        "tokens": options.tokens,
        "queries": options.queries,
    }


def line_of(row: Mapping[str, Any]) -> str:
    """A row of the table at the end."""

    def show(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.4g}"
        if isinstance(value, Mapping):
            return "(" + " ".join(f"{key}={show(own)}" for key, own in value.items()) + ")"
        return str(value)

    return "  ".join(f"{key}={show(value)}" if key != "case" else show(value) for key, value in row.items())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--cases", nargs="*", default=[], help="such as replay, or replay-1b; default: all")
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=["1b", "7b"])
    parser.add_argument("--lengths", nargs="*", type=int, default=[512, 1024, 2048])
    parser.add_argument("--tokens", type=int, default=8192, help="of one pass")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--block", type=int, default=2, help="steps of the learner that are timed at once")
    parser.add_argument("--matmul", type=int, default=8192)
    parser.add_argument("--most-samples", type=int, default=256)
    parser.add_argument("--autocast", action="store_true", help="steps compute in bfloat16, adapters too")
    parser.add_argument("--methods", nargs="*", default=["seqft", "replay", "seekr"], help="of the built-in stream")
    parser.add_argument("--no-maps", dest="maps", action="store_false", help="leave out full attention maps")
    parser.add_argument("--seconds", type=float, default=420.0, help="begin no case after so many")
    parser.add_argument("--stream", nargs="*", default=[], help="settings of the built-in stream")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        print("error: torch sees no CUDA device here; run this on one, or name --device cpu", file=sys.stderr)
        return 2
    return 0 if run_all(options) else 1


if __name__ == "__main__":
    sys.exit(main())
