"""What a method owes to a run, checked on small runs of it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.config import Config
from seekr_tune.config.plugins import is_spec
from seekr_tune.errors import ConfigError, SeekrTuneError
from seekr_tune.methods.registry import require_methods
from seekr_tune.methods.terms import CROSS_ENTROPY
from seekr_tune.testing.runs import Result, experiment_of, learn, on_ranks, option_key

TOLERANCES = {"steps": 5e-4, "weights": 1e-2, "state": 1e-3}
"""Largest relative difference of two workers to one process: of the numbers of a step; of all weights together, to how
far they have moved; of a tensor that the method keeps, to its own size. Ranks add the same float32 numbers in another
order, and AdamW divides a gradient by its own size, so a weight whose gradient is rounding noise moves at random.
About ten times what was seen of the methods of the package."""

_SMALLEST = 1e-6
"""What a number of a step adds to the loss is rounding below this."""
_CLOCKS = {"seconds", "distillation_seconds"}


def contract_tests(
    method: str | Sequence[str],
    options: Mapping[str, Any] | None = None,
    *,
    beside: Path = Path(),
    neutral: Mapping[str, Any] | None = None,
    equals: str = "seqft",
    refused: Sequence[Mapping[str, Any]] = (),
) -> Callable[..., None]:
    """The checks of a method as one parametrised test; give it a name that pytest collects.

        test_contract = contract_tests("./ewc.py:EWC", {"strength": 100.0}, beside=Path(__file__).parent)

    Args: see `check_method`.
    """
    import pytest

    contract = Contract(method, options or {}, beside, neutral, equals, refused)

    @pytest.mark.parametrize("check", contract.checks)
    def test(check: str) -> None:
        failures = contract.failures(check)
        if failures:
            pytest.fail("\n".join(failures), pytrace=False)

    return test


def check_method(
    method: str | Sequence[str],
    options: Mapping[str, Any] | None = None,
    *,
    beside: Path = Path(),
    neutral: Mapping[str, Any] | None = None,
    equals: str = "seqft",
    refused: Sequence[Mapping[str, Any]] = (),
) -> None:
    """All checks, one after the other; a few seconds.

    Args:
        method: as `method.name` of an experiment; of several, the last one is checked.
        options: with which it has an effect.
        beside: directory that its file is named from.
        neutral: options with which it does nothing: step for step as `equals`. None: it has none.
        equals: that method.
        refused: options that it must refuse, one mapping for each refusal.

    Raises:
        AssertionError: with one line for each thing that is not as it must be.
    """
    contract = Contract(method, options or {}, beside, neutral, equals, refused)
    failures = [failure for check in contract.checks for failure in contract.failures(check)]
    if failures:
        raise AssertionError("\n".join(failures))


class Contract:
    """The checks, and the runs that they share. Arguments: see `check_method`.

    Attributes:
        checks: names of the checks.
    """

    def __init__(
        self,
        method: str | Sequence[str],
        options: Mapping[str, Any],
        beside: Path,
        neutral: Mapping[str, Any] | None,
        equals: str,
        refused: Sequence[Mapping[str, Any]],
    ) -> None:
        self._methods = (method,) if isinstance(method, str) else tuple(method)
        self._options, self._beside = options, beside
        self._neutral, self._equals, self._refused = neutral, equals, refused
        last = self._methods[-1]
        self._name = option_key(last) if is_spec(last) else last
        self._checks: dict[str, Callable[[], Iterator[str]]] = {
            "names its terms": self._terms,
            "goes on where it was killed": self._resumes,
            "says what it keeps": self._state,
            "refuses what it cannot serve": self._refuses,
            **({} if neutral is None else {"does nothing where it is off": self._is_neutral}),
            "same numbers with ddp": partial(self._shares, "ddp"),
            "same numbers with fsdp": partial(self._shares, "fsdp"),
            "same numbers with lora": self._adapts,
            "goes on with other workers": self._hands_over,
        }
        self.checks = tuple(self._checks)

    def failures(self, check: str) -> list[str]:
        """What is not as it must be, a line each."""
        try:
            return [f"{self._name}: {check}: {line}" for line in self._checks[check]()]
        except SeekrTuneError as error:
            return [f"{self._name}: {check}: {type(error).__name__}: {error}"]

    # --- runs --------------------------------------------------------------------------------------------------------

    def _config(self, way: str = "single", options: Mapping[str, Any] | None = None) -> Config:
        return experiment_of(self._methods, self._options if options is None else options, self._beside, way)

    @cached_property
    def _cls(self) -> Any:
        return require_methods(self._config())[self._name][0]

    def _unserved(self, way: str) -> tuple[str, str] | None:
        """The part of a way that the method does not serve, and why."""
        return next(
            ((part, self._cls.unsupported[part]) for part in way.split("+") if part in self._cls.unsupported), None
        )

    @cached_property
    def _whole(self) -> Result:
        return learn(self._config())

    @cached_property
    def _strategy(self) -> str | None:
        """With which one adapters are shared, and a run is begun that another number of workers ends."""
        return next((way for way in ("fsdp", "ddp") if self._unserved(way) is None), None)

    @cached_property
    def _on_ranks(self) -> tuple[dict[str, list[Result]], Result | None]:
        """By way, what each rank knows; and what one process made of a run that two ranks had begun."""
        strategy = self._strategy
        if strategy is None:
            return {}, None
        ways = (*(way for way in ("ddp", "fsdp") if self._unserved(way) is None), f"lora+{strategy}")
        configs = {way: self._config(way) for way in ways if self._unserved(way) is None}
        with tempfile.TemporaryDirectory(prefix="seekr-tune-contract-") as room:
            ranks = on_ranks(partial(_learn_all, configs, strategy, Path(room)))
            again = learn(self._config(), Path(room))
        return {way: [results[way] for results in ranks] for way in configs}, again

    # --- checks ------------------------------------------------------------------------------------------------------

    def _terms(self) -> Iterator[str]:
        steps, mends = self._whole.steps, self._cls.mends
        for term in sorted({term for step in steps for term in step.terms} - {CROSS_ENTROPY}):
            if not any(term in one.mends for one, _ in require_methods(self._config()).values()):
                yield f"`mends` does not say what to do where {term!r} is no finite number"
            if all(step.terms.get(term, 0.0) == 0.0 for step in steps):
                yield f"{term!r} is 0 in all steps: give options with which it has an effect"
        for term in sorted(mends.keys() - {"loss", "grad_norm"} - {term for step in steps for term in step.terms}):
            yield f"`mends` names {term!r}, which no step has; steps have {', '.join(steps[-1].terms)}"

    def _resumes(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="seekr-tune-contract-") as room:
            pieces = learn(self._config(), Path(room), in_pieces=True)
        whole = self._whole
        for ours, expected in zip(pieces.steps, whole.steps, strict=True):
            if _numbers(ours) != _numbers(expected):
                yield f"killed before {_place(expected)} and resumed, {_first_difference(ours, expected)}"
                break
        yield from _not_equal("weight", pieces.weights, whole.weights)
        yield from _not_equal("stored tensor", _stored_tensors([pieces]), _stored_tensors([whole]))
        if _stored_facts(pieces) != _stored_facts(whole):
            yield "other samples, queries or heads are stored"
        yield from _not_equal("tensor of state()", _known_tensors(pieces), _known_tensors(whole))
        if pieces.method.facts != whole.method.facts:
            yield f"facts of state() are {pieces.method.facts}, not {whole.method.facts}"

    def _state(self) -> Iterator[str]:
        result, needs = self._whole, self._cls.needs
        own = {name: parts for name, parts in result.method.weights.items() if name.startswith(f"{self._name}/")}
        if len(own) > needs.weight_copies:
            yield f"state() holds the weights {len(own)} times over, and Needs says weight_copies={needs.weight_copies}"
        for name, parts in own.items():
            shapes = {one: tuple(part.shape) for one, part in parts.items()}
            expected = {one: tuple(weight.shape) for one, weight in result.weights.items()}
            if shapes != expected:
                odd = sorted(one for one in shapes.keys() | expected.keys() if shapes.get(one) != expected.get(one))
                yield f"weights[{name.partition('/')[2]!r}] of state() is not one tensor for each parameter: {odd[0]}"
        counted = sum(sample.num_bytes for sample in result.memory) + result.method.num_bytes()
        if result.state_bytes[-1] != counted:
            yield f"the run counts {result.state_bytes[-1]} bytes, and {counted} are kept"

    def _refuses(self) -> Iterator[str]:
        for options in ({"no_such_option": 1}, *self._refused):
            said = self._refusal("single", options)
            if said is None:
                yield f"{options} is not refused"
            elif "\n" in said or not any(name in said for name in options):
                yield f"{options} is refused, but not with one line that names the option: {said}"
        for way, reason in self._cls.unsupported.items():
            said = self._refusal(way, self._options)
            if said is None or "\n" in said or reason not in said:
                yield f"{way} must be refused with one line that says {reason!r}, not: {said}"

    def _refusal(self, way: str, options: Mapping[str, Any]) -> str | None:
        try:
            require_methods(self._config(way, options))
        except ConfigError as error:
            return str(error)
        return None

    def _is_neutral(self) -> Iterator[str]:
        off = learn(self._config(options=self._neutral))
        same = learn(experiment_of((self._equals,), {}, self._beside))
        for ours, expected in zip(off.steps, same.steps, strict=False):
            found = (ours.kind, ours.batch, ours.loss, ours.terms[CROSS_ENTROPY], ours.grad_norm)
            if found != (
                expected.kind,
                expected.batch,
                expected.loss,
                expected.terms[CROSS_ENTROPY],
                expected.grad_norm,
            ):
                yield f"with {self._neutral}, {_place(ours)} is not that of {self._equals}: {found}"
                return
        if len(off.steps) != len(same.steps):
            yield f"with {self._neutral} it takes {len(off.steps)} steps; {self._equals} takes {len(same.steps)}"
        yield from _not_equal("weight", off.weights, same.weights)
        on = self._whole.weights
        if self._options != self._neutral and all(
            bool((on[name] == weight).all()) for name, weight in off.weights.items()
        ):
            yield f"{self._options} and {self._neutral} end with the same weights: give options that have an effect"

    def _shares(self, way: str) -> Iterator[str]:
        if self._unserved(way) is None:
            yield from _far(self._on_ranks[0][way], self._whole)

    def _adapts(self) -> Iterator[str]:
        if self._unserved("lora") is None:
            one = learn(self._config("lora"))
            yield from _far(self._on_ranks[0].get(f"lora+{self._strategy}", [one]), one)

    def _hands_over(self) -> Iterator[str]:
        again = self._on_ranks[1]
        if again is not None:
            for line in _far([again], self._whole):
                yield f"begun with {self._strategy} and ended by one process: {line}"


def _learn_all(configs: Mapping[str, Config], handed: str, room: Path) -> dict[str, Result]:
    """Of one rank; in `room` it leaves a run with the strategy `handed` whose last task is still to be learned."""
    learn(configs[handed], room, tasks=len(configs[handed].stream.tasks) - 1)
    return {way: learn(config) for way, config in configs.items()}


# --- what is compared ------------------------------------------------------------------------------------------------


def _place(step: StepRecord) -> str:
    return f"step {step.step} ({step.kind}) of task {step.task_index + 1}"


def _numbers(step: StepRecord) -> dict[str, Any]:
    return {name: getattr(step, name) for name in step.__slots__ if name not in _CLOCKS}


def _first_difference(ours: StepRecord, expected: StepRecord) -> str:
    theirs = _numbers(expected)
    name, value = next((name, value) for name, value in _numbers(ours).items() if value != theirs[name])
    return f"{name} is {value}, not {theirs[name]}"


def _not_equal(what: str, ours: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[str]:
    """One line where two sets of tensors are not the same bit for bit."""
    if ours.keys() != expected.keys():
        yield f"{what}s differ: {', '.join(sorted(ours.keys() ^ expected.keys())[:3])} is only there once"
        return
    odd = [
        name for name, own in ours.items() if own.shape != expected[name].shape or bool((own != expected[name]).any())
    ]
    if odd:
        yield f"{what} {odd[0]} is not the same bit for bit ({len(odd)} of {len(ours)} differ)"


def _stored_facts(result: Result) -> list[Any]:
    return [(s.task, s.index, s.num_labels, s.queries.tolist(), dict(s.heads)) for s in result.memory]


def _stored_tensors(ranks: Sequence[Result]) -> dict[str, Tensor]:
    """Teacher signals, each from the rank that holds it."""
    return {
        f"{place}/{name}": tensor
        for result in ranks
        for place, sample in enumerate(result.memory)
        if sample.teacher is not None
        for name, tensor in sample.teacher.tensors().items()
    }


def _known_tensors(result: Result) -> dict[str, Tensor]:
    weights = {f"{name}/{one}": part for name, parts in result.method.weights.items() for one, part in parts.items()}
    return {**weights, **result.method.tensors}


def _not_finite(result: Result) -> Iterator[str]:
    odd = [name for name, tensor in _known_tensors(result).items() if not bool(tensor.isfinite().all())]
    if odd:
        yield f"{odd[0]} of state() is not finite"


def _far(ranks: Sequence[Result], expected: Result) -> Iterator[str]:
    """Where ranks say something else than one process, beyond `TOLERANCES`."""
    ours = ranks[0]
    behind = expected.steps[len(expected.steps) - len(ours.steps) :]
    for step, own in zip(ours.steps, behind, strict=True):
        if (step.kind, step.batch) != (own.kind, own.batch):
            yield f"{_place(own)} learns samples {step.batch}, not {own.batch}"
            return
        numbers, others = _measured(step), _measured(own)
        if numbers.keys() != others.keys():
            yield f"{_place(own)} has {', '.join(numbers)}, not {', '.join(others)}"
            return
        far = [name for name in numbers if _is_far(numbers[name], others[name], own.weights.get(name, 1.0))]
        if far:
            yield f"{far[0]} of {_place(own)} is {numbers[far[0]]:g}, not {others[far[0]]:g}"
            return
    if any(list(map(_numbers, other.steps)) != list(map(_numbers, ours.steps)) for other in ranks):
        yield "ranks log other numbers than one another"
    moved = _distance(ours.weights, expected.weights) / (_distance(expected.start, expected.weights) or 1.0)
    if moved > TOLERANCES["weights"]:
        yield f"weights end {moved:.2g} of their way from those of one process"
    if any(_stored_facts(other) != _stored_facts(expected) for other in ranks):
        yield "other samples, queries or heads are stored"
    for what, found, wanted in (
        ("stored tensor", _stored_tensors(ranks), _stored_tensors([expected])),
        ("tensor of state()", _known_tensors(ours), _known_tensors(expected)),
    ):
        if found.keys() != wanted.keys():
            yield f"{what}s differ: {', '.join(sorted(found.keys() ^ wanted.keys())[:3])} is only there once"
            continue
        for name, tensor in wanted.items():
            apart = _distance({name: found[name]}, {name: tensor}) / (float(tensor.double().norm()) or 1.0)
            if apart > TOLERANCES["state"]:
                yield f"{what} {name} is {apart:.2g} of its size from that of one process"
                break
    if ours.state_bytes != expected.state_bytes:
        yield f"counts {ours.state_bytes} bytes after each task, and one process {expected.state_bytes}"


def _measured(step: StepRecord) -> dict[str, float]:
    weights = {f"weight of {name}": value for name, value in step.weights.items()}
    norm = {} if step.grad_norm is None else {"grad_norm": step.grad_norm}
    return {"loss": step.loss, **step.terms, **weights, **norm}


def _is_far(one: float, other: float, weight: float) -> bool:
    return not math.isclose(one, other, rel_tol=TOLERANCES["steps"], abs_tol=_SMALLEST / max(1.0, weight))


def _distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float((one[name].double() - other[name].double()).square().sum()) for name in one))
