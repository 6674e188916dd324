"""What fuzzing has found: inputs that a reader once did not refuse as it must, each made small."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pyarrow
import pyarrow.parquet

_STAGE, _STEPS = "checkpoints/task-0002", "checkpoints/task-0002-step-000003"


@dataclass(frozen=True)
class Found:
    """One input.

    Attributes:
        reader: its name.
        name: what is odd about it, in words.
        file: that is exchanged.
        content: of that file.
        says: what its refusal must contain.
    """

    reader: str
    name: str
    file: str
    content: bytes
    says: str


def _table(**columns: list[bytes]) -> bytes:
    """A Parquet file whose columns say that they are text, whatever their bytes are."""
    texts = {name: pyarrow.array(values, pyarrow.binary()).view(pyarrow.string()) for name, values in columns.items()}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(texts), buffer, store_schema=False)
    return buffer.getvalue()


_LEARNER = "learner-00-of-01.safetensors"

FOUND: tuple[Found, ...] = (
    Found(
        "task, Parquet",
        "text that is not UTF-8",
        "words/train.parquet",
        _table(prompt=[b"say \xa6"], answer=[b"a"]),
        "not a readable Parquet file",
    ),
    Found(
        "task, Parquet",
        "a column whose name is not UTF-8",
        "words/train.parquet",
        _table(prompt=[b"say a"], answer=[b"a"]).replace(b"prompt", b"pr\x9fmpt"),
        "not a readable Parquet file",
    ),
    Found(
        "steps",
        "a field too many, with a line break in its name",
        "steps.jsonl",
        b'{"task_index": 0, "step": 0, "kind": "new", "loss": 1, "cross_entropy": 1, "learning_rate": 1, "samples": 1,'
        b' "tokens": 1, "seconds": 1, "a\\nb": 1}',
        "line 1: a b: Extra inputs are not permitted",
    ),
    Found(
        "contents of a checkpoint",
        "moments that are no tensors",
        f"{_STEPS}/{_LEARNER}",
        bytes(8),
        f"{_STEPS}: does not hold",
    ),
    Found(
        "contents of a checkpoint",
        "a step that lacks its terms",
        f"{_STEPS}/progress.json",
        b'{"parts": {}, "steps": [{}]}',
        f"{_STEPS}: does not hold tensors and a state (KeyError: 'cross_entropy')",
    ),
    Found(
        "contents of a checkpoint",
        "a step with a field that none has",
        f"{_STEPS}/progress.json",
        b'{"parts": {}, "steps": [{"batch": [], "terms": {}, "tokns": 1}]}',
        "unexpected keyword argument 'tokns'",
    ),
    Found(
        "contents of a checkpoint",
        "a state that does not say over how many files its weights are spread",
        f"{_STAGE}/state.json",
        b'{"parts": {}}',
        f"{_STAGE}: does not hold tensors and a state (KeyError: 'weights')",
    ),
    Found(
        "contents of a checkpoint",
        "selected heads without their scores",
        f"{_STAGE}/heads.safetensors",
        b"\x02\0\0\0\0\0\0\0{}",
        "no head scores of task 0",
    ),
    Found(
        "compact replay memory",
        "a sample that does not say whose it is",
        f"{_STAGE}/state.json",
        b'{"parts": {"weights": 1, "learner": 0, "gradients": 0, "memory": 1}, "pending_steps": 0, "updates": 0,'
        b' "memory": [{}]}',
        "KeyError: 'shard'",
    ),
)
