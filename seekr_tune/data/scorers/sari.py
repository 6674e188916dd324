"""SARI, for texts that are made simpler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

_MAX_ORDER = 4


def sari(prediction: str, answer: str, source: str) -> float:
    """SARI with one reference, in [0, 1].

    Texts are lower-cased and split as sacrebleu's `13a` does. For n-grams of 1 to 4 words, with multisets S, P, R of
    source, prediction and reference:

    - keep: F of precision = mean over distinct g in S&P of (S&P&R)[g] / (S&P)[g] and
      recall = |S&P&R| / |S&R|;
    - delete: precision = mean over distinct g in S-P of ((S-P)-R)[g] / (S-P)[g];
    - add, on sets: F of precision = |(P-S)&R| / |P-S| and recall = |(P-S)&R| / |R-S|.

    A ratio with nothing below the line is 1, F of two zeros is 0. SARI is the mean of the three, each averaged over
    the four orders. Source: Xu et al. 2016, with the recall of keep as Hugging Face's metric mends it.
    """
    tokens = [_tokens(text) for text in (source, prediction, answer)]
    keep, delete, add = 0.0, 0.0, 0.0
    for order in range(1, _MAX_ORDER + 1):
        source_grams, prediction_grams, answer_grams = (_ngrams(words, order) for words in tokens)
        keep += _keep_score(source_grams, prediction_grams, answer_grams)
        delete += _delete_score(source_grams, prediction_grams, answer_grams)
        add += _add_score(set(source_grams), set(prediction_grams), set(answer_grams))
    return (keep + delete + add) / (3 * _MAX_ORDER)


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


def _tokens(text: str) -> list[str]:
    # not split(): the metric takes an empty text for one empty word
    return str(_tokenizer_13a()(text.lower())).split(" ")


@cache
def _tokenizer_13a() -> Any:
    from sacrebleu.tokenizers import tokenizer_13a

    return tokenizer_13a.Tokenizer13a()  # type: ignore[no-untyped-call]
