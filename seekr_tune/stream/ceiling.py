"""What a task is worth to a perfect model: the score of its own answers, once they have been tokens.

A model answers in tokens. What no sequence of them spells (a newline that the vocabulary lacks, special tokens inside
an answer, capitals behind a lower-casing tokenizer) or what lies behind the limit of an answer, no model can give.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seekr_tune.config import Split
from seekr_tune.config.messages import shown
from seekr_tune.stream.collate import Encoder
from seekr_tune.stream.task import Example, Task

_ROUNDING = 1e-6
_MOST_NAMED = 6


@dataclass(frozen=True)
class Lost:
    """An answer that cannot be given as it is.

    Attributes:
        row: of the split, counted from 1 as the readers of files count.
        answer: as the data have it.
        read: what is left of it.
    """

    row: int
    answer: str
    read: str


@dataclass(frozen=True)
class Ceiling:
    """The best score that any model can reach on one split.

    Attributes:
        task, split: what is scored.
        score: of the answers after encoding and decoding, in percent.
        perfect: of the answers as they are, in percent: 100, or what the metric gives equal texts.
        lost: the first answer that scores less than it could; None where none does.
    """

    task: str
    split: Split
    score: float
    perfect: float
    lost: Lost | None


def lost_line(ceilings: Iterable[Ceiling]) -> str | None:
    """Which tasks have answers that no model can give, with the first of them; None where there are none."""
    found = [(one, one.lost) for one in ceilings if one.lost is not None]
    if not found:
        return None
    shares = [f"{one.task} ({one.score:.1f} on {one.split}, not {one.perfect:.1f})" for one, _ in found]
    more = f" and {len(shares) - _MOST_NAMED} more" if len(shares) > _MOST_NAMED else ""
    first, lost = found[0]
    return (
        f"scores of a perfect model: {', '.join(shares[:_MOST_NAMED])}{more}; in row {lost.row} of {first.task} "
        f"{shown(lost.answer)} comes out of the tokenizer as {shown(lost.read)}; change the answers, "
        "recipe.max_answer_tokens or the model"
    )


def ceiling(task: Task, split: Split, encoder: Encoder) -> Ceiling:
    """Score the answers of a split as if a model had generated them: encoded, cut as in training, and read again.

    Args:
        task: the task.
        split: one that was read.
        encoder: of the run, with the tokens that end an answer.
    """
    examples = task.splits[split]
    answers = [example.answer for example in examples]
    read = [encoder.read(ids) for ids in encoder.encode_answers(answers)]
    perfect = _score(task, examples, answers)
    return Ceiling(
        task=task.name,
        split=split,
        score=perfect if read == answers else _score(task, examples, read),
        perfect=perfect,
        lost=_first_lost(task, examples, read),
    )


def _first_lost(task: Task, examples: Sequence[Example], read: Sequence[str]) -> Lost | None:
    for row, (example, text) in enumerate(zip(examples, read, strict=True), start=1):
        if text != example.answer:
            reached, perfect = (_score(task, [example], [prediction]) for prediction in (text, example.answer))
            if reached < perfect - _ROUNDING:
                return Lost(row, example.answer, text)
    return None


def _score(task: Task, examples: Sequence[Example], predictions: Sequence[str]) -> float:
    answers, prompts = [example.answer for example in examples], [example.prompt for example in examples]
    return task.scorer.mean(predictions, answers, prompts)
