from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from seekr_tune.methods.losses import (
    answer_cross_entropy,
    attention_distillation,
    label_rows,
    row_divergence,
    sample_cross_entropy,
    soft_cross_entropy,
)
from seekr_tune.methods.memory import ReplaySample, TeacherSignals
from seekr_tune.methods.passes import count_rows
from seekr_tune.methods.semantics import CORRECTED, OFFICIAL
from seekr_tune.methods.storage import Kept, pack_rows
from seekr_tune.methods.targets import teacher_batch

LABELS = torch.tensor([[-100, -100, -100, 3, 2], [-100, -100, 1, 4, 2]])


def _logits(positions: int = 5) -> torch.Tensor:
    return torch.randn(2, positions, 6, generator=torch.Generator().manual_seed(0))


def test_cross_entropy_is_the_sum_over_predicted_label_tokens() -> None:
    logits = _logits()
    log = logits.log_softmax(-1)
    expected = -(log[0, 2, 3] + log[0, 3, 2] + log[1, 1, 1] + log[1, 2, 4] + log[1, 3, 2])
    assert_close(answer_cross_entropy(logits, LABELS), expected)


def test_cross_entropy_of_the_last_positions_is_that_of_all_positions() -> None:
    logits = _logits()
    assert_close(answer_cross_entropy(logits[:, -4:], LABELS), answer_cross_entropy(logits, LABELS))


def test_each_sample_is_averaged_over_its_own_tokens() -> None:
    logits = _logits()
    log = logits.log_softmax(-1)
    expected = [-(log[0, 2, 3] + log[0, 3, 2]) / 2, -(log[1, 1, 1] + log[1, 2, 4] + log[1, 3, 2]) / 3]
    assert_close(sample_cross_entropy(logits[:, -4:], LABELS), torch.stack(expected))


def test_official_rows_are_at_the_label_tokens_and_corrected_rows_predict_them() -> None:
    logits = _logits()
    official = torch.stack([logits[0, 3], logits[0, 4], logits[1, 2], logits[1, 3], logits[1, 4]])
    corrected = torch.stack([logits[0, 2], logits[0, 3], logits[1, 1], logits[1, 2], logits[1, 3]])
    assert torch.equal(label_rows(logits, LABELS, OFFICIAL.logit_shift), official)
    assert torch.equal(label_rows(logits, LABELS, CORRECTED.logit_shift), corrected)
    assert torch.equal(label_rows(logits[:, -4:], LABELS, CORRECTED.logit_shift), corrected)


def test_soft_cross_entropy_of_a_model_with_itself_is_its_entropy() -> None:
    logits = _logits()[0]
    entropy = torch.distributions.Categorical(logits=logits).entropy().sum()
    assert_close(soft_cross_entropy(logits, logits), entropy)


def test_the_divergence_of_a_row_with_itself_is_zero_and_by_hand_otherwise() -> None:
    teacher = torch.tensor([0.5, 0.5, 0.0])
    student = torch.tensor([0.25, 0.25, 0.5])
    assert row_divergence(teacher.log(), teacher, 0.0).nan_to_num().item() == pytest.approx(0.0, abs=1e-7)
    assert row_divergence(student.log(), teacher, 0.0).item() == pytest.approx(math.log(2))
    assert row_divergence(student.log(), teacher, 1e-8).item() == pytest.approx(math.log(2), abs=1e-6)


def _sample(heads: dict[int, tuple[int, ...]], queries: int, length: int = 6) -> ReplaySample:
    positions = torch.arange(-queries, 0)
    rows = torch.rand(sum(map(len, heads.values())), queries, length)
    visible = torch.ones(queries, length).tril(length - queries)
    kept = Kept(pack_rows(rows.masked_fill(visible == 0, -1e9).softmax(-1), positions))
    teacher = TeacherSignals(Kept(torch.zeros(1, 6)), kept)
    return ReplaySample(0, 0, torch.arange(length), 1, positions, heads, teacher=teacher)


def test_corrected_weights_count_every_selected_row_once() -> None:
    samples = [_sample({0: (1, 2), 1: (0,)}, 3), _sample({1: (3,)}, 2)]
    targets = teacher_batch(samples, 8).rows()
    step_rows = count_rows(samples)
    assert step_rows == 2 * 3 + 1 * 3 + 1 * 2
    weights = CORRECTED.row_weights(targets, 2, step_rows)
    assert sum(float(w.sum()) for w in weights.values()) == pytest.approx(1.0)
    nonzero = torch.cat([w[w > 0] for w in weights.values()])
    assert_close(nonzero, torch.full((step_rows,), 1 / step_rows))


def test_official_weights_divide_by_the_batch_even_where_a_layer_is_selected_for_some_rows_only() -> None:
    samples = [_sample({0: (1, 2), 1: (0,)}, 3), _sample({1: (3,)}, 3)]
    weights = OFFICIAL.row_weights(teacher_batch(samples, 8).rows(), 2, 0)
    assert float(weights[0].sum()) == pytest.approx(0.5 / 2)  # one of two samples, one of two layers
    assert float(weights[1].sum()) == pytest.approx(1.0 / 2)
    assert_close(weights[0], torch.full((2, 3), 1 / (2 * 2 * 2 * 3)))


def test_attention_distillation_of_identical_rows_is_zero_in_the_corrected_reading() -> None:
    samples = [_sample({0: (1, 2)}, 3), _sample({2: (3,)}, 2, length=4)]
    targets = teacher_batch(samples, 8).rows()
    teachers = {layer: target.probabilities for layer, target in targets.items()}
    divergences = {layer: row_divergence(own.clamp_min(1e-30).log(), own, 0.0) for layer, own in teachers.items()}
    weights = CORRECTED.row_weights(targets, 2, count_rows(samples))
    assert attention_distillation(divergences, weights).item() == pytest.approx(0.0, abs=1e-6)


def test_attention_distillation_weighs_each_row_and_adds_up_layers() -> None:
    divergences = {0: torch.tensor([[1.0, 2.0]]), 3: torch.tensor([[4.0, 8.0], [16.0, 32.0]])}
    weights = {0: torch.tensor([[0.5, 0.0]]), 3: torch.tensor([[1.0, 0.25], [0.0, 2.0]])}
    assert attention_distillation(divergences, weights).item() == 0.5 + 4.0 + 2.0 + 64.0
