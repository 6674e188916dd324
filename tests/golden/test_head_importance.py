"""The release's importance pass, number for number, from its own weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.reading import Before, observe, observe_rows
from seekr_tune.methods.seekr.importance import HeadScores, normalise_layers
from seekr_tune.methods.semantics import CORRECTED, OFFICIAL
from seekr_tune.methods.storage import unpack_rows

from .vectors import Arrays, load_model, read_json, relative_error

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def _budgets(golden: Path) -> list[Path]:
    directory = golden / "head_importance"
    if not directory.is_dir():
        pytest.skip("head_importance is not in this subset of the vectors; set SEEKR_GOLDEN_DIR to the full directory")
    paths = sorted(directory.glob("query_budget_*.npz"))
    assert paths
    return paths


def _tasks(path: Path) -> Iterator[tuple[int, Arrays, int | None]]:
    """Task number, arrays, and the query budget (None: all rows)."""
    facts = read_json(path.with_suffix(".json"))
    for task in range(len(facts["tasks"])):
        yield task, Arrays(path), facts["query_budget"] or None


def _queries(arrays: Arrays, prefix: str) -> list[Tensor]:
    return list(arrays[f"{prefix}query_rel"])


def _real(tokens: Tokens, queries: list[Tensor]) -> list[Tensor]:
    """Which of a sample's queries are real tokens."""
    return [own >= -length for own, length in zip(queries, tokens.lengths, strict=True)]


def test_both_query_budgets_are_there(golden: Path) -> None:
    assert len(_budgets(golden)) >= 2


def test_attention_rows_equal_the_release_before_and_after_each_task(golden: Path) -> None:
    for path in _budgets(golden):
        for task, arrays, _ in _tasks(path):
            prefix = f"task{task}_"
            tokens, queries = arrays.tokens(prefix), _queries(arrays, prefix)
            for state, moment in ((task, "before"), (task + 1, "after")):
                model = load_model(path.parent, f"weights_state{state}.safetensors")
                shape = (model.config.num_hidden_layers, model.config.num_attention_heads)
                real_queries = [q[r] for q, r in zip(queries, _real(tokens, queries), strict=True)]
                rows = observe_rows(model, tokens, real_queries, OFFICIAL, shape)()
                for sample, own in enumerate(rows):
                    expected = arrays[f"{prefix}attn_{moment}"][sample][:, :, _real(tokens, queries)[sample]]
                    length = tokens.lengths[sample]
                    assert_close(unpack_rows(own, real_queries[sample], length), expected[..., -length:], **CLOSE)
                    assert not expected[..., : expected.shape[-1] - length].any()


@pytest.mark.parametrize("batched", [False, True], ids=["one by one, as the release", "as one batch"])
def test_sensitivity_forgettability_and_importance_equal_the_release(golden: Path, batched: bool) -> None:
    for path in _budgets(golden):
        total = None
        for task, arrays, budget in _tasks(path):
            prefix = f"task{task}_"
            tokens, queries = arrays.tokens(prefix), _queries(arrays, prefix)
            real_queries = [q[r] for q, r in zip(queries, _real(tokens, queries), strict=True)]
            before_model = load_model(path.parent, f"weights_state{task}.safetensors")
            model = load_model(path.parent, f"weights_state{task + 1}.safetensors")
            shape = (model.config.num_hidden_layers, model.config.num_attention_heads)
            n = len(queries)
            chunks = [slice(0, n)] if batched else [slice(i, i + 1) for i in range(n)]
            energy, losses, squared = torch.zeros(shape), [], []
            padded = tokens.input_ids.shape[1]
            for rows in chunks:
                own = arrays.tokens(prefix, rows)
                first = observe_rows(before_model, own, real_queries[rows], OFFICIAL, shape)()
                before = torch.cat([one.flatten(1) for one in first], dim=1)
                weights = [
                    OFFICIAL.change_weights(query, length, padded, budget)
                    for query, length in zip(real_queries[rows], own.lengths, strict=True)
                ]
                seen = observe(model, own, real_queries[rows], OFFICIAL, shape, before=Before(before, weights))()
                assert seen.moved is not None
                model.zero_grad()
                energy += seen.energy.sum(dim=0)
                losses += seen.losses.tolist()
                squared += list(seen.moved)
            scores = HeadScores.of_task(normalise_layers(energy / n), torch.stack(squared).mean(dim=0))
            total = scores if total is None else total + scores

            assert_close(torch.tensor(losses), arrays[f"{prefix}sample_losses"], **CLOSE)
            assert relative_error(energy / n, arrays[f"{prefix}attn_grad_raw"]) < 1e-4
            assert_close(scores.sensitivity, arrays[f"{prefix}attn_grads"], rtol=1e-4, atol=1e-6)
            assert relative_error(scores.forgettability, arrays[f"{prefix}attn_diff"]) < 1e-4
            assert relative_error(scores.importance, arrays[f"{prefix}attn_ipt_task"]) < 1e-4
            assert relative_error(total.importance, arrays[f"{prefix}attn_ipt_cum"]) < 1e-4


def test_teacher_logits_equal_the_release_at_label_positions(golden: Path) -> None:
    for path in _budgets(golden):
        for task, arrays, _ in _tasks(path):
            prefix = f"task{task}_"
            tokens = arrays.tokens(prefix)
            model = load_model(path.parent, f"weights_state{task + 1}.safetensors")
            shape = (model.config.num_hidden_layers, model.config.num_attention_heads)
            last = [torch.tensor([-1])] * len(tokens.lengths)
            seen = observe(model, tokens, last, OFFICIAL, shape)()
            expected = arrays[f"{prefix}logits_after"][tokens.labels != -100]
            assert_close(torch.cat(seen.logits), expected, **CLOSE)


def test_the_corrected_energy_counts_exactly_the_reachable_entries(golden: Path) -> None:
    for path in _budgets(golden):
        for task, arrays, _ in _tasks(path):
            prefix = f"task{task}_"
            tokens = arrays.tokens(prefix)
            model = load_model(path.parent, f"weights_state{task + 1}.safetensors")
            shape = (model.config.num_hidden_layers, model.config.num_attention_heads)
            length, n = tokens.input_ids.shape[1], len(tokens.lengths)
            total = torch.zeros(shape)
            for row in range(n):
                own = arrays.tokens(prefix, slice(row, row + 1))
                seen = observe(model, own, [torch.tensor([-1])], CORRECTED, shape)()
                reachable = tokens.lengths[row] * (tokens.lengths[row] + 1) / 2
                # the vectors divide by all entries, we by the reachable
                total += seen.energy[0] * reachable / length**2
            assert relative_error(total / n, arrays[f"{prefix}diag_grad_sq_valid_entries"]) < 1e-4
            assert relative_error(normalise_layers(total), arrays[f"{prefix}diag_attn_grads_valid_only"]) < 1e-4
