"""Search spaces: a YAML file whose keys are config paths, checked against the schema before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from pydantic import ValidationError

from seekr_tune.config import Config
from seekr_tune.config.facts import fact_at, fields_at, gives_way, is_read, is_searchable
from seekr_tune.config.meaning import is_among
from seekr_tune.config.messages import hint, rule, shown
from seekr_tune.config.plugins import SEAMS, is_spec
from seekr_tune.config.reading import dump_yaml
from seekr_tune.config.section import BUILT_IN
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import config_paths, flatten, parse_config, read_yaml_mapping, require_path, with_values
from seekr_tune.study.search.constraints import Constraint, parse_constraint
from seekr_tune.study.search.dimensions import DIMENSION, Choices, Condition, Dimension, member

_CONSTRAINTS = "constraints"


@dataclass(frozen=True)
class Space:
    """What a study searches: config paths and their ranges.

    Attributes:
        dimensions: range of each config path, in the order of the file.
        origin: file it was read from, for messages.
        constraints: what every configuration must keep.
        fixed: what the experiment says of all other config paths; conditions may look at them.
    """

    dimensions: Mapping[str, Dimension]
    origin: str
    constraints: tuple[Constraint, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def within(self, config: Config) -> Space:
        """The same space, as a part of an experiment."""
        return replace(self, fixed=flatten(config))

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna knows it, conditions left out; parents come before what depends on them."""
        return {key: self.dimensions[key].distribution() for key in self.order()}

    def condition(self, key: str) -> Condition:
        """When a dimension is searched: as the file says, and never for a method that does not read it."""
        condition = self.when(key)
        methods = self.dimensions.get("method.name")
        if isinstance(methods, Choices):
            own = tuple(name for name in methods.choices if is_read(key, str(name)))
            if len(own) < len(methods.choices):
                condition.setdefault("method.name", own)
        parent = self._unless(key)
        if parent is not None and isinstance(choices := self.dimensions[parent], Choices):
            _, unread = fact_at(key).unless or ("", None)
            condition.setdefault(parent, tuple(value for value in choices.choices if value != unread))
        return condition

    def when(self, key: str) -> dict[str, tuple[Any, ...]]:
        """The condition that the file states, on dimensions by their keys and on other fields by their paths."""
        stated = self.dimensions[key].when
        return {self.fields.get(fields_at(path)[0], fields_at(path)[0]): wanted for path, wanted in stated.items()}

    def _unless(self, key: str) -> str | None:
        """The dimension that may take a value with which another one does not matter."""
        parent, _ = fact_at(key).unless or ("", None)
        return self.fields.get(parent)

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """The fields that are searched, each with its dimension: the same, or a path that it had before."""
        return {field: key for key in self.dimensions for field in fields_at(key)}

    def among(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Of the values of all fields, those of the dimensions."""
        own = {key: fields_at(key)[0] for key in self.dimensions}
        return {key: values[field] for key, field in own.items() if field in values}

    @property
    def is_conditional(self) -> bool:
        """Whether some dimension is not searched in every trial."""
        return any(self.condition(key) for key in self.dimensions)

    def order(self) -> tuple[str, ...]:
        """The dimensions, each behind those that its condition looks at."""
        ordered: list[str] = []
        left = list(self.dimensions)
        while left:
            ready = [key for key in left if not set(self.condition(key)) & set(left)]
            if not ready:
                raise ConfigError(f"{self.origin}: {left[0]}: its condition looks at itself; drop one `when`")
            ordered.append(ready[0])
            left.remove(ready[0])
        return tuple(ordered)

    def is_active(self, key: str, values: Mapping[str, Any]) -> bool:
        """Whether a dimension is searched, given the values of those before it."""
        for path, wanted in self.condition(key).items():
            if path in self.dimensions:
                # A parent that is not searched itself has no value that matters: neither has what depends on it.
                if path == self._unless(key) and path not in values and path not in self.when(key):
                    continue
                if path not in values or not is_among(path, values[path], wanted):
                    return False
            elif path in self.fixed and not is_among(path, self.fixed[path], wanted):
                return False
        return True

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the values whose dimension is searched, in order."""
        kept: dict[str, Any] = {}
        for key in self.order():
            if key in values and self.is_active(key, kept):
                kept[key] = values[key]
        return kept

    def members(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the space has them; one that it does not have stays as it is."""
        return {key: self._member(key, value) for key, value in values.items()}

    def _member(self, key: str, value: Any) -> Any:
        try:
            return member(self.dimensions[key], key, value)
        except (ValueError, LookupError):
            return value

    def missing(self, values: Mapping[str, Any]) -> str | None:
        """The first dimension that is searched under these values and has none; None where they are complete."""
        return next((key for key in self.order() if key not in values and self.is_active(key, values)), None)

    def points(self) -> Iterator[dict[str, Any]] | None:
        """Every configuration, in the order of the file; None where there are infinitely many."""
        of_each = {key: dimension.points() for key, dimension in self.dimensions.items()}
        finite = {key: points for key, points in of_each.items() if points is not None}
        return self._points(self.order(), finite, {}) if len(finite) == len(of_each) else None

    def infinite(self) -> str | None:
        """A dimension with infinitely many values; None without one."""
        return next((key for key, dimension in self.dimensions.items() if dimension.points() is None), None)

    def _points(
        self, order: tuple[str, ...], points: Mapping[str, Sequence[Any]], chosen: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        if not order:
            yield chosen
        elif self.is_active(order[0], chosen):
            for value in points[order[0]]:
                yield from self._points(order[1:], points, {**chosen, order[0]: value})
        else:
            yield from self._points(order[1:], points, chosen)

    def published(self) -> dict[str, Any]:
        """The published settings, as far as the space states them: the first trial."""
        stated = {
            key: None if dimension.published is None else member(dimension, key, dimension.published)
            for key, dimension in self.dimensions.items()
            if dimension.published is not None or (isinstance(dimension, Choices) and dimension.states_published)
        }
        parents = {path for key in stated for path in self.condition(key) if path in self.dimensions}
        return self.active(stated) if parents <= set(stated) else stated

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """One value of every dimension that is searched; for a trial that has some already, the missing ones."""
        values: dict[str, Any] = {}
        for key in self.order():
            if self.is_active(key, values):
                values[key] = self.dimensions[key].suggest(trial, key)
        return {key: values[key] for key in self.dimensions if key in values}

    def require_fits(self, config: Config) -> None:
        """Check both ends of every range, and every choice, in `config`.

        Raises:
            ConfigError: a value that the schema refuses, or two keys of which one stands for the other; one line that
                names the file and the key.
        """
        for path, key in self.fields.items():
            twice = next((one for one in self.dimensions if one != key and path in fields_at(one)), None)
            if twice is not None:
                raise ConfigError(f"{self.origin}: {twice} and {key} are one setting; drop one of them")
            other = self.fields.get(gives_way(path) or "")
            if other is not None:
                raise ConfigError(f"{self.origin}: {key} and {other} exclude each other; drop one of them")
        for key, dimension in self.dimensions.items():
            own = next((value for value in dimension.extremes() if key in SEAMS and is_spec(value)), None)
            if own is not None:
                short = str(own).rpartition(":")[2].lower()
                raise ConfigError(
                    f"{self.origin}: {key}: {own!r} must be named in the experiment, plugins: {{{short}: {own}}}; list "
                    f"{short} here"
                )
            for value in dimension.extremes():
                with_values(config, {key: value}, origin=self.origin)

    def dump(self) -> str:
        """The space as YAML; loading it again gives equal dimensions and constraints."""
        values = {
            key: dimension.model_dump(mode="json", exclude_unset=True) for key, dimension in self.dimensions.items()
        }
        limits = {_CONSTRAINTS: [str(constraint) for constraint in self.constraints]} if self.constraints else {}
        return dump_yaml({**limits, **values})


def load_space(path: Path) -> Space:
    """Read a search-space file and check it against the config schema.

    Raises:
        ConfigError: with one line that names the file, the key and the mend.
    """
    values = read_yaml_mapping(path, missing="restore it, or name another one")
    lines = values.pop(_CONSTRAINTS, [])
    if not isinstance(lines, list):
        raise ConfigError(f"{path}: constraints must be a list such as [heads >= layers], but is {lines!r}")
    if not values:
        raise ConfigError(f"{path}: has no dimensions; list config paths such as method.memory.percent")
    constraints = tuple(parse_constraint(line, str(path)) for line in lines)
    space = Space(dict(_dimensions(values, str(path))), str(path), constraints)
    _require_conditions(space)
    fields = {field for key in space.dimensions for field in fields_at(key)}
    methods = space.dimensions.get("method.name")
    named = (
        {str(one) for one in methods.choices if not is_spec(one)} - {*BUILT_IN}
        if isinstance(methods, Choices)
        else set()
    )
    own = {field.split(".")[1] for field in fields if field not in config_paths()} | named
    unread = {name: {"origin": f"unread:{name}"} for name in own}  # which there are is for the experiment to say
    space.require_fits(parse_config({"stream": {"tasks": ["any"]}, "plugins": unread}, str(path)))
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
    return space.within(config)


def _dimensions(values: Mapping[Any, Any], origin: str) -> Iterator[tuple[str, Dimension]]:
    for key, value in values.items():
        require_path(str(key), origin)
        inner = [path for path in config_paths() if path.startswith(f"{key}.")]
        if inner:
            raise ConfigError(f"{origin}: {key!r} is a section; name one of its fields, such as {inner[0]}")
        if not is_searchable(key):
            raise ConfigError(f"{origin}: {key!r} cannot be searched: all trials of a study share it; drop it")
        try:
            dimension = DIMENSION.validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"{origin}: {key}: {_one_line(error)}") from None
        if value.get("published") is not None:  # as it is written: the dimension has it as a number of its own kind
            try:
                member(dimension, key, value["published"])
            except ValueError as error:
                stated = shown(value["published"])
                raise ConfigError(f"{origin}: {key}: published={stated} {error}; change it") from None
        yield key, dimension


def _require_conditions(space: Space) -> None:
    """Parents of conditions are choices listed before, or fields of the experiment; and there is no circle."""
    earlier: list[str] = []
    for key, dimension in space.dimensions.items():
        for path in dimension.when:
            require_path(path, f"{space.origin}: {key}: when")
        for parent, wanted in space.when(key).items():
            other = space.dimensions.get(parent)
            if other is None:
                continue
            if parent not in earlier or not isinstance(other, Choices):
                raise ConfigError(
                    f"{space.origin}: {key}: when: {parent!r} must be a categorical dimension listed before; move it up"
                )
            never = [value for value in wanted if not is_among(parent, value, other.choices)]
            if never:
                raise ConfigError(
                    f"{space.origin}: {key}: when: {never[0]!r} is not one of the choices of {parent}; drop it"
                )
        earlier.append(key)
    space.order()


def _one_line(error: ValidationError) -> str:
    errors = error.errors(include_url=False)  # a mistyped name is told before the field that it leaves missing
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    if first["type"] == "model_attributes_type":
        return f"must be a mapping such as {{type: float, low: 1, high: 5}}, but is {shown(first['input'])}"
    if first["type"] == "union_tag_not_found":
        return "type is missing; set it to float, int or categorical"
    if first["type"] == "union_tag_invalid":
        return f"type={first['ctx']['tag']!r} is unknown; set it to float, int or categorical"
    parts = [str(part) for part in first["loc"] if part not in ("float", "int", "categorical")]
    where = ".".join(parts[:1])  # the rest names a branch of a union or a place in a list
    if first["type"] == "extra_forbidden":
        known = ("type", "low", "high", "log", "step", "choices", "published", "when")
        return f"unknown field {where!r}; {hint(where, known, 'this type does not take it; drop it')}"
    if first["type"] == "missing":
        return f"{where} is missing; set it"
    if len(parts) > 1 and where in ("choices", "when") and first["type"].startswith(("bool", "string")):
        return (
            f"{where}: each value must be text, a finite number, true, false or null, but got {shown(first['input'])}"
        )
    message = rule(first)
    return f"{where}: {message[0].lower()}{message[1:]}, but got {shown(first['input'])}" if where else message
