"""The end-of-task pass: `observe`, and all that `Teacher` does around it, against a plain pass."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.batches import LABELS, build_batch, sizes
from benchmarks.gpu.compare import compare, described, ratios
from benchmarks.gpu.models import Setting, build_model, config_of, free, lengths_of
from seekr_tune.loop.schedule import Stage
from seekr_tune.loop.views import Views, setting_of
from seekr_tune.methods.draws import SeededDraws
from seekr_tune.methods.losses import answer_cross_entropy
from seekr_tune.methods.memory import ReplaySample
from seekr_tune.methods.passes import Tokens, answer_logits
from seekr_tune.methods.protocol import TaskView
from seekr_tune.methods.reading import observe
from seekr_tune.methods.seekr.method import Seekr
from seekr_tune.methods.seekr.teacher import Teacher
from seekr_tune.methods.semantics import CORRECTED
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models.loading import LoadedModel

IN_PASS = 4
"""Samples of one pass, as many as a replay step has by default."""


def measure_lesson(setting: Setting, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The end-of-task pass (`observe`, and all that `Teacher` does around it) against a plain pass, for each sample."""
    model = build_model(setting, options)
    device = torch.device(options.device)
    loaded = LoadedModel(model, None, 0)
    for length in lengths_of(setting, options):
        size = sizes(setting, length, options)
        size.batch, in_pass = 8, IN_PASS
        samples = build_batch(size, 0)[1]
        passes = [_tokens(samples[start : start + in_pass], device) for start in range(0, size.batch, in_pass)]
        queries = [sample.queries for sample in samples]
        shape = loaded.shape
        dtype = torch.float16 if options.dtype == "bfloat16" else torch.float32
        model.eval()

        model.zero_grad(set_to_none=False)
        sides: dict[str, Callable[[int], object]] = {
            "plain": partial(_plain_passes, model, passes),
            "observe": partial(_observe_all, model, passes, queries, shape, dtype),
        }
        for ratio in (0.25, 1.0):
            config = config_of(
                {
                    "method": {"layer_ratio": ratio, "head_budget": 0.125},
                    "model": {"dtype": options.dtype},
                    "recipe": {"replay_batch_size": IN_PASS},
                },
                options,
            )
            run = (loaded, config, CORRECTED, SeededDraws(0), SingleProcess(device))
            method = Seekr(config.method.seekr, setting_of(*run))
            plain = [replace(sample, teacher=None) for sample in samples]
            view = Views(*run).of_task(Stage("task", (0,)), plain, [])
            method.before_task(view)
            sides[f"remember {ratio}"] = partial(_remember, method, view, method._before)
            teacher = Teacher(setting_of(*run), config.method.seekr.query_budget, "exact", logits=True)
            sides["rows"] = partial(_read_rows, teacher, view, queries)
        found = compare(sides, device, options.repeats)
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
    model: Any,
    passes: Sequence[Tokens],
    queries: Sequence[Tensor],
    shape: tuple[int, int],
    dtype: torch.dtype,
    turn: int,
) -> None:
    for number, tokens in enumerate(passes):
        observe(model, tokens, queries[IN_PASS * number : IN_PASS * (number + 1)], CORRECTED, shape, dtype=dtype)


def _read_rows(teacher: Teacher, view: TaskView, queries: Sequence[Tensor], turn: int) -> None:
    teacher.rows(view.passes, queries)


def _remember(method: Seekr, view: TaskView, before: Mapping[int, Tensor], turn: int) -> None:
    method._before = before  # a run forgets it with the task; what is read now is written over it
    method.after_task(view)


def _tokens(samples: Sequence[ReplaySample], device: torch.device) -> Tokens:
    """All padded to the length of the longest."""
    length = max(len(sample.input_ids) for sample in samples)
    ids = torch.zeros(len(samples), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sample in enumerate(samples):
        own = sample.input_ids
        ids[row, length - len(own) :], mask[row, length - len(own) :] = own, 1
    labels = ids.masked_fill(torch.arange(length) < length - LABELS, -100)
    lengths = [len(sample.input_ids) for sample in samples]
    return Tokens(ids.to(device), mask.to(device), labels.to(device), lengths, [LABELS] * len(samples))
