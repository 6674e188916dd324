"""The dimensions of a search space: ranges and choices, and when they are searched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field, FiniteFloat, StrictBool, StrictFloat, StrictInt, TypeAdapter
from pydantic import model_validator as validator

from seekr_tune.config import Section
from seekr_tune.config.meaning import counts_or_shares, same_meaning

_MAX_POINTS = 100_000
"""Values of one dimension that are worth a list."""

Scalar = StrictBool | StrictInt | StrictFloat | str | None
"""What Optuna can store of one parameter."""

Condition = Mapping[str, tuple[Scalar, ...]]
"""By config path, the values under which a dimension is searched; all of them must hold."""


class _Conditional(Section):
    """What all dimensions share."""

    when: dict[str, Annotated[tuple[Scalar, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Values of other config paths under which this dimension is searched; none: always."""


class FloatRange(_Conditional):
    """Real numbers from `low` to `high`."""

    type: Literal["float"]
    """Marks a range of real numbers."""
    low: FiniteFloat
    """Smallest value."""
    high: FiniteFloat
    """Largest value."""
    log: bool = False
    """Sample evenly on a logarithmic scale."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Grid of the values, counted from `low`; null samples any number."""
    published: FiniteFloat | None = None
    """Value of the first trial."""

    @validator(mode="after")
    def _values_fit(self) -> Self:
        _require_range(self.low, self.high, self.log, self.published)
        if self.step is None:
            return self
        if self.log:
            raise ValueError("log and step exclude each other; drop one of them")
        for name, value in (("high", self.high), ("published", self.published)):
            if value is not None and not _is_multiple(value - self.low, self.step):
                raise ValueError(f"{name}={value} is not low={self.low} plus a multiple of step={self.step}")
        return self

    def distribution(self) -> FloatDistribution:
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, trial: optuna.Trial, key: str) -> float:
        return trial.suggest_float(key, self.low, self.high, log=self.log, step=self.step)

    def extremes(self) -> tuple[float, float]:
        return self.low, self.high

    def points(self) -> Sequence[float] | None:
        """All values; None where they are not finitely many, or too many to be listed."""
        if self.step is None or (self.high - self.low) / self.step >= _MAX_POINTS:
            return None
        count = round((self.high - self.low) / self.step) + 1
        return tuple(_point(self.low, self.step, index) for index in range(count))


class IntRange(_Conditional):
    """Whole numbers from `low` to `high`."""

    type: Literal["int"]
    """Marks a range of whole numbers."""
    low: StrictInt
    """Smallest value."""
    high: StrictInt
    """Largest value."""
    log: bool = False
    """Sample evenly on a logarithmic scale."""
    step: Annotated[int, Field(strict=True, ge=1)] = 1
    """Grid of the values, counted from `low`."""
    published: StrictInt | None = None
    """Value of the first trial."""

    @validator(mode="after")
    def _values_fit(self) -> Self:
        _require_range(self.low, self.high, self.log, self.published)
        if self.log and self.step != 1:
            raise ValueError("log and step exclude each other; drop one of them")
        for name, value in (("high", self.high), ("published", self.published)):
            if value is not None and (value - self.low) % self.step:
                raise ValueError(f"{name}={value} is not low={self.low} plus a multiple of step={self.step}")
        return self

    def distribution(self) -> IntDistribution:
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, trial: optuna.Trial, key: str) -> int:
        return trial.suggest_int(key, self.low, self.high, log=self.log, step=self.step)

    def extremes(self) -> tuple[int, int]:
        return self.low, self.high

    def points(self) -> Sequence[int]:
        """All values."""
        return range(self.low, self.high + 1, self.step)


class Choices(_Conditional):
    """One of a few values without an order."""

    type: Literal["categorical"]
    """Marks a choice."""
    choices: tuple[Scalar, ...] = Field(min_length=2)
    """The values; null is one of them where the field may be null."""
    published: Scalar = None
    """Value of the first trial."""

    @validator(mode="after")
    def _published_is_a_choice(self) -> Self:
        for index, choice in enumerate(self.choices):
            twin = next((other for other in self.choices[:index] if other == choice), choice)
            if repr(twin) != repr(choice):
                raise ValueError(f"choices must differ, but Optuna takes {twin!r} and {choice!r} for equal; drop one")
            if choice in self.choices[:index]:
                raise ValueError(f"choices must differ, but {choice!r} is listed twice")
        if self.states_published and self.published not in self.choices:
            raise ValueError(f"published={self.published!r} is not one of the choices {list(self.choices)}")
        return self

    @property
    def states_published(self) -> bool:
        """Whether the file names a published value; null can be one."""
        return "published" in self.model_fields_set

    def distribution(self) -> CategoricalDistribution:
        return CategoricalDistribution(self.choices)

    def suggest(self, trial: optuna.Trial, key: str) -> Scalar:
        value: Scalar = trial.suggest_categorical(key, self.choices)
        return value

    def extremes(self) -> tuple[Scalar, ...]:
        return self.choices

    def points(self) -> Sequence[Scalar]:
        """All values."""
        return self.choices


Dimension = FloatRange | IntRange | Choices
DIMENSION: TypeAdapter[Dimension] = TypeAdapter(Annotated[Dimension, Field(discriminator="type")])
"""Checks one entry of a search-space file."""


def member(dimension: Dimension, path: str, value: Any) -> Any:
    """The value of a dimension that a given value means: of a grid its own number, of choices the one listed.

    Optuna would convert what it is given: 1 into 1.0 in a range of real numbers, 1.0 into the choice 1, true into 1.

    Args:
        dimension: where it is to be found.
        path: config path of the dimension.
        value: as somebody wrote it.

    Raises:
        ValueError: there is none; the text says why, to be read behind `path=value`.
    """
    if isinstance(dimension, Choices):
        found = [choice for choice in dimension.choices if same_meaning(path, choice, value)]
        if not found:
            raise ValueError(f"is not one of the choices {list(dimension.choices)}")
        return found[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("is no finite number, as the range has them")
    is_real = isinstance(dimension, FloatRange)
    if path in counts_or_shares() and isinstance(value, int) == is_real:
        is_what, has_what = ("a count", "shares") if is_real else ("a share", "counts")
        mend = f"{value}.0 would be a share" if is_real else f"{value:g} would be a count"
        raise ValueError(f"is {is_what}, and the range has {has_what} ({mend})")
    if not is_real and value != int(value):
        raise ValueError("is no whole number")
    step = dimension.step
    if step is not None and _is_multiple(value - dimension.low, step):
        value = _point(dimension.low, step, round((value - dimension.low) / step))
    elif step is not None and dimension.low <= value <= dimension.high:
        raise ValueError(f"is not {dimension.low} plus a multiple of {step}")
    if not dimension.low <= value <= dimension.high:
        raise ValueError(f"is outside the range {dimension.low} .. {dimension.high}")
    return float(value) if is_real else int(value)


def holds(dimension: Dimension, path: str, value: Any) -> bool:
    """Whether a dimension has a value that means the same."""
    try:
        member(dimension, path, value)
    except ValueError:
        return False
    return True


def _point(low: float, step: float, index: int) -> float:
    """A value of a grid; in decimal, for 0.1 + 6 x 0.1 is above 0.7 in binary, and Optuna would not have it."""
    return float(Decimal(repr(low)) + index * Decimal(repr(step)))


def _require_range(low: float, high: float, log: bool, published: float | None) -> None:
    if low >= high:
        raise ValueError(f"low must be below high, but low={low} and high={high}")
    if log and low <= 0:
        raise ValueError(f"a log range starts above 0, but low={low}")
    if published is not None and not low <= published <= high:
        raise ValueError(f"published={published} is outside low={low} .. high={high}")


def _is_multiple(value: float, step: float) -> bool:
    return math.isclose(value / step, round(value / step), abs_tol=1e-9)
