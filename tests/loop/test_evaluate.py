"""Greedy generation and scoring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seekr_tune.config import EvaluationConfig, ModelConfig
from seekr_tune.data.collate import Encoder
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.task import Example, Task
from seekr_tune.loop.evaluate import generate, score_task, tasks_to_score
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models.loading import LoadedModel, load_model

from .tiny import WORDS, run, saved_model, tiny_config, tiny_loaded, tiny_stream

MAX_NEW = 4


@pytest.fixture(scope="module")
def learned() -> LoadedModel:
    """A model that recites the answers of one task, and ends them."""
    values = {"stream.tasks": ("second",), "recipe.epochs": 25, "evaluation.splits": (), "method.name": "seqft"}
    return run(tiny_config(**values)).loaded


@pytest.fixture(scope="module")
def encoder(learned: LoadedModel) -> Encoder:
    return Encoder(learned.tokenizer, 12, MAX_NEW, "separate")


@pytest.fixture(scope="module")
def prompts(encoder: Encoder) -> list[tuple[int, ...]]:
    """Of different lengths: batches of them are padded."""
    (task,) = tiny_stream(("second",))
    encoded = encoder.encode_prompts([e.prompt for e in (*task.train, *task.splits["eval"])])
    assert len({len(ids) for ids in encoded}) > 3
    return encoded


@torch.no_grad()
def greedy(loaded: LoadedModel, prompt: Sequence[int], limit: int) -> list[int]:
    """The most likely next token, again and again, by a whole forward pass without cache or padding."""
    loaded.model.eval()
    ids = list(prompt)
    while len(ids) < len(prompt) + limit:
        ids.append(int(loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == loaded.tokenizer.eos_token_id:
            break
    return ids[len(prompt) :]


def test_generation_is_the_teacher_forced_argmax(learned: LoadedModel, prompts: list[tuple[int, ...]]) -> None:
    answers = generate(learned, prompts, MAX_NEW)
    tokens = [greedy(learned, prompt, MAX_NEW) for prompt in prompts]
    assert answers == [learned.tokenizer.decode(ids, skip_special_tokens=True) for ids in tokens]
    assert len(set(answers)) > 5  # not one answer for all


def test_generation_stops_at_the_end_token(learned: LoadedModel, prompts: list[tuple[int, ...]]) -> None:
    (task,) = tiny_stream(("second",))
    answers = generate(learned, prompts[:12], 20)
    assert answers == [example.answer for example in task.train]  # two words, though there was room for 20
    assert not any(special in answer for answer in answers for special in ("</s>", "<pad>", "<s>"))


def test_generation_stops_at_the_other_ends_too(learned: LoadedModel, prompts: list[tuple[int, ...]]) -> None:
    """Answers have two words; where each second word is an end, at most the first is left."""
    answers = generate(learned, prompts[:12], MAX_NEW)
    words = {word for answer in answers for word in answer.split()[1:]}
    others = tuple(learned.tokenizer.convert_tokens_to_ids(sorted(words)))
    stopped = generate(replace(learned, other_ends=others), prompts[:12], MAX_NEW)
    firsts = [answer.split()[0] for answer in answers]
    assert stopped == ["" if word in words else word for word in firsts]
    assert any(stopped) and stopped != answers


@pytest.mark.parametrize(
    ("content", "ends"),
    [
        ({"eos_token_id": [3, 0]}, (3, 0)),
        ({"eos_token_id": 3}, (3,)),
        ({"eos_token_id": [3, 9]}, (3,)),  # a word ends nothing
        ({}, (3,)),
        ("{", (3,)),
        (None, (3,)),
    ],
)
def test_what_ends_an_answer_is_read_beside_the_model(tmp_path: Path, content: Any, ends: tuple[int, ...]) -> None:
    saved_model(tmp_path)
    path = tmp_path / "generation_config.json"
    path.unlink()
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert load_model(ModelConfig(path=str(tmp_path))).ends == ends


def test_generation_makes_no_more_tokens_than_it_may() -> None:
    loaded = tiny_loaded()
    prompt = next(
        ids for ids in ([2, 10 + i] for i in range(50)) if loaded.tokenizer.eos_token_id not in greedy(loaded, ids, 6)
    )
    for limit in (1, 3, 6):
        (answer,) = generate(loaded, [prompt], limit)
        assert answer == loaded.tokenizer.decode(greedy(loaded, prompt, limit), skip_special_tokens=True)


def test_a_batch_of_prompts_is_answered_as_one_by_one(learned: LoadedModel, prompts: list[tuple[int, ...]]) -> None:
    together = generate(learned, prompts, MAX_NEW)
    assert together == [generate(learned, [prompt], MAX_NEW)[0] for prompt in prompts]
    assert together == list(reversed(generate(learned, prompts[::-1], MAX_NEW)))


def test_a_model_s_own_sampling_settings_do_not_reach_the_answers(
    learned: LoadedModel, prompts: list[tuple[int, ...]], tmp_path: Path
) -> None:
    """Chat models ship generation settings; scores must mean greedy answers for every model."""
    learned.model.save_pretrained(tmp_path)
    learned.tokenizer.save_pretrained(tmp_path)
    settings = {
        "do_sample": True,
        "temperature": 9.0,
        "repetition_penalty": 50.0,
        "no_repeat_ngram_size": 1,
        "min_new_tokens": MAX_NEW,
        "suppress_tokens": [learned.tokenizer.eos_token_id],
        "max_length": 3,
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    loaded = load_model(ModelConfig(path=str(tmp_path)))
    assert generate(loaded, prompts, MAX_NEW) == generate(learned, prompts, MAX_NEW)


@pytest.mark.parametrize("training", [True, False])
def test_generation_leaves_the_mode_and_the_gradients_of_the_model_alone(
    learned: LoadedModel, prompts: list[tuple[int, ...]], training: bool
) -> None:
    learned.model.train(training)
    generate(learned, prompts[:2], 2)
    assert learned.model.training is training
    assert all(parameter.grad is None for parameter in learned.model.parameters())


@dataclass(frozen=True)
class OneOfTwo(SingleProcess):
    """Rank 1 of two; what rank 0 answered is given."""

    rank: int = 1
    world_size: int = 2
    sibling: dict[int, str] = field(default_factory=dict)

    def gather(self, value: Any) -> list[Any]:
        return [self.sibling, value]


def echo(loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Answers a prompt with itself."""
    return [loaded.tokenizer.decode(ids, skip_special_tokens=True) for ids in prompts]


def echo_task() -> Task:
    """Rows of very different lengths in no order; a row is right only if its own prompt comes back."""
    lengths = (5, 1, 9, 2, 7, 1, 3, 8, 4)
    texts = [" ".join(WORDS[i : i + length]) for i, length in enumerate(lengths)]
    return Task("echo", SCORERS["exact_match"], {"eval": tuple(Example(text, text) for text in texts)})


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_predictions_are_scored_in_the_order_of_the_rows(
    learned: LoadedModel, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setattr("seekr_tune.loop.evaluate.generate", echo)
    config = EvaluationConfig(batch_size=batch_size)
    assert score_task(learned, encoder, echo_task(), "eval", config, 4, SingleProcess()).score == 100.0


def test_every_row_is_answered_by_one_rank_and_counts_once(
    learned: LoadedModel, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 answers all of its rows rightly; rank 0 every row but the first `wrong` of its own."""
    monkeypatch.setattr("seekr_tune.loop.evaluate.generate", echo)
    task = echo_task()
    answers = [example.answer for example in task.splits["eval"]]
    rows_of_rank_0 = sorted(range(9), key=lambda row: len(answers[row].split()))[::2]
    assert len(rows_of_rank_0) == 5
    for wrong in (0, 3, 5):
        sibling = {row: "no" if i < wrong else answers[row] for i, row in enumerate(rows_of_rank_0)}
        workers = OneOfTwo(sibling=sibling)
        percent = score_task(learned, encoder, task, "eval", EvaluationConfig(batch_size=2), 4, workers).score
        assert percent == pytest.approx(100 * (9 - wrong) / 9)


def test_the_score_is_that_of_the_split_that_was_asked_for(learned: LoadedModel, encoder: Encoder) -> None:
    (task,) = tiny_stream(("second",))
    silent = tuple(Example(e.prompt, "no") for e in task.train)
    both = Task("second", SCORERS["exact_match"], {"eval": task.train, "test": silent})
    config = EvaluationConfig()
    assert score_task(learned, encoder, both, "eval", config, MAX_NEW, SingleProcess()).score == 100.0
    assert score_task(learned, encoder, both, "test", config, MAX_NEW, SingleProcess()).score == 0.0


@pytest.mark.parametrize(
    ("matrix", "last", "expected"),
    [
        ("full", -1, [0, 1, 2, 3]),
        ("full", 0, [0, 1, 2, 3]),
        ("full", 3, [0, 1, 2, 3]),
        ("seen", -1, []),
        ("seen", 0, [0]),
        ("seen", 2, [0, 1, 2]),
        ("seen", 3, [0, 1, 2, 3]),
        ("diagonal_and_last", -1, []),
        ("diagonal_and_last", 0, [0]),
        ("diagonal_and_last", 2, [2]),
        ("diagonal_and_last", 3, [0, 1, 2, 3]),
    ],
)
def test_tasks_to_score(matrix: str, last: int, expected: list[int]) -> None:
    assert tasks_to_score(matrix, last, 4) == expected


def test_a_stream_of_one_task_is_scored_once_in_every_mode() -> None:
    assert all(tasks_to_score(matrix, 0, 1) == [0] for matrix in ("full", "seen", "diagonal_and_last"))
