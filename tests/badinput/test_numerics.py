"""Numbers that go wrong: the run fails with the step, the samples and the term to blame, or goes on rightly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from seekr_tune.cli import main
from seekr_tune.errors import TrainingError
from seekr_tune.methods.seekr.method import Seekr
from seekr_tune.models.loading import LoadedModel
from seekr_tune.study.directory.records import read_records
from tests.loop.tiny import Run, run, tiny_config, tiny_loaded

from .report import Outcome

KIND = "numbers"
NO_SCORES: dict[str, Any] = {"evaluation.splits": ()}


def config(**values: Any) -> Any:
    return tiny_config(**NO_SCORES, **values)


def failure(loaded: LoadedModel | None = None, **values: Any) -> str:
    """The line that a run ends with."""
    with pytest.raises(TrainingError) as caught:
        run(config(**values), loaded)
    line = str(caught.value)
    assert "\n" not in line
    return line


def is_finite(done: Run) -> bool:
    numbers = [number for step in done.steps for number in (step.loss, step.grad_norm, *step.terms.values())]
    return all(number is None or math.isfinite(number) for number in numbers)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_weight_that_is_no_number_is_the_fault_of_the_model(number: float, outcomes: list[Outcome]) -> None:
    loaded = tiny_loaded()
    with torch.no_grad():
        loaded.model.lm_head.weight[0, 0] = number
    line = failure(loaded)
    assert line.startswith("stage 'first', step 0 (new, train rows ") and "cross_entropy is nan" in line
    assert line.endswith("nothing was learned yet: check the weights of the model")
    outcomes.append(Outcome(KIND, f"a weight that is {number}", "fails", line))


def test_a_loss_that_explodes_names_rows_and_rate(outcomes: list[Outcome]) -> None:
    line = failure(**{"recipe.learning_rate": 1e25, "recipe.max_grad_norm": None})
    assert "(new, train rows" in line and line.endswith("lower recipe.learning_rate")
    outcomes.append(Outcome(KIND, "a loss that explodes", "fails", line))


def test_a_gradient_that_is_no_number_is_told_from_its_loss(outcomes: list[Outcome]) -> None:
    loaded = tiny_loaded()
    loaded.model.lm_head.weight.register_hook(lambda gradient: gradient * math.inf)
    line = failure(loaded)
    assert "step 0 (new, train rows" in line and "grad_norm is" in line and "cross_entropy" not in line
    outcomes.append(Outcome(KIND, "a gradient that is no number", "fails", line))


def test_a_weight_of_distillation_that_explodes_names_the_stored_samples(outcomes: list[Outcome]) -> None:
    line = failure(**{"method.seekr.attention_weight": 1e38, "recipe.learning_rate": 0.05})
    assert "(replay, first row " in line and line.endswith("method.seekr.attention_weight")
    outcomes.append(Outcome(KIND, "a weight of distillation that explodes", "fails", line))


@pytest.mark.parametrize("term", ["logits", "attention"])
def test_a_term_of_distillation_that_is_no_number_is_the_one_to_blame(
    term: str, monkeypatch: pytest.MonkeyPatch, outcomes: list[Outcome]
) -> None:
    setting, kept = {"logits": "logit", "attention": "attention"}[term], Seekr.terms

    def broken(*args: Any) -> Any:
        terms = kept(*args)
        name = f"{setting}_distillation"
        return {**terms, name: terms[name] * math.nan} if terms else {}

    monkeypatch.setattr(Seekr, "terms", broken)
    line = failure()
    assert f"{setting}_distillation is nan" in line and line.endswith(f"method.seekr.{setting}_weight")
    outcomes.append(Outcome(KIND, f"a distillation of {term} that is no number", "fails", line))


@pytest.mark.parametrize(("dtype", "rate"), [("float32", 1e-30), ("bfloat16", 1e-6)])
def test_updates_that_the_weights_cannot_hold_are_no_training(dtype: str, rate: float, outcomes: list[Outcome]) -> None:
    loaded = tiny_loaded()
    with torch.no_grad():
        for weight in loaded.model.parameters():  # none so small that the update would still be seen in it
            weight.copy_(torch.where(weight.abs() < 0.05, 0.05, weight))
    loaded.model.to(getattr(torch, dtype))
    line = failure(loaded, **{"recipe.learning_rate": rate})
    assert line.startswith("stage 'first': 6 updates changed no weight") and f"is lost in {dtype}" in line
    assert ("model.dtype to float32" in line) == (dtype == "bfloat16")
    outcomes.append(Outcome(KIND, f"updates that are lost in {dtype}, so that no head matters", "fails", line))


@pytest.mark.parametrize("semantics", ["corrected", "official"])
def test_warmup_steps_of_rate_zero_are_no_lost_updates(semantics: str) -> None:
    values = {"recipe.lr_schedule": "constant_with_warmup", "recipe.warmup_steps": 1000, "recipe.epochs": 1}
    assert run(config(**{"method.semantics": semantics}, **values)).outcomes


@pytest.mark.parametrize("name", ["replay", "derpp", "seekr"])
def test_rows_that_are_mostly_padding_change_no_loss(name: str, outcomes: list[Outcome]) -> None:
    """Sixty pads and more in front of each row: their queries see nothing at all."""
    narrow = run(config(**{"method.name": name, "recipe.pad_to_multiple_of": 1}))
    wide = run(config(**{"method.name": name, "recipe.pad_to_multiple_of": 64}))
    assert is_finite(wide)
    for ours, expected in zip(wide.steps[:4], narrow.steps[:4], strict=True):
        assert ours.loss == pytest.approx(expected.loss, rel=1e-3)
    outcomes.append(Outcome(KIND, f"rows that are all masked ({name})", "works"))


def test_answers_of_one_token_are_learned(outcomes: list[Outcome]) -> None:
    done = run(config(**{"recipe.max_answer_tokens": 1}))
    assert is_finite(done) and any(step.terms.get("attention_distillation") for step in done.steps)
    outcomes.append(Outcome(KIND, "answers of one token, their end", "works"))


def test_a_head_that_attends_to_everything_alike_is_no_obstacle(outcomes: list[Outcome]) -> None:
    loaded = tiny_loaded()
    with torch.no_grad():
        for layer in loaded.model.model.layers:
            layer.self_attn.q_proj.weight.zero_()
    assert is_finite(run(config(), loaded))
    outcomes.append(Outcome(KIND, "heads that attend to nothing in particular", "works"))


@pytest.mark.ray
def test_a_trial_that_diverges_fails_and_its_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: list[Outcome]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "stream: {tasks: [star, last], limits: {train: 16, eval: 4}}\n"
        "recipe: {max_prompt_tokens: 40, max_answer_tokens: 4, batch_size: 4, learning_rate: 1.0e-3}\n"
        "method: {replay_percent: 25}\n"
        "study: {space: space.yaml, trials: 2, sampler: grid, bounds: []}\n"
    )
    (tmp_path / "space.yaml").write_text(
        "method.seekr.attention_weight: {type: categorical, choices: [10.0, 1.0e+38]}\n"
    )
    assert main(["sweep", "mine.yaml", "--out", "study"]) == 0
    records = {record.params["method.seekr.attention_weight"]: record for record in read_records(tmp_path / "study")}
    assert (records[10.0].status, records[1e38].status) == ("finished", "failed")
    error = str(records[1e38].error)
    assert "stage 'last', step" in error and "(replay, star row " in error
    outcomes.append(Outcome(KIND, "one trial of a study that diverges", "fails, the others go on", error))
