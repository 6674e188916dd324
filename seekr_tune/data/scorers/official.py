"""Scores as the authors' release gives them in its last table, for comparison with published numbers.

Before it scores, the release shortens predictions; answers stay as they are. Each function is of one sample, in [0, 1];
the release writes similarity and SARI in percent. BLEU enters no table and is left out.

Source: official `re_eval.py`, `evaluations/eval_*.py` and `utils/metrics.py`.
"""

from __future__ import annotations

import re

from seekr_tune.data.scorers.rouge import rouge_l
from seekr_tune.data.scorers.sari import sari
from seekr_tune.data.scorers.texts import edit_similarity

_ANSWER_MARKS = ("\nAnswer:", "\n回答:", "\n答案:")
_FULL_WIDTH_COLON = "\uff1a"
_EMPTY_LITERALS = {"<NUM_LIT>": "0", "<STR_LIT>": "", "<CHAR_LIT>": ""}
_LITERAL = re.compile(r"<(?:STR|NUM|CHAR)_LIT:([^>]*+)>")


def shortened(prediction: str) -> str:
    """The part of a prediction that counts: what is before a reasoning, or after an answer mark.

    A single blank stands for nothing.
    """
    text = prediction.replace(_FULL_WIDTH_COLON, ":")
    if "\nReasoning:" in text:
        text = text.split("\nReasoning:")[0]
    else:
        mark = next((mark for mark in _ANSWER_MARKS if mark in text), None)
        text = text if mark is None else text.split(mark)[1]
    return text.strip() or " "


def official_accuracy(prediction: str, answer: str) -> float:
    """NumGLUE and SuperNI: 1 where the texts are equal, else 0."""
    return float(shortened(prediction) == answer)


def official_choice(prediction: str, answer: str) -> float:
    """C-STANCE, FOMC and ScienceQA: 1 where the first characters are equal, else 0."""
    return float(shortened(prediction)[0] == answer[:1])


def official_rouge_l(prediction: str, answer: str) -> float:
    """MeetingBank and SuperNI: ROUGE-L as `rouge_l`."""
    return rouge_l(shortened(prediction), answer)


def official_similarity(prediction: str, answer: str) -> float:
    """Py150: edit similarity, after placeholders of literals are replaced by the literals."""
    return edit_similarity(filled(shortened(prediction)), filled(answer))


def official_sari(prediction: str, answer: str, source: str) -> float:
    """20Minuten: SARI."""
    return sari(shortened(prediction), answer, source)


def filled(code: str) -> str:
    """Code with its literals in place of what stands for them."""
    for placeholder, value in _EMPTY_LITERALS.items():
        code = code.replace(placeholder, value)
    return _LITERAL.sub(r"\1", code)
