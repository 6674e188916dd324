"""Forms in which teacher signals are kept: what comes back, and how far a loss can move by it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from seekr_tune.methods import storage
from seekr_tune.methods.losses import row_divergence, soft_cross_entropy
from seekr_tune.methods.memory import ReplaySample, TeacherSignals
from seekr_tune.methods.storage import (
    Form,
    keep_logits,
    keep_rows,
    pack_rows,
    restore_logits,
    unpack_rows,
    visible_keys,
)
from seekr_tune.methods.targets import teacher_batch

HALF = 2.0**-11
"""Rounding of a float16, relative."""
TINY = 2.0**-25
"""Rounding of a float16 below its normal numbers, absolute."""


def attention(heads: int, queries: Tensor, length: int, sharpness: float, seed: int = 0) -> Tensor:
    """Causal attention of random scores, `[heads, queries, length]`."""
    scores = sharpness * torch.randn(heads, len(queries), length, generator=torch.Generator().manual_seed(seed))
    hidden = torch.arange(length) > (queries + length)[:, None]
    return scores.masked_fill(hidden, -torch.inf).softmax(dim=-1)


def sample(rows: Tensor, queries: Tensor, form: Form) -> ReplaySample:
    length = rows.shape[-1]
    kept = keep_rows(pack_rows(rows, queries), queries, length, form)
    signals = TeacherSignals(None, kept)
    return ReplaySample(0, 0, torch.arange(length), 1, queries, {0: tuple(range(len(rows)))}, 0, signals)


def restored(samples: list[ReplaySample], padded_length: int) -> Tensor:
    return teacher_batch(samples, padded_length, logits=False).rows()[0].probabilities


@given(length=st.integers(1, 12), seed=st.integers(0, 99), data=st.data())
def test_packing_leaves_out_only_what_no_query_sees(length: int, seed: int, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(-length, -1), min_size=1, max_size=5))
    queries = torch.tensor(sorted(chosen))
    rows = attention(3, queries, length, 2.0, seed)
    packed = pack_rows(rows, queries)
    assert packed.shape == (3, sum(length + query + 1 for query in chosen))
    assert torch.equal(packed[1], torch.cat([row[: length + q + 1] for row, q in zip(rows[1], queries, strict=True)]))
    assert torch.equal(unpack_rows(packed, queries, length), rows)


@pytest.mark.parametrize("form", ["exact", "half", "compact"])
def test_a_batch_holds_each_sample_s_rows_at_its_right_and_nothing_elsewhere(form: Form) -> None:
    queries = [torch.tensor([-6, -4, -1]), torch.tensor([-2]), torch.tensor([-9, -8])]
    rows = [
        attention(heads, own, length, 2.0) for heads, own, length in zip((2, 1, 3), queries, (7, 4, 9), strict=True)
    ]
    found = restored([sample(own, q, form) for own, q in zip(rows, queries, strict=True)], 11)
    assert found.shape == (6, 3, 11)
    expected = torch.zeros(6, 3, 11)
    for pair, own in zip((slice(0, 2), slice(2, 3), slice(3, 6)), rows, strict=True):
        expected[pair, : own.shape[1], 11 - own.shape[2] :] = own
    assert_close(found, expected, rtol=0 if form == "exact" else 2 * HALF, atol=0 if form == "exact" else 2e-4)
    assert not found[expected == 0].any()


def test_exact_rows_come_back_bit_for_bit_and_half_rows_in_half_the_bytes() -> None:
    queries = torch.tensor([-20, -3])
    rows = attention(4, queries, 32, 3.0)
    exact, half = sample(rows, queries, "exact"), sample(rows, queries, "half")
    assert torch.equal(restored([exact], 32), rows)
    assert_close(restored([half], 32), rows, rtol=HALF, atol=TINY)
    sizes = [sum(t.nbytes for t in one.teacher.tensors().values()) for one in (exact, half) if one.teacher]
    assert sizes == [4 * 4 * (13 + 30), 2 * 4 * (13 + 30)]


@settings(deadline=None)
@given(
    length=st.integers(50, 200), sharpness=st.floats(0.0, 12.0), seed=st.integers(0, 999), largest=st.integers(1, 48)
)
def test_the_compact_form_moves_the_gradient_of_a_row_by_twice_its_unnamed_mass_at_most(
    length: int, sharpness: float, seed: int, largest: int
) -> None:
    queries = torch.tensor([-length, 1 - length // 2, -1])
    rows = attention(2, queries, length, sharpness, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "LARGEST_KEYS", largest)
        kept = restored([sample(rows, queries, "compact")], length)
    unnamed = rows.sort(dim=-1, descending=True).values[..., largest:].sum(dim=-1)
    rounding = HALF * rows.sum(dim=-1) + length * TINY
    assert torch.all((kept - rows).abs().sum(dim=-1) <= 2 * unnamed + 4 * rounding)
    assert_close(kept.sum(dim=-1), torch.ones(2, 3), rtol=0, atol=4 * HALF)
    seen = visible_keys(queries, length)
    scores = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(seed + 1))
    scores = scores.masked_fill(torch.arange(length) >= seen[:, None], torch.finfo(torch.float32).min)
    gradients = []
    for teacher in (rows, kept):
        leaf = scores.clone().requires_grad_(True)
        row_divergence(leaf.log_softmax(dim=-1), teacher, 0.0).sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    assert torch.all((gradients[1] - gradients[0]).abs().sum(dim=-1) <= 4 * unnamed + 8 * rounding)


@settings(deadline=None)
@given(vocabulary=st.integers(300, 900), sharpness=st.floats(0.0, 12.0), seed=st.integers(0, 999))
def test_compact_logits_move_the_loss_by_no_more_than_their_unnamed_mass_allows(
    vocabulary: int, sharpness: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher = sharpness * torch.randn(3, vocabulary, generator=generator)
    student = torch.randn(3, vocabulary, generator=generator)
    kept = keep_logits(teacher, "compact")
    found = restore_logits(kept.values, kept.places, vocabulary)
    chances = teacher.softmax(dim=-1)
    unnamed = chances.sort(dim=-1, descending=True).values[:, storage.LARGEST_TOKENS :].sum(dim=-1)
    # log-probabilities down to -64 are rounded by 2^-6 at most, and what is rare counts little
    rounding = HALF * (chances * (1 - chances.log().clamp_min(-64))).sum(dim=-1)
    distance = (found.softmax(dim=-1) - chances).abs().sum(dim=-1)
    assert torch.all(distance <= 2 * unnamed + 4 * rounding + 1e-4)
    span = float(student.log_softmax(dim=-1).abs().max())
    moved = soft_cross_entropy(student, found) - soft_cross_entropy(student, teacher)
    assert abs(float(moved)) <= span * float(distance.sum()) + 1e-3


def test_logits_in_bfloat16_are_kept_as_they_are() -> None:
    logits = torch.randn(4, 33).bfloat16()
    forms: tuple[Form, ...] = ("exact", "half")
    for form in forms:
        kept = keep_logits(logits, form)
        assert torch.equal(kept.values, logits) and kept.values.data_ptr() != logits.data_ptr()
        assert torch.equal(restore_logits(kept.values, None, 33), logits.float())


def test_a_vocabulary_that_is_named_whole_loses_nothing_but_rounding() -> None:
    logits = torch.randn(4, 33)
    kept = keep_logits(logits, "compact")
    assert_close(restore_logits(kept.values, kept.places, 33).softmax(-1), logits.softmax(-1), rtol=5e-3, atol=1e-4)
