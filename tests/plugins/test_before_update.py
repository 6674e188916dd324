"""Where `before_update` stands: once an optimizer step, after accumulation and reduction, before clipping."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.experiment import with_values
from seekr_tune.testing.runs import RANKS, Result, experiment_of, learn, on_ranks

METHOD = '''
import torch
from seekr_tune.methods import Method, MethodState, Update


class Doubled(Method):
    """Notes the norm of each gradient, and doubles it."""

    def __init__(self, options, setting):
        super().__init__(options, setting)
        self.norms = []

    def before_update(self, update: Update):
        squares = torch.stack([gradient.double().square().sum() for gradient in update.gradients.values()])
        self.norms.append(float(update.total(squares.sum()).sqrt()))
        for gradient in update.gradients.values():
            gradient.mul_(2)

    def state(self):
        return MethodState(facts={"norms": self.norms})
'''
CLIPPED = 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doubled")
    (folder / "doubled.py").write_text(METHOD)
    return folder


def config_of(folder: Path, way: str = "single") -> Config:
    config = experiment_of(("./doubled.py:Doubled",), {}, folder, way)
    recipe = {"recipe.epochs": 2, "recipe.micro_batch_size": 1, "recipe.max_grad_norm": CLIPPED}
    return with_values(config, {"stream.tasks": ["star"], **recipe})


@pytest.fixture(scope="module")
def alone(folder: Path) -> Result:
    return learn(config_of(folder))


def norms(result: Result) -> list[float]:
    return list(result.method.facts["doubled"]["norms"])


def test_once_a_step_after_all_its_passes_and_before_clipping(alone: Result) -> None:
    """Three passes a step; the norm that a step logs, before clipping, is that of the doubled gradient."""
    assert len(norms(alone)) == len(alone.steps) and min(norms(alone)) > CLIPPED
    assert [step.grad_norm for step in alone.steps] == pytest.approx([2 * norm for norm in norms(alone)], rel=1e-5)


def test_once_an_update_where_gradients_wait_for_several_steps(folder: Path) -> None:
    waits = with_values(config_of(folder), {"method.semantics": "official"})
    result = learn(waits)
    updates = [step.grad_norm for step in result.steps if step.grad_norm is not None]
    assert 0 < len(updates) < len(result.steps)
    assert updates == pytest.approx([2 * norm for norm in norms(result)], rel=1e-5)


def test_on_every_rank_the_reduced_gradient_and_its_total(folder: Path, alone: Result) -> None:
    ranks = on_ranks(partial(_both, {way: config_of(folder, way) for way in ("ddp", "fsdp")}))
    assert len(ranks) == RANKS
    for results in ranks:
        for way, result in results.items():
            assert norms(result) == pytest.approx(norms(alone), rel=1e-3), way
            logged = [step.grad_norm for step in result.steps]
            assert logged == pytest.approx([2 * norm for norm in norms(result)], rel=1e-5)


def _both(configs: dict[str, Config]) -> dict[str, Result]:
    return {way: learn(config) for way, config in configs.items()}
