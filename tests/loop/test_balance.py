"""The shares of the loss terms in the replay gradient: measured without a trace, and given."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.config import Config
from seekr_tune.loop.balance import measured_steps
from seekr_tune.loop.learner import Learner
from seekr_tune.loop.schedule import Step
from seekr_tune.methods.protocol import StepView
from seekr_tune.methods.terms import shares_of, weight_of_share

from .test_first_stage import loaded_for
from .tiny import Run, run, same_weights, tiny_config

TERMS = ("cross_entropy", "logit_distillation", "attention_distillation")
SETTINGS: dict[str, dict[str, Any]] = {
    "seekr": {},
    "micro-batches": {"recipe.micro_batch_size": 1},
    "derpp": {"method.name": "derpp"},
    "adapters with dropout": {"model.lora": {"rank": 2, "alpha": 4, "dropout": 0.3}},
    "recomputed activations": {"training.activation_checkpointing": True},
    "moments that are kept": {"recipe.reset_optimizer": False},
    "official": {  # gradients of earlier steps wait while a step is measured
        "method.semantics": "official",
        "recipe.batch_size": 5,
        "recipe.micro_batch_size": 1,
        "recipe.replay_batch_size": 1,
    },
}


def learned(config: Config, directory: Path | None = None) -> Run:
    return run(config, loaded_for(config), directory)


def unmeasured(step: StepRecord) -> dict[str, Any]:
    """A step without times and shares."""
    kept = asdict(step) | {"seconds": 0, "distillation_seconds": 0}
    return {name: value for name, value in kept.items() if name != "shares"}


def measured(done: Run) -> list[StepRecord]:
    return [step for step in done.steps if step.shares]


@pytest.mark.parametrize("name", SETTINGS)
def test_measuring_leaves_no_trace_in_what_is_learned(name: str) -> None:
    without = learned(tiny_config(**SETTINGS[name], **{"training.gradient_shares_every": None}))
    assert measured(without) == []
    every = learned(tiny_config(**SETTINGS[name], **{"training.gradient_shares_every": 1}))
    assert len(measured(every)) == sum(step.kind == "replay" for step in every.steps) > 0
    assert same_weights(every, without)
    assert [unmeasured(step) for step in every.steps] == [unmeasured(step) for step in without.steps]


def test_shares_are_norms_of_the_weighted_terms_by_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against torch's own derivative of each term, from the same graph."""
    found: list[list[float]] = []
    terms_of = Learner._terms

    def watched(self: Learner, model: Any, step: StepView, weights: Any) -> Any:
        terms = terms_of(self, model, step, weights)
        if step.samples and all(weights.values()):  # not a measurement, which leaves one term alone
            parts = (weight * terms[name].value for name, weight in zip(TERMS, (0.5, 0.5, 10), strict=True))
            found.append([_norm(part, self._loaded.model) for part in parts])
        return terms

    monkeypatch.setattr(Learner, "_terms", watched)
    done = learned(tiny_config(**{"training.gradient_shares_every": 1}))
    assert len(measured(done)) == len(found) > 0
    for step, norms in zip(measured(done), found, strict=True):
        shares = [step.shares[term] for term in TERMS]
        assert shares == pytest.approx([norm / sum(norms) for norm in norms], rel=1e-4)
        assert sum(shares) == pytest.approx(1)
        assert step.weights["attention_distillation"] == 10


def _norm(part: Tensor, model: torch.nn.Module) -> float:
    own = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(part, own, retain_graph=True, allow_unused=True)
    return float(torch.stack([g.double().square().sum() for g in gradients if g is not None]).sum().sqrt())


def test_a_share_of_attention_is_had_wherever_it_is_found_anew() -> None:
    done = learned(tiny_config(**{"method.seekr.attention_share": 0.3, "training.gradient_shares_every": None}))
    found = measured(done)
    replayed = [[step.step for step in outcome.steps if step.kind == "replay"] for outcome in done.outcomes]
    assert [(step.task_index, step.step) for step in found] == [
        (stage, steps[place]) for stage, steps in enumerate(replayed) for place in (0, 1, 3, 7) if place < len(steps)
    ]
    for step in found:
        assert step.shares["attention_distillation"] == pytest.approx(0.3, rel=1e-3)
        assert step.weights["attention_distillation"] > 0
    weights = {step.weights["attention_distillation"] for step in done.steps if step.kind == "replay"}
    assert len(weights) == len(found)  # it holds between


def test_a_run_with_a_share_that_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = tiny_config(
        **{"method.seekr.attention_share": 0.3, "training.checkpoint_steps": 1, "recipe.replay_batch_size": 1}
    )
    whole = learned(config)
    killed = next(
        (step.task_index, step.step) for step in whole.steps if step.kind == "replay" and step.task_index == 2
    )

    class Killed(BaseException):
        pass

    def die(record: StepRecord) -> None:
        if (record.task_index, record.step) == (killed[0], killed[1] + 2):
            raise Killed

    with pytest.raises(Killed):
        run(config, loaded_for(config), tmp_path, on_step=die)
    resumed = run(config, loaded_for(config), tmp_path)
    assert same_weights(resumed, whole)
    mine = {(step.task_index, step.step): unmeasured(step) for step in resumed.steps}
    assert mine == {
        key: one for step in whole.steps if (key := (step.task_index, step.step)) in mine and (one := unmeasured(step))
    }


def test_steps_are_measured_in_the_middle_of_equal_parts_and_where_a_weight_is_found() -> None:
    steps = [Step("new", (0,)), *[Step("replay", (0,))] * 10]
    assert measured_steps(steps, 100, calibrates=False) == {6}
    assert measured_steps(steps, 5, calibrates=False) == {3, 8}
    assert measured_steps(steps, None, calibrates=True) == {1, 2, 4, 8}
    assert measured_steps(steps[:1], 5, calibrates=True) == frozenset()


def test_a_weight_stays_where_nothing_can_be_measured_and_is_bounded() -> None:
    norms = {"cross_entropy": 2.0, "attention_distillation": 0.5}
    term = "attention_distillation"
    assert weight_of_share(0.5, norms, term, 7.0) == 4.0
    assert weight_of_share(0.2, norms, term, 7.0) == pytest.approx(1.0)
    assert weight_of_share(0.5, norms | {term: 1e-12}, term, 7.0) == pytest.approx(1e6)
    for wrong in (0.0, float("nan"), float("inf")):
        assert weight_of_share(0.5, norms | {term: wrong}, term, 7.0) == 7.0
    assert shares_of({"cross_entropy": float("nan")}) == {}
    assert shares_of({"cross_entropy": 1.0, term: 3.0}) == {"cross_entropy": 0.25, term: 0.75}
