"""Whole new-task steps (clipping and AdamW too) of the learner, against other loops of the same."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import torch

from benchmarks.gpu.bare import bare_steps
from benchmarks.gpu.batches import LABELS, random_examples, sizes
from benchmarks.gpu.compare import compare, described, ratios, take
from benchmarks.gpu.models import Setting, build_model, config_of, free, lengths_of
from benchmarks.gpu.trainer import trainer_steps
from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.config import Config
from seekr_tune.data.collate import EncodedExample
from seekr_tune.loop.learner import Learner
from seekr_tune.loop.schedule import Stage, Step
from seekr_tune.loop.throughput import FlopRates, flops_utilisation, step_flops
from seekr_tune.loop.views import setting_of
from seekr_tune.methods.draws import SeededDraws
from seekr_tune.methods.memory import ReplayMemory
from seekr_tune.methods.registry import method_of
from seekr_tune.methods.semantics import CORRECTED
from seekr_tune.methods.workers import SingleProcess, Workers
from seekr_tune.models.loading import LoadedModel


def measure_step(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Tokens and FLOPs a second of the learner, of a bare PyTorch loop and of `Trainer`, on the same batches."""
    model, device = build_model(setting, options), torch.device(options.device)
    for length in lengths_of(setting, options):
        size = sizes(setting, length, options)
        examples = random_examples(size, count=4 * size.batch)
        batches = [examples[start : start + size.batch] for start in range(0, len(examples), size.batch)]
        loops = loops_of(model, setting, options, batches)
        sides = {name: partial(take, loop, options.block) for name, loop in loops.items()}
        found = compare(sides, device, options.repeats)
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
        yield {**row, **described(found), **ratios(found, "learner", "bare"), **ratios(found, "learner", "trainer")}
        while loops:  # what they hold must be gone before the next length
            loops.popitem()[1].close()
        del sides
        free(device)


def loops_of(
    model: Any, setting: Setting, options: argparse.Namespace, batches: Sequence[Sequence[EncodedExample]]
) -> dict[str, Generator[object]]:
    """Endless training loops over the batches, by name; all train the one model, each with its own optimizer."""
    precision = torch.bfloat16 if options.autocast else None
    config = config_of({"training": {"activation_checkpointing": setting.checkpointing}}, options)
    rate, alone = config.recipe.learning_rate, SingleProcess(torch.device(options.device), precision)
    loops: dict[str, Generator[object]] = {"learner": learner_steps(model, config, batches, alone)}
    if setting.shape != "7b" or setting.lora:  # there is no room for the moments of more than one optimizer
        loops["bare"] = bare_steps(model, cycle(batches), rate, precision)
        if precision is None:  # its autocast would change the model for the others, too
            loops["trainer"] = trainer_steps(model, batches, rate)
    return loops


def learner_steps(
    model: Any,
    config: Config,
    batches: Sequence[Sequence[EncodedExample]],
    workers: Workers,
    most: int = 1000,
) -> Generator[StepRecord]:
    """New-task steps of the project's learner on the batches in turn; workers share each batch."""
    run = (LoadedModel(model, None, 0), config, CORRECTED, SeededDraws(0), workers)
    learner = Learner(*run, method_of(config, setting_of(*run)))
    size = len(batches[0])
    turn = [Step("new", tuple(range(k * size, (k + 1) * size))) for k in range(len(batches))]
    plan = [turn[k % len(turn)] for k in range(most)]
    examples = [example for batch in batches for example in batch]
    yield from learner.learn(Stage("task", (0,)), plan, examples, ReplayMemory())
