"""Numbers of a step that are not finite: which term, of which samples, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.errors import TrainingError
from seekr_tune.loop.schedule import Stage
from seekr_tune.methods.memory import ReplayMemory
from seekr_tune.methods.terms import CROSS_ENTROPY

_MEND = "lower recipe.learning_rate"
_UNTRAINED = "nothing was learned yet: check the weights of the model"
_SHOWN = 16  # samples named in a message


def require_finite(
    record: StepRecord, stage: Stage, memory: ReplayMemory, tasks: Sequence[str], mends: Mapping[str, str]
) -> None:
    """Refuse a step with a term that is no finite number: what comes behind it would mean nothing.

    Args:
        record: the step.
        stage: where it belongs.
        memory: the samples that replay steps name.
        tasks: names of all tasks in learning order.
        mends: what to do about a term, and about `loss` and `grad_norm` where a method has terms (`Method.mends`).

    Raises:
        TrainingError: naming the step, its samples (rows counted from 1, as in the files) and the term.
    """
    # in the order in which a step computes them: the first one that is not finite is to blame
    for name, value in {**record.terms, "loss": record.loss, "grad_norm": record.grad_norm}.items():
        if value is not None and not math.isfinite(value):
            untrained = record.step == 0 and stage.tasks[0] == 0 and name == CROSS_ENTROPY
            distils = record.kind == "replay" or name in record.terms
            mend = _UNTRAINED if untrained else mends.get(name, _MEND) if distils else _MEND
            raise TrainingError(
                f"stage {stage.name!r}, step {record.step} ({record.kind}, {_samples(record, stage, memory, tasks)}): "
                f"{name} is {value}; {mend}"
            )


def _samples(record: StepRecord, stage: Stage, memory: ReplayMemory, tasks: Sequence[str]) -> str:
    if record.kind == "replay":
        names = [f"{tasks[memory[i].task]} row {memory[i].index + 1}" for i in record.batch]
    else:
        names = [str(i + 1) for i in record.batch]
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    if record.kind == "replay":
        return listed
    return f"train rows {listed}" + (" of all tasks one after the other" if len(stage.tasks) > 1 else "")
