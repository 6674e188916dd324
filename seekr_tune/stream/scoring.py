"""Predictions -> a score in percent, for each metric that an experiment may name.

Scores compare as the published benchmark does: exact strings, case included. The one difference is that blanks around
a prediction and an answer are dropped first, because generation often starts with a space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

from rapidfuzz import fuzz

from seekr_tune.config import MetricName
from seekr_tune.stream.rouge import rouge_l_of_release, rouge_l_of_words

ExampleMetricName = Literal[
    "exact_match", "first_character", "first_word", "rouge_l", "rouge_l_unicode", "edit_similarity"
]
_MAX_SARI_ORDER = 4


def score(metric: MetricName, predictions: Sequence[str], answers: Sequence[str], prompts: Sequence[str]) -> float:
    """Mean score of predictions, in percent, [0, 100].

    Args:
        metric: its name; see the functions of this module.
        predictions, answers, prompts: one text an example; `prompts` are the sources that SARI compares with.
    """
    if not len(predictions) == len(answers) == len(prompts) > 0:
        raise ValueError(f"{len(predictions)} predictions, {len(answers)} answers, {len(prompts)} prompts: must match")
    if metric == "sari":
        return sari(prompts, predictions, answers)
    values = score_examples(metric, predictions, answers)
    return sum(values) / len(values)


def score_examples(metric: ExampleMetricName, predictions: Sequence[str], answers: Sequence[str]) -> list[float]:
    """The score of each example, in percent. The mean of these is `score`."""
    function = _EXAMPLE_METRICS[metric]
    pairs = zip(predictions, answers, strict=True)
    return [100.0 * function(prediction.strip(), answer.strip()) for prediction, answer in pairs]


def exact_match(prediction: str, answer: str) -> float:
    """1 where the texts are equal, else 0."""
    return float(prediction == answer)


def first_character(prediction: str, answer: str) -> float:
    """1 where both begin with the same character (a choice `A`, then a reason), else 0; 0 for an empty prediction."""
    return float(prediction[:1] == answer[:1] != "")


def first_word(prediction: str, answer: str) -> float:
    """1 where the first blank-separated words are equal, else 0; 0 for an empty prediction."""
    return float(prediction.split()[:1] == answer.split()[:1] != [])


def rouge_l(prediction: str, answer: str) -> float:
    """ROUGE-L F of the package `rouge` 1.0.1, in [0, 1), as the authors' release computes it.

    It counts unique words, splits sentences at full stops and keeps case; a text without words scores 0.
    Source: official `utils/metrics.py`, `score_rouge`, which gives the answer as the hypothesis.
    """
    return rouge_l_of_release(answer, prediction)


def rouge_l_unicode(prediction: str, answer: str) -> float:
    """ROUGE-L F of the words of any script, in [0, 1]; see `rouge_l_of_words`."""
    return rouge_l_of_words(prediction, answer)


def edit_similarity(prediction: str, answer: str) -> float:
    """Share of characters that an edit keeps, in [0, 1], rounded to whole percents; 0 for an empty text.

    The same number as fuzzywuzzy with python-Levenshtein: 2 * matches / (length + length).
    """
    if not prediction or not answer:
        return 0.0
    return round(fuzz.ratio(prediction, answer)) / 100.0


def sari(sources: Sequence[str], predictions: Sequence[str], answers: Sequence[str]) -> float:
    """Mean SARI with one reference a text, in percent.

    Texts are lower-cased and split as sacrebleu's `13a` does. For n-grams of 1 to 4 words, with multisets S, P, R of
    source, prediction and reference:

    - keep: F of precision = mean over distinct g in S&P of (S&P&R)[g] / (S&P)[g] and
      recall = |S&P&R| / |S&R|;
    - delete: precision = mean over distinct g in S-P of ((S-P)-R)[g] / (S-P)[g];
    - add, on sets: F of precision = |(P-S)&R| / |P-S| and recall = |(P-S)&R| / |R-S|.

    A ratio with nothing below the line is 1, F of two zeros is 0. SARI is the mean of the three, each averaged over
    the four orders. Source: Xu et al. 2016, with the recall of keep as Hugging Face's metric mends it.
    """
    values = [_sari_example(*texts) for texts in zip(sources, predictions, answers, strict=True)]
    return 100.0 * sum(values) / len(values)


def _sari_example(source: str, prediction: str, answer: str) -> float:
    tokens = [_sari_tokens(text) for text in (source, prediction, answer)]
    keep, delete, add = 0.0, 0.0, 0.0
    for order in range(1, _MAX_SARI_ORDER + 1):
        source_grams, prediction_grams, answer_grams = (_ngrams(words, order) for words in tokens)
        keep += _keep_score(source_grams, prediction_grams, answer_grams)
        delete += _delete_score(source_grams, prediction_grams, answer_grams)
        add += _add_score(set(source_grams), set(prediction_grams), set(answer_grams))
    return (keep + delete + add) / (3 * _MAX_SARI_ORDER)


def _keep_score(source: Counter[str], prediction: Counter[str], answer: Counter[str]) -> float:
    kept = source & prediction
    rightly = kept & answer
    precision = _ratio(sum(rightly[gram] / kept[gram] for gram in rightly), len(kept))
    return _f_score(precision, _ratio(rightly.total(), (source & answer).total()))


def _delete_score(source: Counter[str], prediction: Counter[str], answer: Counter[str]) -> float:
    deleted = source - prediction
    rightly = deleted - answer
    return _ratio(sum(rightly[gram] / deleted[gram] for gram in rightly), len(deleted))


def _add_score(source: set[str], prediction: set[str], answer: set[str]) -> float:
    added = prediction - source
    rightly = added & answer
    return _f_score(_ratio(len(rightly), len(added)), _ratio(len(rightly), len(answer - source)))


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else 1.0


def _f_score(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _ngrams(words: Sequence[str], order: int) -> Counter[str]:
    return Counter(" ".join(words[start : start + order]) for start in range(len(words) - order + 1))


def _sari_tokens(text: str) -> list[str]:
    # not split(): the metric takes an empty text for one empty word
    return str(_tokenizer_13a()(text.lower())).split(" ")


@cache
def _tokenizer_13a() -> Any:
    from sacrebleu.tokenizers import tokenizer_13a

    return tokenizer_13a.Tokenizer13a()  # type: ignore[no-untyped-call]


_EXAMPLE_METRICS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "first_character": first_character,
    "first_word": first_word,
    "rouge_l": rouge_l,
    "rouge_l_unicode": rouge_l_unicode,
    "edit_similarity": edit_similarity,
}
