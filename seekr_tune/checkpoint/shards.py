"""Tensors on disk in pieces: each rank writes the rows that it holds, and a reader takes the rows that it needs.

A piece is a run of whole rows (indices of dimension 0). FSDP2 gives a tensor of n rows to its ranks as `torch.chunk`
would: equal runs, of which the last may be shorter or empty. Which rows a file holds stands in its metadata, so what
one layout wrote, any other can read, and nobody ever holds a whole model that is not held whole anyway.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from seekr_tune.documents import parse_json
from seekr_tune.errors import CheckpointError


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a tensor.

    Attributes:
        rows: the rows, on the CPU, `[rows, ...]`; a scalar is its own single piece.
        start: index of the first one within the whole tensor.
        shape: of the whole tensor.
    """

    rows: Tensor
    start: int
    shape: tuple[int, ...]


def chunk_of(rows: int, parts: int, index: int) -> range:
    """Which of `rows` rows part `index` of `parts` holds: the layout of `torch.chunk` and of FSDP2."""
    size = -(-rows // parts)
    return range(min(rows, index * size), min(rows, (index + 1) * size))


def rows_here(tensor: Tensor) -> range:
    """Rows of the whole tensor that this rank holds: its shard, or all of them. A scalar counts as one row."""
    if isinstance(tensor, DTensor):
        assert tensor.placements == (Shard(0),), f"sharded as {tensor.placements}, not over dimension 0 of one mesh"
        return chunk_of(tensor.shape[0], tensor.device_mesh.size(), tensor.device_mesh.get_local_rank())
    return range(tensor.shape[0] if tensor.dim() else 1)


def is_sharded(tensor: Tensor) -> bool:
    """Whether the ranks hold different rows of it."""
    return isinstance(tensor, DTensor)


def piece_of(tensor: Tensor, *, copy: bool) -> Piece:
    """The rows that this rank holds, on the CPU.

    Args:
        tensor: plain or sharded.
        copy: take a copy, for a tensor that changes before the piece is written.
    """
    rows = local_part(tensor).to("cpu", copy=copy).contiguous()
    return Piece(rows, rows_here(tensor).start, tuple(tensor.shape))


def laid_out_like(parameter: Tensor, rows: Tensor) -> Tensor:
    """A tensor of the parameter's shape from the rows that this rank holds, on its device, sharded as it is."""
    rows = rows.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return rows
    return DTensor.from_local(
        rows, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )


def copy_rows(parameter: Tensor, rows: Tensor) -> None:
    """Overwrite, in place, the rows of a parameter that this rank holds."""
    local_part(parameter).copy_(rows)


def save_pieces(path: Path, pieces: Mapping[str, Piece]) -> None:
    """Write pieces of tensors into one file."""
    layout = {name: {"start": piece.start, "shape": piece.shape} for name, piece in pieces.items()}
    tensors: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, piece in pieces.items():
        # safetensors refuses tensors that share memory, as the newest task's head scores and their totals do.
        storage = piece.rows.untyped_storage().data_ptr()
        tensors[name] = piece.rows.clone() if storage in storages else piece.rows
        storages.add(storage)
    save_file(tensors, path, {"layout": json.dumps(layout)})


class PieceReader:
    """Tensors whose pieces lie in several files; use `open_pieces`.

    Args:
        files: open files that `save_pieces` wrote.
    """

    def __init__(self, files: Sequence[Any]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Shape of each whole tensor."""
        self._pieces: dict[str, list[tuple[int, Any]]] = {}
        for file in files:
            for name, piece in parse_json(file.metadata()["layout"]).items():
                self.shapes[name] = tuple(piece["shape"])
                self._pieces.setdefault(name, []).append((piece["start"], file))
        for pieces in self._pieces.values():
            pieces.sort(key=lambda piece: piece[0])

    def read(self, name: str, rows: range) -> Tensor:
        """Some rows of a tensor; of a scalar, the scalar.

        Raises:
            CheckpointError: the files do not hold all of these rows.
        """
        parts = self.require(name, rows)
        if not self.shapes[name]:
            return self._pieces[name][0][1].get_tensor(name)  # type: ignore[no-any-return]
        found = [stored[part.start : part.stop] for stored, part in parts]
        if not found:
            return self._pieces[name][0][1].get_slice(name)[0:0]  # type: ignore[no-any-return]
        return found[0] if len(found) == 1 else torch.cat(found)

    def require(self, name: str, rows: range) -> list[tuple[Any, range]]:
        """Where some rows of a tensor lie, stored piece by stored piece; nothing is loaded.

        Raises:
            CheckpointError: the files do not hold all of these rows.
        """
        if name not in self.shapes:
            raise CheckpointError(f"holds no {name}")
        found, reached = [], rows.start
        for start, file in self._pieces[name]:
            stored = file.get_slice(name)
            shape = tuple(stored.get_shape())
            if shape[1:] != self.shapes[name][1:] or bool(shape) != bool(self.shapes[name]):
                raise CheckpointError(f"holds rows of {name} of shape {shape}, not of {self.shapes[name]}")
            stop = min(rows.stop, start + shape[0]) if shape else 1
            if start <= reached < stop:
                found.append((stored, range(reached - start, stop - start)))
                reached = stop
        if reached < rows.stop:
            raise CheckpointError(f"holds no row {reached} of {name}")
        return found


@contextmanager
def open_pieces(paths: Sequence[Path]) -> Iterator[PieceReader]:
    """The tensors whose pieces lie in these files; only what is read is loaded."""
    with ExitStack() as stack:
        yield PieceReader([stack.enter_context(safe_open(path, framework="pt")) for path in paths])


def local_part(tensor: Tensor) -> Tensor:
    """The rows that this rank holds, without graph; they share memory with the tensor."""
    with torch.no_grad():
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()
