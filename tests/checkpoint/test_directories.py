"""Damage to a checkpoint is noticed, told in one line, and the checkpoint before it is used."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekr_tune.checkpoint.directories import SCHEMA_VERSION, Position, fingerprint, newest_intact, verify

from .saved import Net, keeper_of, learner_of, parameters_of, progress_of, stream_state

MODEL_FILES = [
    "weights-00-of-01.safetensors",
    "learner-00-of-01.safetensors",
    "gradients-00-of-01.safetensors",
]
STAGE_FILES = [
    *MODEL_FILES,
    "memory-00-of-01.safetensors",
    "samples.safetensors",
    "heads.safetensors",
    "state.json",
    "manifest.json",
]
STEP_FILES = [*MODEL_FILES, "progress.json", "manifest.json"]


def save_stages(directory: Path, *tasks_done: int) -> Path:
    """Stage checkpoints, of which the path of the last is returned."""
    net, keeper = Net(1), keeper_of(directory)
    for done in tasks_done:
        keeper.save_stage(stream_state(done), parameters_of(net), learner_of(net))
    keeper.close()
    return directory / Position(tasks_done[-1]).name


def save_steps(directory: Path, tasks_done: int, *steps: int) -> Path:
    """A stage checkpoint and step checkpoints behind it, of which the path of the last is returned."""
    net, keeper = Net(1), keeper_of(directory)
    keeper.save_stage(stream_state(tasks_done), parameters_of(net), learner_of(net))
    for number in steps:
        keeper.save_steps(tasks_done, progress_of(net, number), parameters_of(net))
    keeper.close()
    return directory / Position(tasks_done, steps[-1]).name


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def lose(file: Path) -> None:
    file.unlink()


DAMAGES = [truncate, flip_a_bit, lose]


def rewrite(path: Path, name: str, change: Callable[[dict[str, object]], object]) -> None:
    """Change a JSON file of a checkpoint, and let the manifest agree with it."""
    document = json.loads((path / name).read_text())
    change(document)
    (path / name).write_text(json.dumps(document))
    if name != "manifest.json":
        found = fingerprint(path / name)
        rewrite(path, "manifest.json", lambda manifest: manifest["files"].update({name: found}))  # type: ignore[attr-defined]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", STAGE_FILES)
def test_a_damaged_stage_is_skipped_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], None]
) -> None:
    newest = save_stages(tmp_path, 1, 2)
    assert {path.name for path in newest.iterdir()} == set(STAGE_FILES)
    damage(newest / name)
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        assert newest_intact(tmp_path) == (tmp_path / "task-0001", None)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(f"{newest}: damaged (") and message.endswith("; task-0001 is used instead")
    assert "\n" not in message
    if name != "manifest.json":
        assert name in message
        assert not any(other in message for other in STAGE_FILES if other != name)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", STEP_FILES)
def test_damaged_steps_are_skipped_and_those_before_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], None]
) -> None:
    newest = save_steps(tmp_path, 2, 3, 5)
    assert {path.name for path in newest.iterdir()} == set(STEP_FILES)
    damage(newest / name)
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        assert newest_intact(tmp_path) == (tmp_path / "task-0002", tmp_path / "task-0002-step-000003")
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(f"{newest}: damaged (") and message.endswith("; task-0002-step-000003 is used instead")
    if name != "manifest.json":
        assert name in message


def test_where_all_steps_are_damaged_the_stage_that_they_build_on_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flip_a_bit(save_steps(tmp_path, 2, 3) / "progress.json")
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        assert newest_intact(tmp_path) == (tmp_path / "task-0002", None)
    assert caplog.text.strip().endswith("task-0002 is used instead")


def test_where_everything_is_damaged_the_run_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_stages(tmp_path, 1, 2)
    for path in tmp_path.glob("task-*"):
        lose(path / "manifest.json")
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        assert newest_intact(tmp_path) == (None, None)
    assert [record.getMessage().partition("; ")[2] for record in caplog.records] == [
        "nothing is left to use, the run begins anew"
    ] * 2


def test_steps_whose_stage_is_damaged_are_of_no_use(tmp_path: Path) -> None:
    save_stages(tmp_path, 1)
    save_steps(tmp_path, 2, 3)
    flip_a_bit(tmp_path / "task-0002" / "samples.safetensors")
    assert newest_intact(tmp_path) == (tmp_path / "task-0001", None)


def test_steps_that_build_on_another_stage_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps = save_steps(tmp_path / "run", 2, 3)
    net, keeper = Net(2), keeper_of(tmp_path / "other")
    keeper.save_stage(stream_state(2), parameters_of(net), learner_of(net))
    shutil.rmtree(tmp_path / "run" / "task-0002")
    shutil.move(tmp_path / "other" / "task-0002", tmp_path / "run" / "task-0002")
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        assert newest_intact(tmp_path / "run") == (tmp_path / "run" / "task-0002", None)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{steps}: builds on another task-0002 than the one that is there; task-0002 is used instead"
    )


def no_longer_json(path: Path) -> None:
    (path / "manifest.json").write_text('{"schema_ver')


def empty(path: Path) -> None:
    (path / "manifest.json").write_text("{}")


def no_object(path: Path) -> None:
    (path / "manifest.json").write_text("[]")


def no_directory(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def names_less(path: Path) -> None:
    """Whole, as far as the manifest goes: weights are neither there nor missed."""
    (path / "weights-00-of-01.safetensors").unlink()
    rewrite(path, "manifest.json", lambda m: m["files"].pop("weights-00-of-01.safetensors"))  # type: ignore[attr-defined]


def names_no_state(path: Path) -> None:
    (path / "state.json").unlink()
    rewrite(path, "manifest.json", lambda m: m["files"].pop("state.json"))  # type: ignore[attr-defined]


BROKEN = [no_longer_json, empty, no_object, no_directory, names_less, names_no_state]


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_a_manifest_that_cannot_be_right_is_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    damage(save_stages(tmp_path, 1, 2))
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        assert newest_intact(tmp_path) == (tmp_path / "task-0001", None)
    (record,) = caplog.records
    assert "damaged" in record.getMessage() and "\n" not in record.getMessage()


def test_another_schema_version_is_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save_stages(tmp_path, 1, 2)
    rewrite(path, "manifest.json", lambda manifest: manifest.update(schema_version=SCHEMA_VERSION + 1))
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        assert newest_intact(tmp_path) == (tmp_path / "task-0001", None)
    assert f"has schema version {SCHEMA_VERSION + 1}, this version reads {SCHEMA_VERSION}" in caplog.text


def test_a_checkpoint_of_the_first_version_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "task-0001"
    path.mkdir()
    names = ("weights", "learner", "memory", "heads")
    (path / "state.json").write_text('{"schema_version": 1}')
    for name in names:
        (path / f"{name}.safetensors").write_bytes(b"")
    (path / "manifest.json").write_text(json.dumps({file.name: fingerprint(file) for file in path.iterdir()}))
    with caplog.at_level(logging.WARNING, logger="seekr_tune"):
        assert newest_intact(tmp_path) == (None, None)
    assert f"has schema version 1, this version reads {SCHEMA_VERSION}" in caplog.text


def test_nothing_is_found_where_nothing_was_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest_intact(tmp_path / "not there") == (None, None)
    (tmp_path / "notes").mkdir()
    (tmp_path / "task-1").mkdir()
    (tmp_path / "task-0001-step-000000").mkdir()
    assert newest_intact(tmp_path) == (None, None)
    assert not caplog.records


def test_the_newest_is_found_by_number(tmp_path: Path) -> None:
    path = save_stages(tmp_path, 9_998)
    for number in (9_999, 10_000):
        shutil.copytree(path, tmp_path / Position(number).name)
    assert newest_intact(tmp_path) == (tmp_path / "task-10000", None)
    verify(tmp_path / "task-9999")


@given(st.builds(Position, st.integers(0, 10**6), st.integers(0, 10**8)))
def test_a_position_comes_back_from_its_name(position: Position) -> None:
    assert Position.of(Path("run") / position.name) == position
