from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seekr_tune.loop.sharing import by_length, share_of

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=40)


def padded_tokens(lengths: list[int], micro: int) -> int:
    """What micro-batches in this order take, each padded to its longest sample."""
    parts = [lengths[start : start + micro] for start in range(0, len(lengths), micro)]
    return sum(max(part) * len(part) for part in parts)


@given(LENGTHS, st.integers(1, 5))
def test_every_sample_of_a_batch_is_learned_once(lengths: list[int], world_size: int) -> None:
    assert sorted(by_length(lengths, world_size)) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 5))
def test_each_rank_goes_from_long_to_short(lengths: list[int], world_size: int) -> None:
    order = by_length(lengths, world_size)
    for rank in range(world_size):
        share = [lengths[order[place]] for place in share_of(len(lengths), rank, world_size)]
        assert share == sorted(share, reverse=True)


@given(LENGTHS, st.integers(1, 4))
def test_no_order_takes_less_padding_where_all_micro_batches_are_full(lengths: list[int], micro: int) -> None:
    lengths = lengths * micro
    ordered = padded_tokens([lengths[i] for i in by_length(lengths, 1)], micro)
    assert ordered <= padded_tokens(lengths, micro)


def test_ranks_get_samples_of_like_lengths() -> None:
    lengths = [10, 80, 20, 70, 30, 60, 40, 50]
    order = by_length(lengths, 2)
    assert [lengths[i] for i in order] == [80, 60, 40, 20, 70, 50, 30, 10]


def test_equal_lengths_stay_in_their_order() -> None:
    assert by_length([7, 7, 7, 7], 1) == [0, 1, 2, 3]
