"""What data and model allow: what the limits cut, what the vocabulary lacks, ceiling and floor."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from seekr_tune.data.baseline import ConstantBaseline
from seekr_tune.data.collate import Encoder, Style
from seekr_tune.data.prospect import prospects
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import Example, Task, TaskStream
from seekr_tune.experiment import parse_config

from . import tokenizers as styles

TEXTS = ("apple", "apple bell", "apple bell bird", "apple bell bird boat")


def examples(answer: str = "bell") -> tuple[Example, ...]:
    return tuple(Example(text, answer) for text in TEXTS)


@pytest.mark.parametrize(
    ("style", "limit", "share"), [("separate", 4, 0.25), ("separate", 3, 0.5), ("separate", 5, 0.0), ("joint", 3, 0.25)]
)
def test_prompts_are_counted_with_their_prefix_where_it_counts(style: Style, limit: int, share: float) -> None:
    counts = Encoder(styles.llama3(), limit, 4, style).count(examples())
    assert counts.prompts == ((2, 3, 4, 5) if style == "separate" else (1, 2, 3, 4))  # BOS takes a place in one of them
    assert counts.prompts_cut == share


@pytest.mark.parametrize("style", ["separate", "joint"])
def test_what_is_counted_as_cut_is_what_is_cut(style: Style) -> None:
    tokenizer, given = styles.llama3(), examples(" bell")
    special = set(tokenizer.all_special_ids)
    encoded, counts = Encoder(tokenizer, 2, 2, style).encode_counted(given)
    assert encoded == Encoder(tokenizer, 2, 2, style).encode_all(given)
    whole = Encoder(tokenizer, 50, 50, style).encode_all(given)
    words = [[[t for t in one.input_ids if t not in special] for one in rows] for rows in (encoded, whole)]
    lost = [left != said for left, said in zip(*words, strict=True)]
    assert counts.prompts_cut == sum(lost) / 4 > 0


def test_an_answer_needs_room_for_the_token_that_ends_it() -> None:
    given = tuple(Example("apple", text) for text in TEXTS)
    counts = Encoder(styles.llama3(), 8, 3, "separate").count(given)
    assert counts.answers == (2, 3, 4, 5) and counts.answers_cut == 0.5
    assert Encoder(styles.llama3(), 8, 3, "joint").count(given).answers_cut == 0.25


def test_the_limits_that_cut_no_more_than_a_share() -> None:
    counts = Encoder(styles.llama3(), 3, 3, "separate").count(examples())
    assert [counts.needed(share)[0] for share in (0.0, 0.25, 0.5, 0.99)] == [5, 4, 3, 2]
    for share in (0.0, 0.25, 0.5):
        limit = counts.needed(share)[0]
        assert Encoder(styles.llama3(), limit, 3, "separate").count(examples()).prompts_cut <= share


def test_unknown_tokens_are_those_that_the_vocabulary_lacks() -> None:
    counts = Encoder(styles.t5(), 9, 9, "separate").count([Example("apple zebra", "bell"), Example("bird", "zebra")])
    assert counts.unknown_tokens == pytest.approx(2 / 5)
    nothing = styles.t5()
    nothing.unk_token = None
    assert Encoder(nothing, 9, 9, "separate").count(examples()).unknown_tokens is None


def test_a_split_without_samples_loses_nothing() -> None:
    counts = Encoder(styles.llama3(), 3, 3, "separate").count(())
    assert (counts.prompts_cut, counts.answers_cut, counts.needed(0.0)) == (0.0, 0.0, (0, 0))


def test_only_scored_splits_have_ceiling_and_floor() -> None:
    task = Task("names", SCORERS["exact_match"], {"train": examples(), "eval": examples("bell zebra")})
    constants = {("names", "eval"): ConstantBaseline("bell", 12.5)}
    encoder = Encoder(styles.llama3(), 8, 8, "separate")
    train, scored = prospects(TaskStream((task,)), ("eval",), encoder, constants)  # type: ignore[arg-type]
    assert (train.split, train.ceiling, train.floor) == ("train", None, None)
    assert scored.floor == 12.5 and scored.ceiling is not None and scored.ceiling.score == 0.0
    assert prospects(TaskStream((task,)), ("eval",), encoder)[1].floor is None


def test_the_lengths_of_the_recipe_cut_real_tasks_to_pieces(data_directory: Path) -> None:
    """64 and 16 tokens: every prompt of three SuperNI tasks is cut, and every answer of one of them."""
    tasks = ["task363", "task875", "task748"]
    stream = {"source": "trace_json", "root": str(data_directory / "superni"), "tasks": tasks}
    limits = {"limits": {"train": 300, "eval": 40}}
    loaded = load_stream(parse_config({"stream": stream | limits}, "test"), ["train", "eval"])
    tokenizer = AutoTokenizer.from_pretrained(data_directory / "models" / "stories260K")
    found = {(one.task, one.split): one for one in prospects(loaded, ("eval",), Encoder(tokenizer, 64, 16, "separate"))}
    assert all(one.counts.prompts_cut == 1.0 for one in found.values())
    cut = {task: found[task, "train"].counts.answers_cut for task in tasks}
    assert cut == {"task363": 0.0, "task875": 0.0, "task748": 1.0}
    longest = max(found["task748", "train"].counts.prompts)
    whole = Encoder(tokenizer, longest, 16, "separate").count(loaded[2].train)
    assert whole.prompts_cut == 0.0 and whole.unknown_tokens == 0.0
