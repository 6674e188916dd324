from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seekr_tune.errors import ConfigError
from seekr_tune.methods.seekr.selection import Budgets, all_heads, resolve_budgets, select_heads


def test_layers_are_ranked_before_heads() -> None:
    importance = torch.tensor([[9.0, 0.0], [5.5, 4.5], [1.0, 1.0]])  # the best single head is NOT in the best layer
    assert dict(select_heads(importance, num_layers=1, num_heads=1).heads) == {1: (0,)}


def test_the_head_budget_is_pooled_so_a_kept_layer_may_stay_empty() -> None:
    importance = torch.tensor([[9.0, 8.0], [4.0, 4.0]])
    assert dict(select_heads(importance, num_layers=2, num_heads=2).heads) == {0: (0, 1)}


def test_ties_go_to_the_lower_layer_and_head() -> None:
    assert dict(select_heads(torch.zeros(3, 4), num_layers=2, num_heads=3).heads) == {0: (0, 1, 2)}


@given(data=st.data(), layers=st.integers(1, 6), heads=st.integers(1, 6))
def test_the_selection_is_within_budget_and_nothing_better_was_left_out(
    data: st.DataObject, layers: int, heads: int
) -> None:
    values = data.draw(st.lists(st.integers(0, 5), min_size=layers * heads, max_size=layers * heads))
    importance = torch.tensor(values, dtype=torch.float32).view(layers, heads)
    num_layers = data.draw(st.integers(1, layers))
    num_heads = data.draw(st.integers(1, num_layers * heads))
    selection = select_heads(importance, num_layers, num_heads)
    chosen = set(selection)
    assert len(selection) == len(chosen) == num_heads
    kept_layers = sorted(range(layers), key=lambda i: (-float(importance[i].sum()), i))[:num_layers]
    assert {layer for layer, _ in chosen} <= set(kept_layers)
    worst = min(float(importance[layer, head]) for layer, head in chosen)
    left_out = [importance[i, h] for i in kept_layers for h in range(heads) if (i, h) not in chosen]
    assert all(float(value) <= worst for value in left_out)


@pytest.mark.parametrize(("num_layers", "num_heads"), [(0, 1), (4, 1), (2, 9), (2, 0)])
def test_budgets_beyond_the_model_are_refused(num_layers: int, num_heads: int) -> None:
    with pytest.raises(ConfigError, match="budget"):
        select_heads(torch.rand(3, 4), num_layers, num_heads)


def test_the_published_budgets_of_llama_2_7b_resolve_to_24_layers_and_128_heads() -> None:
    assert resolve_budgets(0.125, 0.75, 32, 32) == Budgets(24, 128)
    assert resolve_budgets(128, 0.75, 32, 32) == Budgets(24, 128)


def test_a_fraction_is_held_to_the_kept_layers_but_a_count_that_does_not_fit_is_refused() -> None:
    assert resolve_budgets(1.0, 0.5, 4, 4) == Budgets(2, 8)
    with pytest.raises(ConfigError, match=r"head_budget=9 exceeds the 8 heads"):
        resolve_budgets(9, 0.5, 4, 4)


def test_at_least_one_layer_and_one_head_are_kept() -> None:
    assert resolve_budgets(0.001, 0.001, 3, 4) == Budgets(1, 1)


def test_all_heads_ignores_budgets() -> None:
    assert len(all_heads(3, 4)) == 12
