"""One of everything that a checkpoint can hold, for the tests of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seekr_tune.checkpoint.keeper import CheckpointKeeper, Restored
from seekr_tune.checkpoint.state import LearnerState, Progress, StageTiming, StepRecord, StreamState, TaskHistory
from seekr_tune.data.special_tokens import SpecialTokens
from seekr_tune.methods.memory import ReplayMemory, ReplaySample, TeacherSignals
from seekr_tune.methods.protocol import HeadNotes, MethodState
from seekr_tune.methods.storage import Kept
from seekr_tune.methods.workers import SingleProcess

from ..loop.tiny import same_memory

TIMING = StageTiming(
    new_seconds=1 / 3,
    replay_seconds=0.1,
    distillation_seconds=0.1 + 0.2,
    teacher_seconds=5e-324,
    evaluation_seconds=0.0,
    checkpoint_seconds=1e-9,
    tokens=2**53 + 1,
    peak_memory_bytes=123_456_789_012,
    model_flops=1.2345678901234567e18,
    flops_utilisation=None,
)


class Net(nn.Module):
    """Three small layers; over four ranks, some hold no row of the later ones."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.wide = nn.Linear(3, 5)
            self.narrow = nn.Linear(5, 2, bias=False)
            self.single = nn.Linear(2, 1)

    def forward(self, values: Tensor) -> Tensor:
        outputs: Tensor = self.single(self.narrow(self.wide(values).tanh()).tanh())
        return outputs


def parameters_of(net: nn.Module) -> dict[str, nn.Parameter]:
    return dict(net.named_parameters())


def moments(shapes: Mapping[str, torch.Size], seed: int = 5) -> dict[str, Tensor]:
    """What AdamW keeps of parameters of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"moments/exp_avg/{name}"] = torch.randn(shape, generator=generator)
        tensors[f"moments/exp_avg_sq/{name}"] = torch.rand(shape, generator=generator)
        tensors[f"moments/step/{name}"] = torch.tensor(17.0)
    return tensors


def gradients(shapes: Mapping[str, torch.Size], rank: int = 0) -> dict[str, Tensor]:
    """Gradients that wait for an update on one rank."""
    generator = torch.Generator().manual_seed(100 + rank)
    return {f"gradient/{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def learner_of(net: nn.Module) -> LearnerState:
    """A learner in the middle of everything."""
    shapes = {name: parameter.shape for name, parameter in net.named_parameters()}
    return LearnerState({**moments(shapes), **gradients(shapes)}, pending_steps=3, updates=11)


def step(number: int) -> StepRecord:
    return StepRecord(
        task_index=2,
        step=number,
        kind="replay" if number % 2 else "new",
        loss=0.1 + number,
        terms={"cross_entropy": 1 / 3, "attention_distillation": 2**-40 / 3},
        grad_norm=None if number % 2 else 1e22 / 3,
        learning_rate=3e-5 / 7,
        samples=2,
        tokens=87,
        seconds=0.123456789012345678,
        distillation_seconds=0.1 if number % 2 else None,
        batch=(7 * number, 3),
        flops=1e9 / 3,
        weights={"cross_entropy": 0.5, "attention_distillation": 1e3 / 3},
        shares={"cross_entropy": 2 / 3, "attention_distillation": 1 / 3} if number % 2 else {},
    )


def progress_of(net: nn.Module, steps: int) -> Progress:
    return Progress(tuple(step(number) for number in range(steps)), learner_of(net))


def stream_state(tasks_done: int) -> StreamState:
    """Samples with all signals, logits only, rows only and none, spread over shards; cells not evaluated."""
    generator = torch.Generator().manual_seed(tasks_done)
    scores = np.array([[1 / 3, np.nan], [66.6, 100.0]])
    total = _head_scores(generator)
    heads = {0: (1, 3), 1: (2,)}
    notes = HeadNotes(_head_scores(generator), total, heads)
    history = (
        TaskHistory("a/b", 0, None, 3, 999, 6, 3, 87, 1.25, TIMING),
        TaskHistory("c", 1, notes, 3, 9, 6, 3, 87, 0.1, replace(TIMING, tokens=5)),
    )
    return StreamState(
        tasks_done=tasks_done,
        shape=(total["importance"].shape[0], total["importance"].shape[1]),
        memory=_memory(generator),
        scores={"eval": scores, "test": np.full((2, 2), np.nan)},
        initial={"eval": np.array([0.1, 0.2]), "test": np.full(2, np.nan)},
        history=history[:tasks_done],
        special_tokens=SpecialTokens((1, 4), (2,)),
        # the very tensors that the history holds, as the loop makes them
        method=MethodState({}, {f"seekr/totals/{name}": own for name, own in total.items()}, {"ewc": {"n": 3}}),
        errors={"eval": np.array([[[0.1, np.nan], [np.nan] * 2], [[1 / 3, 2.5], [0.0, 7.0]]])},
    )


def held_by(memory: ReplayMemory, rank: int, world_size: int) -> ReplayMemory:
    """The memory as one rank has it."""
    return ReplayMemory(tuple(s if s.shard % world_size == rank else replace(s, teacher=None) for s in memory))


def assert_same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


def assert_same_state(one: StreamState, other: StreamState) -> None:
    assert one.tasks_done == other.tasks_done
    assert one.special_tokens == other.special_tokens
    assert one.shape == other.shape
    assert one.method.facts == other.method.facts
    assert_same_tensors(one.method.tensors, other.method.tensors)
    assert one.method.weights.keys() == other.method.weights.keys()
    for name, parts in one.method.weights.items():
        assert_same_tensors(parts, other.method.weights[name])
    assert same_memory(one.memory, other.memory)
    assert [sample.shard for sample in one.memory] == [sample.shard for sample in other.memory]
    for ours, others in ((one.scores, other.scores), (one.initial, other.initial), (one.errors, other.errors)):
        assert ours.keys() == others.keys()
        for split in ours:
            np.testing.assert_array_equal(ours[split], others[split])
            assert ours[split].dtype == np.float64
    for entry, expected in zip(one.history, other.history, strict=True):
        assert replace(entry, heads=None) == replace(expected, heads=None)
        assert (entry.heads is None) == (expected.heads is None)
        if entry.heads is not None and expected.heads is not None:
            assert_same_tensors(entry.heads.scores, expected.heads.scores)
            assert_same_tensors(entry.heads.total, expected.heads.total)
            assert entry.selected == expected.selected


def keeper_of(directory: Path, kept: int = 2) -> CheckpointKeeper:
    return CheckpointKeeper(directory, SingleProcess(), kept)


def restored(directory: Path, net: nn.Module | None = None) -> Restored | None:
    """What a new launch finds."""
    return keeper_of(directory).restore_stage(parameters_of(net or Net(99)))


def checkpoints_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("task-*"))


def _memory(generator: torch.Generator) -> ReplayMemory:
    queries, no_queries = torch.tensor([-6, -2, -1]), torch.empty(0, dtype=torch.long)
    heads = {0: (1, 3), 1: (2,)}

    def logits() -> Kept:
        return Kept(torch.randn(2, 9, generator=generator))

    def rows() -> Kept:
        return Kept(torch.rand(3, 12, generator=generator).half())

    def compact() -> TeacherSignals:
        values, places = torch.rand(1, 3, 2, generator=generator).half(), torch.tensor([[[0, 1], [4, 2], [5, 0]]])
        return TeacherSignals(
            Kept(torch.randn(2, 3, generator=generator).half(), torch.ones(2, 3).int()),
            Kept(values, places.short()),
        )

    ids = torch.arange(6)
    return ReplayMemory(
        (
            ReplaySample(0, 7, ids + 7, 2, queries, heads, 0, TeacherSignals(logits(), rows())),
            ReplaySample(0, 2, ids + 2, 2, no_queries, {}, 1, TeacherSignals(logits(), None)),
            ReplaySample(1, 5, ids + 5, 1, queries, heads, 5, TeacherSignals(None, rows())),
            ReplaySample(1, 0, ids, 2, no_queries, {}, 2, None),
            ReplaySample(1, 1, ids + 1, 2, queries, heads, 3, TeacherSignals(logits(), rows())),
            ReplaySample(1, 3, ids + 1, 2, queries, {1: (0,)}, 3, compact()),
        )
    )


def _head_scores(generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {name: torch.rand(2, 4, generator=generator) for name in ("sensitivity", "forgettability", "importance")}
