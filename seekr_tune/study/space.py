"""Search spaces: a YAML file whose keys are config paths, checked against the schema before anything runs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import optuna
import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, FiniteFloat, StrictBool, StrictFloat, StrictInt, TypeAdapter, ValidationError
from pydantic import model_validator as validator

from seekr_tune.config import Config, Section
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import parse_config, read_yaml_mapping, require_path, with_values

Scalar = StrictBool | StrictInt | StrictFloat | str | None
"""What Optuna can store of one parameter."""

_NOT_SEARCHABLE = ("name", "memory_draw", "stream.tasks", "study", "training", "evaluation")
"""Fields that must be equal in all trials of a study: how it runs and how its trials are measured."""


class FloatRange(Section):
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


class IntRange(Section):
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


class Choices(Section):
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


Dimension = Annotated[FloatRange | IntRange | Choices, Field(discriminator="type")]
_DIMENSION: TypeAdapter[FloatRange | IntRange | Choices] = TypeAdapter(Dimension)


@dataclass(frozen=True)
class Space:
    """What a study searches: config paths and their ranges.

    Attributes:
        dimensions: range of each config path, in the order of the file.
        origin: file it was read from, for messages.
    """

    dimensions: Mapping[str, FloatRange | IntRange | Choices]
    origin: str

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna knows it."""
        return {key: dimension.distribution() for key, dimension in self.dimensions.items()}

    def published(self) -> dict[str, Any]:
        """The published settings, as far as the space states them: the first trial."""
        return {
            key: dimension.published
            for key, dimension in self.dimensions.items()
            if dimension.published is not None or (isinstance(dimension, Choices) and dimension.states_published)
        }

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """One value of every dimension; for a trial that has some already, the missing ones."""
        return {key: dimension.suggest(trial, key) for key, dimension in self.dimensions.items()}

    def require_fits(self, config: Config) -> None:
        """Check both ends of every range, and every choice, in `config`.

        Raises:
            ConfigError: a value that the schema refuses; one line that names the file and the key.
        """
        for key, dimension in self.dimensions.items():
            for value in dimension.extremes():
                with_values(config, {key: value}, origin=self.origin)

    def dump(self) -> str:
        """The space as YAML; loading it again gives equal dimensions."""
        values = {key: dimension.model_dump(exclude_unset=True) for key, dimension in self.dimensions.items()}
        for value in values.values():
            if "choices" in value:
                value["choices"] = list(value["choices"])
        return str(yaml.safe_dump(values, sort_keys=False))


def load_space(path: Path) -> Space:
    """Read a search-space file and check it against the config schema.

    Raises:
        ConfigError: with one line that names the file, the key and the mend.
    """
    values = read_yaml_mapping(path)
    if not values:
        raise ConfigError(f"{path}: has no dimensions; list config paths such as method.replay_percent")
    space = Space(dict(_dimensions(values, str(path))), str(path))
    space.require_fits(parse_config({"stream": {"tasks": ["any"]}}, str(path)))
    return space


def space_of(config: Config, experiment: Path) -> Space:
    """The space that an experiment names, found relative to the experiment file.

    Raises:
        ConfigError: the experiment names none, or the file is wrong.
    """
    if config.study.space is None:
        raise ConfigError(f"{experiment}: study.space is null, so there is nothing to search; name a search-space file")
    path = experiment.parent / config.study.space
    if not path.is_file():
        raise ConfigError(
            f"{experiment}: study.space names {config.study.space!r}, but there is no file {path.resolve()}; "
            "give a path relative to the experiment file"
        )
    space = load_space(path)
    space.require_fits(config)
    return space


def _dimensions(values: Mapping[Any, Any], origin: str) -> Iterator[tuple[str, FloatRange | IntRange | Choices]]:
    for key, value in values.items():
        require_path(str(key), origin)
        if any(key == field or key.startswith(f"{field}.") for field in _NOT_SEARCHABLE):
            raise ConfigError(f"{origin}: {key!r} cannot be searched: all trials of a study share it; drop it")
        try:
            yield key, _DIMENSION.validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"{origin}: {key}: {_one_line(error)}") from None


def _one_line(error: ValidationError) -> str:
    errors = error.errors(include_url=False)  # a mistyped name is told before the field that it leaves missing
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    if first["type"] == "union_tag_not_found":
        return "type is missing; set it to float, int or categorical"
    if first["type"] == "union_tag_invalid":
        return f"type={first['ctx']['tag']!r} is unknown; set it to float, int or categorical"
    parts = [str(part) for part in first["loc"] if part not in ("float", "int", "categorical")]
    where = ".".join(parts[:1])  # the rest names a branch of a union or a place in a list
    if first["type"] == "extra_forbidden":
        known = ("type", "low", "high", "log", "step", "choices", "published")
        close = difflib.get_close_matches(where, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close and close[0] != where else "this type does not take it; drop it"
        return f"unknown field {where!r}; {hint}"
    if first["type"] == "missing":
        return f"{where} is missing; set it"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}, but got {first['input']!r}" if where else message


def _require_range(low: float, high: float, log: bool, published: float | None) -> None:
    if low >= high:
        raise ValueError(f"low must be below high, but low={low} and high={high}")
    if log and low <= 0:
        raise ValueError(f"a log range starts above 0, but low={low}")
    if published is not None and not low <= published <= high:
        raise ValueError(f"published={published} is outside low={low} .. high={high}")


def _is_multiple(value: float, step: float) -> bool:
    return math.isclose(value / step, round(value / step), abs_tol=1e-9)
