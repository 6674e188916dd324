"""The example of a method of one's own against formulas that know nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seekr_tune.config import Config
from seekr_tune.config.plugins import with_plugins
from seekr_tune.data.collate import EncodedExample, Encoder
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import parse_config
from seekr_tune.methods.draws import draws_of
from seekr_tune.methods.protocol import MethodState, Setting
from seekr_tune.methods.registry import require_methods
from seekr_tune.methods.semantics import SEMANTICS

from ..loop.tiny import SETTINGS, Run, run, same_weights, tiny_loaded, tiny_stream

EWC = Path(__file__).parents[2] / "examples" / "plugins" / "ewc"
CORRECTED = SEMANTICS["corrected"]


def config_of(name: str | list[str] = "./ewc.py:EWC", tasks: int = 3, **options: Any) -> Config:
    """The tiny experiment with EWC."""
    method = {**SETTINGS["method"], "name": name, **({"ewc": options} if options else {})}
    stream = {"tasks": SETTINGS["stream"]["tasks"][:tasks]}
    return parse_config(with_plugins({**SETTINGS, "stream": stream, "method": method}, EWC, "tiny"), "tiny")


def known(done: Run, name: str) -> dict[str, Tensor]:
    return dict(done.outcomes[-1].state.method.weights[f"ewc/{name}"])


def encoded(task: int) -> list[EncodedExample]:
    loaded = tiny_loaded()
    return Encoder(loaded.tokenizer, 12, 3, CORRECTED.collation).encode_all(tiny_stream()[task].train)


def fisher_by_hand(done: Run, examples: list[EncodedExample]) -> dict[str, Tensor]:
    """Squared gradients of one sample at a time, with transformers' own call, their mean."""
    model, parameters = done.loaded.model.eval(), done.loaded.trainable()
    sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for example in examples:
        ids, labels = torch.tensor(example.input_ids), example.num_labels
        logits = model(input_ids=ids[None], use_cache=False).logits[0, -labels - 1 : -1]
        loss = F.cross_entropy(logits, ids[-labels:], reduction="sum")
        for name, gradient in zip(sums, torch.autograd.grad(loss, list(parameters.values())), strict=True):
            sums[name] += gradient**2
    return {name: total / len(examples) for name, total in sums.items()}


def assert_close(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.fixture(scope="module")
def one_task() -> Run:
    return run(config_of(tasks=1))


@pytest.fixture(scope="module")
def two_tasks() -> Run:
    return run(config_of(tasks=2, strength=100.0))


def test_fisher_is_the_mean_of_squared_gradients_of_single_samples(one_task: Run) -> None:
    assert_close(known(one_task, "fisher"), fisher_by_hand(one_task, encoded(0)))


def test_fisher_of_some_samples_is_of_the_first_in_the_drawn_order() -> None:
    done = run(config_of(tasks=1, samples=5))
    order = draws_of(CORRECTED, SETTINGS["seed"], 0).epoch_order("first/gradients", 0, 12)
    examples = encoded(0)
    assert_close(known(done, "fisher"), fisher_by_hand(done, [examples[index] for index in order[:5]]))


def test_fisher_adds_up_over_tasks_and_the_weights_are_those_of_the_last_one(one_task: Run, two_tasks: Run) -> None:
    own = fisher_by_hand(two_tasks, encoded(1))
    before = known(one_task, "fisher")
    assert_close(known(two_tasks, "fisher"), {name: before[name] + own[name] for name in own})
    assert all(torch.equal(known(two_tasks, "old")[name], weight) for name, weight in two_tasks.weights.items())


def test_penalty_and_its_gradient() -> None:
    torch.manual_seed(0)
    shapes = {"one": (3, 2), "two": (4,)}
    fisher, old, weights = ({name: torch.rand(shape) for name, shape in shapes.items()} for _ in range(3))
    (cls, options), *_ = require_methods(config_of(strength=7.0)).values()
    method = cls(options, cast(Setting, None))
    assert method.penalties(weights) == {}
    method.restore(MethodState({"fisher": fisher, "old": old}))
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    value, factor = method.penalties(leaves)["ewc"]
    expected = sum(7.0 / 2 * float((fisher[name] * (weights[name] - old[name]) ** 2).sum()) for name in shapes)
    assert float(value.detach()) * factor == pytest.approx(expected, rel=1e-6)
    (value * factor).backward()
    for name in shapes:
        torch.testing.assert_close(leaves[name].grad, 7.0 * fisher[name] * (weights[name] - old[name]))


def test_a_step_adds_the_penalty_to_its_loss_from_the_second_task_on(two_tasks: Run) -> None:
    first, second = ([step for step in two_tasks.steps if step.task_index == task] for task in (0, 1))
    assert all("ewc" not in step.terms for step in first) and second[0].terms["ewc"] == 0.0
    for step in second:
        assert step.weights["ewc"] == 50.0
        assert step.loss == pytest.approx(step.terms["cross_entropy"] + 50.0 * step.terms["ewc"], rel=1e-6)
    assert second[-1].terms["ewc"] > 0


def test_weights_stay_nearer_to_where_they_were(one_task: Run, two_tasks: Run) -> None:
    """By the Fisher information, which is what is held; without the penalty they go further."""
    fisher, plain = known(one_task, "fisher"), run(config_of("seqft", tasks=2))

    def moved(done: Run) -> float:
        old = one_task.weights
        return sum(float((fisher[name] * (done.weights[name] - old[name]) ** 2).sum()) for name in fisher)

    assert moved(two_tasks) < 0.5 * moved(plain)


def test_it_works_beside_methods_that_replay() -> None:
    for other in ("replay", "seekr"):
        done = run(config_of([other, "./ewc.py:EWC"], tasks=2, strength=10.0))
        terms = {term for step in done.steps for term in step.terms}
        assert {"ewc", "cross_entropy"} <= terms and ("attention_distillation" in terms) == (other == "seekr")
        assert {step.kind for step in done.steps if "ewc" in step.terms} == {"new", "replay"}
        assert not same_weights(done, run(config_of(other, tasks=2)))


def test_two_methods_that_keep_signals_are_refused() -> None:
    values = {**SETTINGS, "method": {"name": ["seekr", "derpp"]}}
    with pytest.raises(ConfigError, match="seekr and derpp cannot work together"):
        run(parse_config(values, "tiny"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strength": -1.0}, "method.ewc.strength"),
        ({"samples": 0}, "method.ewc.samples"),
        ({"strenght": 1.0}, "method.ewc.strength"),
    ],
)
def test_options_are_refused_with_one_line_that_names_the_field(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        require_methods(config_of(**options))
    assert said in str(refused.value) and "\n" not in str(refused.value)
