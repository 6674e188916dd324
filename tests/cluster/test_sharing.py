"""Two ranks share their first stage, wait for it, and stop, together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from seekr_tune.checkpoint import keeper
from seekr_tune.checkpoint.state import TaskOutcome
from seekr_tune.cluster.strategy import group_workers
from seekr_tune.errors import CheckpointError
from seekr_tune.loop import stopping
from seekr_tune.loop.first_stage import SharedDirectories
from seekr_tune.loop.learner import Learner
from seekr_tune.loop.loop import StreamRun
from seekr_tune.methods.workers import Workers

from ..loop.tiny import tiny_config, tiny_loaded, tiny_stream
from .ranks import run_ranks

SETTINGS: dict[str, Any] = {"evaluation.matrix": "full", "training.workers": 2, "recipe.batch_size": 5}


@dataclass(frozen=True)
class Learns:
    """Learns the tiny stream alone, then twice with a shared first stage; whether all three are the same."""

    root: Path
    values: dict[str, Any]

    def __call__(self) -> dict[str, Any]:
        config = tiny_config(**SETTINGS, **self.values)
        workers = group_workers(config, torch.device("cpu"))
        shared = SharedDirectories(self.root / "base" / "b", self.root / "stages" / "s")
        results = {}
        for name in ("alone", "trains", "takes"):
            with counted() as taken:
                outcomes, weights = learn(config, self.root / name, workers, None if name == "alone" else shared)
            results[name] = {
                "weights": weights,
                "scores": outcomes[-1].state.scores["eval"],
                "initial": outcomes[-1].state.initial["eval"],
                "selected": [dict(entry.selected) for entry in outcomes[-1].state.history],
                "steps": [asdict(s) | {"seconds": 0, "distillation_seconds": 0} for o in outcomes for s in o.steps],
                "shared_seconds": outcomes[-1].state.history[0].timing.shared_seconds,
                "taken": taken.count(0),
            }
        return results


@dataclass(frozen=True)
class Stops:
    """Is asked to stop on rank 0 alone after so many questions, and goes on."""

    root: Path

    def __call__(self) -> dict[str, Any]:
        stopping._SECONDS = 0.0  # ask after every step
        config = tiny_config(**SETTINGS)
        workers = group_workers(config, torch.device("cpu"))
        asked: list[None] = []

        def stop_asked() -> bool:
            assert dist.get_rank() == 0
            asked.append(None)
            return len(asked) == 5

        begun, _ = learn(config, self.root / "stopped", workers, None, stop_asked)
        saved = sorted(path.name for path in (self.root / "stopped" / "checkpoints").glob("task-*"))
        _, weights = learn(config, self.root / "stopped", workers, None)
        _, undisturbed = learn(config, self.root / "whole", workers, None)
        return {"begun": len(begun), "saved": saved, "weights": weights, "undisturbed": undisturbed}


@dataclass(frozen=True)
class Fails:
    """Rank 1 cannot read a shared stage, once before and once while weights are overwritten, nor its own steps."""

    root: Path

    def __call__(self) -> dict[str, Any]:
        config = tiny_config(**SETTINGS, **{"recipe.reset_optimizer": False, "training.checkpoint_steps": 1})
        workers = group_workers(config, torch.device("cpu"))
        shared = SharedDirectories(self.root / "base" / "b", self.root / "stages" / "s")
        _, alone = learn(config, self.root / "alone", workers, None)
        learn(config, self.root / "trains", workers, shared)
        found: dict[str, Any] = {"alone": alone}
        with failing("read_learner"), counted() as taken:
            _, found["again"] = learn(config, self.root / "again", workers, shared)
        found["taken"] = taken.count(0)
        with failing("restore_weights"):
            found["half"] = refused(lambda: learn(config, self.root / "half", workers, shared))
        asked: list[None] = []

        def stop_asked() -> bool:
            asked.append(None)
            return len(asked) == 5

        stopping._SECONDS = 0.0
        learn(config, self.root / "resumed", workers, None, stop_asked)
        with failing("read_learner"):
            found["resumed"] = refused(lambda: learn(config, self.root / "resumed", workers, None))
        return found


@contextmanager
def failing(name: str) -> Iterator[None]:
    """In the block, what the keeper calls so fails on rank 1 alone."""

    def unreadable(*rest: Any) -> Any:
        raise OSError(5, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        if dist.get_rank() == 1:
            patch.setattr(keeper, name, unreadable)
        yield


def refused(act: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(CheckpointError) as caught:
        act()
    return type(caught.value).__name__, str(caught.value)


@contextmanager
def counted() -> Iterator[list[int]]:
    """Tasks of the steps that are taken in the block."""
    taken: list[int] = []
    step = Learner._step

    def counting(learner: Learner, stage: Any, *rest: Any) -> Any:
        taken.append(stage.last)
        return step(learner, stage, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "_step", counting)
        yield taken


def learn(
    config: Any,
    directory: Path,
    workers: Workers,
    shared: SharedDirectories | None,
    stop_asked: Callable[[], bool] | None = None,
) -> tuple[list[TaskOutcome], dict[str, torch.Tensor]]:
    loaded = tiny_loaded()
    run = StreamRun(
        config, tiny_stream(), loaded, directory=directory, workers=workers, shared=shared, stop_asked=stop_asked
    )
    outcomes = list(run.outcomes())
    return outcomes, {name: weight.detach().clone() for name, weight in loaded.model.named_parameters()}


OFFICIAL = {"method.semantics": "official", "recipe.micro_batch_size": 2, "recipe.replay_batch_size": 1}


@pytest.mark.parametrize("values", [{}, OFFICIAL], ids=["corrected", "official"])
def test_two_ranks_share_the_first_stage_bit_for_bit(values: dict[str, Any], tmp_path: Path) -> None:
    for rank in run_ranks(Learns(tmp_path, values), 2, tmp_path):
        alone = rank["alone"]
        for name in ("trains", "takes"):
            found = rank[name]
            assert all(torch.equal(weight, alone["weights"][key]) for key, weight in found["weights"].items())
            assert np.array_equal(found["scores"], alone["scores"], equal_nan=True)
            assert np.array_equal(found["initial"], alone["initial"], equal_nan=True)
            assert (found["selected"], found["steps"]) == (alone["selected"], alone["steps"])
        assert alone["taken"] == rank["trains"]["taken"] > rank["takes"]["taken"] == 0
        assert rank["trains"]["shared_seconds"] == 0 < rank["takes"]["shared_seconds"]


def test_two_ranks_stop_at_the_same_step_and_go_on(tmp_path: Path) -> None:
    one, other = run_ranks(Stops(tmp_path), 2, tmp_path)
    assert one["begun"] == other["begun"] == 0
    assert one["saved"] == other["saved"] == ["task-0000", "task-0000-step-000004"]
    for rank in (one, other):
        assert all(torch.equal(weight, rank["undisturbed"][key]) for key, weight in rank["weights"].items())


def test_what_one_rank_cannot_read_none_takes_up(tmp_path: Path) -> None:
    one, other = run_ranks(Fails(tmp_path), 2, tmp_path)
    for rank in (one, other):
        assert rank["taken"] > 0
        assert all(torch.equal(weight, rank["alone"][key]) for key, weight in rank["again"].items())
        kind, said = rank["half"]
        assert kind == "HalfRestored"
        assert "Input/output error" in said and "its weights are taken up in part" in said
        kind, said = rank["resumed"]
        assert kind == "CheckpointError"
        assert "resumed/checkpoints/task-0000" in said and "Input/output error" in said
