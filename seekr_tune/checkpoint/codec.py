"""The loop's values as JSON and named tensors, and back; floats survive bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from torch import Tensor

from seekr_tune.checkpoint.shards import laid_out_like, local_part
from seekr_tune.checkpoint.state import LearnerState, StageTiming, StepRecord, StreamState, TaskHistory
from seekr_tune.data.special_tokens import SpecialTokens
from seekr_tune.methods.memory import ReplayMemory, ReplaySample, TeacherSignals
from seekr_tune.methods.protocol import HeadNotes, MethodState, below
from seekr_tune.methods.terms import ATTENTION_DISTILLATION, LOSS_TERMS

_METHOD = "method/"


def encode_state(state: StreamState) -> dict[str, Any]:
    """All of a state that is not a tensor."""
    return {
        "tasks_done": state.tasks_done,
        "scores": {split: _nulls(scores.tolist()) for split, scores in state.scores.items()},
        "initial": {split: _nulls(scores.tolist()) for split, scores in state.initial.items()},
        "memory": [_encode_sample(sample) for sample in state.memory],
        "history": [_encode_history(entry) for entry in state.history],
        "errors": {split: _nulls(errors.tolist()) for split, errors in state.errors.items()},
        "special_tokens": None if state.special_tokens is None else asdict(state.special_tokens),
        "shape": list(state.shape),
        "method": dict(state.method.facts),
    }


def decode_state(
    document: Mapping[str, Any],
    heads: Mapping[str, Tensor],
    samples: Mapping[str, Tensor],
    signals: Mapping[int, TeacherSignals],
    weights: Mapping[str, Mapping[str, Tensor]],
) -> StreamState:
    """The inverse of `encode_state`, `head_tensors` and `sample_tensors`.

    Args:
        document: what `encode_state` returned.
        heads: what `head_tensors` returned.
        samples: what `sample_tensors` returned.
        signals: teacher signals by position in the memory, of the samples whose signals belong here.
        weights: of `MethodState`.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it is not.
    """
    memory = (_decode_sample(i, entry, samples, signals.get(i)) for i, entry in enumerate(document["memory"]))
    return StreamState(
        tasks_done=document["tasks_done"],
        shape=_decode_shape(document, heads),
        memory=ReplayMemory(tuple(memory)),
        scores={split: np.array(scores, dtype=np.float64) for split, scores in document["scores"].items()},
        initial={split: np.array(scores, dtype=np.float64) for split, scores in document["initial"].items()},
        history=tuple(_decode_history(entry, heads) for entry in document["history"]),
        special_tokens=_decode_special_tokens(document.get("special_tokens")),
        errors={split: np.array(errors, dtype=np.float64) for split, errors in document.get("errors", {}).items()},
        method=MethodState(weights, _method_tensors(heads), document.get("method", {})),
    )


def head_tensors(state: StreamState) -> dict[str, Tensor]:
    """All head scores of a state, and what methods know: `task/<index>/..`, `total/<index>/..`, `method/..`."""
    tensors: dict[str, Tensor] = {}
    for entry in state.history:
        if entry.heads is not None:
            for kind, scores in (("task", entry.heads.scores), ("total", entry.heads.total)):
                tensors |= {f"{kind}/{entry.index}/{name}": own for name, own in scores.items()}
    return tensors | {f"{_METHOD}{name}": tensor for name, tensor in state.method.tensors.items()}


def _method_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`MethodState.tensors`; of an earlier version, which knew one method with a state only."""
    if "totals/importance" in tensors:
        return {f"seekr/totals/{name}": own for name, own in below("totals", tensors).items()}
    return below("method", tensors)


def _decode_shape(document: Mapping[str, Any], heads: Mapping[str, Tensor]) -> tuple[int, int]:
    layers, per_layer = document["shape"] if "shape" in document else heads["totals/importance"].shape
    return layers, per_layer


def method_tensors(method: MethodState, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`MethodState.weights` beside the learner's tensors, `method/<name>/<parameter>`, sharded as parameters are."""
    return {
        f"{_METHOD}{name}/{parameter}": laid_out_like(parameters[parameter], own)
        for name, parts in method.weights.items()
        for parameter, own in parts.items()
    }


def split_method(learner: LearnerState) -> tuple[LearnerState, dict[str, dict[str, Tensor]]]:
    """The learner's own tensors, and `MethodState.weights` that were saved beside them."""
    own = {name: tensor for name, tensor in learner.tensors.items() if not name.startswith(_METHOD)}
    weights: dict[str, dict[str, Tensor]] = {}
    for key in learner.tensors.keys() - own.keys():
        name, _, parameter = key.removeprefix(_METHOD).rpartition("/")
        weights.setdefault(name, {})[parameter] = local_part(learner.tensors[key])
    return replace(learner, tensors=own), weights


def sample_tensors(memory: ReplayMemory) -> dict[str, Tensor]:
    """What every rank knows of the samples: `<position>/input_ids`, `<position>/queries`."""
    tensors: dict[str, Tensor] = {}
    for position, sample in enumerate(memory):
        tensors |= {f"{position}/input_ids": sample.input_ids, f"{position}/queries": sample.queries}
    return tensors


def signal_tensors(memory: ReplayMemory) -> dict[str, Tensor]:
    """Teacher signals that this rank holds: `<position>/logits`, `<position>/rows`, and their `/places`."""
    return {
        f"{position}/{name}": tensor
        for position, sample in enumerate(memory)
        if sample.teacher is not None
        for name, tensor in sample.teacher.tensors().items()
    }


def encode_steps(steps: Sequence[StepRecord]) -> list[dict[str, Any]]:
    """Step records as JSON."""
    return [asdict(step) for step in steps]


def decode_steps(entries: Sequence[Mapping[str, Any]]) -> tuple[StepRecord, ...]:
    """The inverse of `encode_steps`."""
    return tuple(StepRecord(**(_with_terms(entry) | {"batch": tuple(entry["batch"])})) for entry in entries)


def _with_terms(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A step as it is encoded now; earlier versions had a field for each of three terms, null where it is off."""
    if "terms" in entry:
        return dict(entry)
    values = {name: entry[name] for name in LOSS_TERMS}
    shares = {name: entry.get(f"{name}_share") for name in LOSS_TERMS}
    weights = {ATTENTION_DISTILLATION: entry.get("attention_weight")}
    named = {"terms": values, "shares": shares, "weights": weights}
    rest = {key for key in entry if key not in LOSS_TERMS and not key.endswith(("_share", "_weight"))}
    return {key: entry[key] for key in rest} | {key: _without_nulls(own) for key, own in named.items()}


def _without_nulls(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _encode_sample(sample: ReplaySample) -> dict[str, Any]:
    return {
        "task": sample.task,
        "index": sample.index,
        "num_labels": sample.num_labels,
        "heads": _encode_heads(sample.heads),
        "shard": sample.shard,
    }


def _decode_sample(
    position: int, entry: Mapping[str, Any], samples: Mapping[str, Tensor], teacher: TeacherSignals | None
) -> ReplaySample:
    return ReplaySample(
        **(dict(entry) | {"heads": _decode_heads(entry["heads"])}),
        input_ids=samples[f"{position}/input_ids"],
        queries=samples[f"{position}/queries"],
        teacher=teacher,
    )


def _encode_history(entry: TaskHistory) -> dict[str, Any]:
    values = {name: value for name, value in vars(entry).items() if name != "heads"}
    return values | {"selected": _encode_heads(entry.selected), "timing": asdict(entry.timing)}


def _decode_history(entry: Mapping[str, Any], heads: Mapping[str, Tensor]) -> TaskHistory:
    shown, shares = entry.get("first_shown"), entry.get("shares")  # earlier versions did not note them, or as null
    decoded = {
        "timing": StageTiming(**entry["timing"]),
        "shares": _without_nulls(shares or {}),
        "first_shown": None if shown is None else tuple((task, index) for task, index in shown),
    }
    scores, total = (below(f"{kind}/{entry['index']}", heads) for kind in ("task", "total"))
    rest = {name: value for name, value in entry.items() if name != "selected"}
    notes = None
    if scores.keys() != total.keys() or entry["selected"] and not scores:
        raise LookupError(f"no head scores of task {entry['index']}")
    if scores:
        notes = HeadNotes(scores, total, _decode_heads(entry["selected"]))
    return TaskHistory(**(rest | decoded), heads=notes)


def _decode_special_tokens(entry: Mapping[str, list[int]] | None) -> SpecialTokens | None:
    return None if entry is None else SpecialTokens(tuple(entry["prefix"]), tuple(entry["ends"]))


def _encode_heads(heads: Mapping[int, tuple[int, ...]]) -> dict[str, list[int]]:
    return {str(layer): list(own) for layer, own in heads.items()}


def _decode_heads(heads: Mapping[str, list[int]]) -> dict[int, tuple[int, ...]]:
    return {int(layer): tuple(own) for layer, own in heads.items()}


def _nulls(values: Any) -> Any:
    """Nested lists with null for NaN (not evaluated), which numpy reads back as NaN."""
    if isinstance(values, list):
        return [_nulls(value) for value in values]
    return None if np.isnan(values) else values
