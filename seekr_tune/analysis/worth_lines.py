"""What the scores of each task are worth, in words: a line of numbers for each, and one of warning for each fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from seekr_tune.analysis.configurations import nothing_learned, void_line
from seekr_tune.analysis.table import NOTHING, Column, Table, rounded
from seekr_tune.analysis.worth import SLIGHT, TaskWorth, study_worths, worths_of
from seekr_tune.records import ProspectRow

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


def warnings(worths: Sequence[TaskWorth], positions: int | None = None) -> Iterator[str]:
    """What is wrong with tasks, and how to mend it: a line for each fault, which names the tasks that have it.

    Args:
        worths: of the tasks.
        positions: of the model, for prompt and answer together; None where they are not known.
    """
    hopeless = [worth for worth in worths if _is_hopeless(worth)]
    yield from _hopeless(hopeless)
    yield from _unlearned([worth for worth in worths if worth not in hopeless])
    yield from _cut(worths, positions)
    unknown = [worth for worth in worths if (worth.unknown_tokens or 0) > SLIGHT]
    if unknown:
        yield (
            f"tokens are unknown to the model: {_shares(unknown, 'unknown_tokens')}; choose another model, or clean "
            "the texts"
        )


def study_warnings(directory: Path) -> tuple[str, ...]:
    """What is wrong with a study or a single run, by its ledger: with all of it first, then with its tasks.

    Raises:
        StudyError: there is no ledger, or it is damaged.
    """
    from seekr_tune.analysis.ledger import read_trials  # with Arrow, which records do without

    void = nothing_learned(read_trials(directory).select(["tasks", "tasks_learned"]).to_pylist())
    return (*([] if void is None else [void_line(void)]), *warnings(study_worths(directory)))


def data_warnings(
    prospects: Sequence[ProspectRow], limits: tuple[int, int], positions: int | None = None
) -> Iterator[str]:
    """The same of data and model alone, before anything is trained."""
    yield from warnings(worths_of(prospects, limits), positions)


def _is_hopeless(worth: TaskWorth) -> bool:
    return worth.ceiling is not None and worth.floor is not None and worth.ceiling <= worth.floor


def _hopeless(worths: Sequence[TaskWorth]) -> Iterator[str]:
    """Tasks on which no model can be above one constant answer."""
    constant = [worth for worth in worths if (worth.floor or 0) >= _ALL]
    if constant:
        yield (
            f"CANNOT BE LEARNED: one constant answer is right for every scored sample of {_named(constant)}, and no "
            "model is better than that; give samples with different answers, or leave the task out"
        )
    others = [f"{worth.task} ({rounded(worth.ceiling, '.1f')} %)" for worth in worths if worth not in constant]
    if others:
        yield (
            f"CANNOT BE LEARNED: a perfect model scores no more than one constant answer: {_listed(others)}; change "
            "the answers, recipe.max_answer_tokens or the model"
        )


def _unlearned(worths: Sequence[TaskWorth]) -> Iterator[str]:
    """Tasks whose score is not above the best constant answer; where texts are cut, that is to be mended first."""
    found: dict[tuple[str, str], list[str]] = {}
    for worth in worths:
        shown = worth.own or worth.joint
        if worth.floor is None or shown is None:
            continue
        if shown.is_above is False:
            when = "just after learning" if worth.own else "after joint training"
            kind = (f"NOT LEARNED, in % {when}", "" if _is_cut(worth) else f"; {_MEND}")
        elif worth.joint is not None and worth.joint.is_above is False:
            shown, kind = worth.joint, ("joint training did not learn, in %", "")
        else:
            continue
        found.setdefault(kind, []).append(f"{worth.task} ({shown.score:.1f}, one constant answer {worth.floor:.1f})")
    yield from (f"{what}: {_listed(told)}{mend}" for (what, mend), told in found.items())


def _is_cut(worth: TaskWorth) -> bool:
    return (worth.prompts_cut or 0) > SLIGHT or (worth.answers_cut or 0) > SLIGHT


_MEND = "raise recipe.epochs, change recipe.learning_rate, give more train rows or a larger model"
_ALL = 100.0 - 1e-6


def _cut(worths: Sequence[TaskWorth], positions: int | None) -> Iterator[str]:
    """Prompts and answers that the limits cut, and limits that cut less and that the model has room for."""
    prompts = [worth for worth in worths if (worth.prompts_cut or 0) > SLIGHT]
    answers = [worth for worth in worths if (worth.answers_cut or 0) > SLIGHT]
    if not prompts and not answers:
        return
    now = (*prompts, *answers)[0].limits
    needed = prompt, answer = (
        max([now[0], *(worth.needed[0] for worth in prompts)]),
        max([now[1], *(worth.needed[1] for worth in answers)]),
    )
    if positions is not None:  # the answers first: what they need, the prompts lose on the left
        answer = min(answer, positions - now[0])
        prompt = min(prompt, positions - answer)
    if prompts:
        mend = _limit_text("prompt", now[0], prompt, needed[0], positions)
        yield f"prompts are cut on the left: {_shares(prompts, 'prompts_cut')}; {mend}"
    if answers:
        mend = _limit_text("answer", now[1], answer, needed[1], positions)
        yield f"answers are cut: {_shares(answers, 'answers_cut')}; {mend}"


def _limit_text(what: str, now: int, reached: int, needed: int, positions: int | None) -> str:
    """How to mend a limit that cuts: what of `needed` tokens the model has room for is `reached`."""
    field = f"recipe.max_{what}_tokens"
    if positions is None:
        return f"raise {field} from {now} (to {needed} for all, if the model has so many positions)"
    if reached == needed:
        return f"raise {field} from {now} (to {needed} for all)"
    short = f"the longest has {needed} tokens, and the model {positions} positions for prompt and answer together"
    raised = f"raise {field} from {now} to {reached}, and " if reached > now else ""
    return f"{raised}shorten the {what}s, or take a model with more positions ({short})"


def _shares(worths: Sequence[TaskWorth], which: str) -> str:
    return _listed([f"{worth.task} ({_share(getattr(worth, which))})" for worth in worths])


def _named(worths: Sequence[TaskWorth]) -> str:
    return _listed([worth.task for worth in worths])


def _listed(texts: Sequence[str]) -> str:
    """So many that a line stays one: a table beside it has them all."""
    more = f" and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return ", ".join(texts[:_MOST_NAMED]) + more


_MOST_NAMED = 6


def _verdict(worth: TaskWorth) -> str:
    if worth.own is None and worth.joint is None:
        return "not scored yet" if worth.is_known else "unknown"
    return {None: "unknown", True: "learned", False: "NOT LEARNED"}[worth.is_learned]


def _share(value: float | None) -> str:
    """A share of one in percent; what is little is not called nothing."""
    if value is None:
        return NOTHING
    return "< 1 %" if 0 < value < 0.01 else "> 99 %" if 0.99 < value < 1 else f"{100 * value:.0f} %"
