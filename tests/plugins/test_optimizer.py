"""An optimizer that an experiment names: what it is made with, what is saved of it, and what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from seekr_tune.config import Config
from seekr_tune.config.plugins import with_plugins
from seekr_tune.data.sources import load_stream
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import parse_config
from seekr_tune.loop.optimizer import Kept, new_optimizer, require_optimizer
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.study.runs.cache_keys import shared_directories
from seekr_tune.testing.runs import RANKS, Result, experiment_of, learn, on_ranks

SIGNS = '''
import torch


class Signs(torch.optim.Optimizer):
    """Steps along the sign of a sum; keeps row sums, a count, a name and a decay of its own."""

    def __init__(self, parameters, lr, decay=0.5, rows=True):
        super().__init__(parameters, {"lr": lr, "decay": decay, "rows": rows, "shrunk": 1.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["shrunk"] *= group["decay"]
            for weight in group["params"]:
                state = self.state[weight]
                state["count"] = state.get("count", 0) + 1
                state["named"] = f"after {state['count']}"
                total = state.setdefault("total", torch.zeros_like(weight))
                total.mul_(0.9).add_(weight.grad)
                move = total.sign()
                if group["rows"]:
                    rows = state.setdefault("rows", torch.zeros(3, dtype=torch.float64))
                    rows.add_(float(weight.grad.sum()))
                    move = move * (1 + rows.mean().float().sigmoid())
                weight.sub_(move, alpha=group["lr"] * (0.1 + group["shrunk"]) * (1 + 0.1 * (state["count"] % 3)))
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "signs.py").write_text(SIGNS)
    return tmp_path


def config_of(folder: Path, way: str = "single", optimizer: str = "./signs.py:Signs", **recipe: Any) -> Config:
    base = experiment_of(("replay",), {}, folder, way).model_dump(mode="json")
    base["recipe"] |= {"optimizer": optimizer, "reset_optimizer": False, **recipe}
    return parse_config(with_plugins(base, folder, "own"), "own")


def same(one: Result, other: Result) -> bool:
    steps = [[(step.loss, step.grad_norm, step.learning_rate) for step in own.steps] for own in (one, other)]
    return steps[0] == steps[1] and all(bool((own == other.weights[name]).all()) for name, own in one.weights.items())


def test_its_state_of_any_shape_comes_back_bit_for_bit(folder: Path) -> None:
    whole = learn(config_of(folder))
    assert same(learn(config_of(folder), folder / "pieces", in_pieces=True), whole)
    forgetful = learn(config_of(folder, reset_optimizer=True))
    assert not same(forgetful, whole)  # what is kept over tasks matters
    assert same(learn(config_of(folder, reset_optimizer=True), folder / "others", in_pieces=True), forgetful)


@pytest.mark.parametrize(
    ("optimizer", "options", "kept"),
    [
        ("torch.optim:SGD", {}, Kept(0, True)),
        ("torch.optim:SGD", {"momentum": 0.9}, Kept(1, True)),
        ("torch.optim:NAdam", {"betas": [0.9, 0.95]}, Kept(2, True)),
        ("torch.optim:Adafactor", {}, Kept(0, False)),
    ],
)
def test_a_class_of_pytorchs_is_made_with_its_options(
    optimizer: str, options: dict[str, Any], kept: Kept, tmp_path: Path
) -> None:
    config = config_of(tmp_path, optimizer=optimizer, optimizer_options=options)
    assert require_optimizer(config) == kept
    made = new_optimizer(config, [torch.nn.Parameter(torch.zeros(2))], fused=False)
    assert type(made) is getattr(torch.optim, optimizer.rpartition(":")[2])
    assert {"lr": 1e-3, **options}.items() <= {
        key: list(value) if isinstance(value, tuple) else value for key, value in made.param_groups[0].items()
    }.items()


def test_one_step_of_sgd_is_what_the_formula_says(tmp_path: Path) -> None:
    config = config_of(tmp_path, optimizer="torch.optim:SGD", optimizer_options={"weight_decay": 0.5})
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    weight.grad = torch.tensor([3.0])
    new_optimizer(config, [weight], fused=False).step()
    assert float(weight.detach()) == pytest.approx(2.0 - 1e-3 * (3.0 + 0.5 * 2.0))


def test_two_workers_get_the_numbers_of_one_and_hand_over_to_it(folder: Path) -> None:
    """Divided over FSDP only where it goes by element; one process ends what two have begun."""
    options = {"rows": False}
    alone = learn(config_of(folder, optimizer_options=options))
    configs = {way: config_of(folder, way, optimizer_options=options) for way in ("ddp", "fsdp")}
    ranks = on_ranks(partial(_both, configs, folder / "handed"))
    assert len(ranks) == RANKS
    losses = [step.loss for step in alone.steps]
    for results in ranks:
        for way, result in results.items():
            assert [step.loss for step in result.steps] == pytest.approx(losses, rel=2e-2), way
    ended = learn(config_of(folder, optimizer_options=options), folder / "handed")
    assert [step.loss for step in ended.steps] == pytest.approx(losses[-len(ended.steps) :], rel=2e-2)


def _both(configs: dict[str, Config], handed: Path) -> dict[str, Result]:
    learn(configs["fsdp"], handed, tasks=2)
    return {way: learn(config) for way, config in configs.items()}


def test_its_code_and_options_are_in_the_name_of_a_shared_first_stage(folder: Path) -> None:
    def stage(config: Config) -> Path:
        found = shared_directories(folder / "cache", config, load_stream(config, ("train",)), SingleProcess())
        assert found is not None
        return found.stage

    one, slower = config_of(folder), config_of(folder, optimizer_options={"decay": 0.25})
    (folder / "signs.py").write_text(SIGNS.replace("0.9", "0.8"))
    names = {stage(config) for config in (one, slower, config_of(folder), config_of(folder, optimizer="adamw"))}
    assert len(names) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Signs = 3\n", "cannot be made with {'lr': 0.001} (TypeError: 'int' object is not callable)"),
        ("def Signs(weights, lr):\n    return lr\n", "makes no torch.optim.Optimizer"),
        ("from torch.optim import LBFGS as Signs\n", "a step fails that is taken without a closure"),
        (SIGNS.replace('f"after', '[1], f"after'), "of its state 'named' is a tuple, which is not saved"),
        (SIGNS.replace('*= group["decay"]', "= {1}"), "a step fails"),
        (SIGNS.replace("for w", "group['seen'] = {1}\n            for w"), "of its state 'seen' is a set, which"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_in_one_line(text: str, said: str, folder: Path) -> None:
    (folder / "signs.py").write_text(text)
    with pytest.raises(ConfigError) as refused:
        require_optimizer(config_of(folder))
    assert str(refused.value).startswith("optimizer signs (./signs.py:Signs): ")
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_state_of_other_shapes_is_refused_where_weights_are_divided(folder: Path) -> None:
    require_optimizer(config_of(folder, "ddp"))
    with pytest.raises(ConfigError, match="fsdp cannot divide among workers; set training.strategy to ddp"):
        require_optimizer(config_of(folder, "fsdp"))


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"optimizer": "adamw", "optimizer_options": {"eps": 1e-6}}, "optimizer_options are not read by adamw"),
        ({"weight_decay": 0.1}, "weight_decay is read by adamw alone; give signs its own in optimizer_options"),
        ({"betas": [0.8, 0.9]}, "betas is read by adamw alone"),
        ({"optimizer": "adam"}, "recipe.optimizer='adam' is refused: did you mean 'adamw'?"),
        ({"optimizer": "torch.optimum:SGD"}, "no installed package has a module torch.optimum"),
    ],
)
def test_settings_that_nobody_reads_and_names_that_are_none(recipe: dict[str, Any], said: str, folder: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        config_of(folder, **recipe)
    assert said in str(refused.value)
