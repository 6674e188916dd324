"""Pieces of tensors: any layout writes them, any other reads them."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.tensor import Shard

from seekr_tune.checkpoint.shards import (
    Piece,
    PieceReader,
    chunk_of,
    copy_rows,
    is_sharded,
    laid_out_like,
    open_pieces,
    piece_of,
    rows_here,
    save_pieces,
)
from seekr_tune.errors import CheckpointError

ROWS = st.integers(0, 40)
PARTS = st.integers(1, 9)
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool]


def saved_by(parts: int, tensors: dict[str, Tensor], directory: Path) -> list[Path]:
    """The files that a group of `parts` ranks writes."""
    paths = []
    for index in range(parts):
        own = {name: (chunk_of(len(tensor), parts, index), tensor) for name, tensor in tensors.items()}
        pieces = {
            name: Piece(tensor[rows.start : rows.stop].contiguous(), rows.start, tuple(tensor.shape))
            for name, (rows, tensor) in own.items()
        }
        paths.append(directory / f"{index}.safetensors")
        save_pieces(paths[-1], pieces)
    return paths


def saved_once(path: Path, **tensors: Tensor) -> AbstractContextManager[PieceReader]:
    save_pieces(path, {name: piece_of(tensor, copy=False) for name, tensor in tensors.items()})
    return open_pieces([path])


@given(ROWS, PARTS)
def test_the_chunks_of_any_number_of_ranks_cover_a_tensor_exactly_once(rows: int, parts: int) -> None:
    chunks = [chunk_of(rows, parts, index) for index in range(parts)]
    assert [row for chunk in chunks for row in chunk] == list(range(rows))


@given(ROWS, PARTS)
def test_chunks_are_those_of_torch(rows: int, parts: int) -> None:
    expected = [chunk.tolist() for chunk in torch.arange(rows).chunk(parts)] if rows else []
    chunks = [chunk_of(rows, parts, index) for index in range(parts)]
    assert [list(chunk) for chunk in chunks if chunk] == expected
    sharded = [Shard.local_shard_size_and_offset(rows, parts, index) for index in range(parts)]
    assert [(len(chunk), chunk.start) for chunk in chunks] == sharded


@settings(max_examples=60, deadline=None)
@given(ROWS, PARTS, st.data())
def test_any_rows_are_read_from_any_layout(rows: int, parts: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    tensors = {"matrix": torch.arange(rows * 2).view(rows, 2), "vector": torch.arange(rows).float()}
    with tempfile.TemporaryDirectory() as directory:
        paths = data.draw(st.permutations(saved_by(parts, tensors, Path(directory))))
        with open_pieces(paths) as reader:
            for name, tensor in tensors.items():
                read = reader.read(name, range(start, stop))
                assert read.dtype == tensor.dtype
                assert torch.equal(read, tensor[start:stop])


@settings(max_examples=60, deadline=None)
@given(ROWS, PARTS, PARTS)
def test_what_one_number_of_ranks_saved_another_reads_as_its_own(rows: int, saved: int, read: int) -> None:
    tensor = torch.arange(rows * 3).view(rows, 3)
    with tempfile.TemporaryDirectory() as directory:
        with open_pieces(saved_by(saved, {"tensor": tensor}, Path(directory))) as reader:
            chunks = [reader.read("tensor", chunk_of(rows, read, index)) for index in range(read)]
    assert torch.equal(torch.cat(chunks), tensor)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_precision_survives(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.arange(-6, 6).view(4, 3).to(dtype)
    with saved_once(tmp_path / "file", tensor=tensor) as reader:
        read = reader.read("tensor", range(1, 4))
    assert read.dtype == dtype
    assert torch.equal(read, tensor[1:4])


def test_a_scalar_has_no_rows_and_is_read_whole(tmp_path: Path) -> None:
    with saved_once(tmp_path / "file", step=torch.tensor(17.0)) as reader:
        assert reader.shapes == {"step": ()}
        assert torch.equal(reader.read("step", range(1)), torch.tensor(17.0))


def test_a_view_that_is_not_contiguous_survives(tmp_path: Path) -> None:
    view = torch.arange(12).view(3, 4).T
    with saved_once(tmp_path / "file", view=view) as reader:
        assert torch.equal(reader.read("view", range(4)), view)


def test_tensors_that_share_memory_survive(tmp_path: Path) -> None:
    tensor = torch.arange(12).view(4, 3)
    with saved_once(tmp_path / "file", one=tensor, same=tensor, part=tensor[1:3]) as reader:
        assert torch.equal(reader.read("one", range(4)), tensor)
        assert torch.equal(reader.read("same", range(4)), tensor)
        assert torch.equal(reader.read("part", range(2)), tensor[1:3])


def test_rows_that_no_file_holds_are_an_error(tmp_path: Path) -> None:
    first, second, third = saved_by(3, {"tensor": torch.arange(6)}, tmp_path)
    with open_pieces([first, third]) as reader:
        assert reader.read("tensor", range(4, 6)).tolist() == [4, 5]
        with pytest.raises(CheckpointError, match="no row 2 of tensor"):
            reader.read("tensor", range(6))
        with pytest.raises(CheckpointError, match="no row 2 of tensor"):
            reader.read("tensor", range(2, 5))
    with open_pieces([first, second]) as reader:
        with pytest.raises(CheckpointError, match="no row 4 of tensor"):
            reader.read("tensor", range(3, 6))
        with pytest.raises(CheckpointError, match="no other"):
            reader.read("other", range(6))


def test_a_copy_keeps_what_the_tensor_was() -> None:
    tensor = torch.zeros(3)
    copied, shared = piece_of(tensor, copy=True), piece_of(tensor, copy=False)
    tensor.fill_(1.0)
    assert torch.equal(copied.rows, torch.zeros(3))
    assert torch.equal(shared.rows, torch.ones(3))


def test_a_plain_tensor_is_here_whole() -> None:
    parameter = nn.Parameter(torch.zeros(4, 2))
    assert not is_sharded(parameter)
    assert rows_here(parameter) == range(4)
    rows = torch.arange(8.0).view(4, 2)
    assert laid_out_like(parameter, rows) is rows
    copy_rows(parameter, rows)
    assert torch.equal(parameter, rows) and parameter.requires_grad
