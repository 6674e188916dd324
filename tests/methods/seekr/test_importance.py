from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from seekr_tune.methods.losses import sample_cross_entropy
from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.reading import observe
from seekr_tune.methods.seekr import importance
from seekr_tune.methods.seekr.importance import (
    HeadScores,
    causal_gradient_energy,
    dense_gradient_energy,
    normalise_layers,
)
from seekr_tune.methods.semantics import CORRECTED, OFFICIAL, Semantics, positions_of_tokens, release_mask
from seekr_tune.methods.storage import visible_keys

from ..conftest import NUM_HEADS, NUM_LAYERS, UNEVEN, build_model, make_tokens


def _map_gradients(model: Any, tokens: Tokens, semantics: Semantics) -> tuple[Tensor, ...]:
    """dL/dA of every layer by autograd on an eager model: the map that we never build."""
    mask = release_mask(tokens.attention_mask) if semantics is OFFICIAL else tokens.attention_mask
    positions = None if semantics is OFFICIAL else positions_of_tokens(tokens.attention_mask)
    output = model(
        input_ids=tokens.input_ids,
        attention_mask=mask,
        position_ids=positions,
        output_attentions=True,
        use_cache=False,
    )
    loss = sample_cross_entropy(output.logits, tokens.labels).sum()
    return torch.autograd.grad(loss, output.attentions)


def _reachable(tokens: Tokens) -> Tensor:
    real = tokens.attention_mask.bool()
    length = real.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return real[:, :, None] & real[:, None, :] & causal


def test_corrected_energy_equals_autograd_at_the_attention_map(family: str, tokens: Tokens) -> None:
    if "sliding" in family:
        pytest.skip("the map's gradient outside the window is not defined by the corrected reading")
    tapped, eager = build_model(family, "seekr_tap"), build_model(family, "eager")
    seen = observe(tapped, tokens, [torch.tensor([-1])] * 3, CORRECTED, (NUM_LAYERS, NUM_HEADS))()
    lengths = torch.tensor(tokens.lengths)
    for layer, gradient in enumerate(_map_gradients(eager, tokens, CORRECTED)):
        squares = (gradient.square() * _reachable(tokens)[:, None]).sum(dim=(2, 3))
        expected = squares / (lengths * (lengths + 1) / 2)[:, None]
        assert_close(seen.energy[:, layer], expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("family", UNEVEN)
def test_energies_are_right_where_masks_and_widths_are_uneven(family: str) -> None:
    tapped, eager = build_model(family, "seekr_tap"), build_model(family, "eager")
    tokens = make_tokens([12, 7], [2, 3])
    shape = (tapped.config.num_hidden_layers, NUM_HEADS)
    seen = observe(tapped, tokens, [torch.tensor([-1])] * 2, CORRECTED, shape)()
    assert seen.energy.shape == (2, *shape)
    for sample, length in enumerate(tokens.lengths):
        alone = make_tokens([length], [1])
        ids, labels = tokens.input_ids[sample, None, -length:], tokens.labels[sample, None, -length:]
        single = Tokens(ids, alone.attention_mask, labels)
        for layer, gradient in enumerate(_map_gradients(eager, single, CORRECTED)):
            expected = gradient[0].tril().square().sum(dim=(1, 2)) / (length * (length + 1) / 2)
            assert_close(seen.energy[sample, layer], expected, rtol=1e-3, atol=1e-7)


def test_official_energy_counts_masked_entries_too(tokens: Tokens) -> None:
    tapped, eager = build_model("llama", "seekr_tap"), build_model("llama", "eager")
    seen = observe(tapped, tokens, [torch.tensor([-1])] * 3, OFFICIAL, (NUM_LAYERS, NUM_HEADS))()
    for layer, gradient in enumerate(_map_gradients(eager, tokens, OFFICIAL)):
        assert_close(seen.energy[:, layer], gradient.square().mean(dim=(2, 3)), rtol=1e-3, atol=1e-7)


def test_corrected_energy_does_not_depend_on_padding() -> None:
    model = build_model("llama", "seekr_tap")
    alone, padded = make_tokens([7], [2]), make_tokens([7, 12], [2, 1])
    ids, labels = padded.input_ids.clone(), padded.labels.clone()
    ids[0, -7:], labels[0, -7:] = alone.input_ids[0], alone.labels[0]
    longer = Tokens(ids[:1], padded.attention_mask[:1], labels[:1])
    shape = (NUM_LAYERS, NUM_HEADS)
    energies = [observe(model, t, [torch.tensor([-1])], CORRECTED, shape)().energy for t in (alone, longer)]
    assert_close(energies[0], energies[1], rtol=1e-4, atol=1e-8)


@settings(deadline=None, max_examples=30)
@given(
    length=st.integers(1, 40), real=st.integers(1, 40), kv_heads=st.sampled_from([1, 2, 4]), block=st.integers(1, 17)
)
def test_both_energies_equal_the_map_for_any_length_padding_grouping_and_block(
    length: int, real: int, kv_heads: int, block: int
) -> None:
    generator = torch.Generator().manual_seed(length * 100 + real)
    gradient = torch.randn(1, length, 4, 3, generator=generator)
    value = torch.randn(1, kv_heads, length, 3, generator=generator)
    mask = (torch.arange(length) >= length - min(real, length)).long()[None]
    full = gradient.transpose(1, 2) @ value.repeat_interleave(4 // kv_heads, dim=1).transpose(2, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importance, "QUERY_BLOCK", block)
        causal = causal_gradient_energy(gradient, value, mask)
    allowed = mask[:, :, None] * mask[:, None, :] * torch.ones(length, length).tril()
    assert_close(dense_gradient_energy(gradient, value), full.square().sum(dim=(2, 3)), rtol=1e-4, atol=1e-4)
    assert_close(causal, (full.square() * allowed[:, None]).sum(dim=(2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("semantics", [CORRECTED, OFFICIAL], ids=lambda s: s.name)
def test_a_batch_gives_what_its_samples_give_one_by_one(semantics: Semantics, tokens: Tokens) -> None:
    model = build_model("llama", "seekr_tap")
    shape = (NUM_LAYERS, NUM_HEADS)
    queries = [torch.tensor([-4, -1]), torch.tensor([-7, -2]), torch.tensor([-3])]
    together = observe(model, tokens, queries, semantics, shape)()
    single = [
        observe(
            model,
            Tokens(tokens.input_ids[i, None], tokens.attention_mask[i, None], tokens.labels[i, None]),
            [queries[i]],
            semantics,
            shape,
        )()
        for i in range(3)
    ]
    assert_close(together.energy, torch.cat([s.energy for s in single]), rtol=1e-4, atol=1e-8)
    for i in range(3):
        assert_close(together.rows[i], single[i].rows[0], rtol=1e-4, atol=1e-5)
        assert_close(together.logits[i], single[i].logits[0], rtol=1e-4, atol=1e-4)
        visible = int(visible_keys(queries[i], tokens.lengths[i]).sum())
        assert together.rows[i].shape == (NUM_LAYERS, NUM_HEADS, visible)


def test_only_the_official_pass_leaves_gradients_behind(tokens: Tokens) -> None:
    for semantics, leaves in ((CORRECTED, False), (OFFICIAL, True)):
        model = build_model("llama", "seekr_tap")
        observe(model, tokens, [torch.tensor([-1])] * 3, semantics, (NUM_LAYERS, NUM_HEADS))()
        assert any(parameter.grad is not None for parameter in model.parameters()) == leaves


def test_a_frozen_model_still_has_a_sensitivity(tokens: Tokens) -> None:
    model, frozen = build_model("llama", "seekr_tap"), build_model("llama", "seekr_tap").requires_grad_(False)
    queries, shape = [torch.tensor([-1])] * 3, (NUM_LAYERS, NUM_HEADS)
    expected = observe(model, tokens, queries, CORRECTED, shape)().energy
    assert_close(observe(frozen, tokens, queries, CORRECTED, shape)().energy, expected, rtol=1e-5, atol=0)


def test_layers_are_normalised_to_one_and_a_layer_without_gradient_stays_zero() -> None:
    normal = normalise_layers(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    assert torch.equal(normal, torch.tensor([[0.25, 0.75], [0.0, 0.0]]))


def test_importance_sums_products_rather_than_multiplying_sums() -> None:
    first = HeadScores.of_task(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]]))
    second = HeadScores.of_task(torch.tensor([[0.0, 1.0]]), torch.tensor([[7.0, 0.0]]))
    assert torch.equal((first + second).importance, torch.zeros(1, 2))


def test_forgettability_official_counts_padding_and_corrected_counts_visible_keys() -> None:
    squared = torch.tensor([1.0, 1.0, 4.0, 4.0, 4.0, 4.0])  # query -3 sees 2 of the 4 keys, query -1 sees all 4
    queries = torch.tensor([-3, -1])
    official = squared @ OFFICIAL.change_weights(queries, 4, 8, 2)
    corrected = squared @ CORRECTED.change_weights(queries, 4, 8, 2)
    assert official.item() == pytest.approx((2 * 1 + 4 * 4) / (2 * 8))
    assert corrected.item() == pytest.approx((2 / 2 + 16 / 4) / 2)
