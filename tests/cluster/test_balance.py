"""Two ranks measure the terms of the replay gradient: without a trace, and with the numbers of one process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pytest
import torch

from seekr_tune.cluster.strategy import group_workers

from ..loop.tiny import run, tiny_config, tiny_loaded
from .ranks import run_ranks

SETTINGS: dict[str, dict[str, Any]] = {
    "ddp": {"training.strategy": "ddp"},
    "ddp, a rank without samples": {
        "training.strategy": "ddp",
        "recipe.replay_batch_size": 1,
        "method.memory.percent": 9.0,
    },
    "ddp, gradients that wait": {
        "training.strategy": "ddp",
        "method.semantics": "official",
        "recipe.batch_size": 4,
        "recipe.micro_batch_size": 2,
    },
    "fsdp": {"training.strategy": "fsdp"},
    "fsdp, a rank without samples": {
        "training.strategy": "fsdp",
        "recipe.replay_batch_size": 1,
        "method.memory.percent": 9.0,
    },
    "a share": {"training.strategy": "ddp", "method.seekr.attention_share": 0.3},
}
ALONE = {"training.workers": 0, "training.strategy": None}
BASE: dict[str, Any] = {"training.workers": 2, "recipe.epochs": 1, "evaluation.splits": ()}


@dataclass(frozen=True)
class Measures:
    """Learns every scenario with and without measurements."""

    def __call__(self) -> dict[str, Any]:
        return {name: {every: learned(name, every) for every in (None, 1)} for name in SETTINGS}


def learned(name: str, every: int | None) -> dict[str, Any]:
    config = tiny_config(**BASE, **SETTINGS[name], **{"training.gradient_shares_every": every})
    done = run(config, tiny_loaded(), workers=group_workers(config, torch.device("cpu")))
    weights = {key: w.full_tensor() if hasattr(w, "full_tensor") else w.clone() for key, w in done.weights.items()}
    steps = [asdict(step) | {"seconds": 0, "distillation_seconds": 0} for step in done.steps]
    return {"weights": weights, "steps": steps}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_ranks(Measures(), 2, tmp_path_factory.mktemp("measured"))


@pytest.mark.parametrize("name", SETTINGS)
def test_two_ranks_learn_the_same_bits_whether_they_measure_or_not(ranks: list[dict[str, Any]], name: str) -> None:
    for rank in ranks:
        without, every = rank[name][None], rank[name][1]
        replayed = [step for step in every["steps"] if step["kind"] == "replay"]
        assert replayed and all("attention_distillation" in step["shares"] for step in replayed)
        assert every["steps"] == ranks[0][name][1]["steps"]
        if name == "a share":  # what is measured decides
            continue
        assert all(torch.equal(weight, without["weights"][key]) for key, weight in every["weights"].items())
        unmeasured = [{**step, "shares": {}} for step in every["steps"]]
        assert unmeasured == without["steps"]


@pytest.mark.parametrize("name", [name for name in SETTINGS if "wait" not in name])
def test_two_ranks_measure_what_one_process_measures(ranks: list[dict[str, Any]], name: str) -> None:
    config = tiny_config(**BASE | SETTINGS[name] | ALONE, **{"training.gradient_shares_every": 1})
    alone = run(config, tiny_loaded())
    for ours, expected in zip(ranks[0][name][1]["steps"], alone.steps, strict=True):
        assert ours["shares"] == pytest.approx(expected.shares, rel=0.02, abs=1e-5), (name, expected.step)
