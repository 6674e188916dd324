"""Every way to share a model gives the numbers of one process: strategies x adapters x recomputation x accumulation.

Two ranks add the same float32 numbers in another order than one process does, and nothing else may differ. What is
drawn and chosen is compared exactly; the numbers against `TOLERANCES`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.cluster.strategy import group_workers, local_workers
from seekr_tune.config import Config
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.task import TaskStream
from seekr_tune.loop.loop import run_stream
from seekr_tune.methods.seekr.method import Seekr
from seekr_tune.methods.terms import ATTENTION_DISTILLATION
from seekr_tune.models.loading import load_model

from ..loop.tiny import saved_model, tiny_config, tiny_stream
from .ranks import run_ranks

CPU = torch.device("cpu")
STRATEGIES = ("ddp", "fsdp")
SETTINGS: dict[str, Any] = {
    "recipe.epochs": 1,
    # 12 rows make batches of 5, 5 and 2, and 3 samples a replay step: one rank has less to do, now and then nothing.
    "recipe.batch_size": 5,
    "recipe.replay_batch_size": 3,
    "recipe.learning_rate": 1e-3,
    "method.seekr.head_budget": 5,
    "evaluation.matrix": "seen",
}
ADAPTERS = {"model.lora": {"rank": 4, "alpha": 16}}
RECOMPUTING = {"training.activation_checkpointing": True}
ACCUMULATING = {"recipe.micro_batch_size": 2}
"""A share of 3 or 2 samples becomes two passes of a rank: one sample may be alone, and one rank may have none left."""
BFLOAT16 = {"model.compute_dtype": "bfloat16"}

TOLERANCES = {
    "loss": 2e-6,
    "cross_entropy": 2e-6,
    "logit_distillation": 2e-6,
    "attention_distillation": 1e-3,
    "grad_norm": 5e-6,
    "importance": 3e-5,
    "weights": 2e-5,
}
"""Largest relative difference of each quantity: about ten times what was seen over all cells.

Attention divergences are differences of nearly equal numbers, so their rounding (1e-8) is large beside them (3e-4).
Weights are compared as a whole, relative to how far training moved them: AdamW divides gradients by their own size, so
an entry whose gradient is rounding noise moves at random by as much as the others.
"""
BFLOAT16_TOLERANCES = {
    "loss": 1e-2,
    "cross_entropy": 1e-2,
    "logit_distillation": 1e-2,
    "attention_distillation": 0.5,
    "grad_norm": 0.1,
    "importance": 0.5,
    "weights": 0.2,
}
"""The same against float32, where a number has 8 bits (a relative step of 4e-3)."""

Switches = tuple[bool, bool, bool]
SWITCHES: list[Switches] = list(itertools.product((False, True), repeat=3))


def cell_name(switches: Switches) -> str:
    names = ("adapters", "recomputing", "accumulating")
    return "+".join(name for name, on in zip(names, switches, strict=True) if on) or "plain"


def values_of(switches: Switches) -> dict[str, Any]:
    parts = (ADAPTERS, RECOMPUTING, ACCUMULATING)
    return {key: value for part, on in zip(parts, switches, strict=True) if on for key, value in part.items()}


@dataclass(frozen=True)
class Result:
    """What one rank knows when the stream is learned.

    Attributes:
        steps: all of them.
        start, weights: trained parameters before and after, whole.
        importance: after each task.
        selected: heads by layer after each task.
        scores: matrix, -1 where not evaluated.
        memory: task, index, query rows and heads of each stored sample.
        signals: teacher signals by position in the memory, where this rank holds them.
    """

    steps: tuple[StepRecord, ...]
    start: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    importance: tuple[Tensor, ...]
    selected: tuple[Mapping[int, tuple[int, ...]], ...]
    scores: Tensor
    memory: tuple[tuple[int, int, tuple[int, ...], Mapping[int, tuple[int, ...]]], ...]
    signals: Mapping[int, Mapping[str, Tensor]]

    @property
    def chosen(self) -> list[Any]:
        """All that must not depend on how the work is shared."""
        steps = [(s.task_index, s.step, s.kind, s.batch, s.samples, s.tokens, s.learning_rate) for s in self.steps]
        return [steps, self.selected, self.memory, self.scores.tolist()]


def graded_stream() -> TaskStream:
    """The tiny stream with a metric that tells every answer from every other, right or wrong."""
    return TaskStream(tuple(replace(task, scorer=SCORERS["edit_similarity"]) for task in tiny_stream()))


def learn(config: Config) -> Result:
    """Learn the tiny stream, in the process group if there is one."""
    workers = group_workers(config, CPU) if dist.is_initialized() else local_workers(config)
    torch.manual_seed(config.seed)  # as a trial does: adapters start from random weights
    loaded = load_model(config.model)
    start = whole(loaded.trainable())
    outcomes = list(run_stream(config, graded_stream(), loaded, workers=workers))
    state = outcomes[-1].state
    return Result(
        steps=tuple(step for outcome in outcomes for step in outcome.steps),
        start=start,
        weights=whole(loaded.trainable()),
        importance=tuple(entry.heads.total["importance"] for entry in state.history if entry.heads is not None),
        selected=tuple(dict(entry.selected) for entry in state.history),
        scores=torch.from_numpy(state.scores["eval"]).nan_to_num(-1.0),
        memory=tuple((s.task, s.index, tuple(s.queries.tolist()), dict(s.heads)) for s in state.memory),
        signals={i: s.teacher.tensors() for i, s in enumerate(state.memory) if s.teacher is not None},
    )


def whole(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: (parameter.full_tensor() if isinstance(parameter, DTensor) else parameter).detach().clone()
        for name, parameter in parameters.items()
    }


def differences(ours: Result, expected: Result) -> dict[str, float]:
    """The largest relative difference of each quantity."""
    found = {}
    for name in ("loss", "cross_entropy", "logit_distillation", "attention_distillation", "grad_norm"):
        pairs = [(_number(a, name), _number(b, name)) for a, b in zip(ours.steps, expected.steps, strict=True)]
        assert all((a is None) == (b is None) for a, b in pairs), name
        found[name] = max(abs(a - b) / b for a, b in pairs if b is not None)
    importance = zip(ours.importance, expected.importance, strict=True)
    found["importance"] = max(float((a - b).abs().max() / b.max()) for a, b in importance)
    found["weights"] = distance(ours.weights, expected.weights) / distance(expected.start, expected.weights)
    return found


def _number(step: StepRecord, name: str) -> float | None:
    number: float | None = step.terms.get(name) if name.endswith(("_entropy", "_distillation")) else getattr(step, name)
    return number


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Euclidean, over all weights."""
    assert one.keys() == other.keys()
    return sum(float((one[name] - other[name]).double().square().sum()) for name in one) ** 0.5


def first_replay(result: Result) -> StepRecord:
    return next(step for step in result.steps if step.kind == "replay")


def same_numbers(one: Result, other: Result) -> bool:
    """Bit for bit; clocks apart."""
    clocks = {"seconds": 0.0, "distillation_seconds": None}
    steps = [[replace(step, **clocks) for step in result.steps] for result in (one, other)]
    return steps[0] == steps[1] and all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


# --- what is run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """The experiments of this file, on one saved model."""

    model: Path

    def config(self, values: Mapping[str, Any], strategy: str | None = None, workers: int = 0) -> Config:
        shared = {"training.workers": workers, "training.strategy": strategy, "model.path": str(self.model)}
        return tiny_config(**SETTINGS, **shared, **values)

    def in_two_ranks(self) -> dict[tuple[str, str], Result]:
        return {
            (strategy, name): learn(self.config(values, strategy, 2))
            for strategy in STRATEGIES
            for name, values in {**{cell_name(s): values_of(s) for s in SWITCHES}, "bfloat16": BFLOAT16}.items()
        }

    def in_four_ranks(self) -> dict[tuple[str, str], Result]:
        return {(strategy, "plain"): learn(self.config({}, strategy, 4)) for strategy in STRATEGIES}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(saved_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def two_ranks(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, str], Result]]:
    return run_ranks(runs.in_two_ranks, 2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def four_ranks(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, str], Result]]:
    return run_ranks(runs.in_four_ranks, 4, tmp_path_factory.mktemp("four"))


@pytest.fixture(scope="module")
def one_process(runs: Runs) -> Callable[[Switches], Result]:
    """The same experiment in this process."""
    return cache(lambda switches: learn(runs.config(values_of(switches))))


@pytest.fixture(scope="module")
def without_attention_gradient(runs: Runs) -> Callable[[bool], Result]:
    """The experiment with the fault that a wrong kind of recomputation has: the term is there, its gradient is not."""

    def run(adapters: bool) -> Result:
        kept = Seekr.terms

        def blind(*args: Any) -> Any:
            terms = kept(*args)
            return {name: term.detach() if name == ATTENTION_DISTILLATION else term for name, term in terms.items()}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Seekr, "terms", blind)
            return learn(runs.config(values_of((adapters, False, False))))

    return cache(run)


each_cell = pytest.mark.parametrize(
    ("strategy", "switches"),
    [pytest.param(strategy, s, id=f"{strategy}-{cell_name(s)}") for strategy in STRATEGIES for s in SWITCHES],
)

# --- tests -----------------------------------------------------------------------------------------------------------


@each_cell
def test_two_ranks_give_the_numbers_of_one_process(
    two_ranks: list[dict[tuple[str, str], Result]],
    one_process: Callable[[Switches], Result],
    strategy: str,
    switches: Switches,
) -> None:
    ours, other = (results[strategy, cell_name(switches)] for results in two_ranks)
    expected = one_process(switches)
    assert ours.chosen == other.chosen == expected.chosen
    assert same_numbers(ours, other)
    found = differences(ours, expected)
    assert {name: value for name, value in found.items() if value > TOLERANCES[name]} == {}


@each_cell
def test_the_gradient_of_attention_distillation_is_there(
    two_ranks: list[dict[tuple[str, str], Result]],
    one_process: Callable[[Switches], Result],
    without_attention_gradient: Callable[[bool], Result],
    strategy: str,
    switches: Switches,
) -> None:
    """Up to the first replay step nothing tells the two apart; there, the losses are the same and the gradient not."""
    ours = first_replay(two_ranks[0][strategy, cell_name(switches)])
    blind = first_replay(without_attention_gradient(switches[0]))
    assert ours.batch == blind.batch and "attention_distillation" in ours.terms and ours.grad_norm is not None
    assert ours.loss == pytest.approx(blind.loss, rel=TOLERANCES["loss"])
    assert ours.grad_norm == pytest.approx(first_replay(one_process(switches)).grad_norm, rel=TOLERANCES["grad_norm"])
    assert abs(ours.grad_norm / blind.grad_norm - 1) > 1000 * TOLERANCES["grad_norm"]


@pytest.mark.parametrize("adapters", [False, True])
def test_a_lost_gradient_of_attention_distillation_would_not_pass(
    one_process: Callable[[Switches], Result], without_attention_gradient: Callable[[bool], Result], adapters: bool
) -> None:
    found = differences(without_attention_gradient(adapters), one_process((adapters, False, False)))
    assert found["weights"] > 1000 * TOLERANCES["weights"]


def test_what_is_compared_is_not_trivial(one_process: Callable[[Switches], Result]) -> None:
    for switches in SWITCHES:
        result = one_process(switches)
        assert len({value for row in result.scores.tolist() for value in row if value > 0}) > 3
        assert {step.kind for step in result.steps} == {"new", "replay"}
        assert {layer for selected in result.selected for layer in selected} == {0, 1}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_two_and_four_ranks_see_the_same_samples_rows_and_heads(
    two_ranks: list[dict[tuple[str, str], Result]],
    four_ranks: list[dict[tuple[str, str], Result]],
    one_process: Callable[[Switches], Result],
    strategy: str,
) -> None:
    """A batch of 5 over four ranks is 2, 2, 1, 0: a rank without samples takes part in every new step."""
    expected = one_process((False, False, False))
    for results in (two_ranks, four_ranks):
        ranks = [cells[strategy, "plain"] for cells in results]
        for ours in ranks:
            assert ours.chosen == expected.chosen
            assert same_numbers(ours, ranks[0])
            found = differences(ours, expected)
            assert {name: value for name, value in found.items() if value > TOLERANCES[name]} == {}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_sample_s_teacher_signals_lie_on_one_rank(
    two_ranks: list[dict[tuple[str, str], Result]],
    four_ranks: list[dict[tuple[str, str], Result]],
    one_process: Callable[[Switches], Result],
    strategy: str,
) -> None:
    expected = one_process((False, False, False)).signals
    for results in (two_ranks, four_ranks):
        held = [cells[strategy, "plain"].signals for cells in results]
        assert sorted(position for signals in held for position in signals) == sorted(expected)
        for position, tensors in ((p, t) for signals in held for p, t in signals.items()):
            assert tensors.keys() == expected[position].keys()
            for name, tensor in tensors.items():
                torch.testing.assert_close(tensor, expected[position][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["single", *STRATEGIES])
def test_bfloat16_passes_stay_near_float32(
    runs: Runs,
    two_ranks: list[dict[tuple[str, str], Result]],
    one_process: Callable[[Switches], Result],
    strategy: str,
) -> None:
    expected = one_process((False, False, False))
    ours = learn(runs.config(BFLOAT16)) if strategy == "single" else two_ranks[0][strategy, "bfloat16"]
    assert [step.batch for step in ours.steps] == [step.batch for step in expected.steps]
    found = differences(ours, expected)
    assert {name: value for name, value in found.items() if value > BFLOAT16_TOLERANCES[name]} == {}
    assert found["loss"] > 10 * TOLERANCES["loss"]  # it was bfloat16
    assert all(weight.dtype == torch.float32 for weight in ours.weights.values())
