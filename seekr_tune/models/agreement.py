"""Whether a model computes, through the tap, what transformers computes with its own attention.

transformers decides some things by the name of the attention function, others by the class of the model or by the
arguments of a call: sinks, index masks, shared keys, where positions start. None of that is visible at a model that is
merely run, so it is measured once, on a few tokens: every number that training and evaluation read is compared with the
one that transformers gives for the same tokens, each sequence alone, without padding, under its own attention.

The comparison is made in float32, whatever the weights are loaded in. Two correct orders of summation then differ by
1e-6 to 1e-4 of the largest number, while in bfloat16 they may differ by several percent, as much as some faults do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from seekr_tune.errors import ModelError
from seekr_tune.methods.losses import IGNORED
from seekr_tune.methods.passes import Tokens, answer_logits
from seekr_tune.methods.reading import observe
from seekr_tune.methods.seekr.attention import TAP_ATTENTION
from seekr_tune.methods.semantics import CORRECTED, OFFICIAL

TOLERANCES = {"logits": 1e-3, "generated": 1e-3, "rows": 1e-3, "energies": 1e-2}
"""Largest difference that is still one of rounding, for each of the numbers of an `Agreement`. With random weights,
every type that is computed rightly stays below 2e-5 (energies, which are squares of gradients: 2e-4)."""

_LENGTH = 16
_PADDING = 5
_LENGTHS = (32, 26, 21, 17, 13, 10, 8, 6)
"""Of the sequences whose logits are compared in one padded batch: what padding does may show in few of them."""
_LABELS = 3
_GENERATED = 3


@dataclass(frozen=True)
class Agreement:
    """Largest differences between the tap and transformers' own attention.

    Attributes:
        logits: of full, shortened and padded batches, as a part of the largest logit.
        generated: logits of the steps of generation, likewise.
        rows: of attention probabilities, absolute.
        energies: of the mean square gradient at the attention map, as a part of the largest of its layer.
    """

    logits: float
    generated: float
    rows: float
    energies: float

    def faults(self) -> list[str]:
        """What differs by more than rounding, in words."""
        return [
            f"{name} by {value:.2%} (rounding: {TOLERANCES[name]:.1%})"
            for name, value in asdict(self).items()
            if not value <= TOLERANCES[name]
        ]


def measure_agreement(model: Any, shape: tuple[int, int], positions: int | None, pad_token_id: int) -> Agreement:
    """Compare a model that is loaded with `TAP_ATTENTION` with itself under transformers' own attention.

    The model is as it was when this returns, and so is the random state.

    Args:
        shape: layers of the model, heads of a layer.
        positions: that it has; None where it does not say.
        pad_token_id: what batches are filled with.

    Raises:
        Whatever a pass of the model raises, through the tap or without it.
    """
    most = max(_LENGTHS) if positions is None else min(max(_LENGTHS), positions - _GENERATED)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _in_float32(model):
            found = _measure(model, _sequences(model.config, most, 0).to(device), shape, pad_token_id)
            if not found.faults():
                return found
            # Routers and indexers choose: where two choices are equal but for rounding, a right model can differ in all
            # that follows. Other tokens do not meet the same tie; a fault is met again by one of several drawings.
            for seed in (1, 2, 3):
                found = _measure(model, _sequences(model.config, most, seed).to(device), shape, pad_token_id)
                if found.faults():
                    break
            return found
    finally:
        model.train(was_training)


def _measure(model: Any, drawn: Tensor, shape: tuple[int, int], pad_token_id: int) -> Agreement:
    most = drawn.shape[1]
    length = min(_LENGTH, most)
    whole = drawn[:2, :length]
    batches = [_batch(whole, [length, length], pad_token_id), _batch(whole, [length, length - _PADDING], pad_token_id)]
    uneven = _batch(drawn, [min(own, most) for own in _LENGTHS], pad_token_id)
    return Agreement(
        logits=max(_logits(model, tokens) for tokens in (*batches, uneven)),
        generated=max(_generated(model, tokens, pad_token_id) for tokens in batches),
        **_attention(model, batches, shape),
    )


def require_agreement(found: Agreement, name: str) -> None:
    """Refuse a model that computes something else through the tap than without it.

    Args:
        found: what was measured.
        name: of the model, for people.

    Raises:
        ModelError: naming the measured differences.
    """
    faults = found.faults()
    if faults:
        raise ModelError(
            f"{name}: does not compute through the attention tap what transformers computes; differs in "
            f"{', '.join(faults)}; choose llama, qwen2, qwen3, mistral, gpt2 or gpt_neox"
        )


def _sequences(config: Any, length: int, seed: int) -> Tensor:
    """Of ordinary tokens, `[_LENGTHS, length]`; ids with a meaning of their own are left out."""
    special = {value for name, value in vars(config).items() if name.endswith("_token_id") and isinstance(value, int)}
    ordinary = [token for token in range(config.vocab_size) if token not in special]
    drawn = torch.randint(len(ordinary), (len(_LENGTHS), length), generator=torch.Generator().manual_seed(seed))
    return torch.tensor(ordinary)[drawn]


def _batch(whole: Tensor, lengths: Sequence[int], pad_token_id: int) -> Tokens:
    """The last tokens of each sequence, padded on the left; the last of those are labels."""
    places = torch.arange(whole.shape[1], device=whole.device)
    real = places >= whole.shape[1] - torch.tensor(lengths, device=whole.device)[:, None]
    ids = whole.masked_fill(~real, pad_token_id)
    labels = ids.masked_fill(places < whole.shape[1] - _LABELS, IGNORED)
    return Tokens(ids, real.long(), labels)


@torch.no_grad()
def _logits(model: Any, tokens: Tokens) -> float:
    """Of all positions and of the last ones, as training asks for them."""
    call = {
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
        "position_ids": CORRECTED.position_ids(tokens.attention_mask),
        "use_cache": False,
    }
    full, kept = model(**call).logits, answer_logits(model, tokens, CORRECTED)
    as_released = answer_logits(model, tokens, OFFICIAL)
    with _own_attention(model):
        alone = [model(input_ids=ids).logits[0] for ids in _alone(tokens)]
        released = answer_logits(model, tokens, OFFICIAL)
    pairs = [(full[row, -len(own) :], own) for row, own in enumerate(alone)]
    pairs += [(kept[row], own[-kept.shape[1] :]) for row, own in enumerate(alone)]
    return max(*(_relative(found, expected) for found, expected in pairs), _relative(as_released, released))


@torch.no_grad()
def _generated(model: Any, tokens: Tokens, pad_token_id: int) -> float:
    """Of a few steps that are forced to the same tokens, as evaluation generates them."""

    def steps(ids: Tensor, mask: Tensor | None) -> Tensor:
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=_GENERATED,
            do_sample=False,
            num_beams=1,
            pad_token_id=pad_token_id,
            prefix_allowed_tokens_fn=lambda row, so_far: [int(so_far[-_LABELS])],
            return_dict_in_generate=True,
            output_logits=True,
        )
        return torch.stack(output.logits, dim=1)

    found = steps(tokens.input_ids, tokens.attention_mask)
    with _own_attention(model):
        alone = [steps(ids, torch.ones_like(ids))[0] for ids in _alone(tokens)]
    return max(_relative(found[row], own) for row, own in enumerate(alone))


def _attention(model: Any, batches: Sequence[Tokens], shape: tuple[int, int]) -> dict[str, float]:
    """Rows of all real queries, and energies, of the pass that ends a task and of eager attention maps."""
    rows, energies = [0.0], [0.0]
    for tokens in batches:
        queries = [torch.arange(-length, 0) for length in tokens.lengths]
        found = observe(model, tokens, queries, CORRECTED, shape)()
        with _own_attention(model, "eager"):
            for row, ids in enumerate(_alone(tokens)):
                maps, energy = _eager(model, ids)
                visible = torch.ones_like(maps[0, 0], dtype=torch.bool).tril()
                rows.append(_largest(found.rows[row], maps[:, :, visible]))
                energies += [_relative(a, b) for a, b in zip(found.energy[row], energy, strict=True)]
    return {"rows": max(rows), "energies": max(energies)}


def _eager(model: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Attention maps of one sequence, `[layers, heads, queries, keys]`, and the mean square gradient at them."""
    with torch.enable_grad():
        output = model(input_ids=ids, output_attentions=True)
        loss = cross_entropy(output.logits[0, -_LABELS - 1 : -1].float(), ids[0, -_LABELS:])
        gradients = torch.autograd.grad(loss, output.attentions)
    maps = torch.stack([own[0].detach().cpu() for own in output.attentions])
    squares = torch.stack([own[0].float().cpu() for own in gradients]).tril().square()
    length = ids.shape[1]
    return maps, squares.sum(dim=(-2, -1)) / (length * (length + 1) / 2)


def _alone(tokens: Tokens) -> Iterator[Tensor]:
    """Each sequence of a batch without its padding, `[1, length]`."""
    for ids, length in zip(tokens.input_ids, tokens.lengths, strict=True):
        yield ids[None, -length:]


def _relative(found: Tensor, expected: Tensor) -> float:
    return _largest(found, expected) / max(float(expected.abs().max()), torch.finfo(torch.float32).tiny)


def _largest(found: Tensor, expected: Tensor) -> float:
    difference = float((found.float() - expected.float()).abs().max())
    return difference if math.isfinite(difference) else math.inf


@contextmanager
def _own_attention(model: Any, name: str | None = None) -> Iterator[None]:
    """A model under transformers' attention: the one that it takes by itself, or a named one."""
    model.set_attn_implementation(name or ("sdpa" if model._supports_sdpa else "eager"))
    try:
        yield
    finally:
        model.set_attn_implementation(TAP_ATTENTION)


@contextmanager
def _in_float32(model: Any) -> Iterator[None]:
    """Weights in float32 for the time of the block; back in 16 bits they are what they were, bit for bit."""
    short = [t for t in (*model.parameters(), *model.buffers()) if t.dtype in (torch.bfloat16, torch.float16)]
    dtypes = [tensor.dtype for tensor in short]
    try:
        for tensor in short:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in reversed(list(zip(short, dtypes, strict=True))):  # the last first: memory may be short
            tensor.data = tensor.data.to(dtype)
