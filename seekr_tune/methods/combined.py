"""Several methods as one: their terms add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod

from torch import Tensor

from seekr_tune.errors import CheckpointError, ConfigError
from seekr_tune.methods.memory import ReplaySample
from seekr_tune.methods.protocol import (
    Gradients,
    HeadNotes,
    Kind,
    Method,
    MethodState,
    StepView,
    TaskView,
    Update,
    below,
)
from seekr_tune.methods.seekr.attention import AttentionTap
from seekr_tune.methods.terms import CROSS_ENTROPY


class Combined(Method):
    """What a run knows of its methods, be it one or several; the state of each stands under its name.

    Args:
        methods: by name, in the order in which they are asked.

    Raises:
        ConfigError: they cannot work together.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = dict(methods)
        self._all = tuple(methods.values())
        self._refuse(self._having("before_update"), "changes gradients")
        self._refuse(self._having("watch"), "has an attention tap")
        self.has_penalties, self.changes_gradients = map(bool, map(self._having, ("penalties", "before_update")))
        self._refuse([name for name, one in methods.items() if one.keeps_signals], "keeps signals beside samples")
        self.touches_first_task = any(one.needs.touches_first_task for one in self._all)
        self._finds = next((one for one in self._all if one.finds_weights), None)
        self._weighed: dict[str, dict[str, float]] = {}  # terms of the step that is being taken

    @property
    def mend_of(self) -> Mapping[str, str]:
        """By loss term, and for `loss` and `grad_norm`: what to do where it is no finite number."""
        return {term: mend for one in self._all for term, mend in one.mends.items()}

    def state(self) -> MethodState:
        states = {name: one.state() for name, one in self._methods.items()}
        return MethodState(
            {f"{name}/{key}": own for name, state in states.items() for key, own in state.weights.items()},
            {f"{name}/{key}": own for name, state in states.items() for key, own in state.tensors.items()},
            {name: state.facts for name, state in states.items() if state.facts},
        )

    def restore(self, state: MethodState) -> None:
        for name, one in self._methods.items():
            own = MethodState(below(name, state.weights), below(name, state.tensors), state.facts.get(name, {}))
            try:
                one.restore(own)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                said = f"{type(error).__name__}: {error}"
                raise CheckpointError(f"what method {name} has saved cannot be taken up again ({said})") from error

    def before_task(self, task: TaskView) -> None:
        for one in self._all:
            one.before_task(task)

    def after_task(self, task: TaskView) -> Sequence[ReplaySample]:
        kept: Sequence[ReplaySample] = task.stored
        for one in self._all:
            own = one.after_task(task)
            kept = own if own is not task.stored else kept
        return kept

    def heads(self) -> HeadNotes | None:
        return next((notes for one in self._all if (notes := one.heads()) is not None), None)

    def begin_steps(self, taken: Sequence[Mapping[str, float]]) -> None:
        for one in self._all:
            one.begin_steps(taken)

    def weights(self, kind: Kind) -> dict[str, float]:
        self._weighed = {name: one.weights(kind) for name, one in self._methods.items()}
        return _together([*self._weighed.values()])

    def measured_weights(self) -> dict[str, float]:
        self._weighed = {name: one.measured_weights() for name, one in self._methods.items()}
        return _together([*self._weighed.values()])

    @property
    def keeps_signals(self) -> bool:
        return any(one.keeps_signals for one in self._all)

    def batch_signals(self, samples: Sequence[ReplaySample], padded_length: int, pin: bool) -> Mapping[str, Tensor]:
        own = [one.batch_signals(samples, padded_length, pin) for one in self._all if one.keeps_signals]
        return own[0] if own else {}

    def watch(self, step: StepView) -> AttentionTap | None:
        return next((tap for one in self._all if (tap := one.watch(step)) is not None), None)

    def terms(self, step: StepView, logits: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for method, one in self._methods.items():
            for term, value in one.terms(step, logits).items():
                if term == CROSS_ENTROPY or term not in self._weighed.get(method, ()):
                    why = "the loop computes that one" if term == CROSS_ENTROPY else "its weights() has no such name"
                    raise ConfigError(f"method {method}: terms() returned {term!r}, but {why}; mend the method")
                found[term] = _scalar(method, term, value)
        return found

    def penalties(self, weights: Gradients) -> dict[str, tuple[Tensor, float]]:
        found: dict[str, tuple[Tensor, float]] = {}
        for method, one in self._methods.items():
            for term, (value, factor) in one.penalties(weights).items():
                if term == CROSS_ENTROPY or term in found or any(term in own for own in self._weighed.values()):
                    raise ConfigError(
                        f"method {method}: penalties() returned {term!r}, which is a loss term already; rename it"
                    )
                found[term] = _scalar(method, term, value), factor
        return found

    def before_update(self, update: Update) -> None:
        for one in self._all:
            one.before_update(update)

    @property
    def finds_weights(self) -> bool:
        return self._finds is not None

    def measured(self, norms: Mapping[str, float]) -> Mapping[str, float]:
        return norms if self._finds is None else self._finds.measured(norms)

    def _having(self, hook: str) -> list[str]:
        """Names of the methods that do something in a hook."""
        base = getattr(Method, hook)
        return [name for name, one in self._methods.items() if getattr(type(one), hook) is not base]

    def _refuse(self, names: Sequence[str], what: str) -> None:
        if len(names) > 1:
            raise ConfigError(f"method.name: {names[0]} and {names[1]} cannot work together: each {what}; drop one")


def _scalar(method: str, term: str, value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.dim():
        shape = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(f"method {method}: {term!r} must be a tensor with one number, not {shape}; mend the method")
    return value


def _together(weights: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of all terms; factors of cross-entropy are multiplied."""
    named = Counter(name for own in weights for name in own if name != CROSS_ENTROPY)
    twice = next((name for name, count in named.items() if count > 1), None)
    if twice is not None:
        raise ConfigError(f"method.name: two of the methods have a loss term named {twice!r}; drop one of them")
    first = {CROSS_ENTROPY: prod(own.get(CROSS_ENTROPY, 1.0) for own in weights)}
    return first | {name: value for own in weights for name, value in own.items() if name != CROSS_ENTROPY}
