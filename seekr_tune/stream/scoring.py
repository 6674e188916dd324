"""Predictions -> a score in percent, for each metric that an experiment may name; its own among them.

Scores compare as the published benchmark does: exact strings, case included. The one difference is that blanks around
a prediction and an answer are dropped first, because generation often starts with a space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rapidfuzz import fuzz

from seekr_tune.config import Config
from seekr_tune.config.messages import shown
from seekr_tune.errors import ConfigError
from seekr_tune.plugins import imported
from seekr_tune.stream.rouge import rouge_l_of_release, rouge_l_of_words

SampleScore = Callable[[str, str, str], float]
"""The score of one sample, in [0, 1]: of a prediction and the answer, without blanks around them, and the prompt."""
_MAX_SARI_ORDER = 4


@dataclass(frozen=True)
class Scorer:
    """A metric: the mean over samples of a function of each.

    Attributes:
        name: what an experiment calls it.
        of: the function.
        reads_prompts: whether it looks at the prompt.
        strips: whether blanks around predictions and answers are dropped first.
        sha256: of the code, where it is a user's.
    """

    name: str
    of: SampleScore
    reads_prompts: bool = False
    strips: bool = True
    sha256: str | None = None

    @property
    def key(self) -> list[str | None]:
        """Equal where the same predictions score the same, in one version of this package."""
        return [self.name, self.sha256]

    def score(self, prediction: str, answer: str, prompt: str) -> float:
        """Of one sample, in percent.

        Raises:
            ConfigError: a user's function fails, or returns no number from 0 to 1.
        """
        texts = (prediction.strip(), answer.strip()) if self.strips else (prediction, answer)
        if self.sha256 is None:
            return 100.0 * self.of(*texts, prompt)
        try:
            value = float(self.of(*texts, prompt))
        except Exception as error:
            line = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(f"scorer {self.name}: fails ({line}) on {_sample(*texts)}; mend it") from error
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"scorer {self.name}: returns {value} for {_sample(*texts)}; it must be from 0 to 1")
        return 100.0 * value

    def mean(self, predictions: Sequence[str], answers: Sequence[str], prompts: Sequence[str]) -> float:
        """Over samples, in percent."""
        if not len(predictions) == len(answers) == len(prompts) > 0:
            counts = f"{len(predictions)} predictions, {len(answers)} answers, {len(prompts)} prompts"
            raise ValueError(f"{counts}: must match")
        values = [self.score(*texts) for texts in zip(predictions, answers, prompts, strict=True)]
        return sum(values) / len(values)


def scorers_of(config: Config) -> dict[str, Scorer]:
    """The scorer of each task of an experiment; code of a user is imported.

    Raises:
        ConfigError: code that cannot be imported, or is no function.
    """
    return {task: _scorer(config.stream.metric_of(task), config) for task in config.stream.tasks}


def _scorer(name: str, config: Config) -> Scorer:
    if name in SCORERS:
        return SCORERS[name]
    plugin = config.plugins[name]
    found = imported("scorer", name, plugin)
    if not callable(found):
        own = plugin.origin.rpartition(":")[2]
        raise ConfigError(f"scorer {name} ({plugin.origin}): {own} is no function of (prediction, answer, prompt)")
    return Scorer(name, found, reads_prompts=True, sha256=plugin.sha256)


def _sample(prediction: str, answer: str) -> str:
    return f"prediction {shown(prediction)} and answer {shown(answer)}"


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


def _of_answers(function: Callable[[str, str], float]) -> SampleScore:
    return lambda prediction, answer, _: function(prediction, answer)


SCORERS = {
    **{
        function.__name__: Scorer(function.__name__, _of_answers(function))
        for function in (exact_match, first_character, first_word, rouge_l, rouge_l_unicode, edit_similarity)
    },
    "sari": Scorer("sari", sari, reads_prompts=True, strips=False),
}
"""What the package has, by the names that an experiment gives."""
