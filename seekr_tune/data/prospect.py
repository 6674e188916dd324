"""What data and model allow of a task, before anything is trained: what is cut, what is unknown, ceiling and floor.

The ceiling is what a task is worth to a perfect model: the score of its own answers, once they have been tokens. What
no sequence of tokens spells (a newline that the vocabulary lacks, special tokens inside an answer, capitals behind a
lower-casing tokenizer) or what lies behind the limit of an answer, no model can give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seekr_tune.config import Split
from seekr_tune.config.messages import shown
from seekr_tune.data.baseline import ConstantBaseline
from seekr_tune.data.collate import Encoder, TokenCounts
from seekr_tune.data.samples import mean, sample_scores
from seekr_tune.data.scorers.rouge import share_without_blanks
from seekr_tune.data.task import Task, TaskStream

Constants = Mapping[tuple[str, Split], ConstantBaseline]
"""By task and scored split, the best constant answer."""

_ROUNDING = 1e-6
_MOST_NAMED = 6
_SCRIPT_ROWS = 200
_MOSTLY = 0.5


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
        score: of the answers after encoding and decoding, in percent.
        perfect: of the answers as they are, in percent: 100, or what the metric gives equal texts.
        lost: the first answer that scores less than it could; None where none does.
    """

    score: float
    perfect: float
    lost: Lost | None


@dataclass(frozen=True)
class Prospect:
    """One split of one task.

    Attributes:
        task, split: which.
        counts: its tokens, and what the limits leave of them.
        ceiling: the best score that any model can reach; None for a split that is not scored.
        floor: score of the best constant answer, in percent; None likewise, or where it was not asked for.
    """

    task: str
    split: Split
    counts: TokenCounts
    ceiling: Ceiling | None = None
    floor: float | None = None


def prospects(
    stream: TaskStream,
    scored: Sequence[Split],
    encoder: Encoder,
    constants: Constants | None = None,
    train: Sequence[TokenCounts] | None = None,
) -> list[Prospect]:
    """The train split and the scored ones of each task.

    Args:
        stream: the tasks, with these splits.
        scored: splits that are scored.
        encoder: of the run, with the tokens that end an answer.
        constants: the best constant answers; None leaves the floors out, for to find them may take a while.
        train: tokens of each task's train split, where they have been counted.
    """
    found = []
    for index, task in enumerate(stream):
        found.append(Prospect(task.name, "train", train[index] if train else encoder.encode_counted(task.train)[1]))
        for split in scored:
            if split != "train":
                counts, best = encoder.count(task.splits[split]), ceiling(task, split, encoder)
                floor = None if constants is None else constants[task.name, split].score
                found.append(Prospect(task.name, split, counts, best, floor))
    return found


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
    perfect = sample_scores(task, examples, answers)
    reached = perfect if read == answers else sample_scores(task, examples, read)
    rows = enumerate(zip(answers, read, perfect, reached, strict=True), start=1)
    lost = (Lost(row, answer, text) for row, (answer, text, best, own) in rows if own < best - _ROUNDING)
    return Ceiling(mean(reached), mean(perfect), next(lost, None))


def lost_line(found: Sequence[Prospect]) -> str | None:
    """Which tasks have answers that no model can give, with the first of them; None where there are none."""
    short = [(one, best, best.lost) for one in found if (best := one.ceiling) is not None and best.lost is not None]
    if not short:
        return None
    shares = [f"{one.task} ({best.score:.1f} on {one.split}, not {best.perfect:.1f})" for one, best, _ in short]
    more = f" and {len(shares) - _MOST_NAMED} more" if len(shares) > _MOST_NAMED else ""
    first, _, lost = short[0]
    return (
        f"scores of a perfect model: {', '.join(shares[:_MOST_NAMED])}{more}; in row {lost.row} of {first.task} "
        f"{shown(lost.answer)} comes out of the tokenizer as {shown(lost.read)}; change the answers, "
        "recipe.max_answer_tokens or the model"
    )


def unread_script(task: Task) -> str | None:
    """Why the metric of a task takes a whole answer for one word, and which metric does not; None where it can read it.

    Looks at the first train answers: letters of Chinese, Japanese, Thai, Lao, Khmer, Burmese and their like.
    """
    instead = task.scorer.without_blanks
    if instead is None or share_without_blanks([row.answer for row in task.train[:_SCRIPT_ROWS]]) <= _MOSTLY:
        return None
    return (
        f"{task.name}: its answers are in a script without blanks between words, so {task.scorer.name} takes a whole "
        f"answer for one word; set stream.metrics.{task.name}={instead}"
    )
