"""Samples leave a checkpoint: nothing of them stays, all else stays as it is, and a kill anywhere is mended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seekr_tune.checkpoint.directories import verify
from seekr_tune.checkpoint.forget_in_checkpoint import erase, held_samples, stage_checkpoints, step_checkpoints, tidy
from seekr_tune.errors import CheckpointError
from seekr_tune.methods.memory import ReplayMemory

from .saved import Net, assert_same_state, keeper_of, learner_of, parameters_of, progress_of, restored, stream_state


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """A finished task, and steps of the next one."""
    keeper = keeper_of(tmp_path / "checkpoints")
    net = Net(1)
    keeper.save_stage(stream_state(2), parameters_of(net), learner_of(net))
    keeper.save_steps(2, progress_of(net, 3), parameters_of(net))
    keeper.close()
    return tmp_path / "checkpoints"


def without(places: set[int]) -> ReplayMemory:
    return ReplayMemory(tuple(sample for i, sample in enumerate(stream_state(2).memory) if i not in places))


def assert_is_without(checkpoints: Path, places: set[int]) -> None:
    (path,) = stage_checkpoints(checkpoints)
    verify(path)
    net = Net(99)
    found = restored(checkpoints, net)
    assert found is not None
    assert_same_state(found.state, replace(stream_state(2), memory=without(places)))
    for name, weight in Net(1).named_parameters():
        assert torch.equal(weight, parameters_of(net)[name])


@pytest.mark.parametrize("places", [{0}, {4}, {1, 3}, {0, 1, 2, 3, 4}])
def test_what_is_left_is_what_would_have_been_saved_without_the_samples(checkpoints: Path, places: set[int]) -> None:
    (path,) = stage_checkpoints(checkpoints)
    erase(path, places)
    assert_is_without(checkpoints, places)


def test_no_byte_of_the_tokens_and_of_the_teacher_stays(checkpoints: Path) -> None:
    (path,) = stage_checkpoints(checkpoints)
    sample = stream_state(2).memory[0]
    assert sample.teacher is not None
    signals = [tensor.contiguous().numpy().tobytes() for tensor in sample.teacher.tensors().values()]
    signs = [sample.input_ids.numpy().tobytes(), *signals]
    before = b"".join(file.read_bytes() for file in path.iterdir())
    assert all(sign in before for sign in signs), "else the test would show nothing"
    erase(path, {0})
    after = b"".join(file.read_bytes() for file in checkpoints.rglob("*") if file.is_file())
    assert not any(sign in after for sign in signs)


def test_samples_are_named_by_task_row_and_tokens(checkpoints: Path) -> None:
    (path,) = stage_checkpoints(checkpoints)
    memory = stream_state(2).memory
    assert [(held.task, held.index, held.tokens) for held in held_samples(path)] == [
        (sample.task, sample.index, tuple(sample.input_ids.tolist())) for sample in memory
    ]


def test_steps_that_build_on_the_old_checkpoint_are_not_taken_up(checkpoints: Path) -> None:
    (path,), (steps,) = stage_checkpoints(checkpoints), step_checkpoints(checkpoints)
    verify(steps)
    erase(path, {0})
    with pytest.raises(CheckpointError, match="builds on another"):
        verify(steps)


def test_a_checkpoint_that_shares_its_files_with_another_run_is_not_written_to(
    checkpoints: Path, tmp_path: Path
) -> None:
    (path,) = stage_checkpoints(checkpoints)
    twin = tmp_path / "twin" / path.name
    shutil.copytree(path, twin, copy_function=os.link)
    before = {file.name: file.read_bytes() for file in twin.iterdir()}
    erase(path, {0, 2})
    assert {file.name: file.read_bytes() for file in twin.iterdir()} == before


def test_a_damaged_memory_is_named(checkpoints: Path) -> None:
    (path,) = stage_checkpoints(checkpoints)
    (path / "samples.safetensors").write_bytes(b"\x80\x04garbage")
    with pytest.raises(CheckpointError, match=r"task-0002: its memory cannot be read"):
        held_samples(path)


def test_the_files_are_the_users_alone(checkpoints: Path) -> None:
    (path,) = stage_checkpoints(checkpoints)
    for _ in ("as saved", "as erased"):
        assert path.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o600}
        erase(path, {0})


@pytest.mark.parametrize("survived", range(14))
def test_a_kill_anywhere_is_mended(checkpoints: Path, monkeypatch: pytest.MonkeyPatch, survived: int) -> None:
    (path,) = stage_checkpoints(checkpoints)
    left = [survived]

    def counted(action: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return action(*arguments, **options)

        return call

    with monkeypatch.context() as patches:
        for owner, name in ((os, "fsync"), (os, "link"), (Path, "rename"), (shutil, "rmtree")):
            patches.setattr(owner, name, counted(getattr(owner, name)))
        try:
            erase(path, {0, 3})
            finished = True
        except Killed:
            finished = False
    assert finished == (survived > 12), "the number of steps has changed: let the test reach the last one"
    tidy(checkpoints)
    (path,) = stage_checkpoints(checkpoints)
    verify(path)
    places = {i for i, held in enumerate(held_samples(path)) if (held.task, held.index) in {(0, 7), (1, 0)}}
    erase(path, places)
    assert_is_without(checkpoints, {0, 3})
    assert not list(checkpoints.glob(".erasing*"))
