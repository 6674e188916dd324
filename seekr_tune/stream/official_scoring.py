"""The scores of the authors' release, quirks included, for comparison with published tables.

Nothing else uses these numbers: `scoring` and `metrics` are what experiments report. Values here are as the release
writes them: accuracies and ROUGE-L in [0, 1], `similarity` and SARI in [0, 100]. BLEU enters no table and is left out.

Source: official `evaluations/eval_*.py`, `utils/metrics.py`, `re_eval.py` and `show_results.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seekr_tune.errors import DataError
from seekr_tune.stream.metrics import Scores
from seekr_tune.stream.scoring import SCORERS, edit_similarity, exact_match, rouge_l

Results = dict[str, float]
Texts = Sequence[str]

_CHOICE_TASKS = ("C-STANCE", "FOMC", "ScienceQA")
_ANSWER_MARKS = ("\nAnswer:", "\n回答:", "\n答案:")
_FULL_WIDTH_COLON = "\uff1a"
_EMPTY_LITERALS = {"<NUM_LIT>": "0", "<STR_LIT>": "", "<CHAR_LIT>": ""}
_LITERAL = re.compile(r"<(?:STR|NUM|CHAR)_LIT:([^>]*+)>")


def evaluate(evaluation: str, predictions: Texts, targets: Texts, sources: Texts | None = None) -> Results:
    """Run one evaluator of the release.

    Args:
        evaluation: its name, such as `eval_FOMC` or `eval_rouge`.
        predictions, targets: one text an example.
        sources: the prompts; only `eval_20Minuten` needs them.

    Raises:
        DataError: no such evaluator, no examples, or (`eval_acc`) an empty prediction, on which the release fails.
    """
    if not targets:
        raise DataError(f"{evaluation}: no examples to score; give at least one")
    if evaluation == "eval_20Minuten":
        assert sources is not None, "SARI compares with the sources"
        return {
            "rouge-L": mean_rouge(predictions, targets),
            "sari": SCORERS["sari"].mean(predictions, targets, sources),
        }
    if evaluation not in _EVALUATORS:
        raise DataError(f"no evaluator {evaluation!r} in the release; choose from {', '.join(_EVALUATORS)}")
    return _EVALUATORS[evaluation](predictions, targets)


def re_evaluate(task: str, predictions: Texts, targets: Texts, sources: Texts | None = None) -> Results:
    """Shorten the predictions and score them again, as the release does before its final table.

    Args:
        task: the task's name; the release looks for known names inside it.
    """
    answers = [shorten_prediction(task, prediction) for prediction in predictions]
    known = [name for name in _TASK_EVALUATIONS if name in task]
    if known:
        return evaluate(_TASK_EVALUATIONS[known[0]], answers, targets, sources)
    return evaluate("eval_rouge", answers, targets) if "task" in task else {}


def shorten_prediction(task: str, prediction: str) -> str:
    """The part of a prediction that counts: what is before a reasoning, or after an answer mark.

    A single blank stands for nothing. C-STANCE, FOMC and ScienceQA keep the first character only.
    """
    text = prediction.replace(_FULL_WIDTH_COLON, ":")
    if "\nReasoning:" in text:
        text = text.split("\nReasoning:")[0]
    else:
        mark = next((mark for mark in _ANSWER_MARKS if mark in text), None)
        text = text if mark is None else text.split(mark)[1]
    text = text.strip() or " "
    return text[0] if any(name in task for name in _CHOICE_TASKS) else text


def mean_accuracy(predictions: Texts, targets: Texts) -> float:
    """Share of equal strings; an empty text is never right."""
    pairs = zip(predictions, targets, strict=True)
    return _mean([exact_match(prediction, target) if prediction and target else 0.0 for prediction, target in pairs])


def mean_rouge(predictions: Texts, targets: Texts) -> float:
    """Mean ROUGE-L; an empty text scores 0 and counts."""
    return _mean([rouge_l(prediction, target) for prediction, target in zip(predictions, targets, strict=True)])


def mean_similarity(predictions: Texts, targets: Texts) -> float:
    """Mean edit similarity in percent; an empty text scores 0 and counts."""
    pairs = zip(predictions, targets, strict=True)
    return _mean([100.0 * edit_similarity(prediction, target) for prediction, target in pairs])


def score_matrix(raw: Sequence[Sequence[Any]]) -> Scores:
    """The percent matrix that the release makes of its result files.

    Args:
        raw: `raw[task][round]`, a number, the old SARI layout `[{"sari": number}]`, or None for an absent file.

    Returns:
        `[tasks, tasks]` with rows = after training that task, as `metrics` takes it (the release's is transposed).
        Values above 1 are taken for percent, values up to 1 for fractions, so a score of 0.8 percent becomes 80.
        An absent file counts as 0.
    """
    return np.array([[_percent(cell) for cell in row] for row in raw], dtype=np.float64).T


def _percent(cell: Any) -> float:
    value = cell[0]["sari"] if isinstance(cell, list) else cell
    if value is None:
        return 0.0
    return 100.0 * float(value) if float(value) <= 1 else float(value)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _initials(texts: Texts) -> list[str]:
    return [text[:1] or " " for text in texts]


def _accuracy(predictions: Texts, targets: Texts) -> Results:
    return {"accuracy": mean_accuracy(predictions, targets)}


def _initial_accuracy(predictions: Texts, targets: Texts) -> Results:
    return _accuracy(_initials(predictions), targets)


def _first_word_accuracy(predictions: Texts, targets: Texts) -> Results:
    words = [prediction.split() for prediction in predictions]
    if not all(words):
        raise DataError("eval_acc: an empty prediction has no first word, and the release fails on it; use re_evaluate")
    return _accuracy([first[0] for first in words], targets)


def _rouge_only(predictions: Texts, targets: Texts) -> Results:
    return {"rouge-L": mean_rouge(predictions, targets)}


def _rouge_and_accuracy(predictions: Texts, targets: Texts) -> Results:
    return {**_rouge_only(predictions, targets), **_accuracy(predictions, targets)}


def _science_qa(predictions: Texts, targets: Texts) -> Results:
    """The choice is the first character, the reason what follows the next one."""
    reasons = [[text[2:] if text else " " for text in texts] for texts in (predictions, targets)]
    return {**_rouge_only(*reasons), **_accuracy(_initials(predictions), _initials(targets))}


def _py150(predictions: Texts, targets: Texts) -> Results:
    """Placeholders of literals are replaced by the literals."""
    return {"similarity": mean_similarity([*map(_fill_literals, predictions)], [*map(_fill_literals, targets)])}


def _fill_literals(code: str) -> str:
    for placeholder, value in _EMPTY_LITERALS.items():
        code = code.replace(placeholder, value)
    return _LITERAL.sub(r"\1", code)


_EVALUATORS: dict[str, Callable[[Texts, Texts], Results]] = {
    "eval_CStance": _initial_accuracy,
    "eval_FOMC": _accuracy,
    "eval_NumGLUE_cm": _accuracy,
    "eval_NumGLUE_ds": _accuracy,
    "eval_ScienceQA": _science_qa,
    "eval_Py150": _py150,
    "eval_MeetingBank": _rouge_only,
    "eval_rouge": _rouge_and_accuracy,
    "eval_acc": _first_word_accuracy,
}
_TASK_EVALUATIONS = {
    "ScienceQA": "eval_ScienceQA",
    "MeetingBank": "eval_MeetingBank",
    "C-STANCE": "eval_CStance",
    "Py150": "eval_Py150",
    "FOMC": "eval_FOMC",
    "NumGLUE-cm": "eval_NumGLUE_cm",
    "NumGLUE-ds": "eval_NumGLUE_ds",
    "20Minuten": "eval_20Minuten",
}
