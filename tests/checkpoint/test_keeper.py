"""A run comes back from disk as it was saved: between tasks, and inside one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from seekr_tune.checkpoint import keeper as keeper_module
from seekr_tune.checkpoint import writing
from seekr_tune.checkpoint.keeper import CheckpointKeeper, HalfRestored
from seekr_tune.checkpoint.state import LearnerState, Progress
from seekr_tune.errors import CheckpointError
from tests.waiting import PATIENCE

from .saved import (
    Net,
    assert_same_state,
    assert_same_tensors,
    checkpoints_in,
    keeper_of,
    learner_of,
    parameters_of,
    progress_of,
    restored,
    stream_state,
)

SHARE_FILES = [
    "weights-00-of-01.safetensors",
    "learner-00-of-01.safetensors",
    "gradients-00-of-01.safetensors",
    "memory-00-of-01.safetensors",
    "samples.safetensors",
    "heads.safetensors",
    "state.json",
]
"""All files of a stage besides the manifest."""


def save_stage(keeper: CheckpointKeeper, tasks_done: int, net: Net) -> None:
    keeper.save_stage(stream_state(tasks_done), parameters_of(net), learner_of(net))


def save_steps(keeper: CheckpointKeeper, tasks_done: int, steps: int, net: Net) -> None:
    keeper.save_steps(tasks_done, progress_of(net, steps), parameters_of(net))


def assert_same_learner(one: LearnerState, other: LearnerState) -> None:
    assert_same_tensors(one.tensors, other.tensors)
    assert (one.pending_steps, one.updates) == (other.pending_steps, other.updates)


class Gate:
    """Holds the thread that writes before it writes, and may let it fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.error: Exception | None = None
        self.waiting = threading.Event()
        real = writing.write_share

        def write_share(place: Path, rank: int, files: Mapping[str, Callable[[Path], None]]) -> None:
            self.waiting.set()
            assert self.opened.wait(PATIENCE)
            if self.error:
                raise self.error
            real(place, rank, files)

        monkeypatch.setattr(keeper_module, "write_share", write_share)


def test_a_stage_comes_back_exactly(tmp_path: Path) -> None:
    saved, net = Net(1), Net(2)
    save_stage(keeper_of(tmp_path), 2, saved)
    before = parameters_of(net)
    found = restored(tmp_path, net)
    assert found is not None
    assert_same_tensors(parameters_of(net), parameters_of(saved))
    assert all(parameters_of(net)[name] is parameter for name, parameter in before.items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in before.values())
    assert_same_state(found.state, stream_state(2))
    assert_same_learner(found.learner, learner_of(saved))
    assert found.unfinished == ()


def test_steps_come_back_exactly_on_top_of_their_stage(tmp_path: Path) -> None:
    stage, later, net = Net(1), Net(2), Net(3)
    keeper = keeper_of(tmp_path)
    save_stage(keeper, 2, stage)
    save_steps(keeper, 2, 3, later)
    keeper.close()

    keeper = keeper_of(tmp_path)
    found = keeper.restore_stage(parameters_of(net))
    assert found is not None
    assert_same_tensors(parameters_of(net), parameters_of(stage))
    assert_same_state(found.state, stream_state(2))
    progress = keeper.restore_steps(parameters_of(net))
    assert progress is not None
    assert_same_tensors(parameters_of(net), parameters_of(later))
    assert progress.steps == found.unfinished == progress_of(later, 3).steps
    assert_same_learner(progress.learner, learner_of(later))
    assert keeper.restore_steps(parameters_of(net)) is None  # the next stage begins at its beginning


@pytest.mark.parametrize("allowed", [range(1, 3), range(4, 5)])
def test_steps_of_another_number_than_the_stage_can_have_are_refused_before_a_weight_changes(
    tmp_path: Path, allowed: range
) -> None:
    keeper = keeper_of(tmp_path)
    save_stage(keeper, 2, Net(1))
    save_steps(keeper, 2, 3, Net(2))
    keeper.close()
    keeper, net = keeper_of(tmp_path), Net(3)
    keeper.restore_stage(parameters_of(net))
    with pytest.raises(CheckpointError, match=f"holds 3 steps of a stage that has {allowed[-1]}; remove it"):
        keeper.restore_steps(parameters_of(net), allowed)
    assert_same_tensors(parameters_of(net), parameters_of(Net(1)))


def test_a_disk_that_fails_while_weights_are_overwritten_is_another_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_stage(keeper_of(tmp_path), 2, Net(1))

    def fail(*rest: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(keeper_module, "restore_weights", fail)
    with pytest.raises(HalfRestored, match=r"task-0002: cannot be read \(\[Errno 5\].*taken up in part"):
        restored(tmp_path, Net(9))


def test_an_optimizer_with_half_of_its_moments_is_refused(tmp_path: Path) -> None:
    net, learner = Net(1), learner_of(Net(1))
    name = min(name for name in learner.tensors if name.startswith("moments/"))
    rest = {key: tensor for key, tensor in learner.tensors.items() if key != name}
    found, held = Net(9), sum(key.startswith("moments/") for key in learner.tensors)
    saved = replace(learner, tensors=rest, optimizer={"tensors": held})
    keeper_of(tmp_path).save_stage(stream_state(2), parameters_of(net), saved)
    with pytest.raises(CheckpointError, match=f"holds {held - 1} of the {held} tensors of its optimizer"):
        restored(tmp_path, found)
    assert_same_tensors(parameters_of(found), parameters_of(Net(9)))


def test_steps_hold_only_what_differs_from_their_stage(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    save_stage(keeper, 2, Net(1))
    save_steps(keeper, 2, 3, Net(1))
    keeper.close()
    names = {path.name for path in (tmp_path / "task-0002-step-000003").iterdir()}
    assert names == {*SHARE_FILES[:3], "progress.json", "manifest.json"}


def test_before_the_first_task_the_weights_stay_as_they_were_loaded(tmp_path: Path) -> None:
    keeper_of(tmp_path).save_stage(stream_state(0), None, LearnerState())
    net = Net(5)
    found = restored(tmp_path, net)
    assert found is not None
    assert_same_tensors(parameters_of(net), parameters_of(Net(5)))
    assert_same_state(found.state, stream_state(0))
    assert_same_learner(found.learner, LearnerState())
    files = {path.name for path in (tmp_path / "task-0000").iterdir()}
    assert files == {*SHARE_FILES[3:], "manifest.json"}


def test_inside_the_first_task_the_weights_are_saved(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    keeper.save_stage(stream_state(0), None, LearnerState())
    keeper.save_steps(0, Progress(progress_of(Net(1), 2).steps, LearnerState()), parameters_of(Net(1)))
    keeper.close()
    keeper, net = keeper_of(tmp_path), Net(2)
    assert keeper.restore_stage(parameters_of(net)) is not None
    progress = keeper.restore_steps(parameters_of(net))
    assert progress is not None
    assert_same_tensors(parameters_of(net), parameters_of(Net(1)))
    assert_same_learner(progress.learner, LearnerState())


def test_where_nothing_was_saved_nothing_is_restored(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path / "deep" / "checkpoints")
    assert keeper.restore_stage(parameters_of(Net(1))) is None
    assert keeper.restore_steps(parameters_of(Net(1))) is None


def test_files_can_be_read_by_any_safetensors_reader(tmp_path: Path) -> None:
    save_stage(keeper_of(tmp_path), 2, Net(1))
    with safe_open(tmp_path / "task-0002" / "weights-00-of-01.safetensors", framework="pt") as file:
        assert_same_tensors({name: file.get_tensor(name) for name in file.keys()}, parameters_of(Net(1)))


def test_weights_of_half_precision_come_back_exactly(tmp_path: Path) -> None:
    saved, net = Net(1).bfloat16(), Net(2).bfloat16()
    save_stage(keeper_of(tmp_path), 2, saved)
    assert restored(tmp_path, net) is not None
    assert_same_tensors(parameters_of(net), parameters_of(saved))


def test_another_model_is_refused(tmp_path: Path) -> None:
    save_stage(keeper_of(tmp_path), 2, Net(1))
    net = Net(2)
    net.single = torch.nn.Linear(2, 3)
    with pytest.raises(CheckpointError, match=r"task-0002: is of another model: single.bias is \(1,\), here \(3,\)"):
        restored(tmp_path, net)
    del net.single
    with pytest.raises(CheckpointError, match=r"single.bias is \(1,\), here None"):
        restored(tmp_path, net)


def test_training_may_go_on_while_steps_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, keeper = Net(1), keeper_of(tmp_path)
    save_stage(keeper, 2, net)
    gate = Gate(monkeypatch)
    progress = progress_of(net, 3)
    keeper.save_steps(2, progress, parameters_of(net))
    assert gate.waiting.wait(PATIENCE)
    assert checkpoints_in(tmp_path) == ["task-0002"]
    with torch.no_grad():
        for tensor in (*net.parameters(), *progress.learner.tensors.values()):
            tensor.zero_()
    gate.opened.set()
    keeper.close()
    keeper, net = keeper_of(tmp_path), Net(2)
    keeper.restore_stage(parameters_of(net))
    found = keeper.restore_steps(parameters_of(net))
    assert found is not None
    assert_same_tensors(parameters_of(net), parameters_of(Net(1)))
    assert_same_learner(found.learner, learner_of(Net(1)))


@pytest.mark.parametrize("next_save", ["stage", "steps"])
def test_the_next_save_waits_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, next_save: str
) -> None:
    net, keeper = Net(1), keeper_of(tmp_path)
    save_stage(keeper, 2, net)
    gate = Gate(monkeypatch)
    save_steps(keeper, 2, 3, net)
    assert gate.waiting.wait(PATIENCE)
    seen: list[list[str]] = []
    begin = writing.WritingRoom.begin

    def watched(room: writing.WritingRoom, position: object) -> Path:
        seen.append(checkpoints_in(tmp_path))
        return begin(room, position)  # type: ignore[arg-type]

    monkeypatch.setattr(writing.WritingRoom, "begin", watched)
    threading.Timer(0.2, gate.opened.set).start()
    save_stage(keeper, 3, net) if next_save == "stage" else save_steps(keeper, 2, 5, net)
    keeper.close()
    assert seen == [["task-0002", "task-0002-step-000003"]]
    newest = {"stage": "task-0003", "steps": "task-0002-step-000005"}[next_save]
    assert checkpoints_in(tmp_path)[-1] == newest


def test_a_stage_is_on_disk_when_its_save_returns(tmp_path: Path) -> None:
    save_stage(keeper_of(tmp_path), 2, Net(1))
    assert checkpoints_in(tmp_path) == ["task-0002"]


def test_an_error_in_the_background_is_raised_by_the_next_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, keeper = Net(1), keeper_of(tmp_path)
    save_stage(keeper, 2, net)
    gate = Gate(monkeypatch)
    gate.error = OSError(28, "No space left on device")
    save_steps(keeper, 2, 3, net)
    gate.opened.set()
    with pytest.raises(CheckpointError, match=r"task-0002-step-000003: could not be written .*No space left") as caught:
        save_steps(keeper, 2, 5, net)
    assert caught.value.__cause__ is gate.error
    assert checkpoints_in(tmp_path) == ["task-0002"]


def test_an_error_in_the_last_save_is_told_when_the_keeper_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    net, keeper = Net(1), keeper_of(tmp_path)
    save_stage(keeper, 2, net)
    gate = Gate(monkeypatch)
    gate.error = OSError(28, "No space left on device")
    gate.opened.set()
    save_steps(keeper, 2, 3, net)
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        keeper.close()
    (record,) = caplog.records
    assert str(tmp_path) in record.getMessage() and "No space left on device" in record.getMessage()


def test_an_error_while_a_stage_is_written_is_raised_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = keeper_of(tmp_path)
    gate = Gate(monkeypatch)
    gate.error = OSError(28, "No space left on device")
    gate.opened.set()
    with pytest.raises(CheckpointError, match=r"task-0002: could not be written .*No space left"):
        save_stage(keeper, 2, Net(1))


def test_closing_waits_for_what_is_being_written_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(tmp_path)
    save_stage(keeper, 2, Net(1))
    gate = Gate(monkeypatch)
    save_steps(keeper, 2, 3, Net(1))
    threading.Timer(0.2, gate.opened.set).start()
    keeper.close()
    keeper.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task-0002", "task-0002-step-000003"]


def test_as_many_checkpoints_are_kept_as_asked_for(tmp_path: Path) -> None:
    keeper, net = keeper_of(tmp_path, kept=3), Net(1)
    for done in range(4):
        save_stage(keeper, done, net)
    for steps in (2, 4, 6, 8):
        save_steps(keeper, 3, steps, net)
    keeper.close()
    stages = [f"task-{done:04d}" for done in (1, 2, 3)]
    assert checkpoints_in(tmp_path) == sorted([*stages, *(f"task-0003-step-{n:06d}" for n in (4, 6, 8))])


def test_a_run_that_went_back_goes_on_from_there(tmp_path: Path) -> None:
    """The newest stage and steps are damaged; what is saved next is found by the launch after."""
    keeper = keeper_of(tmp_path)
    for done in (1, 2):
        save_stage(keeper, done, Net(done))
    save_steps(keeper, 2, 3, Net(3))
    keeper.close()
    (tmp_path / "task-0002" / "manifest.json").unlink()

    keeper = keeper_of(tmp_path)
    found = keeper.restore_stage(parameters_of(Net(9)))
    assert found is not None and found.state.tasks_done == 1 and found.unfinished == ()
    assert keeper.restore_steps(parameters_of(Net(9))) is None
    save_steps(keeper, 1, 4, Net(4))
    keeper.close()
    assert checkpoints_in(tmp_path) == ["task-0001", "task-0001-step-000004"]
    save_stage(keeper_of(tmp_path), 2, Net(5))
    keeper, net = keeper_of(tmp_path), Net(9)
    found = keeper.restore_stage(parameters_of(net))
    assert found is not None and found.state.tasks_done == 2 and found.unfinished == ()
    assert_same_tensors(parameters_of(net), parameters_of(Net(5)))


def test_steps_on_a_stage_that_was_saved_anew_are_not_used(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    save_stage(keeper, 2, Net(1))
    save_steps(keeper, 2, 3, Net(1))
    save_stage(keeper, 2, Net(2))
    assert checkpoints_in(tmp_path) == ["task-0002"]


def test_an_old_launch_cannot_save_where_a_new_one_took_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = keeper_of(tmp_path)
    save_stage(old, 1, Net(1))
    gate = Gate(monkeypatch)
    save_steps(old, 1, 3, Net(1))
    assert gate.waiting.wait(PATIENCE)
    keeper_of(tmp_path)
    gate.opened.set()
    with pytest.raises(CheckpointError, match="another launch took over"):
        save_stage(old, 2, Net(1))
    with pytest.raises(OSError):
        save_stage(old, 2, Net(1))
    old.close()
    assert checkpoints_in(tmp_path) == ["task-0001"]


@pytest.mark.parametrize("name", SHARE_FILES)
def test_a_launch_that_dies_while_it_writes_a_file_leaves_the_stage_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Died(BaseException):
        pass

    def half(write: Callable[[Path], None], path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        raise Died

    keeper = keeper_of(tmp_path)
    save_stage(keeper, 1, Net(1))
    real = writing.write_share
    monkeypatch.setattr(
        keeper_module, "write_share", lambda p, r, files: real(p, r, {**files, name: partial(half, files[name])})
    )
    with pytest.raises(CheckpointError, match="task-0002: could not be written"):
        save_stage(keeper, 2, Net(2))
    monkeypatch.undo()
    (left,) = tmp_path.glob(".writing-*/task-0002")
    assert (left / name).exists()
    net = Net(9)
    found = restored(tmp_path, net)
    assert found is not None and found.state.tasks_done == 1
    assert_same_tensors(parameters_of(net), parameters_of(Net(1)))
    assert not left.exists()


DIES = """
import os, sys
from pathlib import Path
from seekr_tune.checkpoint import writing
from tests.checkpoint.saved import Net, keeper_of
from tests.checkpoint.test_keeper import save_stage, save_steps

directory, left = Path(sys.argv[1]), int(sys.argv[2])
keeper = keeper_of(directory)
save_stage(keeper, 1, Net(1))
flush = writing.flush

def dying(path):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    flush(path)

writing.flush = dying
save_steps(keeper, 1, 3, Net(2))
keeper.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 3, 5, 6, 7])
def test_a_real_kill_at_any_flush_leaves_a_run_that_goes_on(tmp_path: Path, left: int) -> None:
    """Four files, the manifest and two directories are flushed; the seventh flush comes after the rename."""
    done = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), str(left)], check=False, env=os.environ.copy())
    assert done.returncode == (9 if left < 7 else 0)
    keeper, net = keeper_of(tmp_path), Net(9)
    found = keeper.restore_stage(parameters_of(net))
    assert found is not None and found.state.tasks_done == 1
    progress = keeper.restore_steps(parameters_of(net))
    assert (progress is not None) == (left >= 6)
    assert_same_tensors(parameters_of(net), parameters_of(Net(2 if progress else 1)))
    save_stage(keeper, 2, Net(3))
    assert checkpoints_in(tmp_path) == ["task-0001", "task-0002"]
