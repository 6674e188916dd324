"""Predictions -> scores in percent, by the metrics that an experiment may name; its own among them.

Scores compare as the published benchmark does: exact strings, case included. The one difference is that blanks around
a prediction and an answer are dropped first, because generation often starts with a space.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from seekr_tune.config import Config
from seekr_tune.config.messages import shown
from seekr_tune.data.scorers import official, rouge, texts
from seekr_tune.data.scorers.sari import sari
from seekr_tune.errors import ConfigError
from seekr_tune.plugins import imported

SampleScore = Callable[..., float]
"""The score of one sample, in [0, 1]: of a prediction, the answer and, where it takes a third text, the prompt."""


@dataclass(frozen=True)
class Scorer:
    """A metric: the mean over samples of a function of each.

    Attributes:
        name: what an experiment calls it.
        of: the function.
        strips: whether blanks around predictions and answers are dropped first.
        only_equal: whether nothing scores but an equal answer, so that the most frequent one is the best constant.
        without_blanks: which metric reads scripts without blanks between words; None: this one does.
        sha256: of the code, where it is a user's.
        reads_prompts: whether the function takes the prompt.
    """

    name: str
    of: SampleScore
    strips: bool = True
    only_equal: bool = False
    without_blanks: str | None = None
    sha256: str | None = None
    reads_prompts: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads_prompts", _takes_three(self.of))

    @property
    def key(self) -> list[str | None]:
        """Equal where the same predictions score the same, in one version of this package."""
        return [self.name, self.sha256]

    def score(self, prediction: str, answer: str, prompt: str) -> float:
        """Of one sample, in percent.

        Raises:
            ConfigError: the function fails, or returns no number from 0 to 1.
        """
        given = (prediction.strip(), answer.strip()) if self.strips else (prediction, answer)
        said = f"scorer {self.name}"
        try:
            value = float(self.of(*given, prompt) if self.reads_prompts else self.of(*given))
        except Exception as error:
            line = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(f"{said}: fails ({line}) on {_sample(*given)}; mend it") from error
        if not -_ROUNDING <= value <= 1.0 + _ROUNDING:
            raise ConfigError(f"{said}: returns {value} for {_sample(*given)}; it must be from 0 to 1")
        return 100.0 * value


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
    return Scorer(name, found, sha256=plugin.sha256)


def _takes_three(function: SampleScore) -> bool:
    try:
        inspect.signature(function).bind("prediction", "answer", "prompt")
    except TypeError:
        return False
    except ValueError:  # a function of C, which says nothing of itself
        pass
    return True


def _sample(prediction: str, answer: str) -> str:
    return f"prediction {shown(prediction)} and answer {shown(answer)}"


_ROUNDING = 1e-9
SCORERS = {
    scorer.name: scorer
    for scorer in (
        Scorer("exact_match", texts.exact_match, only_equal=True),
        Scorer("first_character", texts.first_character),
        Scorer("first_word", texts.first_word, without_blanks="first_character"),
        Scorer("rouge_l", rouge.rouge_l, without_blanks="rouge_l_unicode"),
        Scorer("rouge_l_unicode", rouge.rouge_l_unicode),
        Scorer("edit_similarity", texts.edit_similarity),
        Scorer("sari", sari, strips=False, without_blanks="rouge_l_unicode"),
        Scorer("official_accuracy", official.official_accuracy, strips=False),
        Scorer("official_choice", official.official_choice, strips=False),
        Scorer("official_rouge_l", official.official_rouge_l, strips=False, without_blanks="rouge_l_unicode"),
        Scorer("official_similarity", official.official_similarity, strips=False),
        Scorer("official_sari", official.official_sari, strips=False, without_blanks="rouge_l_unicode"),
    )
}
"""What the package has, by the names that an experiment gives."""
