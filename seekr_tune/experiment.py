"""Experiment files: YAML text and `--set` overrides in, a checked `Config` out, and back again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from seekr_tune.config import Config, MethodConfig
from seekr_tune.config.facts import facts, fields_at, former_paths, gives_way, is_learned, renamed
from seekr_tune.config.leaves import leaves_of
from seekr_tune.config.meaning import same_meaning
from seekr_tune.config.messages import one_line, shown, suggestion
from seekr_tune.config.numerals import UnclearValue
from seekr_tune.config.plugins import named_in, with_plugins
from seekr_tune.config.reading import dump_yaml, parse_yaml, read_yaml, told
from seekr_tune.errors import ConfigError

_LIKE = "write it like experiments/demo.yaml, or a space like search_spaces/seekr.yaml"


def load_experiment(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment file, apply `a.b=value` overrides, check everything.

    Args:
        path: a YAML file.
        overrides: assignments whose left side is a config path and whose right side is YAML.

    Raises:
        ConfigError: with one line that names the file, the field and the mend.
    """
    values = renamed(read_yaml_mapping(Path(path)), str(path))
    _assign_all(values, [_parse_override(override) for override in overrides])
    values = with_plugins(values, Path(path).parent, str(path))
    config = _checked(values, str(path))
    flag = next(_flags_as_numbers("", values, config.model_dump()), None)
    if flag is not None:
        raise ConfigError(f"{path}: {flag[0]}={flag[1]} is refused: it must be a number, not true or false")
    return config


def read_yaml_mapping(path: Path, missing: str = "`seekr-tune ls` lists the experiments at hand") -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Args:
        path: the file.
        missing: what to do where there is none, for the message.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or is not a mapping.
    """
    values = read_yaml(path, missing)
    if values is None:
        raise ConfigError(f"{path}: is empty, but must hold a mapping of fields; {_LIKE}")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold a mapping of fields, but holds {shown(values)}; {_LIKE}")
    return values


def dump_config(config: Config) -> str:
    """The experiment as YAML; loading it again gives an equal `Config`."""
    return dump_yaml(config.model_dump(mode="json"))


def parse_config(values: Mapping[str, Any], origin: str) -> Config:
    """Check a nested mapping of values; `origin` names it in errors."""
    return _checked(renamed(values, origin), origin)


def with_values(config: Config, values: Mapping[str, Any], origin: str = "override") -> Config:
    """A copy of `config` with the given config paths set to the given values, checked again."""
    nested = config.model_dump()
    _assign_all(nested, list(values.items()))
    return _checked(nested, origin)


def flatten(config: Config) -> dict[str, Any]:
    """Every leaf of the config by its path: `{"method.memory.percent": 1.0, ...}`."""
    return dict(leaves_of(config.model_dump(mode="json")))


def leaves_that(config: Config, counts: Callable[[str], bool]) -> dict[str, Any]:
    """The leaves whose path `counts`; code of a user does not where it is named only by fields that do not."""
    named: dict[bool, set[str]] = {True: set(), False: set()}
    for _, field, name in named_in(config.model_dump()):
        named[counts(field)].add(name)
    idle = tuple(f"plugins.{name}." for name in named[False] - named[True])
    return {path: value for path, value in flatten(config).items() if counts(path) and not path.startswith(idle)}


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Paths at which two flat experiments say different things, in alphabetic order."""
    paths = sorted({*before, *now})
    return [path for path in paths if not same_meaning(path, before.get(path), now.get(path))]


def fingerprint(config: Config) -> str:
    """The same for the same settings of what is learned, wherever and however often that is: 8 hex digits."""
    return hashlib.sha256(json.dumps(leaves_that(config, is_learned), sort_keys=True).encode()).hexdigest()[:8]


def config_paths() -> tuple[str, ...]:
    """The path of every field that an experiment file may set."""
    return tuple(facts())


def _understood() -> tuple[str, ...]:
    return *config_paths(), *former_paths()


def _presently(told: str) -> str:
    """A message that may suggest a path of earlier versions, with the present one instead."""
    for path, now in former_paths().items():
        told = told.replace(f"did you mean {path!r}", f"did you mean {now[0]!r}")
    return told


def _nearest(parts: Sequence[str]) -> str:
    return _presently(suggestion(parts, _understood()))


def require_path(key: str, origin: str) -> None:
    """Raise ConfigError, with a suggestion, unless `key` is the path of a field, or was one."""
    if key not in config_paths() and key not in former_paths() and not _is_option(key):
        raise ConfigError(f"{origin}: unknown field {shown(key)}{_nearest([key])}")


def _is_option(key: str) -> bool:
    """Whether a path may be an option of a method of a user's own: what it is called is known to the method alone."""
    section, name, *field = key.split(".") if key.count(".") == 2 else ("", "")
    return section == "method" and bool(field) and name not in MethodConfig.model_fields


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    key, origin = key.strip(), f"--set {override if len(override) <= 80 else override[:80] + '...'}"
    if not equals or not key:
        raise ConfigError(f"{origin}: must read path=value, such as method.memory.percent=3")
    if not all(key.split(".")):
        raise ConfigError(f"{origin}: unknown field {shown(key)}{_nearest([key])}")
    try:
        return key, parse_yaml(text)
    except UnclearValue as error:
        raise ConfigError(f"{origin}: {error.problem}") from None
    except yaml.YAMLError as error:
        mend = "write it as in a YAML file, text with special characters in quotes"
        raise ConfigError(f"{origin}: the value is not valid YAML ({told(error)}); {mend}") from None


def _assign_all(values: dict[str, Any], given: Sequence[tuple[str, Any]]) -> None:
    """Set config paths in order; one that stands for another takes its place, unless both are given."""
    _require_one_name_each([key for key, _ in given])
    together = {field: value for key, value in given for field in fields_at(key)}
    for field, value in [(field, value) for key, value in given for field in fields_at(key)]:
        other = gives_way(field)
        if other is not None and value is not None and together.get(other) is None:
            _assign(values, other, None)
        _assign(values, field, value)


def _require_one_name_each(keys: Sequence[str]) -> None:
    """Refuse a field that is set by two names: which of the values would win is not told by them."""
    named: dict[str, str] = {}
    for key in keys:
        for field in fields_at(key):
            if named.setdefault(field, key) != key:
                raise ConfigError(f"{named[field]} and {key} are one setting; drop one of them")


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    here = values
    for depth, name in enumerate(parents):
        if here.get(name) is None:
            here[name] = {}
        here = here[name]
        if not isinstance(here, dict):
            section = ".".join(parents[: depth + 1])
            raise ConfigError(f"{key}: {section} is not a section: nothing can be set in it; set {section} as a whole")
    here[leaf] = value


def _checked(values: dict[str, Any], origin: str) -> Config:
    section = values.get("method")
    given = section if isinstance(section, dict) else {}
    for name in (name for name, value in given.items() if not isinstance(value, dict)):  # a mapping may be options
        if name not in MethodConfig.model_fields:
            parts = ["method", str(name)]
            raise ConfigError(f"{origin}: unknown field {shown('.'.join(parts))}{_nearest(parts)}")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        told = one_line(error.errors(include_url=False)[0], _understood())
        raise ConfigError(f"{origin}: {_presently(told)}") from None


def _flags_as_numbers(path: str, given: Any, found: Any) -> Iterator[tuple[str, bool]]:
    """Where true or false was given and a number was made of it: YAML also takes yes, no, on and off for them."""
    if isinstance(given, dict) and isinstance(found, dict):
        for key in given:
            yield from _flags_as_numbers(f"{path}.{key}" if path else str(key), given[key], found.get(key))
    elif isinstance(given, list) and isinstance(found, list | tuple):
        for number, pair in enumerate(zip(given, found, strict=False)):
            yield from _flags_as_numbers(f"{path}.{number}", *pair)
    elif isinstance(given, bool) and not isinstance(found, bool):
        yield path, given
