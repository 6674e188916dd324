"""What the scores of each task are worth, in words: a line of numbers for each, and one of warning where need be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seekr_tune.analysis.record import ProspectRow
from seekr_tune.analysis.table import NOTHING, Column, Table, rounded
from seekr_tune.analysis.worth import SLIGHT, TaskWorth, worths_of

_MEANING = (
    "floor: the best constant answer; ceiling: a perfect model; learned, joint: score just after learning and of joint "
    "training, with the 95 % interval (Student's, paired over samples) of what it is above the floor; means over runs"
)


def worth_table(worths: Sequence[TaskWorth]) -> Table:
    """A row a task, and what has to be known to read them."""
    shares = {"prompts_cut": "prompts cut", "answers_cut": "answers cut", "unknown_tokens": "unknown"}
    scores = {"ceiling": "ceiling", "floor": "floor", "zero_shot": "zero-shot", "own": "learned", "joint": "joint"}
    return Table(
        caption="Task by task: what is cut, and what its scores are worth",
        columns=(
            Column("task", "task", is_text=True),
            *(Column(name, heading, _share) for name, heading in shares.items()),
            *(Column(name, heading, ".1f") for name, heading in scores.items()),
            Column("verdict", "", is_text=True),
        ),
        rows=tuple({**vars(worth), "verdict": _verdict(worth)} for worth in worths),
        notes=tuple(_notes(worths)),
    )


def _notes(worths: Sequence[TaskWorth]) -> Iterator[str]:
    yield _MEANING
    if any(worth.zero_shot is None for worth in worths):
        yield "zero-shot: not measured; evaluation.matrix=full scores before learning"
    unknown = [worth.task for worth in worths if not worth.is_known]
    if unknown:
        yield f"unknown for {', '.join(unknown)}: an earlier version ran it, and kept no floor and no errors"


def outlook(worth: TaskWorth) -> str:
    """One line about a task before anything is trained."""
    unknown = "" if worth.unknown_tokens is None else f", {_share(worth.unknown_tokens)} of its tokens are unknown"
    floor = "" if worth.floor is None else f"; floor {worth.floor:.1f}, ceiling {rounded(worth.ceiling, '.1f')}"
    return (
        f"{worth.task}: {_share(worth.prompts_cut)} of its prompts and {_share(worth.answers_cut)} of its answers are "
        f"cut (longest {worth.needed[0]} and {worth.needed[1]} tokens){unknown}{floor}"
    )


def warnings(worths: Sequence[TaskWorth]) -> Iterator[str]:
    """One line for each task that was not learned, or of which much is lost: what, and how to mend it."""
    for worth in worths:
        parts = [*_unlearned(worth), *_lost(worth)]
        if parts:
            yield f"{worth.task}: {'; '.join(parts)}"


def data_warnings(prospects: Sequence[ProspectRow], limits: tuple[int, int]) -> Iterator[str]:
    """The same of data and model alone, before anything is trained."""
    yield from warnings(worths_of(prospects, limits))


def _unlearned(worth: TaskWorth) -> Iterator[str]:
    shown = worth.own or worth.joint
    if worth.floor is None or shown is None:
        return
    if shown.is_above is False:
        when = "just after learning" if worth.own else "after joint training"
        mend = "" if (worth.prompts_cut or 0) > SLIGHT or (worth.answers_cut or 0) > SLIGHT else f" ({_MEND})"
        yield (
            f"NOT LEARNED{mend}: {shown.score:.1f} % {when}, {worth.floor:.1f} % by one constant answer "
            f"({shown.interval} points, 95 % interval)"
        )
    elif worth.joint is not None and worth.joint.is_above is False:
        yield (
            f"joint training did not learn it: {worth.joint.score:.1f} %, {worth.floor:.1f} % by one constant answer "
            f"({worth.joint.interval} points, 95 % interval)"
        )


_MEND = "raise recipe.epochs, change recipe.learning_rate, give more train rows or a larger model"


def _lost(worth: TaskWorth) -> Iterator[str]:
    if (worth.prompts_cut or 0) > SLIGHT:
        yield (
            f"{_share(worth.prompts_cut)} of its prompts are cut on the left: raise recipe.max_prompt_tokens from "
            f"{worth.limits[0]} (to {worth.needed[0]} for all)"
        )
    if (worth.answers_cut or 0) > SLIGHT:
        yield (
            f"{_share(worth.answers_cut)} of its answers are cut: raise recipe.max_answer_tokens from "
            f"{worth.limits[1]} (to {worth.needed[1]} for all)"
        )
    if (worth.unknown_tokens or 0) > SLIGHT:
        unknown = _share(worth.unknown_tokens)
        yield f"{unknown} of its tokens are unknown to the model: choose another model, or clean the texts"
    if worth.ceiling is not None and worth.floor is not None and worth.ceiling <= worth.floor:
        yield (
            f"a perfect model scores {worth.ceiling:.1f} %, no more than one constant answer ({worth.floor:.1f} %): "
            "nothing can be learned from these answers as they are"
        )


def _verdict(worth: TaskWorth) -> str:
    if worth.own is None and worth.joint is None:
        return "not scored yet" if worth.is_known else "unknown"
    return {None: "unknown", True: "learned", False: "NOT LEARNED"}[worth.is_learned]


def _share(value: float | None) -> str:
    """A share of one in percent; what is little is not called nothing."""
    if value is None:
        return NOTHING
    return "< 1 %" if 0 < value < 0.01 else "> 99 %" if 0.99 < value < 1 else f"{100 * value:.0f} %"
