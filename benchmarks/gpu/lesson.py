"""The end-of-task pass: `observe`, and all that `Teacher` does around it, against a plain pass."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.batches import LABELS, build_batch, sizes
from benchmarks.gpu.compare import compare, described, ratios
from benchmarks.gpu.models import Setting, build_model, config_of, free, lengths_of
from seekr_tune.method.importance import HeadScores
from seekr_tune.method.losses import answer_cross_entropy
from seekr_tune.method.passes import Tokens, answer_logits
from seekr_tune.method.reading import observe
from seekr_tune.method.semantics import CORRECTED
from seekr_tune.sequence.draws import SeededDraws
from seekr_tune.sequence.model import LoadedModel
from seekr_tune.sequence.teacher import Candidate, Teacher
from seekr_tune.sequence.workers import SingleProcess
from seekr_tune.stream.collate import EncodedExample

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
        candidates = [
            Candidate(0, i, EncodedExample(tuple(sample.input_ids.tolist()), LABELS), sample.queries)
            for i, sample in enumerate(build_batch(size, 0)[1])
        ]
        passes = [_tokens(candidates[start : start + in_pass], device) for start in range(0, size.batch, in_pass)]
        queries = [candidate.queries for candidate in candidates]
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
            teacher = Teacher(loaded, config, CORRECTED, SeededDraws(0), SingleProcess(device))
            before = teacher.rows(candidates)
            totals = HeadScores.zeros(*shape)
            sides[f"remember {ratio}"] = partial(_remember, teacher, candidates, before, totals)
            sides["rows"] = partial(_read_rows, teacher, candidates)
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
    lengths = [len(candidate.example.input_ids) for candidate in candidates]
    return Tokens(ids.to(device), mask.to(device), labels.to(device), lengths, [LABELS] * len(candidates))
