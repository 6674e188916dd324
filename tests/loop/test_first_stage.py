"""The first stage, shared: the same numbers bit for bit, once trained, and whatever happens to its files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from seekr_tune.checkpoint.directories import fingerprint
from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.config import Config
from seekr_tune.data.samples import TaskScore
from seekr_tune.loop import evaluate, first_stage
from seekr_tune.loop.first_stage import SharedDirectories
from seekr_tune.loop.learner import Learner
from seekr_tune.loop.loop import StreamRun
from seekr_tune.models.loading import LoadedModel, with_adapters

from ..checkpoint.saved import assert_same_tensors
from .tiny import Run, run, same_memory, same_weights, tiny_config, tiny_loaded, tiny_stream

FULL = {"evaluation.matrix": "full"}
SETTINGS: dict[str, dict[str, Any]] = {
    "seekr": {},
    "derpp": {"method.name": "derpp"},
    "seqft": {"method.name": "seqft"},
    "official": {  # 24 steps in updates of 5: gradients wait when the stage ends
        "method.semantics": "official",
        "recipe.batch_size": 5,
        "recipe.micro_batch_size": 1,
        "recipe.replay_batch_size": 1,
    },
    "moments that are kept": {"recipe.reset_optimizer": False},
    "dropout": {"model.lora": {"rank": 2, "alpha": 4, "dropout": 0.3}},
}


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def shared_run(
    config: Config,
    root: Path,
    name: str,
    *,
    on_step: Callable[[StepRecord], None] | None = None,
    stop_asked: Callable[[], bool] | None = None,
    loaded: LoadedModel | None = None,
) -> Run:
    """The whole tiny stream, sharing its beginning under `root`."""
    loaded = loaded or loaded_for(config)
    directories = SharedDirectories(root / "base" / "b", root / "stages" / "s")
    streamed = StreamRun(
        config,
        tiny_stream(config.stream.tasks),
        loaded,
        directory=root / name,
        shared=directories,
        stop_asked=stop_asked,
    )
    return Run(tuple(streamed.outcomes(on_step)), loaded)


def loaded_for(config: Config) -> LoadedModel:
    loaded = tiny_loaded()
    if config.model.lora is None:
        return loaded
    torch.manual_seed(config.seed)
    return LoadedModel(with_adapters(loaded.model, config.model.lora), loaded.tokenizer, loaded.pad_token_id)


def assert_same(one: Run, other: Run) -> None:
    """Weights, memory, scores, heads and steps, bit for bit; times differ."""
    assert same_weights(one, other)
    assert [timeless(step) for step in one.steps] == [timeless(step) for step in other.steps]
    mine, others = one.outcomes[-1].state, other.outcomes[-1].state
    assert same_memory(mine.memory, others.memory)
    for split, matrix in mine.scores.items():
        assert np.array_equal(matrix, others.scores[split], equal_nan=True)
        assert np.array_equal(mine.initial[split], others.initial[split], equal_nan=True)
    assert [entry.selected for entry in mine.history] == [entry.selected for entry in others.history]
    assert_same_tensors(mine.method.tensors, others.method.tensors)


def timeless(step: StepRecord) -> dict[str, Any]:
    return asdict(step) | {"seconds": 0, "distillation_seconds": 0}


@pytest.fixture
def count_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Index of the task of every step that is really taken."""
    taken: list[int] = []
    step = Learner._step

    def counting(self: Learner, stage: Any, *rest: Any) -> StepRecord:
        taken.append(stage.last)
        return step(self, stage, *rest)

    monkeypatch.setattr(Learner, "_step", counting)
    yield taken


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_that_takes_the_stage_ends_like_one_that_trains_it(
    name: str, tmp_path: Path, count_steps: list[int]
) -> None:
    config = tiny_config(**FULL, **SETTINGS[name])
    alone = run(config, loaded_for(config), tmp_path / "alone")
    trains = shared_run(config, tmp_path, "one")
    assert_same(trains, alone)
    assert 0 in count_steps
    count_steps.clear()
    logged: list[StepRecord] = []
    takes = shared_run(config, tmp_path, "two", on_step=logged.append)
    assert 0 not in count_steps and 1 in count_steps
    assert_same(takes, alone)
    assert logged == takes.steps


def test_runs_that_differ_behind_the_first_stage_share_it(tmp_path: Path, count_steps: list[int]) -> None:
    shared_run(tiny_config(**FULL), tmp_path, "one")
    count_steps.clear()
    changes = {"method.name": "replay", "method.memory.percent": 50.0, "memory_draw": 2, "recipe.replay_batch_size": 1}
    other = tiny_config(**FULL, **changes)
    takes = shared_run(other, tmp_path, "two")
    assert 0 not in count_steps
    assert_same(takes, run(other))


def test_what_was_spared_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains = shared_run(tiny_config(**FULL), tmp_path, "one")
    assert [entry.timing.shared_seconds for entry in trains.outcomes[-1].state.history] == [0.0] * 3
    scored: list[str] = []
    score_task = evaluate.score_task

    def counting(loaded: Any, encoder: Any, task: Any, *rest: Any, **options: Any) -> TaskScore:
        scored.append(task.name)
        return score_task(loaded, encoder, task, *rest, **options)

    monkeypatch.setattr(evaluate, "score_task", counting)
    takes = shared_run(tiny_config(**FULL), tmp_path, "two")
    assert len(scored) == 6  # after the second and the third task, and neither before nor after the first
    first, *others = (entry.timing for entry in takes.outcomes[-1].state.history)
    steps = sum(step.seconds for step in trains.outcomes[0].steps)
    assert first.shared_seconds > steps == pytest.approx(first.new_seconds)
    assert [timing.shared_seconds for timing in others] == [0.0, 0.0]


def test_joint_shares_the_scores_before_training_only(tmp_path: Path, count_steps: list[int]) -> None:
    config = tiny_config(**FULL, **{"method.name": "joint"})
    shared_run(config, tmp_path, "one")
    count_steps.clear()
    takes = shared_run(config, tmp_path, "two")
    assert count_steps
    assert_same(takes, run(config))
    assert takes.outcomes[-1].state.history[0].timing.shared_seconds > 0
    assert not (tmp_path / "stages").exists()


@pytest.mark.parametrize("pattern", ["stages/s/checkpoints/*-step-*/weights*", "stages/s/checkpoints/*/state.json"])
def test_a_damaged_stage_is_trained_again_with_a_warning(
    pattern: str, tmp_path: Path, count_steps: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    shared_run(tiny_config(), tmp_path, "one")
    (damaged,) = tmp_path.glob(pattern)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    count_steps.clear()
    with caplog.at_level(logging.WARNING, "seekr_tune"):
        again = shared_run(tiny_config(), tmp_path, "two")
    assert 0 in count_steps
    assert "damaged" in caplog.text
    assert_same(again, run(tiny_config()))
    count_steps.clear()
    shared_run(tiny_config(), tmp_path, "three")
    assert 0 not in count_steps


def resealed(path: Path, content: bytes) -> None:
    """Another content of a checkpoint's file, vouched for by its manifest: only who reads it can find it wrong."""
    path.write_bytes(content)
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["files"][path.name] = fingerprint(path)
    (path.parent / "manifest.json").write_text(json.dumps(manifest))


def with_tensors(path: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """A file of tensors, changed; what it says of its layout stays."""
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    change(tensors)
    save_file(tensors, path.with_suffix(".new"), metadata)
    resealed(path, path.with_suffix(".new").read_bytes())
    path.with_suffix(".new").unlink()


def with_document(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    resealed(path, json.dumps(document).encode())


def drop_first(tensors: dict[str, Tensor]) -> None:
    del tensors[min(tensors)]


def cut_first(tensors: dict[str, Tensor]) -> None:
    name = min(name for name, tensor in tensors.items() if tensor.dim() and len(tensor) > 1)
    tensors[name] = tensors[name][:-1].clone()


def drop_a_step(document: dict[str, Any]) -> None:
    document["steps"].pop()


WRONG: Mapping[str, tuple[dict[str, Any], Callable[[Path], None], str]] = {
    "a learner file that holds no tensors": (
        {"recipe.reset_optimizer": False},
        lambda step: resealed(step / "learner-00-of-01.safetensors", b"\0" * 100),
        "does not hold tensors",
    ),
    "a learner without one moment": (
        {"recipe.reset_optimizer": False},
        lambda step: with_tensors(step / "learner-00-of-01.safetensors", drop_first),
        "does not contain tensor",
    ),
    "a moment without its last row": (
        {"recipe.reset_optimizer": False},
        lambda step: with_tensors(step / "learner-00-of-01.safetensors", cut_first),
        "holds no row",
    ),
    "weights without one tensor": (
        {},
        lambda step: with_tensors(step / "weights-00-of-01.safetensors", drop_first),
        "does not contain tensor",
    ),
    "weights without a last row": (
        {},
        lambda step: with_tensors(step / "weights-00-of-01.safetensors", cut_first),
        "holds no row",
    ),
    "no weights": (
        {},
        lambda step: with_document(step / "progress.json", lambda document: document["parts"].update(weights=0)),
        "holds no weights",
    ),
    "one step too few": (
        {},
        lambda step: with_document(step / "progress.json", drop_a_step),
        "holds 5 steps of a stage that has 6",
    ),
    "a gradient of another shape": (
        SETTINGS["official"],
        lambda step: with_tensors(step / "gradients-00-of-01.safetensors", cut_first),
        "holds no row",
    ),
}
"""By what is wrong with a stage that its manifest vouches for: settings, how it comes about, and what is said."""


@pytest.mark.parametrize("wrong", WRONG)
def test_a_stage_that_cannot_be_taken_whole_is_trained_from_the_models_own_weights(
    wrong: str, tmp_path: Path, count_steps: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    settings, spoil, said = WRONG[wrong]
    config = tiny_config(**settings)
    shared_run(config, tmp_path, "one")
    (step,) = tmp_path.glob("stages/s/checkpoints/*-step-*")
    spoil(step)
    count_steps.clear()
    with caplog.at_level(logging.WARNING, "seekr_tune"):
        again = shared_run(config, tmp_path, "two")
    assert 0 in count_steps
    assert said in caplog.text and "the stage is trained here" in caplog.text
    assert_same(again, run(config))
    count_steps.clear()
    assert_same(shared_run(config, tmp_path, "three"), run(config))
    assert count_steps.count(0) == len(again.outcomes[0].steps)  # those of the run beside it alone


def test_a_damaged_score_is_scored_again_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shared_run(tiny_config(**FULL), tmp_path, "one")
    for number, path in enumerate(sorted(tmp_path.glob("*/*/scores/*.json"))):
        text = path.read_text()
        path.write_text(text[: len(text) // 2] if number % 2 else text.replace('"score": ', '"score": 1'))
    with caplog.at_level(logging.WARNING, "seekr_tune"):
        again = shared_run(tiny_config(**FULL), tmp_path, "two")
    assert caplog.text.count("scored again") == 6
    assert_same(again, run(tiny_config(**FULL)))


def test_a_run_that_was_killed_in_the_stage_goes_on_and_shares_it(tmp_path: Path, count_steps: list[int]) -> None:
    config = tiny_config(**{"training.checkpoint_steps": 1})

    def die(record: StepRecord) -> None:
        if record.step == 3:
            raise Killed

    with pytest.raises(Killed):
        shared_run(config, tmp_path, "one", on_step=die)
    count_steps.clear()
    resumed = shared_run(config, tmp_path, "one")
    assert count_steps.count(0) < len(resumed.outcomes[0].steps)
    assert_same(resumed, run(config))
    count_steps.clear()
    shared_run(config, tmp_path, "two")
    assert 0 not in count_steps


def test_a_killed_run_takes_the_stage_if_another_one_finished_it(tmp_path: Path, count_steps: list[int]) -> None:
    config = tiny_config(**{"training.checkpoint_steps": 1})
    logged: list[int] = []

    def die(record: StepRecord) -> None:
        if record.step == 3:
            raise Killed

    with pytest.raises(Killed):
        shared_run(config, tmp_path, "one", on_step=die)
    shared_run(config, tmp_path, "two")
    count_steps.clear()
    resumed = shared_run(config, tmp_path, "one", on_step=lambda record: logged.append(record.step))
    assert 0 not in count_steps
    assert logged[0] in (2, 3)  # the first steps were logged before
    assert_same(resumed, run(config))


def test_what_other_workers_have_begun_is_not_given_to_others(tmp_path: Path, count_steps: list[int]) -> None:
    config = tiny_config(**{"training.checkpoint_steps": 1})

    def die(record: StepRecord) -> None:
        if record.step == 3:
            raise Killed

    with pytest.raises(Killed):
        shared_run(config, tmp_path, "one", on_step=die)
    (tmp_path / "one" / "checkpoints" / ".first-stage").write_text("another key")
    shared_run(config, tmp_path, "one")
    count_steps.clear()
    shared_run(config, tmp_path, "two")
    assert 0 in count_steps


def test_a_run_waits_for_the_one_that_trains_and_then_takes_it(
    tmp_path: Path, count_steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_stage, "_POLL_SECONDS", 0.01)
    waiting: list[Run] = []
    loaded = tiny_loaded()  # not in the thread: torch has one random state for both
    waiter = Thread(target=lambda: waiting.append(shared_run(tiny_config(), tmp_path, "two", loaded=loaded)))

    def start_the_other(record: StepRecord) -> None:
        if (record.task_index, record.step) == (0, 0):
            waiter.start()

    trained = shared_run(tiny_config(), tmp_path, "one", on_step=start_the_other)
    waiter.join()
    assert count_steps.count(0) == len(trained.outcomes[0].steps)
    assert_same(waiting[0], trained)


def test_a_run_that_waits_can_be_stopped(tmp_path: Path, count_steps: list[int]) -> None:
    place = tmp_path / "stages" / "s"
    place.mkdir(parents=True)
    asked: list[bool] = []

    def stop_asked() -> bool:
        asked.append(True)
        return len(asked) > 2  # not before the stage, but while waiting for it

    with FileLock(place / ".lock"):
        stopped = shared_run(tiny_config(), tmp_path, "two", stop_asked=stop_asked)
    assert (stopped.outcomes, count_steps) == ((), [])
    assert_same(shared_run(tiny_config(), tmp_path, "two"), run(tiny_config()))


def test_a_place_that_cannot_be_used_costs_nothing_but_the_sharing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "base").write_text("no directory")
    (tmp_path / "stages").write_text("no directory")
    with caplog.at_level(logging.WARNING, "seekr_tune"):
        alone = shared_run(tiny_config(**FULL), tmp_path, "one")
    assert "cannot be shared" in caplog.text
    assert_same(alone, run(tiny_config(**FULL)))
