"""Which tensors of a run stand in which file, and whose file it is.

| kind | spread over | what a reader takes |
|---|---|---|
| weights, learner | all ranks where parameters are sharded, else rank 0's file alone | the rows that it holds |
| gradients | all ranks, each its own | its own, or the mean of all |
| memory | all ranks, each the signals that it holds | those of its own samples |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from seekr_tune.checkpoint.directories import part_names
from seekr_tune.checkpoint.shards import (
    copy_rows,
    is_sharded,
    laid_out_like,
    open_pieces,
    piece_of,
    rows_here,
    save_pieces,
)
from seekr_tune.errors import CheckpointError
from seekr_tune.methods.memory import TeacherSignals

Files = dict[str, Callable[[Path], None]]
"""What writes each file of this rank, by name."""


def tensor_file(tensors: Mapping[str, Tensor], *, copy: bool = False) -> Callable[[Path], None]:
    """What writes these tensors, as they are now where `copy` is set."""
    return partial(save_pieces, pieces={name: piece_of(tensor, copy=copy) for name, tensor in tensors.items()})


def model_files(
    parameters: Mapping[str, Tensor], learner: Mapping[str, Tensor], rank: int, world_size: int, *, copy: bool
) -> tuple[Files, dict[str, int]]:
    """This rank's files of a model in training.

    Args:
        parameters: trained parameters by name.
        learner: `LearnerState.tensors`.
        rank, world_size: of this process.
        copy: the tensors change before they are written.

    Returns:
        The files, and over how many files each kind is spread.
    """
    files: Files = {}
    parts: dict[str, int] = {}
    gradients = {name: t for name, t in learner.items() if name.startswith("gradient/") and not is_sharded(t)}
    laid_out = {"weights": parameters, "learner": {name: t for name, t in learner.items() if name not in gradients}}
    for kind, tensors in laid_out.items():
        # What is not sharded is the same on all ranks.
        own = {name: tensor for name, tensor in tensors.items() if rank == 0 or is_sharded(tensor)}
        parts[kind] = _num_parts(tensors, world_size)
        if rank < parts[kind]:
            files[part_names(kind, parts[kind])[rank]] = tensor_file(own, copy=copy)
    parts["gradients"] = world_size if gradients else 0
    if gradients:
        files[part_names("gradients", world_size)[rank]] = tensor_file(gradients, copy=copy)
    return files, parts


def require_weights(path: Path, parts: int, parameters: Mapping[str, nn.Parameter]) -> list[Path]:
    """The files of a checkpoint's weights, which hold all rows that this rank needs; nothing is loaded.

    Raises:
        CheckpointError: there are none, or they hold other parameters, or not all of their rows.
    """
    paths = [path / name for name in part_names("weights", parts)]
    if not paths:
        raise CheckpointError(f"{path}: holds no weights")
    with open_pieces(paths) as reader:
        expected = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        wrong = sorted(n for n in reader.shapes | expected if reader.shapes.get(n) != expected.get(n))
        if wrong:
            saved, wanted = reader.shapes.get(wrong[0]), expected.get(wrong[0])
            raise CheckpointError(f"{path}: is of another model: {wrong[0]} is {saved}, here {wanted}")
        for name, parameter in parameters.items():
            reader.require(name, rows_here(parameter))
    return paths


def restore_weights(paths: Sequence[Path], parameters: Mapping[str, nn.Parameter]) -> None:
    """Overwrite the parameters in place, each rank the rows that it holds.

    Args:
        paths: what `require_weights` has found whole.
        parameters: trained parameters by name.
    """
    with open_pieces(paths) as reader:
        for name, parameter in parameters.items():
            copy_rows(parameter, reader.read(name, rows_here(parameter)))


def read_learner(
    paths: Sequence[Path], parameters: Mapping[str, nn.Parameter], moments: int | None
) -> dict[str, Tensor]:
    """The learner's tensors, laid out like the parameters that they belong to where they are of their shape.

    Args:
        paths: files of the checkpoint.
        parameters: trained parameters by name.
        moments: tensors that the optimizer had; None: not known of an earlier version.

    Raises:
        CheckpointError: some are missing.
    """
    tensors: dict[str, Tensor] = {}
    with open_pieces(paths) as reader:
        for name, shape in reader.shapes.items():
            parameter = parameters[_parameter_of(name)]
            if shape == parameter.shape:
                tensors[name] = laid_out_like(parameter, reader.read(name, rows_here(parameter)))
            else:  # the same on every rank, such as AdamW's count of steps
                tensors[name] = reader.read(name, range(*shape[:1] or (1,)))
    held = sum(name.startswith("moments/") for name in tensors)
    if moments is not None and held != moments:
        raise CheckpointError(f"holds {held} of the {moments} tensors of its optimizer")
    return tensors


def read_gradients(
    paths: Sequence[Path], parameters: Mapping[str, nn.Parameter], rank: int, world_size: int
) -> dict[str, Tensor]:
    """Waiting gradients: this rank's own where as many ranks saved some as there are now, else the mean of all.

    An update averages gradients over ranks, so it comes out the same if each of them has the mean.
    """
    if len(paths) == world_size and not any(is_sharded(parameter) for parameter in parameters.values()):
        paths = [paths[rank]]
    found: dict[str, list[Tensor]] = {}
    for path in paths:
        with open_pieces([path]) as reader:
            for name, shape in reader.shapes.items():
                parameter = parameters[_parameter_of(name)]
                if shape != parameter.shape:
                    raise CheckpointError(f"{name} is {shape}, its parameter {tuple(parameter.shape)}")
                found.setdefault(name, []).append(reader.read(name, rows_here(parameter)))
    means = {name: torch.stack(rows).mean(dim=0) for name, rows in found.items()}
    return {name: laid_out_like(parameters[_parameter_of(name)], mean) for name, mean in means.items()}


def read_signals(paths: Sequence[Path], positions: set[int]) -> dict[int, TeacherSignals]:
    """Teacher signals of the samples at these positions; those of others are not loaded."""
    found: dict[int, dict[str, Tensor]] = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():
                position, _, name = key.partition("/")
                if int(position) in positions:
                    found.setdefault(int(position), {})[name] = file.get_tensor(key)
    return {position: TeacherSignals.from_tensors(named) for position, named in found.items()}


def _num_parts(tensors: Mapping[str, Tensor], world_size: int) -> int:
    if not tensors:
        return 0
    return world_size if any(is_sharded(tensor) for tensor in tensors.values()) else 1


def _parameter_of(name: str) -> str:
    """Of `moments/<entry>/<parameter>` or `gradient/<parameter>`."""
    return name.rpartition("/")[2]
