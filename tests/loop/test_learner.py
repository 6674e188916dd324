"""Learning one stage: the loss of a step by hand, and the same numbers from two processes as from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.cluster.strategy import DDPWorkers
from seekr_tune.config import Config
from seekr_tune.data.collate import EncodedExample, Encoder
from seekr_tune.loop.learner import Learner
from seekr_tune.loop.schedule import Stage, Step
from seekr_tune.loop.views import setting_of
from seekr_tune.methods.draws import SeededDraws
from seekr_tune.methods.memory import ReplayMemory, ReplaySample
from seekr_tune.methods.registry import method_of
from seekr_tune.methods.semantics import SEMANTICS
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models.loading import LoadedModel

from .tiny import Run, run, tiny_config, tiny_loaded, tiny_stream

STAGE = Stage("first", (0,))


def encoded(loaded: LoadedModel, config: Config) -> list[EncodedExample]:
    recipe = config.recipe
    encoder = Encoder(loaded.tokenizer, recipe.max_prompt_tokens, recipe.max_answer_tokens, "separate")
    return encoder.encode_all(tiny_stream()[2].train)


def new_steps(*batches: tuple[int, ...]) -> list[Step]:
    return [Step("new", batch) for batch in batches]


def make_learner(loaded: LoadedModel, config: Config) -> Learner:
    run = (loaded, config, SEMANTICS[config.method.semantics], SeededDraws(config.seed), SingleProcess())
    return Learner(*run, method_of(config, setting_of(*run)))


def learn(config: Config, steps: list[Step], loaded: LoadedModel | None = None) -> tuple[list[StepRecord], Learner]:
    """Run a few steps without replay."""
    loaded = loaded or tiny_loaded()
    learner = make_learner(loaded, config)
    return list(learner.learn(STAGE, steps, encoded(loaded, config), ReplayMemory())), learner


# --- one process -----------------------------------------------------------------------------------------------------


def label_loss(model: Any, example: EncodedExample) -> Tensor:
    """Sum of -log p over the label tokens of one unpadded sample."""
    ids = torch.tensor([example.input_ids])
    log_probabilities = model(input_ids=ids, use_cache=False).logits[0].log_softmax(dim=-1)
    first = len(example.input_ids) - example.num_labels
    return -sum(log_probabilities[i - 1, example.input_ids[i]] for i in range(first, len(example.input_ids)))


@pytest.mark.parametrize("micro", [None, 1, 2])
def test_a_corrected_step_is_the_gradient_of_the_mean_over_all_label_tokens(micro: int | None) -> None:
    """Three samples of different lengths: a mean of means would weigh their tokens differently."""
    limit = 1e-3
    config = tiny_config(**{"recipe.micro_batch_size": micro, "recipe.max_grad_norm": limit})
    reference, loaded = tiny_loaded().model, tiny_loaded()
    examples = encoded(loaded, config)[:3]
    expected = sum(label_loss(reference, e) for e in examples) / sum(e.num_labels for e in examples)
    expected.backward()
    norm = torch.stack([p.grad.norm() for p in reference.parameters()]).norm()
    for parameter in reference.parameters():
        parameter.grad *= limit / norm
    recipe = config.recipe
    torch.optim.AdamW(reference.parameters(), recipe.learning_rate, recipe.betas, weight_decay=0.0).step()

    (record,), _ = learn(config, new_steps((0, 1, 2)), loaded)

    assert record.loss == record.terms["cross_entropy"] == pytest.approx(float(expected.detach()), rel=1e-5)
    assert record.grad_norm == pytest.approx(float(norm), rel=1e-4)
    assert (record.samples, record.tokens) == (3, sum(len(e.input_ids) for e in examples))
    moved = {name: p.detach() for name, p in reference.named_parameters()}
    for name, parameter in loaded.model.named_parameters():
        # Adam's first step is lr x sign of the gradient: where that is rounding noise, the sign is, too
        assert (parameter - moved[name]).abs().median() < 1e-6


def test_an_official_update_is_the_mean_of_the_means_of_its_steps() -> None:
    values = {"recipe.batch_size": 4, "recipe.micro_batch_size": 2, "recipe.max_grad_norm": None}
    config = tiny_config(**{"method.semantics": "official"}, **values)
    reference, loaded = tiny_loaded().model, tiny_loaded()
    examples = encoded(loaded, config)
    halves = [
        sum(label_loss(reference, examples[i]) for i in half) / sum(examples[i].num_labels for i in half)
        for half in ((0, 1), (2, 3))
    ]
    ((halves[0] + halves[1]) / 2).backward()
    norm = torch.stack([p.grad.norm() for p in reference.parameters()]).norm()

    records, learner = learn(config, new_steps((0, 1), (2, 3), (4, 5)), loaded)

    assert [record.grad_norm is None for record in records] == [True, False, True]
    # RoPE is relative and nothing is padded on the right, so the release's own positions make no difference here
    assert [record.loss for record in records[:2]] == pytest.approx([float(half.detach()) for half in halves], rel=1e-4)
    assert records[1].grad_norm == pytest.approx(float(norm), rel=1e-3)
    assert learner.state(inside_stage=False).pending_steps == 1


def test_a_replay_step_larger_than_a_micro_batch_is_a_mean_too() -> None:
    """Official: were its micro-batches summed, replay would weigh as much more as it has micro-batches."""
    values = {"recipe.batch_size": 4, "recipe.micro_batch_size": 2, "recipe.max_grad_norm": None}
    config = tiny_config(**{"method.semantics": "official", "method.name": "replay"}, **values)
    loaded = tiny_loaded()
    examples = encoded(loaded, config)
    memory = ReplayMemory(
        tuple(ReplaySample(0, i, torch.tensor(e.input_ids), e.num_labels) for i, e in enumerate(examples))
    )
    means = [
        sum(float(label_loss(loaded.model, examples[i]).detach()) for i in part)
        / sum(examples[i].num_labels for i in part)
        for part in ((0, 1), (2, 3), (4,))
    ]
    (record,) = make_learner(loaded, config).learn(STAGE, [Step("replay", (0, 1, 2, 3, 4))], examples, memory)
    assert record.loss == pytest.approx((2 * means[0] + 2 * means[1] + means[2]) / 5, rel=1e-4)


def test_gradients_are_clipped_to_the_limit_and_reported_before_it() -> None:
    (free,), _ = learn(tiny_config(**{"recipe.max_grad_norm": None}), new_steps((0, 1)))
    (clipped,), _ = learn(tiny_config(**{"recipe.max_grad_norm": 0.01}), new_steps((0, 1)))
    assert free.grad_norm is not None and free.grad_norm > 0.1
    assert clipped.grad_norm == free.grad_norm


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1.0, 1.0, 1.0, 1.0]),
        ("linear", 0, [1.0, 0.75, 0.5, 0.25]),
        ("constant_with_warmup", 2, [0.0, 0.5, 1.0, 1.0]),
    ],
)
def test_the_learning_rate_follows_its_schedule_within_the_stage(
    schedule: str, warmup: int, expected: list[float]
) -> None:
    config = tiny_config(**{"recipe.lr_schedule": schedule, "recipe.warmup_steps": warmup})
    records, _ = learn(config, new_steps((0,), (1,), (2,), (3,)))
    assert [record.learning_rate / config.recipe.learning_rate for record in records] == pytest.approx(expected)


def test_no_gradient_and_no_moment_is_kept_where_the_optimizer_is_reset() -> None:
    _, learner = learn(tiny_config(), new_steps((0, 1), (2, 3)))
    assert learner.state(inside_stage=False).tensors == {}


def test_a_snapshot_holds_moments_and_waiting_gradients_by_name_and_comes_back() -> None:
    values = {"method.semantics": "official", "recipe.batch_size": 4, "recipe.micro_batch_size": 2}
    config, loaded = tiny_config(**values), tiny_loaded()
    _, learner = learn(config, new_steps((0, 1), (2, 3), (4, 5)), loaded)
    state = learner.state(inside_stage=False)
    names = loaded.trainable()
    kinds = [f"{kind}/{name}" for name in names for kind in ("gradient", "moments/exp_avg", "moments/exp_avg_sq")]
    assert set(state.tensors) == {*kinds, *(f"moments/step/{name}" for name in names)}
    other = make_learner(tiny_loaded(), config)
    other.restore(state)
    again = other.state(inside_stage=False)
    assert again.tensors.keys() == state.tensors.keys()
    assert all(torch.equal(again.tensors[key], state.tensors[key]) for key in state.tensors)
    assert (again.pending_steps, again.updates) == (1, 1)


def test_the_corrected_reading_resets_moments_unless_the_recipe_says_otherwise() -> None:
    for semantics, wanted, resets in [
        ("corrected", None, True),
        ("corrected", False, False),
        ("official", None, False),
        ("official", True, True),
    ]:
        config = tiny_config(**{"method.semantics": semantics, "recipe.reset_optimizer": wanted})
        assert make_learner(tiny_loaded(), config).resets_optimizer is resets


def test_activation_checkpointing_changes_memory_and_not_the_numbers() -> None:
    values = {"evaluation.splits": (), "recipe.epochs": 1}
    plain = run(tiny_config(**values))
    recomputed = run(tiny_config(**{"training.activation_checkpointing": True}, **values))
    assert any(step.terms.get("attention_distillation") for step in plain.steps)
    for ours, expected in zip(recomputed.steps, plain.steps, strict=True):
        assert ours.loss == pytest.approx(expected.loss, rel=1e-5)
        assert ours.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)


# --- two processes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CountingWorkers(DDPWorkers):
    """Counts how often gradients are reduced."""

    reductions: list[int] = field(default_factory=list)

    def wrap(self, model: nn.Module) -> nn.Module:
        wrapped = super().wrap(model)
        assert isinstance(wrapped, DistributedDataParallel)
        # A lambda: DDP compares annotations, and those of this module are strings.
        wrapped.register_comm_hook(self.reductions, lambda state, bucket: _counted(state, bucket))
        return wrapped


def _counted(reductions: list[int], bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    reductions.append(bucket.index())
    return allreduce_hook(dist.group.WORLD, bucket)


UNEVEN = {"recipe.batch_size": 5, "recipe.replay_batch_size": 3, "recipe.learning_rate": 1e-3}
"""12 rows make batches of 5, 5 and 2, and 3 samples a replay step: one rank has less to do, now and then."""
SCENARIOS: dict[str, dict[str, Any]] = {
    "uneven batches": UNEVEN,
    "micro-batches": UNEVEN | {"recipe.micro_batch_size": 2},
    "a rank without samples": UNEVEN | {"recipe.replay_batch_size": 1, "method.memory.percent": 9.0},
    "derpp": UNEVEN | {"method.name": "derpp"},
    "official": {"method.semantics": "official", "recipe.learning_rate": 1e-3},
}


def scenario(name: str) -> Config:
    return tiny_config(**{"recipe.epochs": 1, "evaluation.matrix": "seen"}, **SCENARIOS[name])


def result_of(done: Run, reductions: int) -> dict[str, Any]:
    state = done.outcomes[-1].state
    return {
        "steps": [(s.kind, s.samples, s.tokens, s.loss, s.grad_norm, s.terms) for s in done.steps],
        "weights": {name: weight.clone() for name, weight in done.weights.items()},
        "selected": [sorted(entry.selected.items()) for entry in state.history],
        "importance": [None if entry.heads is None else entry.heads.total["importance"] for entry in state.history],
        "scores": torch.from_numpy(state.scores["eval"]),
        "reductions": reductions,
    }


def rank_main(rank: int, directory: str) -> None:
    """One of two processes; runs all scenarios, for a process group is slow to start."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=2)
    results = {}
    for name in SCENARIOS:
        workers = CountingWorkers(torch.device("cpu"))
        done = run(scenario(name), directory=Path(directory) / name, workers=workers)
        results[name] = result_of(done, len(workers.reductions))
    torch.save(results, Path(directory) / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Mapping[str, Any]]:
    """What each rank saw, by scenario."""
    directory = tmp_path_factory.mktemp("ranks")
    mp.spawn(rank_main, args=(str(directory),), nprocs=2)
    return [torch.load(directory / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def one_process() -> Callable[[str], Mapping[str, Any]]:
    """The same scenario in this process."""
    return lambda name: result_of(run(scenario(name)), 0)


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_ranks_hold_the_same_model_heads_and_scores_bit_for_bit(
    two_ranks: list[Mapping[str, Any]], name: str
) -> None:
    one, other = (results[name] for results in two_ranks)
    assert one["steps"] == other["steps"]
    assert one["selected"] == other["selected"]
    for key in ("scores", "importance", "weights"):
        assert all(torch.equal(a, b) for a, b in zip(*map(flat, (one[key], other[key])), strict=True)), key


def flat(values: Any) -> list[Tensor]:
    """The tensors of a result, with cells that were not evaluated at -1."""
    tensors = values.values() if isinstance(values, dict) else [values] if isinstance(values, Tensor) else values
    return [tensor.nan_to_num(-1.0) for tensor in tensors if tensor is not None]


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "official"])
def test_two_processes_give_the_numbers_of_one_up_to_reduction_order(
    two_ranks: list[Mapping[str, Any]], one_process: Callable[[str], Mapping[str, Any]], name: str
) -> None:
    """Each rank sums its own half: losses agree to 1e-4, and weights to a hundredth of what training moved them."""
    ours, expected = two_ranks[0][name], one_process(name)
    assert [step[:3] for step in ours["steps"]] == [step[:3] for step in expected["steps"]]
    for step, reference in zip(ours["steps"], expected["steps"], strict=True):
        assert step[3:5] == pytest.approx(reference[3:5], rel=1e-4)
        assert step[5] == (None if reference[5] is None else pytest.approx(reference[5], rel=1e-2, abs=1e-6))
    assert ours["selected"] == expected["selected"]
    start = dict(tiny_loaded().model.named_parameters())
    apart = sum(float((w - expected["weights"][n]).square().sum()) for n, w in ours["weights"].items())
    moved = sum(float((w.detach() - expected["weights"][n]).square().sum()) for n, w in start.items())
    assert apart < 1e-4 * moved
    assert torch.equal(ours["scores"].nan_to_num(-1.0), expected["scores"].nan_to_num(-1.0))


def test_gradients_are_reduced_once_a_step_however_many_micro_batches_it_has(
    two_ranks: list[Mapping[str, Any]],
) -> None:
    for name in ("uneven batches", "micro-batches"):
        result = two_ranks[0][name]
        assert result["reductions"] == len(result["steps"]), name


def test_a_checkpoint_of_two_ranks_is_taken_up_by_one(
    two_ranks: list[Mapping[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.getbasetemp() / "ranks0" / "uneven batches"
    resumed = run(scenario("uneven batches"), directory=directory)
    assert resumed.outcomes == ()
    assert all(torch.equal(w, two_ranks[0]["uneven batches"]["weights"][n]) for n, w in resumed.weights.items())
