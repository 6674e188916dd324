"""What a perfect model would score: answers that survive their tokens, and those that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import AutoTokenizer

from seekr_tune.config import MetricName
from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.data.collate import Encoder, Style
from seekr_tune.data.prospect import Ceiling, Lost, Prospect, ceiling, lost_line
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.task import Example, Task

from . import tokenizers as styles


def of(
    answers: list[str],
    tokenizer: Any,
    *,
    metric: MetricName = "exact_match",
    style: Style = "separate",
    limit: int = 8,
    ends: tuple[int, ...] = (),
) -> Ceiling:
    task = Task("names", SCORERS[metric], {"eval": tuple(Example("apple", answer) for answer in answers)})
    return ceiling(task, "eval", Encoder(tokenizer, 8, limit, style, ends))


@pytest.mark.parametrize("make", [styles.llama2, styles.gpt2], ids=["bytes behind sentence-piece", "bytes"])
@pytest.mark.parametrize("style", ["separate", "joint"])
def test_answers_that_survive_score_all(make: Callable[[], Any], style: Style) -> None:
    answers = ["Ann\nLee", " two  blanks ", "Größe ☃", "a . b"]
    assert of(answers, make(), style=style, limit=40) == Ceiling(100.0, 100.0, None)


def test_the_built_in_answers_survive() -> None:
    assert of(["star", "brick"], AutoTokenizer.from_pretrained(builtin_model_directory())).lost is None


def test_a_newline_that_the_vocabulary_lacks_is_told() -> None:
    found = of(["apple", "apple\nbell", "bell bird"], styles.llama3())
    assert found == Ceiling(pytest.approx(200 / 3), 100.0, Lost(2, "apple\nbell", "apple bell"))
    whole = of(["apple"], styles.llama3())
    told = [
        Prospect("names", "eval", Encoder(styles.llama3(), 8, 8, "separate").count(()), one) for one in (whole, found)
    ]
    assert lost_line(told[:1]) is None
    assert lost_line([*told, told[1]]) == (
        "scores of a perfect model: names (66.7 on eval, not 100.0), names (66.7 on eval, not 100.0); in row 2 of "
        "names 'apple\\nbell' comes out of the tokenizer as 'apple bell'; change the answers, recipe.max_answer_tokens "
        "or the model"
    )


def test_special_tokens_unknown_words_and_capitals_are_told() -> None:
    tokenizer = styles.llama3()
    for answer, read in (("apple <|eot_id|> bell", "apple bell"), ("apple zebra", "apple"), ("Apple", "")):
        assert of([answer], tokenizer).lost == Lost(1, answer, read)
    eot = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert of(["apple <|eot_id|> bell"], tokenizer, ends=(eot,)).lost == Lost(1, "apple <|eot_id|> bell", "apple")


@pytest.mark.parametrize(("style", "limit", "read"), [("separate", 3, "apple bell"), ("joint", 3, "apple bell bird")])
def test_answers_beyond_their_limit_are_told(style: Style, limit: int, read: str) -> None:
    """Corrected labels keep room for EOS; the official ones are cut by generation alone."""
    answer = "apple bell bird boat"
    assert of([answer], styles.t5(), style=style, limit=limit).lost == Lost(1, answer, read)


def test_only_what_the_metric_counts_is_lost() -> None:
    tokenizer = styles.llama3()
    assert of(["apple\nbell"], tokenizer, metric="first_word") == Ceiling(100.0, 100.0, None)
    found = of(["apple zebra"], tokenizer, metric="edit_similarity")
    assert found.score == 62.0 and found.lost is not None  # 2 * 5 / (11 + 5)


@pytest.mark.parametrize("metric", ["rouge_l", "sari"])
def test_a_metric_that_gives_equal_texts_less_than_all_is_not_held_against_the_answers(metric: MetricName) -> None:
    found = of(["apple bell", "..."], styles.gpt2(), metric=metric, limit=40)
    assert found.score == found.perfect and found.lost is None
    assert metric == "sari" or found.perfect == pytest.approx(50.0)  # a text of full stops has no words
