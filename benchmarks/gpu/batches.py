"""Random samples, new and replayed, with real padding."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch

from benchmarks.gpu.models import SHAPES, Setting
from seekr_tune.data.collate import EncodedExample
from seekr_tune.methods.memory import ReplaySample, TeacherSignals
from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.storage import Form, keep_logits, keep_rows, pack_rows

LABELS = 32
"""Label tokens of a sample."""


def sizes(setting: Setting, length: int, options: argparse.Namespace) -> argparse.Namespace:
    """What `build_batch` wants to know; as many samples as make up the tokens of a pass."""
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


def build_batch(
    options: argparse.Namespace, seed: int, form: Form = "exact", heads: Mapping[int, tuple[int, ...]] | None = None
) -> tuple[Tokens, list[ReplaySample]]:
    """Samples of which each second is padded by an eighth, with random teachers.

    Args:
        options: sizes, see `sizes`.
        form: in which the signals are kept.
        heads: distilled heads by layer; None: an eighth of all, in three of four layers.
    """
    generator = torch.Generator().manual_seed(seed)
    on_device = torch.Generator(options.device).manual_seed(seed)
    lengths = [options.length - row % 2 * (options.length // 8) for row in range(options.batch)]
    if heads is None:
        layers = range(max(1, 3 * options.layers // 4))
        heads = {layer: tuple(range(layer % 2, options.heads, 6)) for layer in layers}
    ids = torch.randint(3, options.vocabulary, (options.batch, options.length), generator=generator)
    samples = []
    for row, length in enumerate(lengths):
        queries = torch.randperm(length, generator=generator)[: options.queries].sort().values - length
        future = (torch.arange(length) > (queries + length)[:, None]).to(options.device)
        rows = [
            (2 * torch.randn(len(own), len(queries), length, generator=on_device, device=options.device))
            .masked_fill(future, float("-inf"))
            .softmax(-1)
            for own in heads.values()
        ]
        kept = keep_rows(pack_rows(torch.cat(rows), queries).cpu(), queries, length, form)
        logits = keep_logits(3 * torch.randn(LABELS, options.vocabulary, generator=generator), form)
        own_ids = ids[row, options.length - length :]
        samples.append(ReplaySample(0, row, own_ids, LABELS, queries, heads, 0, TeacherSignals(logits, kept)))
    positions = torch.arange(options.length)
    mask = (positions >= options.length - torch.tensor(lengths)[:, None]).long()
    labels = ids.masked_fill(positions < options.length - LABELS, -100)
    ids, mask, labels = (tensor.to(options.device) for tensor in (ids * mask, mask, labels))
    return Tokens(ids, mask, labels, lengths, [LABELS] * len(samples)), samples


def random_examples(size: argparse.Namespace, count: int) -> list[EncodedExample]:
    """Random samples, each second shorter by an eighth."""
    generator = torch.Generator().manual_seed(1)
    lengths = [size.length - i % 2 * (size.length // 8) for i in range(count)]
    return [
        EncodedExample(tuple(torch.randint(3, size.vocabulary, (length,), generator=generator).tolist()), LABELS)
        for length in lengths
    ]
