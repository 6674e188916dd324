"""The release's replay loss and its gradients, number for number, on a batch of samples from different tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.testing import assert_close

from benchmarks.distilled import replay_losses
from seekr_tune.methods.memory import ReplaySample, TeacherSignals
from seekr_tune.methods.passes import Tokens, answer_logits
from seekr_tune.methods.reading import observe
from seekr_tune.methods.semantics import OFFICIAL
from seekr_tune.methods.storage import Kept, pack_rows
from seekr_tune.methods.targets import teacher_batch

from .vectors import Arrays, load_model, read_json

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def _cases(golden: Path) -> Iterator[tuple[dict[str, Any], Arrays, Path]]:
    for path in sorted((golden / "distill_loss").glob("query_budget_*.npz")):
        yield read_json(path.with_suffix(".json")), Arrays(path), path.parent


def _stored(facts: dict[str, Any], arrays: Arrays) -> list[ReplaySample]:
    """The batch's samples as our memory would hold them, from what the release stored."""
    batch = arrays.tokens("batch_")
    samples = []
    for row, (task, index) in enumerate(facts["picks"]):
        length = batch.lengths[row]
        label_row = arrays[f"buffer_task{task}_labels"][index] != -100
        queries = arrays[f"sample{row}_query_rel"]
        real = queries >= -length
        heads = {int(layer): tuple(own) for layer, own in facts["batch"]["select_heads"][row].items()}
        dense = [arrays[f"sample{row}_teacher_attn_layer{layer}"][:, real][..., -length:] for layer in sorted(heads)]
        rows = Kept(pack_rows(torch.cat(dense), queries[real]))
        logits = arrays[f"sample{row}_teacher_logits_stored"][label_row]
        teacher = TeacherSignals(Kept(logits), rows)
        ids = batch.input_ids[row, -length:]
        num_labels = int((batch.labels[row] != -100).sum())
        samples.append(ReplaySample(task, index, ids, num_labels, queries[real], heads, teacher=teacher))
    return samples


def _terms(facts: dict[str, Any], arrays: Arrays, directory: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    model = load_model(directory, "weights_student.safetensors")
    tokens = arrays.tokens("batch_")
    losses = replay_losses(
        model,
        tokens,
        teacher_batch(_stored(facts, arrays), tokens.input_ids.shape[1]),
        OFFICIAL,
        distil_logits=True,
        distil_attention=True,
        step_rows=1,
    )
    assert losses.logits is not None and losses.attention is not None
    terms = {
        "replay_ce": losses.cross_entropy / tokens.num_labels,
        "logits_distill": losses.logits / int((tokens.labels != -100).sum()),
        "attns_distill": losses.attention,
    }
    weight = facts["logits_distill_weight"]
    terms["total"] = (
        (1 - weight) * terms["replay_ce"]
        + weight * terms["logits_distill"]
        + facts["attns_distill_weight"] * terms["attns_distill"]
    )
    return model, terms


def test_every_loss_term_equals_the_release(golden: Path) -> None:
    for facts, arrays, directory in _cases(golden):
        _, terms = _terms(facts, arrays, directory)
        assert_close(terms["replay_ce"], arrays["out_replay_loss"], **CLOSE)
        assert_close(terms["logits_distill"], arrays["out_logits_distill_loss"], **CLOSE)
        assert_close(terms["attns_distill"], arrays["out_attns_distill_loss"], rtol=1e-4, atol=1e-7)
        assert_close(terms["total"], arrays["out_total_loss"], rtol=1e-4, atol=1e-4)


def test_the_gradients_of_every_term_equal_the_release(golden: Path) -> None:
    for facts, arrays, directory in _cases(golden):
        model, terms = _terms(facts, arrays, directory)
        parameters = dict(model.named_parameters())
        for term, loss in terms.items():
            gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
            by_name = {
                name: torch.zeros_like(parameter) if gradient is None else gradient
                for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
            }
            norms = facts["grad_l2_norm"][term]
            for name, norm in norms.items():
                assert abs(float(by_name[name].norm()) - norm) <= 1e-4 * norm + 1e-6 * max(norms.values()), (term, name)
            stored = [name for name in arrays.names() if name.startswith(f"grad_{term}:")]
            assert stored
            for key in stored:
                own, expected = by_name[key.removeprefix(f"grad_{term}:")], arrays[key]
                assert float((own - expected).norm()) <= 1e-4 * float(expected.norm()), key


def test_student_logits_equal_the_release_at_real_tokens(golden: Path) -> None:
    for _, arrays, directory in _cases(golden):
        model = load_model(directory, "weights_student.safetensors")
        tokens = arrays.tokens("batch_")
        logits = answer_logits(model, tokens, OFFICIAL)
        real = tokens.attention_mask.bool()[:, -logits.shape[1] :]
        expected = arrays["out_student_logits"][:, -logits.shape[1] :]
        assert_close(logits[real], expected[real], **CLOSE)


def test_the_teacher_pass_stores_what_the_release_stored(golden: Path) -> None:
    for facts, arrays, directory in _cases(golden):
        teacher = load_model(directory, "weights_teacher.safetensors")
        shape = (teacher.config.num_hidden_layers, teacher.config.num_attention_heads)
        for sample in _stored(facts, arrays):
            prefix = f"buffer_task{sample.task}_"
            tokens: Tokens = arrays.tokens(prefix, slice(sample.index, sample.index + 1))
            assert sample.teacher is not None and sample.teacher.logits is not None
            seen = observe(teacher, tokens, [sample.queries], OFFICIAL, shape)()
            assert_close(seen.logits[0], sample.teacher.logits.values, **CLOSE)
            for layer, heads in sample.heads.items():
                assert_close(
                    seen.rows[0][layer, list(heads)], sample.teacher.rows_of(sample.heads, layer).values, **CLOSE
                )
