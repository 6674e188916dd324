"""Whether a model that is read through the tap is the model that transformers computes.

The reference is transformers alone: eager attention, each sample by itself without padding, positions and a cache as
the model chooses them. What it gives is compared with the passes of training and with generation, which read the same
samples in a batch that is padded on the left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GenerationConfig

from seekr_tune.loop.evaluate import generate
from seekr_tune.methods.losses import IGNORED
from seekr_tune.methods.passes import Tokens, answer_logits
from seekr_tune.methods.reading import observe
from seekr_tune.methods.seekr.attention import AttentionTap, all_heads_request
from seekr_tune.methods.semantics import CORRECTED, OFFICIAL, Semantics
from seekr_tune.models.loading import LoadedModel
from tests.loop.tiny import VOCABULARY

LENGTHS = (12, 7, 9)
LABELS = (2, 3, 1)
BOUNDS = {"logits": 1e-3, "rows": 1e-3, "energies": 1e-2, "answers": 0.1, "ahead": 1e-3}
"""Most that a measure may differ: float32 on both sides, sums in different orders."""
NOT_WORDS = 4
"""Tokens at the front of the vocabulary that are special."""
NEW_TOKENS = 4
OF_A_LIBRARY = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError, KeyError)
"""What transformers and torch raise where a model cannot do what it is asked."""


def reference_model(path: Path, attention: str = "eager") -> Any:
    """The model as transformers computes it."""
    return AutoModelForCausalLM.from_pretrained(path, attn_implementation=attention, dtype=torch.float32).eval()


def require_working(reference: Any) -> None:
    """Raise what the model raises, or ValueError where it computes no finite number."""
    with torch.no_grad():
        for sample in draw_samples():
            if not bool(reference(input_ids=torch.tensor([sample])).logits.isfinite().all()):
                raise ValueError("its logits are not finite")


def differences(loaded: LoadedModel, reference: Any) -> dict[str, float]:
    """By measure, how far the tapped model is from the reference; infinite where a pass of training fails.

    Returns:
        `logits ...`: largest difference, as a share of the largest logit, without padding, with it, with the last
        positions alone, and in the release's reading; `rows`: largest difference of a probability; `energies`: largest
        difference, as a share of the largest of its layer; `answers`: share of samples that are answered differently;
        `ahead`: what a last token changes before it, as a share of the largest logit.
        A measure that transformers itself gives no reference for is left out.
    """
    loaded.model.eval()
    samples = draw_samples()
    expected = [_expected(reference, sample, n) for sample, n in zip(samples, LABELS, strict=True)]
    measures: dict[str, Callable[[], float]] = {
        "logits unpadded": lambda: _alone_differ(loaded, samples, expected, LENGTHS, CORRECTED),
        "logits of answers": lambda: _alone_differ(loaded, samples, expected, LABELS, CORRECTED),
        "logits by official": lambda: _alone_differ(loaded, samples, expected, LENGTHS, OFFICIAL),
        "logits padded": lambda: _padded_differ(loaded, samples, expected),
        "ahead": lambda: _sees_ahead(loaded, samples),
    }
    if all(own.maps is not None for own in expected):
        measures["rows"] = lambda: _rows_differ(loaded, samples, expected)
        measures["energies"] = lambda: _energies_differ(loaded, samples, expected)
    answers = _answers(reference, loaded, samples)
    if answers is not None:
        measures["answers"] = lambda: _share_different(generate(loaded, samples, NEW_TOKENS), answers)
    return {name: _or_infinite(measure) for name, measure in measures.items()}


def _or_infinite(measure: Callable[[], float]) -> float:
    try:
        return measure()
    except OF_A_LIBRARY:
        return math.inf


def worst(found: Mapping[str, float]) -> tuple[str, float] | None:
    """The measure that is furthest outside of its bound, and its value; None where all are inside."""
    outside = {name: value for name, value in found.items() if not value <= BOUNDS[name.split()[0]]}
    if not outside:
        return None
    name = max(outside, key=lambda name: outside[name] / BOUNDS[name.split()[0]])
    return name, outside[name]


def draw_samples() -> list[list[int]]:
    """Words of three samples, longer than any window of a tiny model."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(NOT_WORDS, len(VOCABULARY) - 4, (n,), generator=generator).tolist() for n in LENGTHS]


def padded_batch(samples: Sequence[Sequence[int]], pad: int, num_labels: Sequence[int]) -> Tokens:
    """Samples padded on the left, with so many labels at the end of each."""
    width = max(map(len, samples))
    ids = torch.full((len(samples), width), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (sample, count) in enumerate(zip(samples, num_labels, strict=True)):
        ids[row, -len(sample) :] = torch.tensor(sample)
        mask[row, -len(sample) :] = 1
        labels[row, -count:] = ids[row, -count:]
    return Tokens(ids, mask, labels)


@dataclass(frozen=True)
class _Expected:
    """What transformers gives for one sample by itself.

    Attributes:
        logits: `[n, vocabulary]`.
        maps: attention by layer, `[heads, n, n]`; None where the model gives none.
        energy: by layer, mean square of the gradient at its map, over keys that may be seen, `[heads]`.
    """

    logits: Tensor
    maps: Sequence[Tensor] | None
    energy: Sequence[Tensor] | None


def _expected(reference: Any, sample: Sequence[int], num_labels: int) -> _Expected:
    ids = torch.tensor([list(sample)])
    with torch.no_grad():
        logits = reference(input_ids=ids).logits[0]
    try:
        output = reference(input_ids=ids, output_attentions=True)
        maps = output.attentions
    except OF_A_LIBRARY:
        return _Expected(logits, None, None)
    square = (1, len(sample), len(sample))
    if not maps or any(own is None or (own.shape[0], *own.shape[2:]) != square for own in maps):
        return _Expected(logits, None, None)
    loss = cross_entropy(output.logits[0, -num_labels - 1 : -1], ids[0, -num_labels:])
    gradients = torch.autograd.grad(loss, maps)
    energy = [own[0].tril().square().sum(dim=(1, 2)) / (len(sample) * (len(sample) + 1) / 2) for own in gradients]
    return _Expected(logits, [own[0].detach() for own in maps], energy)


def _alone_differ(
    loaded: LoadedModel,
    samples: Sequence[Sequence[int]],
    expected: Sequence[_Expected],
    num_labels: Sequence[int],
    semantics: Semantics,
) -> float:
    largest = 0.0
    for sample, own, count in zip(samples, expected, num_labels, strict=True):
        with torch.no_grad():
            tokens = padded_batch([sample], loaded.pad_token_id, [count])
            logits = answer_logits(loaded.model, tokens, semantics)[0]
        largest = _larger(largest, _relative(logits, own.logits[-len(logits) :]))
    return largest


def _padded_differ(loaded: LoadedModel, samples: Sequence[Sequence[int]], expected: Sequence[_Expected]) -> float:
    with torch.no_grad():
        logits = answer_logits(loaded.model, padded_batch(samples, loaded.pad_token_id, LENGTHS), CORRECTED)
    own = [_relative(logits[i, -len(one.logits) :], one.logits) for i, one in enumerate(expected)]
    return _larger(*own)


def _rows_differ(loaded: LoadedModel, samples: Sequence[Sequence[int]], expected: Sequence[_Expected]) -> float:
    layers, heads = loaded.shape
    batch = padded_batch(samples, loaded.pad_token_id, LENGTHS)
    width = batch.input_ids.shape[1]
    request = all_heads_request(heads, torch.arange(width).expand(len(expected), width))
    tap = AttentionTap(dict.fromkeys(range(layers), request))
    with torch.no_grad():
        answer_logits(loaded.model, batch, CORRECTED, tap)
    largest = 0.0
    for layer in range(layers):
        rows = tap.rows[layer].exp().view(len(expected), heads, width, width)
        for i, (own, n) in enumerate(zip(expected, LENGTHS, strict=True)):
            assert own.maps is not None and len(own.maps) == layers
            largest = _larger(largest, _largest(rows[i, :, -n:, -n:] - own.maps[layer]))
    return largest


def _energies_differ(loaded: LoadedModel, samples: Sequence[Sequence[int]], expected: Sequence[_Expected]) -> float:
    batch = padded_batch(samples, loaded.pad_token_id, LABELS)
    queries = [torch.arange(-len(sample), 0) for sample in samples]
    found = observe(loaded.model, batch, queries, CORRECTED, loaded.shape)().energy
    largest = 0.0
    for i, own in enumerate(expected):
        assert own.energy is not None
        for layer, energy in enumerate(own.energy):
            largest = _larger(largest, _relative(found[i, layer], energy))
    return largest


def _sees_ahead(loaded: LoadedModel, samples: Sequence[Sequence[int]]) -> float:
    largest = 0.0
    for sample in samples:
        other = [*sample[:-1], NOT_WORDS if sample[-1] > NOT_WORDS else NOT_WORDS + 1]
        with torch.no_grad():
            one, two = (
                answer_logits(loaded.model, padded_batch([own], loaded.pad_token_id, [len(own)]), CORRECTED)[0, :-1]
                for own in (sample, other)
            )
        largest = _larger(largest, _relative(one, two))
    return largest


def _answers(reference: Any, loaded: LoadedModel, samples: Sequence[Sequence[int]]) -> list[str] | None:
    """What transformers answers, sample by sample; None where it cannot generate."""
    reference.generation_config = GenerationConfig()
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": loaded.pad_token_id}
    answers = []
    for sample in samples:
        try:
            output = reference.generate(
                input_ids=torch.tensor([list(sample)]), eos_token_id=loaded.tokenizer.eos_token_id, **settings
            )
        except OF_A_LIBRARY:
            return None
        answers.append(str(loaded.tokenizer.decode(output[0, len(sample) :].tolist(), skip_special_tokens=True)))
    return answers


def _share_different(found: Sequence[str], expected: Sequence[str]) -> float:
    return sum(a != b for a, b in zip(found, expected, strict=True)) / len(expected)


def _relative(found: Tensor, expected: Tensor) -> float:
    return _largest(found - expected) / _largest(expected)


def _larger(*values: float) -> float:
    """The largest; not a number where one is none."""
    return math.nan if any(map(math.isnan, values)) else max(values)


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max())
