from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AttentionInterface

from seekr_tune.methods.passes import Tokens, answer_logits
from seekr_tune.methods.seekr.attention import (
    AttentionTap,
    RowRequest,
    _with_indices,
    all_heads_request,
    recompute_activations,
)
from seekr_tune.methods.semantics import CORRECTED, positions_of_tokens

from ..conftest import NUM_HEADS, NUM_LAYERS, UNEVEN, build_model, make_tokens

Models = Callable[[str], tuple[Any, Any]]
REQUEST = RowRequest(
    samples=torch.tensor([0, 0, 1, 2]),
    heads=torch.tensor([0, 3, 1, 2]),
    queries=torch.tensor([[3, 11], [3, 11], [6, 11], [4, 10]]),
)


def _inputs(tokens: Tokens) -> dict[str, Any]:
    return {
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
        "position_ids": positions_of_tokens(tokens.attention_mask),
        "use_cache": False,
    }


def _rows_of_maps(maps: tuple[Tensor, ...], layer: int, request: RowRequest) -> Tensor:
    return maps[layer][request.samples[:, None], request.heads[:, None], request.queries]


def test_rows_and_logits_equal_eager_attention(tapped_and_eager: Models, family: str, tokens: Tokens) -> None:
    tapped, eager = tapped_and_eager(family)
    tap = AttentionTap(rows={0: REQUEST, 2: REQUEST})
    logits = tapped(**_inputs(tokens), attention_tap=tap).logits
    expected = eager(**_inputs(tokens), output_attentions=True)
    for layer in (0, 2):
        assert_close(tap.rows[layer].exp(), _rows_of_maps(expected.attentions, layer, REQUEST), rtol=1e-4, atol=1e-5)
    real = tokens.attention_mask.bool()
    assert_close(logits[real], expected.logits[real], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", UNEVEN)
@pytest.mark.parametrize("lengths", [[12, 12], [12, 7]], ids=["unpadded", "padded"])
def test_rows_and_answers_are_right_where_masks_and_widths_are_uneven(family: str, lengths: list[int]) -> None:
    tapped, eager = build_model(family, "seekr_tap"), build_model(family, "eager")
    tokens = make_tokens(lengths, [2, 3])
    layers = range(tapped.config.num_hidden_layers)
    request = all_heads_request(NUM_HEADS, torch.tensor([[6, 11], [6, 11]]))
    tap = AttentionTap(rows=dict.fromkeys(layers, request))
    logits = answer_logits(tapped, tokens, CORRECTED, tap)
    for sample, length in enumerate(lengths):  # alone, without padding, with a cache
        expected = eager(input_ids=tokens.input_ids[sample, None, -length:], output_attentions=True)
        assert_close(logits[sample], expected.logits[0, -4:], rtol=1e-4, atol=1e-4)
        for layer in layers:
            own = tap.rows[layer].view(2, NUM_HEADS, 2, 12)[sample, ..., -length:].exp()
            maps = expected.attentions[layer][0][:, torch.tensor([6, 11]) - (12 - length)]
            assert_close(own, maps, rtol=1e-4, atol=1e-5)


def test_keys_that_no_indexer_chose_are_not_seen() -> None:
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    indices = torch.tensor([[[0, 3], [1, 2], [0, 2], [3, 1]]])
    chosen = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]], dtype=torch.bool)
    assert torch.equal(_with_indices(mask, indices, 4)[0, 0], chosen)
    lowest = torch.finfo(torch.float32).min
    additive = torch.zeros(1, 1, 4, 4).masked_fill(~mask, lowest)
    assert torch.equal(_with_indices(additive, indices, 4)[0, 0] == 0, chosen)


def test_what_a_layer_passes_and_the_tap_does_not_know_is_refused() -> None:
    states = torch.randn(1, 4, 3, 8)
    call = AttentionInterface()["seekr_tap"]
    expected, _ = call(torch.nn.Module(), states, states, states, None, s_aux=None, sliding_window=5)
    assert expected.shape == (1, 3, 4, 8)
    with pytest.raises(TypeError, match="its attention layers pass s_aux, softcap, which the tap does not know"):
        call(torch.nn.Module(), states, states, states, None, s_aux=torch.zeros(4), softcap=5.0)


def test_gradients_through_the_rows_equal_eager_attention(
    tapped_and_eager: Models, family: str, tokens: Tokens
) -> None:
    tapped, eager = tapped_and_eager(family)
    weight = torch.rand(4, 2, 12, generator=torch.Generator().manual_seed(2))
    tap = AttentionTap(rows={1: REQUEST})
    logits = tapped(**_inputs(tokens), attention_tap=tap).logits
    ((tap.rows[1].exp() * weight).sum() + 0.0 * logits.sum()).backward()
    output = eager(**_inputs(tokens), output_attentions=True)
    ((_rows_of_maps(output.attentions, 1, REQUEST) * weight).sum() + 0.0 * output.logits.sum()).backward()
    compared = 0
    for (name, own), (_, theirs) in zip(tapped.named_parameters(), eager.named_parameters(), strict=True):
        if theirs.grad is not None and theirs.grad.abs().max() > 1e-6:
            assert own.grad is not None
            scale = float(theirs.grad.abs().max())
            assert_close(own.grad / scale, theirs.grad / scale, rtol=1e-3, atol=1e-4, msg=name)
            compared += 1
    assert compared >= 4


def test_an_unpadded_batch_comes_without_a_mask_and_stays_causal(tapped_and_eager: Models, family: str) -> None:
    tapped, eager = tapped_and_eager(family)
    tokens = make_tokens([8, 8], [1, 1])
    queries = torch.tensor([[0, 5], [2, 7]])
    request = all_heads_request(NUM_HEADS, queries)
    tap = AttentionTap(rows={0: request})
    tapped(input_ids=tokens.input_ids, attention_tap=tap, use_cache=False)
    maps = eager(input_ids=tokens.input_ids, output_attentions=True, use_cache=False).attentions
    assert_close(tap.rows[0].exp(), _rows_of_maps(maps, 0, request), rtol=1e-4, atol=1e-5)


def test_rows_do_not_depend_on_padding(family: str) -> None:
    model = build_model(family, "seekr_tap")
    alone, padded = make_tokens([7], [1]), make_tokens([7, 12], [1, 1])
    ids = padded.input_ids.clone()
    ids[0, -7:] = alone.input_ids[0]
    rows = []
    for tokens, length in ((alone, 7), (Tokens(ids, padded.attention_mask, padded.labels), 12)):
        request = RowRequest(torch.tensor([0]), torch.tensor([1]), torch.tensor([[length - 3, length - 1]]))
        tap = AttentionTap(rows={1: request})
        model(**_inputs(tokens), attention_tap=tap)
        rows.append(tap.rows[1].exp()[..., -7:])
    assert_close(rows[0], rows[1], rtol=1e-4, atol=1e-5)


def test_each_row_sums_to_one_over_keys_it_may_see(tokens: Tokens) -> None:
    tap = AttentionTap(rows={0: REQUEST})
    build_model("llama", "seekr_tap")(**_inputs(tokens), attention_tap=tap)
    probabilities = tap.rows[0].exp()
    assert_close(probabilities.sum(-1), torch.ones(4, 2))
    keys = torch.arange(12)
    future = keys > REQUEST.queries[..., None]
    pads = keys < (12 - torch.tensor([12, 12, 7, 9]))[:, None, None]
    assert not probabilities[future | pads].any()


def test_the_tap_leaves_the_model_as_it_was(tokens: Tokens) -> None:
    model = build_model("llama", "seekr_tap")
    plain = model(**_inputs(tokens)).logits
    tapped = model(**_inputs(tokens), attention_tap=AttentionTap(rows={0: REQUEST}, capture=range(NUM_LAYERS))).logits
    assert torch.equal(plain, tapped)
    assert torch.equal(plain, model(**_inputs(tokens)).logits)


def test_non_reentrant_checkpointing_keeps_the_gradient_of_the_rows(tokens: Tokens) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = build_model("llama", "seekr_tap").train()
        if checkpointing:
            recompute_activations(model)
        tap = AttentionTap(rows={1: REQUEST})
        logits = model(**_inputs(tokens), attention_tap=tap).logits
        (tap.rows[1].exp().square().sum() + 0.0 * logits.sum()).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert gradients[0]["model.layers.0.mlp.up_proj.weight"].abs().max() > 0
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_layers_that_did_not_record_are_named() -> None:
    tap = AttentionTap(rows={5: REQUEST}, capture=[7])
    assert tap.missing() == [5, 7]
    with pytest.raises(RuntimeError, match=r"\[5, 7\]"):
        tap.require_complete()


def test_rows_stay_float32_under_autocast(tokens: Tokens) -> None:
    model = build_model("llama", "seekr_tap")
    tap = AttentionTap(rows={0: REQUEST})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(**_inputs(tokens), attention_tap=tap)
    assert tap.rows[0].dtype == torch.float32
    assert_close(tap.rows[0].exp().sum(-1), torch.ones(4, 2))


def test_recomputed_rows_do_not_replace_the_first_ones(tokens: Tokens) -> None:
    model = build_model("llama", "seekr_tap").train()
    recompute_activations(model)
    tap = AttentionTap(rows={1: REQUEST}, reduce=lambda layer, rows: rows[..., -1])
    logits = model(**_inputs(tokens), attention_tap=tap).logits
    first = tap.rows[1]
    assert first.shape == (4, 2)
    (first.sum() + logits.sum()).backward()
    assert tap.rows[1] is first  # a recomputed one would hold the graph of its whole layer
