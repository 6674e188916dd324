from __future__ import annotations

import pytest

from seekr_tune.config import MetricName
from seekr_tune.data.prospect import unread_script
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.task import Example, Task

_CHINESE = ("他今天去了北京", "Python 很好")


def _task(metric: MetricName, *answers: str) -> Task:
    return Task("titles", SCORERS[metric], {"train": tuple(Example("p", answer) for answer in answers)})


@pytest.mark.parametrize(
    ("metric", "instead"),
    [("rouge_l", "rouge_l_unicode"), ("sari", "rouge_l_unicode"), ("first_word", "first_character")],
)
def test_a_metric_of_words_says_which_to_set_where_answers_have_no_blanks(metric: MetricName, instead: str) -> None:
    note = unread_script(_task(metric, *_CHINESE))
    assert note is not None and note.endswith(f"set stream.metrics.titles={instead}") and metric in note


@pytest.mark.parametrize("metric", ["exact_match", "first_character", "edit_similarity", "rouge_l_unicode"])
def test_a_metric_of_characters_or_of_every_script_says_nothing(metric: MetricName) -> None:
    assert unread_script(_task(metric, *_CHINESE)) is None


@pytest.mark.parametrize("answer", ["Кошка сидит", "나는 간다", "लड़का गया", "42", "the word 北京 in English"])
def test_answers_with_blanks_are_read(answer: str) -> None:
    assert unread_script(_task("rouge_l", answer)) is None
