"""A model, a tokenizer and three tasks that are small enough to learn in a fraction of a second."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from seekr_tune.checkpoint.state import StepRecord, TaskOutcome
from seekr_tune.config import Config, Split
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.task import Example, Task, TaskStream
from seekr_tune.experiment import parse_config, with_values
from seekr_tune.loop.loop import run_stream
from seekr_tune.methods.memory import ReplayMemory, TeacherSignals
from seekr_tune.methods.seekr.attention import TAP_ATTENTION
from seekr_tune.methods.workers import Workers
from seekr_tune.models.loading import LoadedModel

SPECIAL = ("<unk>", "<pad>", "<s>", "</s>")
WORDS = tuple(f"w{number}" for number in range(56))
VOCABULARY = (*SPECIAL, *WORDS, "first", "last", "second", ":")
ROWS: dict[Split, int] = {"train": 12, "eval": 4, "test": 3}
TASKS: dict[str, Callable[[list[str]], str]] = {
    "first": lambda words: words[0],
    "last": lambda words: words[-1],
    "second": lambda words: f"{words[1]} {words[0]}",
}
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "stream": {"tasks": list(TASKS)},
    "recipe": {
        "epochs": 2,
        "learning_rate": 0.01,
        "batch_size": 4,
        "replay_batch_size": 2,
        "max_prompt_tokens": 12,
        "max_answer_tokens": 3,
    },
    "method": {"replay_percent": 25.0, "head_budget": 3, "layer_ratio": 1.0, "query_budget": 5, "attention_weight": 10},
    "evaluation": {"matrix": "diagonal_and_last"},
}


def tiny_config(**values: Any) -> Config:
    """The settings of these tests, with some of them changed: `tiny_config(**{"method.name": "derpp"})`."""
    return with_values(parse_config(SETTINGS, "tiny"), values)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, padding_side="left", **names)


def tiny_model(seed: int = 0, family: str = "llama", **changes: Any) -> Any:
    """A random model whose attention is uneven; the caller's random state is left alone."""
    settings = SIZES | {"vocab_size": len(VOCABULARY), "initializer_range": 0.2} | changes
    config = AutoConfig.for_model(family, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, attn_implementation=TAP_ATTENTION)


def tiny_loaded(seed: int = 0, **changes: Any) -> LoadedModel:
    """The model beside its tokenizer, as `load_model` would return them."""
    tokenizer = tiny_tokenizer()
    return LoadedModel(tiny_model(seed, **changes), tokenizer, tokenizer.pad_token_id)


def saved_model(directory: Path, family: str = "llama", **changes: Any) -> Path:
    """A tiny model directory as a user has it."""
    tiny_model(family=family, **changes).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def tiny_stream(tasks: tuple[str, ...] = tuple(TASKS)) -> TaskStream:
    """Notes of 3 to 7 words; the answer is one of them, or two."""
    return TaskStream(
        tuple(Task(name, SCORERS["exact_match"], {s: _examples(name, s) for s in ROWS}) for name in tasks)
    )


def _examples(name: str, split: Split) -> tuple[Example, ...]:
    rng = random.Random(f"{name}/{split}")
    notes = [rng.sample(WORDS, rng.randint(3, 7)) for _ in range(ROWS[split])]
    return tuple(Example(f"{name} : {' '.join(words)} :", TASKS[name](words)) for words in notes)


@dataclass(frozen=True)
class Run:
    """A run of the loop that is over, and the model that it left behind."""

    outcomes: tuple[TaskOutcome, ...]
    loaded: LoadedModel

    @property
    def steps(self) -> list[StepRecord]:
        return [step for outcome in self.outcomes for step in outcome.steps]

    @property
    def losses(self) -> list[tuple[str, float, float]]:
        return [(step.kind, step.loss, step.terms["cross_entropy"]) for step in self.steps]

    @property
    def weights(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self.loaded.model.named_parameters()}


def run(
    config: Config,
    loaded: LoadedModel | None = None,
    directory: Path | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
    workers: Workers | None = None,
) -> Run:
    """Learn the whole tiny stream."""
    loaded = loaded or tiny_loaded()
    stream = tiny_stream(config.stream.tasks)
    outcomes = run_stream(config, stream, loaded, directory=directory, on_step=on_step, workers=workers)
    return Run(tuple(outcomes), loaded)


def same_weights(one: Run, other: Run) -> bool:
    """Bit for bit."""
    assert one.weights.keys() == other.weights.keys()
    return all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())


def same_memory(one: ReplayMemory, other: ReplayMemory) -> bool:
    """Samples and teacher signals, bit for bit."""
    return len(one) == len(other) and all(
        (a.task, a.index, a.num_labels) == (b.task, b.index, b.num_labels)
        and torch.equal(a.input_ids, b.input_ids)
        and torch.equal(a.queries, b.queries)
        and dict(a.heads) == dict(b.heads)
        and _same_teacher(a.teacher, b.teacher)
        for a, b in zip(one, other, strict=True)
    )


def _same_teacher(one: TeacherSignals | None, other: TeacherSignals | None) -> bool:
    if one is None or other is None:
        return one is other
    ours, others = one.tensors(), other.tensors()
    return ours.keys() == others.keys() and all(torch.equal(ours[name], others[name]) for name in ours)
