"""Whether a model that is read through the tap is the model that transformers computes.

The reference is transformers alone: eager attention, each sample by itself without padding, positions and a cache as
the model chooses them. What it gives is compared with the passes of training and with generation, which read the same
samples in a batch that is padded on the left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GenerationConfig

from seekr_tune.method.attention import AttentionTap, all_heads_request
from seekr_tune.method.losses import IGNORED
from seekr_tune.method.passes import Tokens, answer_logits
from seekr_tune.method.reading import observe
from seekr_tune.method.semantics import CORRECTED, OFFICIAL
from seekr_tune.sequence.evaluate import generate
from seekr_tune.sequence.model import LoadedModel
from tests.sequence.tiny import VOCABULARY

LENGTHS = (12, 7, 9)
LABELS = (2, 3, 1)
BOUNDS = {"logits": 1e-3, "rows": 1e-3, "energies": 1e-2, "answers": 0.5}
"""Most that a measure may differ: float32 on both sides, sums in different orders."""
NOT_WORDS = 4
NEW_TOKENS = 4


def reference_model(path: Path, attention: str = "eager") -> Any:
    """The model as transformers computes it."""
    return AutoModelForCausalLM.from_pretrained(path, attn_implementation=attention, dtype=torch.float32).eval()


def differences(loaded: LoadedModel, reference: Any) -> dict[str, float]:
    """By measure, how far the tapped model is from the reference.

    Returns:
        `logits ...`: largest difference, as a share of the largest logit, without padding, with it, with the last
        positions alone, and in the release's reading; `rows`: largest difference of a probability; `energies`: largest
        difference, as a share of the largest of its layer; `answers`: share of samples that are answered differently.
        A measure that transformers itself gives no reference for is left out.
    """
    model = loaded.model.eval()
    samples = draw_samples()
    expected = [_expected(reference, sample, n) for sample, n in zip(samples, LABELS, strict=True)]
    batch = padded_batch(samples, loaded.pad_token_id, LENGTHS)
    found = {"logits unpadded": 0.0, "logits of answers": 0.0, "logits by official": 0.0}
    with torch.no_grad():
        for sample, own in zip(samples, expected, strict=True):
            alone = padded_batch([sample], loaded.pad_token_id, [len(sample)])
            short = padded_batch([sample], loaded.pad_token_id, [2])
            for name, tokens, semantics in (
                ("logits unpadded", alone, CORRECTED),
                ("logits of answers", short, CORRECTED),
                ("logits by official", alone, OFFICIAL),
            ):
                logits = answer_logits(model, tokens, semantics)[0]
                found[name] = max(found[name], _relative(logits, own.logits[-len(logits) :]))
        logits = answer_logits(model, batch, CORRECTED)
        found["logits padded"] = max(
            _relative(logits[i, -len(own.logits) :], own.logits) for i, own in enumerate(expected)
        )
    if all(own.maps is not None for own in expected):
        found["rows"] = _rows_differ(loaded, batch, expected)
        found["energies"] = _energies_differ(loaded, samples, expected)
    answers = generate(loaded, samples, NEW_TOKENS)
    own_answers = [_answer(reference, loaded, sample) for sample in samples]
    found["answers"] = sum(a != b for a, b in zip(answers, own_answers, strict=True)) / len(samples)
    return found


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
        maps: attention, `[layers, heads, n, n]`; None where the model gives none.
        energy: mean square of the gradient at the maps, over keys that may be seen, `[layers, heads]`.
    """

    logits: Tensor
    maps: Tensor | None
    energy: Tensor | None


def _expected(reference: Any, sample: Sequence[int], num_labels: int) -> _Expected:
    ids = torch.tensor([list(sample)])
    with torch.no_grad():
        logits = reference(input_ids=ids).logits[0]
    try:
        output = reference(input_ids=ids, output_attentions=True)
        maps = output.attentions
    except (ValueError, RuntimeError, TypeError, AttributeError, IndexError):
        return _Expected(logits, None, None)
    square = (1, len(sample), len(sample))
    if not maps or any(own is None or (own.shape[0], *own.shape[2:]) != square for own in maps):
        return _Expected(logits, None, None)
    loss = cross_entropy(output.logits[0, -num_labels - 1 : -1], ids[0, -num_labels:])
    gradients = torch.autograd.grad(loss, maps)
    energy = [own[0].tril().square().sum(dim=(1, 2)) / (len(sample) * (len(sample) + 1) / 2) for own in gradients]
    return _Expected(logits, torch.cat([own.detach() for own in maps]), torch.stack(energy))


def _rows_differ(loaded: LoadedModel, batch: Tokens, expected: Sequence[_Expected]) -> float:
    layers, heads = loaded.shape
    width = batch.input_ids.shape[1]
    request = all_heads_request(heads, torch.arange(width).expand(len(expected), width))
    tap = AttentionTap(dict.fromkeys(range(layers), request))
    with torch.no_grad():
        answer_logits(loaded.model, batch, CORRECTED, tap)
    rows = torch.stack([tap.rows[layer].exp().view(len(expected), heads, width, width) for layer in range(layers)])
    return max(_largest(rows[:, i, :, -n:, -n:] - own.maps) for i, (n, own) in enumerate(zip(LENGTHS, expected)))


def _energies_differ(loaded: LoadedModel, samples: Sequence[Sequence[int]], expected: Sequence[_Expected]) -> float:
    batch = padded_batch(samples, loaded.pad_token_id, LABELS)
    queries = [torch.arange(-len(sample), 0) for sample in samples]
    found = observe(loaded.model, batch, queries, CORRECTED, loaded.shape)().energy
    scale = [own.energy.amax(dim=1, keepdim=True) for own in expected]
    return max(_largest((a - b.energy) / c) for a, b, c in zip(found, expected, scale, strict=True))


def _answer(reference: Any, loaded: LoadedModel, sample: Sequence[int]) -> str:
    reference.generation_config = GenerationConfig()
    output = reference.generate(
        input_ids=torch.tensor([list(sample)]),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=loaded.pad_token_id,
        eos_token_id=loaded.tokenizer.eos_token_id,
    )
    return str(loaded.tokenizer.decode(output[0, len(sample) :].tolist(), skip_special_tokens=True))


def _relative(found: Tensor, expected: Tensor) -> float:
    return _largest(found - expected) / _largest(expected)


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max())
