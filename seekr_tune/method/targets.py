"""Teacher signals of a batch, on the device where the student computes, and there before they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from seekr_tune.method.attention import RowRequest
from seekr_tune.method.memory import ReplaySample, TeacherSignals
from seekr_tune.method.storage import padded_places, restore_logits, restore_rows
from seekr_tune.method.transfer import Uploads


@dataclass(frozen=True)
class TeacherBatch:
    """Signals of a batch of samples, as they are kept, on the student's device.

    Attributes:
        samples: whose signals these are.
        padded_length: length to which the batch is padded (on the left).
        tensors: `rows/<layer>` and `logits`, samples one after the other, with `/places` where they have some.
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
        if not layers:
            return {}
        device = self.tensors[f"rows/{layers[0]}"].device
        pairs = {
            layer: [(i, head) for i, sample in enumerate(self.samples) for head in sample.heads.get(layer, ())]
            for layer in layers
        }
        # One copy for all layers: each small one would take as long.
        packed = torch.tensor([pair for layer in layers for pair in pairs[layer]], dtype=torch.long).to(device)
        own, own_valid, starts = _query_positions(self.samples, self.padded_length)
        queries, valid = own.to(device), own_valid.to(device)
        keys = torch.arange(self.padded_length, device=device)
        visible = valid[..., None] & (keys <= queries[..., None]) & (keys >= starts.to(device)[:, None, None])
        targets: dict[int, RowTargets] = {}
        for layer, of_layer in zip(layers, torch.split(packed, [len(pairs[layer]) for layer in layers]), strict=True):
            batch_index, heads = of_layer.unbind(dim=1)
            width = _num_queries(self.samples, layer)
            targets[layer] = RowTargets(
                RowRequest(batch_index, heads, queries[:, :width].index_select(0, batch_index)),
                valid[:, :width].index_select(0, batch_index),
                partial(self._probabilities, layer, visible[:, :width], batch_index),
            )
        return targets

    def _probabilities(self, layer: int, visible: Tensor, batch_index: Tensor) -> Tensor:
        name = f"rows/{layer}"
        return restore_rows(
            self.tensors[name], self.tensors.get(f"{name}/places"), visible.index_select(0, batch_index)
        )


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


def start_batch(
    samples: Sequence[ReplaySample], padded_length: int, uploads: Uploads, *, logits: bool, rows: bool
) -> Callable[[], TeacherBatch]:
    """Begin to bring a batch's signals to a device; what is returned waits for them.

    Args:
        samples: stored samples, in the order of the batch.
        padded_length: length of the padded batch.
        uploads: to the device.
        logits, rows: which of the signals are wanted.
    """
    arriving = uploads.start(partial(_joined, samples, padded_length, logits, rows, uploads.pins))

    def get() -> TeacherBatch:
        return TeacherBatch(samples, padded_length, arriving())

    return get


def teacher_batch(
    samples: Sequence[ReplaySample],
    padded_length: int,
    device: torch.device | None = None,
    *,
    logits: bool = True,
    rows: bool = True,
) -> TeacherBatch:
    """A batch's signals on a device (default: CPU), at once."""
    with Uploads(device or torch.device("cpu")) as uploads:
        return start_batch(samples, padded_length, uploads, logits=logits, rows=rows)()


def _joined(
    samples: Sequence[ReplaySample], padded_length: int, logits: bool, rows: bool, pin: bool
) -> dict[str, Tensor]:
    """`TeacherBatch.tensors` in main memory, in pinned pages where `pin` is set."""
    tensors: dict[str, Tensor] = {}
    if logits:
        kept = [_teacher(sample).logits for sample in samples]
        assert None not in kept, "logits are distilled, but some samples were stored without them"
        own = [one for one in kept if one is not None]
        tensors["logits"] = _joint([one.values for one in own], pin)
        if own[0].places is not None:
            tensors["logits/places"] = _joint([one.places for one in own if one.places is not None], pin)
    for layer in _layers(samples) if rows else ():
        chosen = [(_teacher(sample).rows[layer], sample) for sample in samples if layer in sample.heads]
        name, of_layer = f"rows/{layer}", [one for one, _ in chosen]
        if of_layer[0].places is None:
            tensors[name] = _joint([one.values.flatten() for one in of_layer], pin)
        else:
            paddings = [padded_length - len(sample.input_ids) for _, sample in chosen]
            values, places = padded_places(of_layer, paddings, _num_queries(samples, layer))
            tensors[name], tensors[f"{name}/places"] = _joint([values], pin), _joint([places], pin)
    return tensors


def _joint(parts: Sequence[Tensor], pin: bool) -> Tensor:
    """All parts, one after the other, in new memory."""
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    joint = torch.empty(shape, dtype=parts[0].dtype, pin_memory=pin)
    torch.cat(list(parts), out=joint)
    return joint


def _layers(samples: Sequence[ReplaySample]) -> list[int]:
    return sorted({layer for sample in samples for layer in sample.heads})


def _num_queries(samples: Sequence[ReplaySample], layer: int) -> int:
    return max(len(sample.queries) for sample in samples if layer in sample.heads)


def _query_positions(samples: Sequence[ReplaySample], padded_length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query rows of each sample in the padded batch, which of them are no filling, `[batch, queries]`, and where each
    sample starts, `[batch]`."""
    widest = max(len(sample.queries) for sample in samples)
    queries = torch.full((len(samples), widest), padded_length - 1)
    valid = torch.zeros(len(samples), widest, dtype=torch.bool)
    for i, sample in enumerate(samples):
        queries[i, : len(sample.queries)] = sample.queries + padded_length
        valid[i, : len(sample.queries)] = True
    return queries, valid, torch.tensor([padded_length - len(sample.input_ids) for sample in samples])


def _teacher(sample: ReplaySample) -> TeacherSignals:
    assert sample.teacher is not None, "distillation needs samples that were stored with teacher signals"
    return sample.teacher
