"""How a teacher's distributions are kept: exactly, in 16 bits, or as their largest entries and the mass of the rest.

Attention rows are kept without the keys that they cannot see: of a query at position p of its sample, p + 1
probabilities. Rows of a layer share their queries, so they are kept as `[heads, visible]`, the visible keys of one
query after those of another.

The compact form says how much of a row its largest entries leave open, and a reader spreads that evenly over the keys
(or tokens) that are not named. The gradient of both distillation terms at the student's scores is `student - teacher`,
so the form moves it by no more than twice that rest, summed over the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

Form = Literal["exact", "half", "compact"]
"""`exact`: as computed. `half`: 16 bits a number. `compact`: the largest entries in 16 bits each."""
LARGEST_KEYS = 48
"""Entries of an attention row that the compact form names."""
LARGEST_TOKENS = 256
"""Entries of a row of logits that the compact form names."""

LARGEST_INT16 = torch.iinfo(torch.int16).max


@dataclass(frozen=True)
class Kept:
    """Distributions as they lie in a replay memory.

    Attributes:
        values: attention probabilities, `[heads, visible]`, or logits, `[rows, vocabulary]`. Where there are `places`:
            the largest probabilities, `[heads, queries, largest]`, or log-probabilities, `[rows, largest]`.
        places: keys (counted from the start of the sample) or tokens of the values; None: all of them, in order.
    """

    values: Tensor
    places: Tensor | None = None

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors under names: `name`, `name/places`."""
        return {name: self.values} if self.places is None else {name: self.values, f"{name}/places": self.places}


def visible_keys(queries: Tensor, length: int) -> Tensor:
    """How many keys each query can see; `queries` are negative positions from the end of `length` tokens."""
    return queries + length + 1


def visible_places(queries: Tensor, length: int, width: int | None = None, padding: int = 0) -> Tensor:
    """Where the visible keys of all queries lie in a flat `[queries, width]`, int64 `[visible]`.

    Args:
        width: keys of a row; None: `length`.
        padding: keys before the sample.
    """
    counts = visible_keys(queries, length)
    rows = torch.repeat_interleave(torch.arange(len(queries)), counts)
    keys = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
    return rows * (length if width is None else width) + padding + keys


def pack_rows(rows: Tensor, queries: Tensor) -> Tensor:
    """Leave out the keys that cannot be seen: `[..., queries, length]` to `[..., visible]`."""
    places = visible_places(queries, rows.shape[-1])
    return rows.flatten(-2).index_select(-1, places.to(rows.device))


def unpack_rows(packed: Tensor, queries: Tensor, length: int) -> Tensor:
    """The inverse of `pack_rows`; keys that cannot be seen get 0."""
    rows = packed.new_zeros(*packed.shape[:-1], len(queries) * length)
    rows[..., visible_places(queries, length)] = packed
    return rows.view(*packed.shape[:-1], len(queries), length)


def keep_rows(packed: Tensor, queries: Tensor, length: int, form: Form) -> Kept:
    """Keep attention rows, `[heads, visible]` in any precision; they are not copied where nothing changes."""
    if form != "compact":
        return Kept(packed.to(_precision(packed.dtype, form)))
    values, places = unpack_rows(packed.float(), queries, length).topk(min(LARGEST_KEYS, length), dim=-1)
    return Kept(values.half(), places.to(torch.int16 if length <= LARGEST_INT16 else torch.int32))


def keep_logits(logits: Tensor, form: Form) -> Kept:
    """Keep a copy of rows of logits, `[rows, vocabulary]`, in any precision."""
    if form != "compact":
        return Kept(logits.to(_precision(logits.dtype, form), copy=True))
    chances = torch.log_softmax(logits.float(), dim=-1)
    values, places = chances.topk(min(LARGEST_TOKENS, logits.shape[1]), dim=-1)
    return Kept(values.half(), places.int())


def restore_logits(values: Tensor, places: Tensor | None, vocabulary: int) -> Tensor:
    """Logits whose softmax is the kept distribution, `[rows, vocabulary]` float32.

    Args:
        values, places: `Kept`, of any number of samples.
    """
    if places is None:
        return values.float()
    chances = values.float()
    rest = (1 - chances.exp().sum(dim=-1, keepdim=True)).clamp_min(torch.finfo(torch.float32).tiny)
    each = torch.log(rest / max(1, vocabulary - chances.shape[1]))
    return each.repeat(1, vocabulary).scatter_(-1, places.long(), chances)


def restore_rows(values: Tensor, places: Tensor | None, visible: Tensor) -> Tensor:
    """Probabilities of a padded batch, `[pairs, queries, keys]` float32.

    Args:
        values: without places, the visible probabilities of all pairs, one after the other; else `[pairs, queries,
            largest]`.
        places: keys of the padded batch; where a pair has fewer, the key behind the last one.
        visible: True where a real query sees a real key, `[pairs, queries, keys]`.
    """
    if places is None:
        return torch.zeros(visible.shape, device=values.device).masked_scatter_(visible, values.float())
    largest = values.float()
    unnamed = visible.sum(dim=-1, keepdim=True) - largest.shape[-1]
    rest = (1 - largest.sum(dim=-1, keepdim=True)).clamp_min(0) / unnamed.clamp_min(1)
    spread = torch.where(visible & (unnamed > 0), rest, 0.0)
    return pad(spread, (0, 1)).scatter_(-1, places.long(), largest)[..., :-1]


def padded_places(
    kept: Sequence[Kept], paddings: Sequence[int], num_queries: int, num_keys: int
) -> tuple[Tensor, Tensor]:
    """Largest entries of several samples' rows as one batch, `[pairs, num_queries, largest]` values and places.

    Args:
        paddings: keys before each sample in the padded batch.
        num_keys: of the padded batch; what fills up has this place.
    """
    widest = max(one.values.shape[2] for one in kept)
    num_pairs = sum(len(one.values) for one in kept)
    values = torch.zeros(num_pairs, num_queries, widest, dtype=kept[0].values.dtype)
    places = torch.full(values.shape, num_keys, dtype=torch.int32)
    start = 0
    for one, padding in zip(kept, paddings, strict=True):
        assert one.places is not None
        pairs, queries, largest = one.values.shape
        own = (slice(start, start + pairs), slice(queries), slice(largest))
        values[own] = one.values
        places[own] = one.places.int() + padding
        start += pairs
    return values, places


def _precision(computed: torch.dtype, form: Form) -> torch.dtype:
    return torch.float16 if form == "half" and computed == torch.float32 else computed
