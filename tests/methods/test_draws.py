"""Draws depend on what they are for, and on nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seekr_tune.methods.draws import Draws, FixedDraws, SeededDraws, draws_of
from seekr_tune.methods.semantics import CORRECTED, OFFICIAL

BOTH = pytest.mark.parametrize("draws", [SeededDraws(5), FixedDraws(5)], ids=["seeded", "fixed"])
sizes = st.integers(min_value=1, max_value=60)


@BOTH
def test_the_same_key_gives_the_same_draw_whatever_was_drawn_before(draws: Draws) -> None:
    first = draws.epoch_order("a", 1, 30), draws.replay_order("a", 1, 30), draws.query_rows("a", 4, 30, 7).tolist()
    torch.manual_seed(99)
    draws.memory_samples("b", 30, 9)
    draws.head_scores("b", 2, 4)
    again = draws.epoch_order("a", 1, 30), draws.replay_order("a", 1, 30), draws.query_rows("a", 4, 30, 7).tolist()
    assert first == again


def test_draws_are_the_same_in_every_process_and_version() -> None:
    """Pinned: `hash()` would differ from process to process, and a resumed run must draw what it drew before."""
    draws = SeededDraws(5)
    assert draws.epoch_order("star", 2, 8) == [1, 5, 7, 0, 6, 4, 2, 3]
    assert draws.memory_samples("star", 8, 8) == [7, 0, 4, 1, 5, 6, 2, 3]
    assert draws.query_rows("star", 0, 9, 4).tolist() == [-9, -7, -3, -1]
    assert draws.torch_seed("star", 3, 1) == 5599181406267673890


@BOTH
def test_drawing_leaves_the_global_random_state_alone(draws: Draws) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    draws.query_rows("a", 0, 9, 4)
    draws.head_scores("a", 2, 4)
    draws.torch_seed("a", 0, 0)
    assert torch.equal(torch.rand(3), expected)


@BOTH
def test_another_seed_task_or_purpose_gives_another_draw(draws: FixedDraws) -> None:
    order = draws.epoch_order("a", 0, 50)
    others = [
        type(draws)(6).epoch_order("a", 0, 50),
        draws.epoch_order("b", 0, 50),
        draws.replay_order("a", 0, 50),
    ]
    assert order not in others
    assert not torch.equal(draws.query_rows("a", 0, 50, 9), draws.query_rows("a", 1, 50, 9))
    assert not torch.equal(draws.head_scores("a", 3, 4), draws.head_scores("b", 3, 4))


def test_epochs_are_reshuffled_in_seeded_draws_and_equal_in_fixed_draws() -> None:
    seeded, fixed = SeededDraws(5), FixedDraws(5)
    assert seeded.epoch_order("a", 0, 30) != seeded.epoch_order("a", 1, 30)
    assert seeded.replay_order("a", 0, 30) != seeded.replay_order("a", 1, 30)
    assert fixed.epoch_order("a", 0, 30) == fixed.epoch_order("a", 1, 30)
    assert fixed.replay_order("a", 0, 30) == fixed.replay_order("a", 1, 30)


@BOTH
@given(size=sizes, epoch=st.integers(0, 5))
def test_every_order_holds_each_sample_once(draws: Draws, size: int, epoch: int) -> None:
    assert sorted(draws.epoch_order("a", epoch, size)) == list(range(size))
    assert sorted(draws.replay_order("a", epoch, size)) == list(range(size))


@BOTH
@given(size=sizes, counts=st.tuples(sizes, sizes))
def test_a_smaller_memory_is_a_prefix_of_a_larger_one(draws: Draws, size: int, counts: tuple[int, int]) -> None:
    small, large = sorted(min(count, size) for count in counts)
    larger = draws.memory_samples("a", size, large)
    assert draws.memory_samples("a", size, small) == larger[:small]
    assert len(set(larger)) == large
    assert set(larger) <= set(range(size))


def test_seeded_memory_is_a_random_choice_and_fixed_memory_the_first_rows() -> None:
    assert FixedDraws(5).memory_samples("a", 40, 6) == [0, 1, 2, 3, 4, 5]
    chosen = SeededDraws(5).memory_samples("a", 40, 6)
    assert chosen != SeededDraws(6).memory_samples("a", 40, 6)
    # each of 10 rows is among 3 chosen ones in 3 of 10 seeds: 600 +- 20 of 2000
    counts = [0] * 10
    for seed in range(2000):
        for index in SeededDraws(seed).memory_samples("a", 10, 3):
            counts[index] += 1
    assert min(counts) > 500
    assert max(counts) < 700


@given(length=sizes, budget=st.none() | sizes)
def test_seeded_query_rows_are_distinct_ascending_positions_from_the_end(length: int, budget: int | None) -> None:
    rows = SeededDraws(5).query_rows("a", 3, length, budget).tolist()
    assert len(rows) == (length if budget is None else min(length, budget))
    assert rows == sorted(set(rows))
    assert all(-length <= row <= -1 for row in rows)


@BOTH
@given(length=sizes)
def test_without_a_budget_all_query_rows_are_taken(draws: Draws, length: int) -> None:
    assert draws.query_rows("a", 0, length, None).tolist() == list(range(-length, 0))
    assert draws.query_rows("a", 0, length, length).tolist() == list(range(-length, 0))


@given(length=sizes, budget=sizes)
def test_fixed_query_rows_repeat_where_the_sample_is_shorter_than_the_budget(length: int, budget: int) -> None:
    rows = FixedDraws(5).query_rows("a", 3, length, budget).tolist()
    assert len(rows) == budget
    assert rows == sorted(rows)
    assert all(-length <= row <= -1 for row in rows)
    assert (len(set(rows)) < budget) if budget > length else (len(set(rows)) == budget)


@BOTH
def test_query_rows_are_integers_that_can_index(draws: Draws) -> None:
    for budget in (None, 3, 90):
        assert draws.query_rows("a", 0, 20, budget).dtype == torch.int64


@BOTH
def test_head_scores_have_the_shape_of_the_model_and_lie_in_the_unit_interval(draws: Draws) -> None:
    scores = draws.head_scores("a", 3, 5)
    assert scores.shape == (3, 5)
    assert scores.dtype == torch.float32
    assert bool(((scores >= 0) & (scores < 1)).all())
    assert len(scores.unique()) == 15


def test_only_dropout_depends_on_the_rank_and_on_the_step() -> None:
    draws = SeededDraws(5)
    seeds = [draws.torch_seed("a", step, rank) for step in range(2) for rank in range(2)]
    assert len(set(seeds)) == 4
    assert draws.torch_seed("a", 1, 1) == SeededDraws(5).torch_seed("a", 1, 1)
    torch.Generator().manual_seed(draws.torch_seed("a", 0, 0))  # in the range that torch takes


def test_each_reading_of_the_method_has_its_draws() -> None:
    assert draws_of(OFFICIAL, 1) == FixedDraws(1)
    assert draws_of(CORRECTED, 1) == SeededDraws(1)


def test_memory_draws_of_a_seed_differ_in_the_stored_samples_only() -> None:
    first, second = SeededDraws(3), SeededDraws(3, memory_draw=1)
    assert SeededDraws(3, memory_draw=0) == first
    assert first.memory_samples("task", 50, 5) != second.memory_samples("task", 50, 5)
    assert first.epoch_order("task", 0, 50) == second.epoch_order("task", 0, 50)
    assert first.replay_order("task", 0, 50) == second.replay_order("task", 0, 50)
    assert torch.equal(first.query_rows("task", 1, 20, 5), second.query_rows("task", 1, 20, 5))
    assert first.torch_seed("task", 0, 0) == second.torch_seed("task", 0, 0)


def test_each_memory_draw_is_nested() -> None:
    draws = SeededDraws(3, memory_draw=2)
    assert draws.memory_samples("task", 50, 5) == draws.memory_samples("task", 50, 9)[:5]


def test_the_release_knows_one_memory_only() -> None:
    assert draws_of(CORRECTED, 3, memory_draw=1) == SeededDraws(3, memory_draw=1)
    assert draws_of(OFFICIAL, 3, memory_draw=1) == FixedDraws(3)
