from __future__ import annotations

import torch
from torch.testing import assert_close

from benchmarks.distilled import replay_losses
from seekr_tune.methods.memory import ReplayMemory, ReplaySample, TeacherSignals
from seekr_tune.methods.passes import Tokens
from seekr_tune.methods.reading import observe
from seekr_tune.methods.semantics import CORRECTED, OFFICIAL
from seekr_tune.methods.storage import Kept, visible_keys
from seekr_tune.methods.targets import teacher_batch

from .conftest import NUM_HEADS, NUM_LAYERS, VOCABULARY, build_model, make_tokens

LENGTHS, NUM_LABELS = [12, 7, 9], [2, 3, 1]
QUERIES = [torch.tensor([-12, -5, -1]), torch.tensor([-4, -1]), torch.tensor([-9, -2, -1])]
HEADS = [{0: (1, 3), 2: (0,)}, {1: (2,)}, {0: (0,), 1: (0, 3)}]


def _stored(semantics_name: str = "corrected") -> tuple[list[ReplaySample], Tokens]:
    """Three samples of different tasks: own heads, own number of queries, signals of the tiny model itself."""
    semantics = CORRECTED if semantics_name == "corrected" else OFFICIAL
    model, tokens = build_model("llama", "seekr_tap"), make_tokens(LENGTHS, NUM_LABELS)
    seen = observe(model, tokens, QUERIES, semantics, (NUM_LAYERS, NUM_HEADS))()
    samples = []
    for i, heads in enumerate(HEADS):
        rows = Kept(torch.cat([seen.rows[i][layer, list(own)] for layer, own in heads.items()]))
        teacher = TeacherSignals(Kept(seen.logits[i].clone()), rows)
        ids = tokens.input_ids[i, -LENGTHS[i] :].clone()
        samples.append(ReplaySample(i, 0, ids, NUM_LABELS[i], QUERIES[i], heads, teacher=teacher))
    return samples, tokens


def test_targets_are_aligned_to_the_right_whatever_the_padding() -> None:
    samples, _ = _stored()
    narrow, wide = teacher_batch(samples, 12).rows(), teacher_batch(samples, 16).rows()
    assert list(narrow) == list(wide) == [0, 1, 2]
    for layer in narrow:
        assert torch.equal(narrow[layer].probabilities, wide[layer].probabilities[..., 4:])
        assert not wide[layer].probabilities[..., :4].any()
        assert torch.equal(narrow[layer].request.queries + 4, wide[layer].request.queries)
        assert torch.equal(narrow[layer].valid, wide[layer].valid)


def test_each_layer_holds_the_pairs_of_the_samples_that_selected_it() -> None:
    samples, _ = _stored()
    request = teacher_batch(samples, 12).rows()[0].request
    assert request.samples.tolist() == [0, 0, 2]
    assert request.heads.tolist() == [1, 3, 0]


def test_a_model_that_is_its_own_teacher_has_no_divergence_and_logit_loss_at_the_entropy() -> None:
    samples, tokens = _stored()
    model = build_model("llama", "seekr_tap")
    losses = replay_losses(
        model, tokens, teacher_batch(samples, 12), CORRECTED, distil_logits=True, distil_attention=True, step_rows=1
    )
    assert losses.attention is not None and losses.logits is not None
    assert abs(losses.attention.item()) < 1e-4
    entropy = torch.distributions.Categorical(logits=teacher_batch(samples, 12).logits(VOCABULARY)).entropy().sum()
    assert_close(losses.logits, entropy, rtol=1e-4, atol=1e-4)


def test_a_batch_of_mixed_tasks_equals_the_sum_of_its_samples() -> None:
    samples, tokens = _stored()
    torch.manual_seed(5)
    student = build_model("llama", "seekr_tap")
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    options = {"distil_logits": True, "distil_attention": True, "step_rows": 7}
    together = replay_losses(student, tokens, teacher_batch(samples, 12), CORRECTED, **options)
    parts = []
    for i, sample in enumerate(samples):
        own = Tokens(tokens.input_ids[i, None], tokens.attention_mask[i, None], tokens.labels[i, None])
        parts.append(replay_losses(student, own, teacher_batch([sample], 12), CORRECTED, **options))
    for term in ("cross_entropy", "logits", "attention"):
        total = getattr(together, term)
        assert total.item() > 1e-3
        assert_close(total, sum(getattr(part, term) for part in parts), rtol=1e-4, atol=1e-5)


def test_the_memory_grows_by_a_new_value_and_counts_only_what_it_keeps() -> None:
    samples, _ = _stored()
    empty = ReplayMemory()
    memory = empty.add(samples[:2]).add(samples[2:])
    assert len(empty) == 0 and list(memory) == samples
    teacher = samples[1].teacher
    assert teacher is not None and teacher.logits is not None
    assert visible_keys(samples[1].queries, 7).tolist() == [4, 7]
    expected = 7 * 8 + 2 * 8 + teacher.logits.values.numel() * 4 + (1 * 11) * 4  # ids, queries, logits, rows
    assert samples[1].num_bytes == expected
    assert teacher.logits.values.shape[0] == NUM_LABELS[1]
    for tensor in teacher.tensors().values():
        assert tensor.untyped_storage().nbytes() == tensor.numel() * 4, "a view would keep the whole batch alive"
