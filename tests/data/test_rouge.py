"""ROUGE-L against the package of the release, which stays the reference, and against sequences worked out by hand."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from rouge import Rouge

from seekr_tune.data.scorers.rouge import rouge_l, rouge_l_unicode, share_without_blanks, words_of

_PIECES = ("a", "b", "c", "cat", "Cat", "е", "猫", ".", ". ", "..", "a.b", " ", "\n", "\u00a0")


def _of_package(package: Any, prediction: str, answer: str) -> float:
    try:
        return float(package.get_scores(answer, prediction)[0]["rouge-l"]["f"])
    except ValueError:  # no sentence
        return 0.0


@pytest.fixture
def deep_recursion() -> Iterator[None]:
    """Room for the package, which fails on texts of about a thousand words."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(5_000)
    yield
    sys.setrecursionlimit(before)


def test_it_is_bit_for_bit_that_of_the_package() -> None:
    """Few words, so that there are several longest subsequences to choose from; odd blanks, empty sentences."""
    package, drawn = Rouge(metrics=["rouge-l"]), random.Random(0)
    for _ in range(3000):
        pieces = _PIECES[: drawn.randint(2, len(_PIECES))]
        pair = [" ".join(drawn.choices(pieces, k=drawn.randint(1, drawn.choice([3, 12, 40])))) for _ in range(2)]
        assert rouge_l(*pair) == _of_package(package, *pair), pair


@pytest.mark.parametrize("words", [3, 40])
def test_it_is_that_of_the_package_on_long_texts_of_few_and_of_many_words(words: int, deep_recursion: None) -> None:
    drawn = random.Random(words)
    pair = [" ".join(drawn.choices([f"w{i}" for i in range(words)], k=300)) for _ in range(2)]
    assert rouge_l(*pair) == _of_package(Rouge(metrics=["rouge-l"]), *pair)


def test_thousands_of_words_and_of_sentences_are_scored() -> None:
    """The package fails on the first with a RecursionError, and takes hours for the second."""
    words = [f"w{i}" for i in range(5000)]
    assert rouge_l(" ".join(words), " ".join(words[::2])) == pytest.approx(2 / 3)
    assert rouge_l(". ".join(words), ". ".join(words[::2])) == pytest.approx(2 / 3)
    assert rouge_l_unicode(" ".join(words), " ".join(words[::2])) == pytest.approx(2 / 3)


def test_repeated_words_count_and_their_order_does_too() -> None:
    """The subsequence `the cat the` of four and four words."""
    assert rouge_l_unicode("the cat saw the", "the cat the dog") == 2 * 3 / 8
    assert rouge_l_unicode("The cat!", "the, cat") == 1.0
    assert rouge_l_unicode("a b", "b a") == 0.5
    assert rouge_l_unicode("", "a") == rouge_l_unicode("a", "...") == 0.0


@pytest.mark.parametrize(
    ("answer", "prediction", "expected"),
    [
        ("他今天去北京学习", "他今天去北京学校", 7 / 8),  # Chinese
        ("東京へ行きました", "東京へ行きません", 6 / 8),  # Japanese
        ("コーヒー", "コーヒ", 6 / 7),
        ("ฉันกินข้าว", "ฉันกินข้าง", 6 / 7),  # Thai: seven letters with their marks
        ("ຂ້ອຍກິນ", "ຂ້ອຍກິນ", 1.0),  # Lao
        ("ខ្ញុំ", "ខ្ញុំ", 1.0),  # Khmer
        ("မြန်မာ", "မြန်မာ", 1.0),  # Burmese
        ("Кошка сидит на столе", "Кошка лежит на полу", 2 / 4),  # Russian
        ("ذهب الولد إلى المدرسة", "ذهب الولد إلى البيت", 3 / 4),  # Arabic
        ("लड़का स्कूल गया", "लड़का घर गया", 2 / 3),  # Hindi, whose vowel signs are no letters
        ("나는 학교에 간다", "나는 집에 간다", 2 / 3),  # Korean
    ],
)
def test_an_answer_that_is_partly_right_scores_its_part_in_every_script(
    answer: str, prediction: str, expected: float
) -> None:
    assert rouge_l_unicode(prediction, answer) == pytest.approx(expected)


def test_words_are_runs_of_letters_and_digits_or_single_letters_without_blanks() -> None:
    assert words_of("Das Modell GPT2, 北京v3!") == ("das", "modell", "gpt2", "北", "京", "v3")
    assert words_of("กินข้าว") == ("กิ", "น", "ข้", "า", "ว")
    assert words_of("हिन्दी भाषा") == ("हिन्दी", "भाषा")
    assert words_of("\u0301 x") == ("x",)  # a mark of nothing


def test_the_share_of_letters_without_blanks() -> None:
    assert share_without_blanks(["北京ab", "한국"]) == 2 / 6
    assert share_without_blanks(["12 !"]) == share_without_blanks([]) == 0.0
