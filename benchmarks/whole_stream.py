"""Tokens a second of a whole stream: this project, a loop written by hand, and transformers' Trainer.

    python -m benchmarks.whole_stream           # about a minute and a half on a CPU

The built-in tasks with a random Llama whose steps take tens of milliseconds. A turn of each side is the whole stream
from its samples' text on: `seqft`, `replay` and `seekr` as a run learns them (`run_stream`); the same batches in the
same order, each task with a new AdamW, by a bare PyTorch loop (`seqft`, `replay`) and by one `Trainer` for each task
(`seqft`). Nothing is evaluated, saved or logged on any side. Sides take turns in one process with one thread, from the
same weights; the ratio is the median over the turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.bare import bare_steps
from benchmarks.gpu.compare import Side, compare
from benchmarks.gpu.models import Shape, random_llama
from benchmarks.gpu.trainer import trainer_of
from benchmarks.results import Figure, keep, median_of_ratios
from seekr_tune.config import Config, ModelConfig
from seekr_tune.data.collate import EncodedExample, Encoder
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import TaskStream
from seekr_tune.experiment import load_experiment
from seekr_tune.loop.loop import run_stream
from seekr_tune.methods.seekr.attention import TAP_ATTENTION
from seekr_tune.methods.semantics import CORRECTED
from seekr_tune.models.loading import LoadedModel, load_model

REPEATS = 5
SETTINGS = (
    "stream.tasks=[star, last, paren]",
    "stream.metrics={}",
    "stream.limits.train=160",  # whole batches
    "recipe.epochs=1",
    "recipe.pad_to_multiple_of=1",  # as the other sides pad
    "method.memory.percent=10",
    "evaluation.splits=[]",
)
HIDDEN, LAYERS = 128, 4
METHODS = ("seqft", "replay", "seekr")
GOAL = 0.97

Plan = list[list[list[tuple[int, int]]]]
"""Of each task the batches, in order: task and number of every sample."""


@dataclass(frozen=True)
class Setup:
    """What all sides share.

    Attributes:
        weights: where every turn starts from.
        configs: of each method.
        plans: of each method, the batches that it takes.
    """

    stream: TaskStream
    loaded: LoadedModel
    weights: dict[str, torch.Tensor]
    configs: dict[str, Config]
    plans: dict[str, Plan]

    def prepare(self, side: str) -> None:
        """The first weights again, and the attention that a side would take."""
        self.loaded.model.load_state_dict(self.weights)
        self.loaded.model.set_attn_implementation(TAP_ATTENTION if "by" not in side else "sdpa")
        self.loaded.model.zero_grad(set_to_none=True)


def set_up(hidden: int = HIDDEN, layers: int = LAYERS, settings: Sequence[str] = SETTINGS) -> Setup:
    """Model, tasks, and the batches that each method takes, noted from a run of it."""
    file = Path(__file__).parents[1] / "experiments" / "demo.yaml"
    configs = {name: load_experiment(file, [*settings, f"method.name={name}"]) for name in METHODS}
    stream = load_stream(configs["seqft"], ("train",))
    tokenizer = load_model(ModelConfig()).tokenizer
    model = random_llama(Shape(layers, hidden, 3 * hidden, 4, 4, len(tokenizer)), positions=128)
    loaded = LoadedModel(model, tokenizer, 0)
    weights = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    setup = Setup(stream, loaded, weights, configs, {})
    for name in ("seqft", "replay"):
        setup.prepare(name)
        setup.plans[name] = planned(setup, name)
    return setup


def planned(setup: Setup, method: str) -> Plan:
    """The batches of a method: new samples of the task, and of replayed ones where they came from."""
    plan: Plan = []
    outcomes = run_stream(setup.configs[method], setup.stream, setup.loaded)
    stored: list[tuple[int, int]] = []
    for task, outcome in enumerate(outcomes):
        plan.append(
            [[stored[i] if step.kind == "replay" else (task, i) for i in step.batch or ()] for step in outcome.steps]
        )
        stored = [(sample.task, sample.index) for sample in outcome.state.memory]
    return plan


def ours(setup: Setup, method: str, turn: int) -> None:
    for _ in run_stream(setup.configs[method], setup.stream, setup.loaded):
        pass


def by_hand(setup: Setup, method: str, turn: int) -> None:
    for batches in encoded(setup, method):
        for _ in bare_steps(setup.loaded.model, batches, setup.configs[method].recipe.learning_rate):
            pass


def by_trainer(setup: Setup, method: str, turn: int) -> None:
    rate = setup.configs[method].recipe.learning_rate
    with tempfile.TemporaryDirectory() as scratch:
        for batches in encoded(setup, method):
            trainer_of(setup.loaded.model, batches, rate, len(batches), scratch).train()


def encoded(setup: Setup, method: str) -> list[list[list[EncodedExample]]]:
    """The batches of a plan as tokens."""
    recipe = setup.configs[method].recipe
    encoder = Encoder(setup.loaded.tokenizer, recipe.max_prompt_tokens, recipe.max_answer_tokens, CORRECTED.collation)
    samples = [encoder.encode_all(task.train) for task in setup.stream]
    return [[[samples[task][i] for task, i in batch] for batch in batches] for batches in setup.plans[method]]


def num_tokens(setup: Setup, method: str) -> int:
    """Tokens that a method trains on, every presentation counted."""
    return sum(len(example.input_ids) for batches in encoded(setup, method) for batch in batches for example in batch)


def sides_of(setup: Setup) -> dict[str, Callable[[int], None]]:
    return {
        "seqft": partial(ours, setup, "seqft"),
        "seqft by hand": partial(by_hand, setup, "seqft"),
        "seqft by Trainer": partial(by_trainer, setup, "seqft"),
        "replay": partial(ours, setup, "replay"),
        "replay by hand": partial(by_hand, setup, "replay"),
        "seekr": partial(ours, setup, "seekr"),
    }


def figures_of(sides: dict[str, Side], tokens: dict[str, int]) -> list[Figure]:
    """Speeds, and ratios of speeds: theirs is the longer turn where ours is the faster one."""
    figures = [
        Figure(name=f"whole stream, {name}", value=tokens[name.split()[0]] / side.seconds, unit="tokens/s")
        for name, side in sides.items()
    ]
    goals = {"seqft by hand": GOAL, "seqft by Trainer": 1.0, "replay by hand": None}
    for other, goal in goals.items():
        method = other.split()[0]
        ratio, spread = median_of_ratios(sides[other].turns, sides[method].turns)
        figures.append(
            Figure(
                name=f"speed of a whole stream, {method}",
                against=other.removeprefix(f"{method} "),
                value=ratio,
                spread=spread,
                goal=goal,
                at_least=True,
            )
        )
    ratio, spread = median_of_ratios(sides["replay"].turns, sides["seekr"].turns)
    name = "speed of a whole stream, seekr (10 % of the samples kept)"
    return [*figures, Figure(name=name, against="replay", value=ratio, spread=spread)]


def main() -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    setup = set_up()
    sides = compare(sides_of(setup), torch.device("cpu"), REPEATS, setup.prepare)
    tokens = {method: num_tokens(setup, "seqft" if method == "seqft" else "replay") for method in METHODS}
    keep("whole_stream", time.perf_counter() - started, figures_of(sides, tokens))


if __name__ == "__main__":
    main()
