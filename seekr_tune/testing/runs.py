"""Small runs of a method: the built-in model on a few rows, whole, in pieces, and on two ranks."""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import set_forkserver_preload
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import start_processes

from seekr_tune.checkpoint.shards import laid_out_like
from seekr_tune.checkpoint.state import StepRecord, TaskOutcome
from seekr_tune.cluster.strategy import group_workers, local_workers
from seekr_tune.config import Config
from seekr_tune.config.plugins import is_spec, with_plugins
from seekr_tune.data.sources import load_stream
from seekr_tune.experiment import parse_config
from seekr_tune.loop.loop import StreamRun
from seekr_tune.methods.memory import ReplayMemory
from seekr_tune.methods.protocol import MethodState
from seekr_tune.models.converter import converter_of
from seekr_tune.models.loading import load_model
from seekr_tune.plugins import ROOT

T = TypeVar("T")

RANKS = 2
PATIENCE = timedelta(minutes=5)
"""After this a collective that some rank never joins is an error and not a wait."""
WAYS: Mapping[str, Mapping[str, Any]] = {
    "single": {},
    "ddp": {"training": {"workers": RANKS, "strategy": "ddp"}},
    "fsdp": {"training": {"workers": RANKS, "strategy": "fsdp"}},
    "lora": {"model": {"lora": {"rank": 4, "alpha": 16, "target_modules": ["q_proj", "down_proj"]}}},
}
"""Ways to run, and what an experiment says of them; `lora+ddp` is both."""

_SETTINGS: Mapping[str, Any] = {
    "name": "contract",
    "stream": {"tasks": ["star", "last", "paren"], "limits": {"train": 5}},
    # Batches of 3 and 2, and of 1 stored sample now and then: one rank of two has less to do, or nothing.
    "recipe": {
        "learning_rate": 1e-3,
        "batch_size": 3,
        "replay_batch_size": 3,
        "max_prompt_tokens": 40,
        "max_answer_tokens": 4,
    },
    "evaluation": {"splits": []},
}
_METHOD: Mapping[str, Any] = {"replay_percent": 40.0, "head_budget": 3, "query_budget": 8, "attention_weight": 10.0}


def experiment_of(methods: Sequence[str], options: Mapping[str, Any], beside: Path, way: str = "single") -> Config:
    """A small experiment with a method.

    Args:
        methods: names, or `./file.py:Class`; `options` are those of the last one.
        options: by name; of a built-in method, the settings of the section `method`.
        beside: directory that files are named from.
        way: of `WAYS`, several joined with `+`.

    Raises:
        ConfigError: it is none.
    """
    last = methods[-1]
    own = {option_key(last): dict(options)} if is_spec(last) else dict(options)
    values = {**_SETTINGS, "method": {**_METHOD, "name": list(methods) if len(methods) > 1 else last, **own}}
    values |= {section: dict(given) for one in way.split("+") for section, given in WAYS[one].items()}
    return parse_config(with_plugins(values, beside, "contract"), "contract")


def option_key(method: str) -> str:
    """What an experiment calls a method: `./ewc.py:EWC` is `ewc`."""
    return method.rpartition(":")[2].lower()


@dataclass(frozen=True)
class Result:
    """What one rank knows when the stream is learned.

    Attributes:
        steps: all of them.
        start, weights: trained parameters before and after, whole.
        memory: what is stored; teacher signals are those that this rank holds.
        method: what the method knows, whole.
        state_bytes: after each task, as the run has noted it.
    """

    steps: tuple[StepRecord, ...]
    start: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    memory: ReplayMemory
    method: MethodState
    state_bytes: tuple[int | None, ...]


def learn(
    config: Config, directory: Path | None = None, *, in_pieces: bool = False, tasks: int | None = None
) -> Result:
    """Learn the stream, in the process group if there is one.

    Args:
        config: what `experiment_of` returned.
        directory: where it is saved, and taken up again.
        in_pieces: stop after every step and every task; each piece begins with a model that is loaded anew, and with a
            method whose code is imported anew.
        tasks: stop when as many are learned; None: all.
    """
    stream = load_stream(config, ("train",))
    outcomes: list[TaskOutcome] = []
    while True:
        _forget_plugins()
        workers = group_workers(config, torch.device("cpu")) if dist.is_initialized() else local_workers(config)
        torch.manual_seed(config.seed)  # as a trial does: adapters start from random weights
        loaded = load_model(config.model, compare=False, convert=converter_of(config))
        start = whole(loaded.trainable())
        asked: list[None] = []

        def stop_asked(asked: list[None] = asked) -> bool:
            asked.append(None)
            return (in_pieces and len(asked) > 1) or (tasks is not None and len(outcomes) >= tasks)

        run = StreamRun(config, stream, loaded, directory=directory, workers=workers, stop_asked=stop_asked)
        for outcome in run.outcomes():
            outcomes.append(outcome)
        if not in_pieces or not run.stopped:
            break
    state, parameters = outcomes[-1].state if outcomes else run.state, loaded.trainable()
    assert state is not None
    known = {
        name: whole({one: laid_out_like(parameters[one], part) for one, part in sorted(parts.items())})
        for name, parts in sorted(state.method.weights.items())
    }
    return Result(
        steps=tuple(step for outcome in outcomes for step in outcome.steps),
        start=start,
        weights=whole(parameters),
        memory=state.memory,
        method=MethodState(known, state.method.tensors, state.method.facts),
        state_bytes=tuple(entry.state_bytes for entry in state.history),
    )


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tensors, which may be sharded; every rank calls it."""
    return {
        name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()
        for name, tensor in tensors.items()
    }


def on_ranks(work: Callable[[], T]) -> list[T]:
    """What a function returns on each of two processes that form a group on the CPU, in rank order.

    Args:
        work: can be pickled; it is called in processes that import it anew.
    """
    set_forkserver_preload(["peft", __name__])  # where no server runs yet: importing takes longer than what is run
    with tempfile.TemporaryDirectory(prefix="seekr-tune-contract-") as room:
        start_processes(_rank_main, (work, Path(room)), nprocs=RANKS, start_method="forkserver")  # type: ignore[no-untyped-call]
        results = []
        for rank in range(RANKS):
            with (Path(room) / f"{rank}").open("rb") as file:
                results.append(pickle.load(file))  # of our own processes
    return results


def _rank_main(rank: int, work: Callable[[], Any], room: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{room}/meeting", rank=rank, world_size=RANKS, timeout=PATIENCE)
    with (room / f"{rank}").open("wb") as file:
        pickle.dump(work(), file)
    dist.destroy_process_group()


def _forget_plugins() -> None:
    """What a killed process forgets: code of a user is imported anew."""
    for name in [name for name in sys.modules if name.startswith(f"{ROOT}.")]:
        del sys.modules[name]
