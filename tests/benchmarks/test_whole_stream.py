"""The sides of the whole stream learn the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from benchmarks.gpu.compare import Side
from benchmarks.whole_stream import Setup, figures_of, num_tokens, set_up, sides_of

SMALL = (
    "stream.tasks=[star, last]",
    "stream.metrics={}",
    "stream.limits.train=32",
    "recipe.epochs=1",
    "recipe.pad_to_multiple_of=1",
    "method.memory.percent=10",
    "evaluation.splits=[]",
)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return set_up(hidden=16, layers=1, settings=SMALL)


def learned(setup: Setup, side: str) -> Tensor:
    """All weights after the stream."""
    setup.prepare(side)
    sides_of(setup)[side](0)
    return torch.nn.utils.parameters_to_vector(setup.loaded.model.parameters()).detach().clone()


@pytest.mark.parametrize(
    ("side", "method"), [("seqft by hand", "seqft"), ("seqft by Trainer", "seqft"), ("replay by hand", "replay")]
)
def test_every_side_ends_with_the_same_weights(setup: Setup, side: str, method: str) -> None:
    # AdamW divides by the root of a gradient's square: where a gradient is almost 0, its rounding decides.
    assert_close(learned(setup, side), learned(setup, method), rtol=0, atol=1e-4)


def test_replay_learns_other_weights_than_none(setup: Setup) -> None:
    assert (learned(setup, "replay") - learned(setup, "seqft")).abs().max() > 1e-3


def test_a_plan_presents_every_sample_and_replays_old_ones(setup: Setup) -> None:
    first, second = setup.plans["replay"]
    assert sorted(pair for batch in first for pair in batch) == [(0, i) for i in range(32)]
    old = [pair for batch in second for pair in batch if pair[0] == 0]
    assert len(old) == 3 and len({pair for batch in second for pair in batch}) == 35
    assert num_tokens(setup, "replay") > num_tokens(setup, "seqft")


def test_a_faster_side_has_a_ratio_above_one() -> None:
    names = ("seqft", "seqft by hand", "seqft by Trainer", "replay", "replay by hand", "seekr")
    sides = {name: Side((2.0 if "by" in name else 1.0,), 0, 0) for name in names}
    figures = {(one.name, one.against): one for one in figures_of(sides, {"seqft": 10, "replay": 30, "seekr": 30})}
    assert figures["whole stream, replay", ""].value == 30
    assert figures["speed of a whole stream, seqft", "by hand"].value == 2.0
    assert not figures["speed of a whole stream, seqft", "by Trainer"].misses
