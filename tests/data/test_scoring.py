"""Scores of predictions on hand-made texts and against independent formulas."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekr_tune.config import MetricName
from seekr_tune.data.scorers.rouge import rouge_l
from seekr_tune.data.scorers.texts import edit_similarity
from seekr_tune.data.scoring import SCORERS, Scorer

words = st.lists(st.sampled_from(["a", "b", "the", "cat", "Cat", "sat", "x1"]), max_size=6).map(" ".join)


def score_examples(metric: MetricName, predictions: list[str], answers: list[str]) -> list[float]:
    pairs = zip(predictions, answers, strict=True)
    return [SCORERS[metric].score(prediction, answer, "a source") for prediction, answer in pairs]


def sari(source: str, prediction: str, answer: str) -> float:
    return SCORERS["sari"].score(prediction, answer, source)


def test_exact_match_ignores_outer_blanks_but_not_case() -> None:
    assert score_examples("exact_match", [" A\n", "a", "A.", ""], ["A", "A", "A", "A"]) == [100.0, 0.0, 0.0, 0.0]


def test_first_character_takes_the_choice_before_the_reason() -> None:
    assert score_examples("first_character", [" B. hawkish", "A\nBecause", "", "b"], ["B", "A\nso", "A", "B"]) == [
        *(100.0, 100.0, 0.0, 0.0)
    ]


def test_first_word_takes_the_label_before_more_words() -> None:
    assert score_examples("first_word", ["yes it is", "yes, it is", "", "no"], ["yes", "yes", "yes", "no way"]) == [
        *(100.0, 0.0, 0.0, 100.0)
    ]


def test_rouge_is_case_sensitive_and_counts_words_once() -> None:
    assert rouge_l("the cat", "the cat") == pytest.approx(1.0, abs=1e-8)
    assert rouge_l("The Cat", "the cat") == 0.0
    assert rouge_l("a", "a a a a") == pytest.approx(1.0, abs=1e-8)
    assert rouge_l("the dog", "the cat") == pytest.approx(0.5, abs=1e-8)


@pytest.mark.parametrize("text", ["", " ", ".", "...", "\n"])
def test_texts_without_words_score_zero(text: str) -> None:
    for metric in ("rouge_l", "rouge_l_unicode", "edit_similarity", "exact_match", "first_word", "first_character"):
        assert score_examples(metric, [text], ["cat"]) == [0.0]


def test_edit_similarity_counts_kept_characters_in_whole_percents() -> None:
    assert edit_similarity("kitten", "sitting") == round(200 * 4 / 13) / 100  # "ittn" stays
    assert edit_similarity("", "a") == 0.0
    assert score_examples("edit_similarity", ["x = 1"], ["x = 1"]) == [100.0]


def test_sari_of_the_published_example() -> None:
    """From the example of the metric's card, with its second reference only."""
    source, prediction = "About 95 species are currently accepted .", "About 95 you now get in ."
    assert sari(source, prediction, "About 95 species are now accepted .") == pytest.approx(28.888888888888886)


def test_sari_of_one_word_is_worked_out_by_hand() -> None:
    # one word each: keep 0 (kept nothing, 'a' was to be dropped: 0/0 = 1), delete 1, add 1; longer n-grams are all 0/0
    assert sari("a", "b", "b") == pytest.approx(100.0)
    # 'a' was wrongly kept, so 'b' was not added: keep F of 0 and 1, delete 0/0, add F of 0/0 = 1 and 0
    assert sari("a", "a", "b") == pytest.approx(100 * (0 + 3 + 4 + 0 + 3) / 12)


@given(words)
def test_sari_of_a_copy_that_was_wanted_is_full(text: str) -> None:
    assert sari(text, text, text) == pytest.approx(100.0)


@given(st.sampled_from(get_args(MetricName)), st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_scores_are_percents(metric: MetricName, pairs: list[tuple[str, str]]) -> None:
    predictions, answers = map(list, zip(*pairs, strict=True))
    assert all(0.0 <= score <= 100.0 + 1e-9 for score in score_examples(metric, predictions, answers))


@pytest.mark.parametrize("metric", get_args(MetricName))
@pytest.mark.parametrize(
    "text", ["", "word " * 3000, "字" * 3000, "a. " * 3000, "\x00\u202e\ud83d", "🙂 " * 2000, "&quot;" * 500]
)
def test_every_metric_gives_odd_and_long_texts_a_percent(metric: MetricName, text: str) -> None:
    for pair in ((text, "answer"), ("answer", text), (text, text)):
        assert 0.0 <= SCORERS[metric].score(*pair, text) <= 100.0 + 1e-9


def test_the_package_has_a_function_for_every_name() -> None:
    assert tuple(SCORERS) == get_args(MetricName)


def test_a_function_gets_the_prompt_where_it_takes_three_texts() -> None:
    assert Scorer("own", lambda prediction, answer: 0.5).score("a", "b", "c") == 50.0
    assert Scorer("own", lambda prediction, answer, prompt: float(prompt == "c")).score("a", "b", "c") == 100.0
