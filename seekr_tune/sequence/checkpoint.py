"""State on disk: safetensors and JSON, a manifest with checksums, an atomic rename.

    checkpoints/
        task-0003/              after three finished tasks
            weights.safetensors     trained parameters (adapters only, with LoRA)
            learner.safetensors     moments and waiting gradients, where they outlive a task
            memory.safetensors      replay samples and teacher signals
            heads.safetensors       head scores
            state.json              everything else
            manifest.json           size and SHA-256 of each file; written last

Nothing is pickled. A checkpoint whose files do not match its manifest is skipped, and the one before is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from seekr_tune.errors import CheckpointError
from seekr_tune.method.importance import HeadScores
from seekr_tune.method.memory import ReplayMemory, ReplaySample, TeacherSignals
from seekr_tune.sequence.state import StreamState, TaskHistory

SCHEMA_VERSION = 1
KEPT = 2
"""Checkpoints that are kept: the newest, and one to fall back on."""
_CONTENT = ("weights.safetensors", "learner.safetensors", "memory.safetensors", "heads.safetensors", "state.json")
"""The files that a manifest must name."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on behind a finished task.

    Attributes:
        state: the stream's state.
        weights: trained parameters by name.
        learner: the learner's snapshot.
        pending_steps: steps whose gradients wait for an update.
    """

    state: StreamState
    weights: Mapping[str, Tensor]
    learner: Mapping[str, Tensor]
    pending_steps: int


def save_checkpoint(directory: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint beside the older ones; it appears whole or not at all.

    Args:
        directory: the run's `checkpoints` directory.
    """
    final = directory / f"task-{checkpoint.state.tasks_done:04d}"
    writing = directory / f".writing-{final.name}-{os.getpid()}"
    for leftover in directory.glob(".writing-*"):
        shutil.rmtree(leftover)
    writing.mkdir(parents=True)
    for name, tensors in _tensor_files(checkpoint).items():
        save_file({key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}, writing / name)
    state = {"pending_steps": checkpoint.pending_steps, **_state_to_json(checkpoint.state)}
    (writing / "state.json").write_text(json.dumps(state), encoding="utf-8")
    manifest = {path.name: _fingerprint(path) for path in sorted(writing.iterdir())}
    (writing / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in writing.iterdir():
        _flush(path)
    if final.exists():
        shutil.rmtree(final)
    writing.rename(final)
    _flush(directory)
    for old in _newest_first(directory)[KEPT:]:
        shutil.rmtree(old)
    return final


def load_newest(directory: Path) -> Checkpoint | None:
    """The newest checkpoint that is intact, or None where there is none.

    Args:
        directory: the run's `checkpoints` directory; it need not exist.
    """
    for path in _newest_first(directory):
        try:
            _verify(path)
            return _load(path)
        except CheckpointError as error:
            _logger.warning("%s: %s; the checkpoint before it is used", path, error)
    return None


def restored_state(directory: Path) -> StreamState | None:
    """State of the newest intact checkpoint of a run directory, or None where there is none."""
    checkpoint = load_newest(directory / "checkpoints")
    return None if checkpoint is None else checkpoint.state


def _newest_first(directory: Path) -> list[Path]:
    return sorted(directory.glob("task-*"), reverse=True)


def _fingerprint(path: Path) -> dict[str, str | int]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verify(path: Path) -> None:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        damaged = [name for name in _CONTENT if manifest.get(name) != _fingerprint(path / name)]
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"damaged ({error})") from None
    if damaged:
        raise CheckpointError(f"damaged ({', '.join(damaged)} not as the manifest says)")


def _load(path: Path) -> Checkpoint:
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    if state["schema_version"] != SCHEMA_VERSION:
        raise CheckpointError(f"has schema version {state['schema_version']}, this version reads {SCHEMA_VERSION}")
    memory = _memory_from(load_file(path / "memory.safetensors"), state["memory"])
    return Checkpoint(
        state=_state_from_json(state, memory, load_file(path / "heads.safetensors")),
        weights=load_file(path / "weights.safetensors"),
        learner=load_file(path / "learner.safetensors"),
        pending_steps=state["pending_steps"],
    )


def _tensor_files(checkpoint: Checkpoint) -> dict[str, Mapping[str, Tensor]]:
    return {
        "weights.safetensors": checkpoint.weights,
        "learner.safetensors": checkpoint.learner,
        "memory.safetensors": _memory_tensors(checkpoint.state.memory),
        "heads.safetensors": _head_tensors(checkpoint.state),
    }


def _memory_tensors(memory: ReplayMemory) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for position, sample in enumerate(memory):
        tensors[f"{position}/input_ids"] = sample.input_ids
        if sample.teacher is not None:
            tensors[f"{position}/queries"] = sample.teacher.queries
            tensors.update({f"{position}/rows/{layer}": rows for layer, rows in sample.teacher.rows.items()})
            if sample.teacher.logits is not None:
                tensors[f"{position}/logits"] = sample.teacher.logits
    return tensors


def _memory_to_json(memory: ReplayMemory) -> list[dict[str, Any]]:
    return [
        {
            "task": sample.task,
            "index": sample.index,
            "num_labels": sample.num_labels,
            "heads": None if sample.teacher is None else _heads_to_json(sample.teacher.heads),
        }
        for sample in memory
    ]


def _memory_from(tensors: Mapping[str, Tensor], entries: list[dict[str, Any]]) -> ReplayMemory:
    samples = []
    for position, entry in enumerate(entries):
        teacher = None
        if entry["heads"] is not None:
            heads = _heads_from_json(entry["heads"])
            teacher = TeacherSignals(
                logits=tensors.get(f"{position}/logits"),
                queries=tensors[f"{position}/queries"],
                heads=heads,
                rows={layer: tensors[f"{position}/rows/{layer}"] for layer in heads},
            )
        ids = tensors[f"{position}/input_ids"]
        samples.append(ReplaySample(entry["task"], entry["index"], ids, entry["num_labels"], teacher))
    return ReplayMemory(tuple(samples))


def _head_tensors(state: StreamState) -> dict[str, Tensor]:
    named = {"totals": state.totals}
    for entry in state.history:
        if entry.scores is not None and entry.total is not None:
            named |= {f"task/{entry.index}": entry.scores, f"total/{entry.index}": entry.total}
    # The newest task's totals are the stream's: the same tensors, which safetensors would refuse to write twice.
    return {
        f"{name}/{field}": tensor.clone() for name, scores in named.items() for field, tensor in vars(scores).items()
    }


def _head_scores(tensors: Mapping[str, Tensor], name: str) -> HeadScores | None:
    fields = ("sensitivity", "forgettability", "importance")
    if f"{name}/{fields[0]}" not in tensors:
        return None
    return HeadScores(*(tensors[f"{name}/{field}"] for field in fields))


def _state_to_json(state: StreamState) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "tasks_done": state.tasks_done,
        "scores": {split: _array_to_json(scores) for split, scores in state.scores.items()},
        "initial": {split: _array_to_json(scores) for split, scores in state.initial.items()},
        "memory": _memory_to_json(state.memory),
        "history": [_history_to_json(entry) for entry in state.history],
    }


def _state_from_json(state: dict[str, Any], memory: ReplayMemory, heads: Mapping[str, Tensor]) -> StreamState:
    totals = _head_scores(heads, "totals")
    assert totals is not None
    return StreamState(
        tasks_done=state["tasks_done"],
        totals=totals,
        memory=memory,
        scores={split: np.array(scores, dtype=np.float64) for split, scores in state["scores"].items()},
        initial={split: np.array(scores, dtype=np.float64) for split, scores in state["initial"].items()},
        history=tuple(_history_from_json(entry, heads) for entry in state["history"]),
    )


def _history_to_json(entry: TaskHistory) -> dict[str, Any]:
    values = {name: value for name, value in vars(entry).items() if name not in {"scores", "total"}}
    return values | {"selected": _heads_to_json(entry.selected)}


def _history_from_json(entry: dict[str, Any], heads: Mapping[str, Tensor]) -> TaskHistory:
    index = entry["index"]
    return TaskHistory(
        **(entry | {"selected": _heads_from_json(entry["selected"])}),
        scores=_head_scores(heads, f"task/{index}"),
        total=_head_scores(heads, f"total/{index}"),
    )


def _heads_to_json(heads: Mapping[int, tuple[int, ...]]) -> dict[str, list[int]]:
    return {str(layer): list(own) for layer, own in heads.items()}


def _heads_from_json(heads: Mapping[str, list[int]]) -> dict[int, tuple[int, ...]]:
    return {int(layer): tuple(own) for layer, own in heads.items()}


def _array_to_json(array: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """Nested lists; NaN (not evaluated) becomes null, which numpy reads back as NaN."""
    return torch.from_numpy(array).tolist() if not np.isnan(array).any() else _nulls(array.tolist())


def _nulls(values: Any) -> Any:
    if isinstance(values, list):
        return [_nulls(value) for value in values]
    return None if np.isnan(values) else values
