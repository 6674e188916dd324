"""One GPU, no Ray: what the steps of a stream take there, against what they could take.

    python benchmarks/gpu_table.py --out runs/gpu                  # all cases, about six minutes on an H100
    python benchmarks/gpu_table.py --cases replay-1b step-1b       # some of them
    python benchmarks/gpu_table.py --device cpu --shapes tiny --lengths 64 72 --tokens 128 --queries 5 --repeats 1

Random Llamas in bfloat16. Sides of a comparison take turns on the same inputs, and each figure is a median. Every case
is written to `table.jsonl` as soon as it is measured; the table comes last.

Cases: `matmul` (what the device reaches), `replay` (distilled / plain / with full attention maps), `step` (a new-task
step of the learner / a bare PyTorch loop), `lesson` (the end-of-task pass / a plain forward and backward pass),
`profile` (where the time of a step goes), `largest` (samples of one pass), `stream` (the built-in stream).
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from gpu_reference import FULL_MAPS, bare_steps, full_map_step
from gpu_smoke import LABELS, build_batch, step
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from seekr_tune.config import Config, LoraConfig
from seekr_tune.experiment import load_experiment, parse_config
from seekr_tune.method.attention import TAP_ATTENTION
from seekr_tune.method.importance import HeadScores
from seekr_tune.method.losses import answer_cross_entropy
from seekr_tune.method.memory import ReplayMemory, ReplaySample
from seekr_tune.method.passes import Tokens, answer_logits, observe
from seekr_tune.method.semantics import CORRECTED
from seekr_tune.sequence.draws import SeededDraws
from seekr_tune.sequence.learner import Learner
from seekr_tune.sequence.loop import run_stream
from seekr_tune.sequence.model import LoadedModel, load_model, with_adapters
from seekr_tune.sequence.schedule import Stage, Step
from seekr_tune.sequence.teacher import Candidate, Teacher
from seekr_tune.sequence.throughput import (
    FlopRates,
    Stopwatch,
    flops_utilisation,
    peak_memory,
    reset_peak_memory,
    step_flops,
)
from seekr_tune.sequence.workers import SingleProcess
from seekr_tune.stream.collate import EncodedExample
from seekr_tune.stream.sources import load_stream

WARM_UP = 2
SHAPES = {  # layers, hidden, intermediate, heads, key-value heads, vocabulary
    "1b": (16, 2048, 8192, 32, 8, 32000),
    "7b": (32, 4096, 11008, 32, 32, 32000),
    "small": (8, 512, 1408, 8, 8, 4096),  # for CPUs
    "tiny": (2, 32, 48, 8, 4, 64),
}
WAYS = {"1b": (False, True), "7b": (True,)}  # without and with LoRA; other shapes without
CASES = ("matmul", "replay", "lesson", "step", "profile", "largest", "stream")


@dataclass(frozen=True)
class Setting:
    """One model in one way of training."""

    shape: str
    lora: bool
    checkpointing: bool

    @property
    def name(self) -> str:
        return f"{self.shape} {'lora' if self.lora else 'full'}{' ckpt' if self.checkpointing else ''}"


@dataclass(frozen=True)
class Side:
    """One side of a comparison: seconds of each turn, the most held at once, and what was held all the time."""

    turns: tuple[float, ...]
    peak_bytes: int
    resting_bytes: int

    @property
    def seconds(self) -> float:
        """Of the median turn."""
        return statistics.median(self.turns)


def build_model(setting: Setting, options: argparse.Namespace) -> Any:
    """A random Llama with uneven attention, its layers checkpointed or not."""
    layers, hidden, intermediate, heads, kv_heads, vocabulary = SHAPES[setting.shape]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=max(options.lengths),
        initializer_range=hidden**-0.5,
    )
    with torch.device(options.device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, options.dtype), attn_implementation=TAP_ATTENTION
        )
    if setting.lora:
        model = with_adapters(model, LoraConfig())
        model.enable_input_require_grads()
    if setting.checkpointing:
        model.activation_checkpointing_enable()
    return model.train()


def sizes(setting: Setting, length: int, options: argparse.Namespace) -> argparse.Namespace:
    """What `gpu_smoke.build_batch` wants to know; as many samples as make up the tokens of a pass."""
    layers, _, _, heads, _, vocabulary = SHAPES[setting.shape]
    tokens = options.tokens if setting.checkpointing or setting.shape != "7b" else options.tokens // 2  # what fits
    return argparse.Namespace(
        device=options.device,
        layers=layers,
        heads=heads,
        vocabulary=vocabulary,
        length=length,
        batch=max(2, tokens // length),
        queries=options.queries,
    )


def compare(
    sides: Mapping[str, Callable[[int], object]],
    options: argparse.Namespace,
    repeats: int,
    prepare: Callable[[str], None] = lambda name: None,
) -> dict[str, Side]:
    """Time sides in turn; each is called with the number of the turn. Sides that do not fit are left out.

    Args:
        prepare: called with the name of a side before each of its turns, and not timed.
    """
    device = torch.device(options.device)
    watch = Stopwatch(device)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks, resting = dict.fromkeys(sides, 0), dict.fromkeys(sides, 0)
    for turn in range(WARM_UP + repeats):
        for name in list(seconds):
            prepare(name)
            reset_peak_memory(device)
            before = peak_memory(device)
            watch.reset()
            fits = _run(partial(sides[name], turn), watch, name)
            if not fits:  # only now: an exception at hand would hold all that its frames hold
                del seconds[name]
                free(device)
                continue
            taken = watch.seconds(name)
            if turn >= WARM_UP:
                seconds[name].append(taken)
                peaks[name], resting[name] = max(peaks[name], peak_memory(device)), before
    return {name: Side(tuple(own), peaks[name], resting[name]) for name, own in seconds.items()}


def _run(side: Callable[[], object], watch: Stopwatch, name: str) -> bool:
    """Time one turn of a side; whether it fits on the device."""
    try:
        with watch.part(name):
            side()
    except torch.cuda.OutOfMemoryError:
        return False
    return True


def lengths_of(setting: Setting, options: argparse.Namespace) -> list[int]:
    """The lengths at which a setting is measured, where not all are worth the time."""
    middle = options.lengths[len(options.lengths) // 2]
    return [middle] if setting.shape == "7b" else options.lengths


def free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def ratios(sides: Mapping[str, Side], side: str, base: str) -> dict[str, float | None]:
    """Time and peak memory of one side over another's.

    Time is the median over the turns of what the two took one after the other: what slows a machine down for a while
    slows both.
    """
    if side not in sides or base not in sides:
        return {f"{side}/{base}": None}
    ours, theirs = sides[side], sides[base]
    return {
        f"{side}/{base} time": statistics.median(a / b for a, b in zip(ours.turns, theirs.turns, strict=True)),
        f"{side}/{base} memory": ours.peak_bytes / theirs.peak_bytes,
    }


def described(sides: Mapping[str, Side]) -> dict[str, Any]:
    return {
        name: {"ms": 1000 * side.seconds, "peak_gb": side.peak_bytes / 1e9, "resting_gb": side.resting_bytes / 1e9}
        for name, side in sides.items()
    }


def measure_matmul(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rate of a large matrix product: what arithmetic could reach."""
    size, device = options.matmul, torch.device(options.device)
    dtype = getattr(torch, options.dtype)
    pairs = [[torch.randn(size, size, device=device, dtype=dtype) for _ in range(2)] for _ in range(2)]
    found = compare({"matmul": lambda turn: torch.mm(*pairs[turn % 2])}, options, 20)["matmul"]
    yield {"case": "matmul", "size": size, "tflops": 2 * size**3 / found.seconds / 1e12}


def measure_replay(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Forward and backward pass of a replay batch: with distillation, without, and with full attention maps."""
    model = build_model(setting, options)
    for length in options.lengths:
        batches = [build_batch(sizes(setting, length, options), seed) for seed in range(2)]

        names = ("plain", "distilled", "maps") if options.maps else ("plain", "distilled")
        runs = {side: partial(_replay, model, batches, side) for side in names}
        sides = compare(runs, options, options.repeats, partial(_prepare_replay, model))
        row = {"case": "replay", "setting": setting.name, "length": length, "batch": len(batches[0][1])}
        yield {
            **row,
            **described(sides),
            **ratios(sides, "distilled", "plain"),
            **ratios(sides, "maps", "plain"),
            **ratios(sides, "maps", "distilled"),
        }
        free(torch.device(options.device))


def _prepare_replay(model: Any, side: str) -> None:
    model.zero_grad(set_to_none=False)
    model.set_attn_implementation(FULL_MAPS if side == "maps" else TAP_ATTENTION)


def _replay(model: Any, batches: Sequence[tuple[Tokens, list[ReplaySample]]], side: str, turn: int) -> None:
    tokens, samples = batches[turn % len(batches)]
    if side == "maps":
        full_map_step(model, tokens, samples)
    else:
        step(model, tokens, samples, distil=side == "distilled")


def measure_lesson(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The end-of-task pass (`observe`, and all that `Teacher` does around it) against a plain pass, for each sample."""
    model = build_model(setting, options)
    device = torch.device(options.device)
    loaded = LoadedModel(model, None, 0)
    for length in lengths_of(setting, options):
        size = sizes(setting, length, options)
        size.batch, in_pass = 8, 2
        candidates = [
            Candidate(0, i, EncodedExample(tuple(sample.input_ids.tolist()), LABELS), sample.queries)
            for i, sample in enumerate(build_batch(size, 0)[1])
        ]
        passes = [_tokens(candidates[start : start + in_pass], device) for start in range(0, size.batch, in_pass)]
        queries = [candidate.queries for candidate in candidates]
        shape = loaded.shape
        model.eval()

        model.zero_grad(set_to_none=False)
        sides: dict[str, Callable[[int], object]] = {
            "plain": partial(_plain_passes, model, passes),
            "observe": partial(_observe_all, model, passes, queries, shape),
        }
        for ratio in (0.25, 1.0):
            config = _config({"method": {"layer_ratio": ratio, "head_budget": 0.125}}, options)
            teacher = Teacher(loaded, config, CORRECTED, SeededDraws(0), SingleProcess(device))
            before = teacher.rows(candidates)
            totals = HeadScores.zeros(*shape)
            sides[f"remember {ratio}"] = partial(_remember, teacher, candidates, before, totals)
            sides["rows"] = partial(_read_rows, teacher, candidates)
        found = compare(sides, options, options.repeats)
        yield {
            "case": "lesson",
            "setting": setting.name,
            "length": length,
            "samples": size.batch,
            **described(found),
            **ratios(found, "observe", "plain"),
            **ratios(found, "remember 0.25", "plain"),
            **ratios(found, "remember 1.0", "plain"),
            **ratios(found, "rows", "plain"),
        }
        free(device)


def _plain_passes(model: Any, passes: Sequence[Tokens], turn: int) -> None:
    for tokens in passes:
        loss = answer_cross_entropy(answer_logits(model, tokens, CORRECTED), tokens.labels)
        loss.backward()  # type: ignore[no-untyped-call]


def _observe_all(
    model: Any, passes: Sequence[Tokens], queries: Sequence[Tensor], shape: tuple[int, int], turn: int
) -> None:
    for number, tokens in enumerate(passes):
        observe(model, tokens, queries[2 * number : 2 * number + 2], CORRECTED, shape)


def _read_rows(teacher: Teacher, candidates: list[Candidate], turn: int) -> None:
    teacher.rows(candidates)


def _remember(teacher: Teacher, candidates: list[Candidate], before: Any, totals: HeadScores, turn: int) -> None:
    teacher.remember("task", candidates, before, totals)


def _tokens(candidates: Sequence[Candidate], device: torch.device) -> Tokens:
    """All padded to the length of the longest."""
    length = max(len(candidate.example.input_ids) for candidate in candidates)
    ids = torch.zeros(len(candidates), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, candidate in enumerate(candidates):
        own = torch.tensor(candidate.example.input_ids)
        ids[row, length - len(own) :], mask[row, length - len(own) :] = own, 1
    labels = ids.masked_fill(torch.arange(length) < length - LABELS, -100)
    return Tokens(ids.to(device), mask.to(device), labels.to(device), LABELS)


def measure_step(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Whole new-task steps of the learner (clipping and AdamW too) against a bare PyTorch loop of the same."""
    model, device = build_model(setting, options), torch.device(options.device)
    config = _config({"training": {"activation_checkpointing": setting.checkpointing}}, options)
    for length in lengths_of(setting, options):
        size = sizes(setting, length, options)
        examples = _examples(size, count=4 * size.batch)
        precision = torch.bfloat16 if options.autocast else None
        workers = SingleProcess(device, precision)
        learner = Learner(LoadedModel(model, None, 0), config, CORRECTED, SeededDraws(0), workers)
        plan = [Step("new", tuple(range(k % 4 * size.batch, (k % 4 + 1) * size.batch))) for k in range(1000)]
        learning = learner.learn(Stage("task", (0,)), plan, examples, ReplayMemory())
        batches = [[examples[i] for i in one.samples] for one in plan[:4]]
        bare = bare_steps(model, batches, config.recipe.learning_rate, precision)
        sides = {"learner": partial(_take, learning, options.block)}
        if setting.shape != "7b" or setting.lora:  # there is no room for the moments of two optimizers
            sides["bare"] = partial(_take, bare, options.block)
        found = compare(sides, options, options.repeats)
        lengths = [len(example.input_ids) for example in batches[0]]
        flops = step_flops(FlopRates.of(model), lengths, LABELS * size.batch)
        row: dict[str, Any] = {
            "case": "step",
            "autocast": options.autocast,
            "setting": setting.name,
            "length": length,
            "batch": size.batch,
        }
        for name, side in found.items():
            seconds = side.seconds / options.block
            row[f"{name} tokens/s"] = sum(lengths) / seconds
            row[f"{name} tflops"] = flops / seconds / 1e12
            row[f"{name} mfu"] = flops_utilisation(flops, seconds, device, getattr(torch, options.dtype))
        yield {**row, **described(found), **ratios(found, "learner", "bare")}
        del learner, learning, bare
        free(device)


def _take(steps: Iterator[object], count: int, turn: int) -> None:
    for _ in range(count):
        next(steps)


def measure_profile(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Milliseconds of a distilled replay step and of an update, by kind of kernel."""
    from torch.profiler import ProfilerActivity, profile

    model, device = build_model(setting, options), torch.device(options.device)
    length = options.lengths[len(options.lengths) // 2]
    tokens, samples = build_batch(sizes(setting, length, options), 0)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-6, fused=device.type == "cuda"
    )
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: step(model, tokens, samples, distil=False),
        "distilled": lambda: step(model, tokens, samples, distil=True),
        "update": optimizer.step,
    }
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    for name, run in runs.items():
        run()
        with profile(activities=activities) as seen:
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
        kinds: dict[str, float] = {}
        for event in seen.events():
            if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation:
                kind = kind_of_kernel(event.name)
                kinds[kind] = kinds.get(kind, 0.0) + event.self_device_time_total / 1000
        flops = 0.0 if name == "update" else step_flops(FlopRates.of(model), tokens.lengths, tokens.num_labels)
        yield {
            "case": "profile",
            "setting": setting.name,
            "length": length,
            "run": name,
            "kernels": sum(1 for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA),
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


def measure_largest(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Most samples of one plain forward and backward pass, by doubling."""
    model, device = build_model(setting, options), torch.device(options.device)
    for length in options.lengths[1:]:
        batch, peak = 4, 0
        while batch <= options.most_samples:
            size = sizes(setting, length, options)
            size.batch, size.queries = batch, 1
            found = compare({"pass": partial(_plain_pass, model, size)}, options, 1)
            if not found:
                break
            batch, peak = 2 * batch, found["pass"].peak_bytes
        free(device)
        yield {
            "case": "largest",
            "setting": setting.name,
            "length": length,
            "samples": batch // 2,
            "peak_gb": peak / 1e9,
        }


def _plain_pass(model: Any, size: argparse.Namespace, turn: int) -> None:
    ids = torch.randint(3, size.vocabulary, (size.batch, size.length), device=size.device)
    labels = ids.masked_fill(torch.arange(size.length, device=size.device) < size.length - LABELS, -100)
    tokens = Tokens(ids, torch.ones_like(ids), labels, LABELS)
    model.zero_grad(set_to_none=False)
    answer_cross_entropy(answer_logits(model, tokens, CORRECTED), labels).backward()  # type: ignore[no-untyped-call]


def measure_stream(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The built-in stream with the built-in model."""
    device = torch.device(options.device)
    for method in options.methods:
        changes = [f"method.name={method}", "method.replay_percent=3", *options.stream]
        config = load_experiment(Path(__file__).parents[1] / "experiments" / "demo.yaml", changes)
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


def _examples(size: argparse.Namespace, count: int) -> list[EncodedExample]:
    """Random samples, each second shorter by an eighth."""
    generator = torch.Generator().manual_seed(1)
    lengths = [size.length - i % 2 * (size.length // 8) for i in range(count)]
    return [
        EncodedExample(tuple(torch.randint(3, size.vocabulary, (length,), generator=generator).tolist()), LABELS)
        for length in lengths
    ]


def _config(changes: Mapping[str, Mapping[str, Any]], options: argparse.Namespace) -> Config:
    method = {"query_budget": options.queries, **changes.get("method", {})}
    recipe = {"learning_rate": 1e-6, "replay_batch_size": 2}
    values = {"stream": {"tasks": ["task"]}, "recipe": recipe, **changes, "method": method}
    return parse_config(values, "gpu_table")


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
