"""State on disk comes back as it was, and damage is noticed."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from seekr_tune.method.importance import HeadScores
from seekr_tune.method.memory import ReplayMemory, ReplaySample, TeacherSignals
from seekr_tune.sequence.checkpoint import (
    KEPT,
    SCHEMA_VERSION,
    Checkpoint,
    _fingerprint,
    load_newest,
    restored_state,
    save_checkpoint,
)
from seekr_tune.sequence.state import StreamState, TaskHistory

from .tiny import same_memory

FILES = {
    "weights.safetensors",
    "learner.safetensors",
    "memory.safetensors",
    "heads.safetensors",
    "state.json",
    "manifest.json",
}


def head_scores(seed: int) -> HeadScores:
    generator = torch.Generator().manual_seed(seed)
    return HeadScores(*(torch.rand(2, 4, generator=generator) for _ in range(3)))


def history(index: int, scores: HeadScores | None, total: HeadScores | None) -> TaskHistory:
    selected = {} if scores is None else {0: (1, 3), 1: (2,)}
    return TaskHistory("a/b", index, scores, total, selected, 3, 999, 6, 3, 87, 1.25)


def checkpoint(tasks_done: int = 2) -> Checkpoint:
    """One of everything: samples with all signals, with logits only, with none; cells that were not evaluated."""
    full, rows_only = (
        TeacherSignals(
            logits,
            torch.tensor([-6, -2, -1]),
            {0: (1, 3), 1: (2,)},
            {0: torch.rand(2, 3, 6), 1: torch.rand(1, 3, 6)},
        )
        for logits in (torch.randn(2, 9), None)
    )
    logits_only = TeacherSignals(torch.randn(1, 9), torch.empty(0, dtype=torch.long), {}, {})
    memory = ReplayMemory(
        tuple(
            ReplaySample(task, index, torch.arange(6) + index, 2, teacher)
            for task, index, teacher in [(0, 7, full), (0, 2, logits_only), (1, 5, rows_only), (1, 0, None)]
        )
    )
    scores = np.array([[1 / 3, np.nan], [66.6, 100.0]])
    total = head_scores(4)
    state = StreamState(
        tasks_done=tasks_done,
        totals=total,  # the very object that the history holds, as the loop makes it
        memory=memory,
        scores={"eval": scores, "test": np.full((2, 2), np.nan)},
        initial={"eval": np.array([0.1, 0.2]), "test": np.full(2, np.nan)},
        history=(history(0, None, None), history(1, head_scores(3), total)),
    )
    weights = {"layer.weight": torch.randn(3, 5), "half": torch.randn(4).to(torch.bfloat16)}
    learner = {"gradient/layer.weight": torch.randn(3, 5), "moments/step/layer.weight": torch.tensor(17.0)}
    return Checkpoint(state, weights, learner, pending_steps=1)


def assert_same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name]), name


def test_a_checkpoint_comes_back_exactly(tmp_path: Path) -> None:
    saved = checkpoint()
    path = save_checkpoint(tmp_path, saved)
    assert path == tmp_path / "task-0002"
    assert {file.name for file in path.iterdir()} == FILES
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.pending_steps == 1
    assert_same_tensors(dict(loaded.weights), dict(saved.weights))
    assert_same_tensors(dict(loaded.learner), dict(saved.learner))
    assert_same_tensors(vars(loaded.state.totals), vars(saved.state.totals))
    assert loaded.state.tasks_done == 2
    for split in ("eval", "test"):
        np.testing.assert_array_equal(loaded.state.scores[split], saved.state.scores[split])
        np.testing.assert_array_equal(loaded.state.initial[split], saved.state.initial[split])
        assert loaded.state.scores[split].dtype == np.float64


def test_the_replay_memory_comes_back_exactly(tmp_path: Path) -> None:
    saved = checkpoint()
    save_checkpoint(tmp_path, saved)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert same_memory(loaded.state.memory, saved.state.memory)
    dtypes = [(s.input_ids.dtype, s.teacher.queries.dtype) for s in loaded.state.memory if s.teacher]
    assert set(dtypes) == {(torch.int64, torch.int64)}


def test_the_history_comes_back_exactly(tmp_path: Path) -> None:
    saved = checkpoint()
    save_checkpoint(tmp_path, saved)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    for ours, expected in zip(loaded.state.history, saved.state.history, strict=True):
        assert replace(ours, scores=None, total=None) == replace(expected, scores=None, total=None)
        for field in ("scores", "total"):
            assert (getattr(ours, field) is None) == (getattr(expected, field) is None)
            if getattr(expected, field) is not None:
                assert_same_tensors(vars(getattr(ours, field)), vars(getattr(expected, field)))


def test_the_state_of_a_run_directory_is_read_without_a_model(tmp_path: Path) -> None:
    assert restored_state(tmp_path) is None
    save_checkpoint(tmp_path / "checkpoints", checkpoint())
    state = restored_state(tmp_path)
    assert state is not None
    assert (state.tasks_done, state.num_layers, state.num_heads) == (2, 2, 4)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for done in range(1, 13):
        save_checkpoint(tmp_path, checkpoint(done))
    assert KEPT == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task-0011", "task-0012"]
    newest = load_newest(tmp_path)
    assert newest is not None and newest.state.tasks_done == 12


def test_saving_again_replaces_the_checkpoint_of_that_task(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint())
    other = checkpoint()
    save_checkpoint(tmp_path, other)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert_same_tensors(dict(loaded.weights), dict(other.weights))


def truncate(path: Path) -> None:
    file = path / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def flip_a_byte(path: Path) -> None:
    file = path / "memory.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))


def lose_the_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def break_the_manifest(path: Path) -> None:
    (path / "manifest.json").write_text('{"state.js')


def empty_the_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("{}")
    (path / "weights.safetensors").unlink()


def lose_a_file(path: Path) -> None:
    (path / "heads.safetensors").unlink()


def change_the_state(path: Path) -> None:
    text = (path / "state.json").read_text()
    (path / "state.json").write_text(text.replace('"tasks_done": 2', '"tasks_done": 1'))


def come_from_another_version(path: Path) -> None:
    """A whole checkpoint, of a schema that this version does not know."""
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"schema_version": SCHEMA_VERSION + 1}))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["state.json"] = _fingerprint(path / "state.json")
    (path / "manifest.json").write_text(json.dumps(manifest))


DAMAGES = [
    truncate,
    flip_a_byte,
    lose_the_manifest,
    break_the_manifest,
    empty_the_manifest,
    lose_a_file,
    change_the_state,
    come_from_another_version,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_bad_newest_checkpoint_is_skipped_with_one_line_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    damage(save_checkpoint(tmp_path, checkpoint(2)))
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.state.tasks_done == 1
    (record,) = caplog.records
    assert str(tmp_path / "task-0002") in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_where_no_checkpoint_is_good_there_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    damage(save_checkpoint(tmp_path, checkpoint()))
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        assert load_newest(tmp_path) is None
    assert len(caplog.records) == 1


def test_another_schema_version_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    come_from_another_version(save_checkpoint(tmp_path, checkpoint()))
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        load_newest(tmp_path)
    assert f"schema version {SCHEMA_VERSION + 1}, this version reads {SCHEMA_VERSION}" in caplog.text


def test_a_damaged_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flip_a_byte(save_checkpoint(tmp_path, checkpoint()))
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        load_newest(tmp_path)
    assert "memory.safetensors" in caplog.text
    assert "weights.safetensors" not in caplog.text


def test_what_a_killed_writer_left_behind_is_ignored_and_then_removed(tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path, checkpoint(1))
    leftover = tmp_path / ".writing-task-0002-4711"
    shutil.copytree(good, leftover)
    (leftover / "manifest.json").unlink()
    loaded = load_newest(tmp_path)
    assert loaded is not None and loaded.state.tasks_done == 1
    save_checkpoint(tmp_path, checkpoint(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task-0001", "task-0002"]


def test_a_writer_that_dies_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, checkpoint(1))

    def die(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seekr_tune.sequence.checkpoint._flush", die)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, checkpoint(2))
    loaded = load_newest(tmp_path)
    assert loaded is not None and loaded.state.tasks_done == 1


def test_nothing_is_found_where_nothing_was_saved(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "not there") is None
    assert load_newest(tmp_path) is None
