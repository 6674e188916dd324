"""Teacher signals of a batch, on the device where the student computes, and there before they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from seekr_tune.methods.memory import ReplaySample, TeacherSignals
from seekr_tune.methods.seekr.attention import RowRequest
from seekr_tune.methods.storage import Kept, padded_places, restore_logits, restore_rows, visible_keys


@dataclass(frozen=True)
class TeacherBatch:
    """Signals of a batch of samples, as they are kept, on the student's device.

    Attributes:
        samples: whose signals these are.
        padded_length: length to which the batch is padded (on the left).
        tensors: `logits`, sample after sample; `rows`, layer after layer and within a layer sample after sample (with
            `/places` where they have some); and of the rows `pairs` (sample, head), `queries` (positions in the padded
            batch) and `bounds` (queries of a sample, where it starts).
    """

    samples: Sequence[ReplaySample]
    padded_length: int
    tensors: Mapping[str, Tensor]

    def logits(self, vocabulary: int) -> Tensor:
        """Teacher logits, sample after sample, `[label tokens of the batch, vocabulary]` float32."""
        return restore_logits(self.tensors["logits"], self.tensors.get("logits/places"), vocabulary)

    @property
    def num_logits(self) -> int:
        """Rows of logits in the batch."""
        return len(self.tensors["logits"])

    def rows(self) -> dict[int, RowTargets]:
        """Which attention rows the student must compute, and the teacher's; a layer appears if any sample chose it."""
        layers = _layers(self.samples)
        queries, (counts, starts) = self.tensors["queries"], self.tensors["bounds"].unbind(dim=1)
        keys = torch.arange(self.padded_length, device=queries.device)
        valid = torch.arange(queries.shape[1], device=queries.device) < counts[:, None]
        visible = valid[..., None] & (keys <= queries[..., None]) & (keys >= starts[:, None, None])
        num_pairs = [sum(len(sample.heads.get(layer, ())) for sample in self.samples) for layer in layers]
        pairs = torch.split(self.tensors["pairs"], num_pairs)
        targets: dict[int, RowTargets] = {}
        for layer, own, kept in zip(layers, pairs, self._by_layer(layers, num_pairs), strict=True):
            batch_index, heads = own.unbind(dim=1)
            request = RowRequest(batch_index, heads, queries.index_select(0, batch_index))
            restore = partial(_restored, kept, visible, batch_index)
            targets[layer] = RowTargets(request, valid.index_select(0, batch_index), restore)
        return targets

    def _by_layer(self, layers: Sequence[int], num_pairs: list[int]) -> list[Kept]:
        values, places = self.tensors["rows"], self.tensors.get("rows/places")
        if places is not None:
            parts = zip(torch.split(values, num_pairs), torch.split(places, num_pairs), strict=True)
            return [Kept(*own) for own in parts]
        visible = [int(visible_keys(sample.queries, len(sample.input_ids)).sum()) for sample in self.samples]
        sizes = [
            sum(len(sample.heads.get(layer, ())) * n for sample, n in zip(self.samples, visible, strict=True))
            for layer in layers
        ]
        return [Kept(own) for own in torch.split(values, sizes)]


@dataclass(frozen=True)
class RowTargets:
    """Teacher rows of one layer for a padded batch.

    Attributes:
        request: which rows the student must compute.
        valid: False at queries that only fill up the tensor, `[pairs, queries]`.
        restore: makes `probabilities`: a batch is small as it is kept, and large as it is used.
    """

    request: RowRequest
    valid: Tensor
    restore: Callable[[], Tensor]

    @property
    def probabilities(self) -> Tensor:
        """Teacher attention, `[pairs, queries, keys]` float32, aligned to the right as the batch is."""
        return self.restore()


def teacher_batch(
    samples: Sequence[ReplaySample],
    padded_length: int,
    device: torch.device | None = None,
    *,
    logits: bool = True,
    rows: bool = True,
) -> TeacherBatch:
    """A batch's signals on a device (default: CPU), at once."""
    tensors = joined(samples, padded_length, logits=logits, rows=rows, pin=False)
    return TeacherBatch(samples, padded_length, {name: own.to(device or "cpu") for name, own in tensors.items()})


def _restored(kept: Kept, visible: Tensor, batch_index: Tensor) -> Tensor:
    return restore_rows(kept.values, kept.places, visible.index_select(0, batch_index))


def joined(
    samples: Sequence[ReplaySample], padded_length: int, *, logits: bool, rows: bool, pin: bool
) -> dict[str, Tensor]:
    """`TeacherBatch.tensors` in main memory.

    Args:
        samples: stored samples, in the order of the batch.
        padded_length: length of the padded batch.
        logits, rows: which of the signals are wanted.
        pin: make them in pinned pages.
    """
    return (_joined_logits(samples, pin) if logits else {}) | (
        _joined_rows(samples, padded_length, pin) if rows else {}
    )


def _joined_logits(samples: Sequence[ReplaySample], pin: bool) -> dict[str, Tensor]:
    kept = [_teacher(sample).logits for sample in samples]
    own = [one for one in kept if one is not None]
    assert len(own) == len(kept), "logits are distilled, but some samples were stored without them"
    tensors = {"logits": _joint([one.values for one in own], pin)}
    if own[0].places is not None:
        tensors["logits/places"] = _joint([one.places for one in own if one.places is not None], pin)
    return tensors


def _joined_rows(samples: Sequence[ReplaySample], padded_length: int, pin: bool) -> dict[str, Tensor]:
    parts = [
        (i, layer, _teacher(sample).rows_of(sample.heads, layer))
        for layer in _layers(samples)
        for i, sample in enumerate(samples)
        if layer in sample.heads
    ]
    pairs = torch.tensor([(i, head) for i, layer, _ in parts for head in samples[i].heads[layer]], dtype=torch.long)
    queries = torch.full((len(samples), max(len(sample.queries) for sample in samples)), padded_length - 1)
    for i, sample in enumerate(samples):
        queries[i, : len(sample.queries)] = sample.queries + padded_length
    paddings = [padded_length - len(sample.input_ids) for sample in samples]
    bounds = torch.tensor([(len(s.queries), start) for s, start in zip(samples, paddings, strict=True)])
    kept = [own for *_, own in parts]
    if any(own.places is not None for own in kept):
        values, places = padded_places(kept, [paddings[i] for i, *_ in parts], queries.shape[1], padded_length)
        tensors = {"rows": _joint([values], pin), "rows/places": _joint([places], pin)}
    else:
        tensors = {"rows": _joint([own.values.flatten() for own in kept], pin)}
    index = {"pairs": pairs.view(-1, 2), "queries": queries, "bounds": bounds}
    return tensors | {name: _joint([own], pin) for name, own in index.items()}


def _joint(parts: Sequence[Tensor], pin: bool) -> Tensor:
    """All parts, one after the other, in new memory."""
    if not parts:
        return torch.empty(0)
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    joint = torch.empty(shape, dtype=parts[0].dtype, pin_memory=pin)
    torch.cat(list(parts), out=joint)
    return joint


def _layers(samples: Sequence[ReplaySample]) -> list[int]:
    return sorted({layer for sample in samples for layer in sample.heads})


def _teacher(sample: ReplaySample) -> TeacherSignals:
    assert sample.teacher is not None, "distillation needs samples that were stored with teacher signals"
    return sample.teacher
