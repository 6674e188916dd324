"""Experiment files: YAML text and `--set` overrides in, a checked `Config` out, and back again."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError

_FIELD_RULES = {  # where pydantic would speak of one branch of a union only
    "method.head_budget": "it must be a count of heads (1, 2, ...) or a fraction of all heads above 0 and up to 1.0",
    "recipe.epochs": "it must be a whole number of at least 1, or a list of one such number for each task",
}


def load_experiment(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment file, apply `a.b=value` overrides, check everything.

    Args:
        path: a YAML file.
        overrides: assignments whose left side is a config path and whose right side is YAML.

    Raises:
        ConfigError: with one line that names the file, the field and the mend.
    """
    values = read_yaml_mapping(Path(path))
    for override in overrides:
        key, value = _parse_override(override)
        _assign(values, key, value)
    return _checked(values, str(path))


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `seekr-tune ls` lists the experiments at hand") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a text file ({error}); give a YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())}); mend its syntax") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold a mapping of fields, but holds {type(values).__name__}")
    return values


def dump_config(config: Config) -> str:
    """The experiment as YAML; loading it again gives an equal `Config`."""
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def parse_config(values: Mapping[str, Any], origin: str) -> Config:
    """Check a nested mapping of values; `origin` names it in errors."""
    return _checked(dict(values), origin)


def with_values(config: Config, values: Mapping[str, Any], origin: str = "override") -> Config:
    """A copy of `config` with the given config paths set to the given values, checked again."""
    nested = config.model_dump()
    for key, value in values.items():
        _assign(nested, key, value)
    return _checked(nested, origin)


def flatten(config: Config) -> dict[str, Any]:
    """Every leaf of the config by its path: `{"method.replay_percent": 1.0, ...}`."""
    return dict(_leaves("", config.model_dump(mode="json")))


def config_paths() -> tuple[str, ...]:
    """The path of every field that an experiment file may set."""
    return tuple(path for path, _ in _fields("", Config))


def require_path(key: str, origin: str) -> None:
    """Raise ConfigError, with a suggestion, unless `key` is the path of a field."""
    if key not in config_paths():
        raise ConfigError(f"{origin}: unknown field {key!r}{_suggestion(key, config_paths())}")


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: must read path=value, such as method.replay_percent=3")
    try:
        return key.strip(), yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML; quote it") from None


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    here = values
    for depth, name in enumerate(parents):
        if here.get(name) is None:
            here[name] = {}
        here = here[name]
        if not isinstance(here, dict):
            raise ConfigError(f"{key}: {'.'.join(parents[: depth + 1])} is not a section: nothing can be set in it")
    here[leaf] = value


def _checked(values: dict[str, Any], origin: str) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_one_line(error.errors(include_url=False)[0])}") from None


def _one_line(error: ErrorDetails) -> str:
    """The first thing that is wrong, by the path that the user wrote."""
    path = ".".join(str(part) for part in error["loc"] if not _is_union_tag(part))
    if error["type"] == "extra_forbidden":
        return f"unknown field {path!r}{_suggestion(path, config_paths())}"
    if error["type"] == "missing":
        return f"{path} is missing; set it"
    message = _FIELD_RULES.get(path) or error["msg"].removeprefix("Value error, ")
    if not path:
        return message
    if error["type"] == "value_error":
        return f"{path}: {message}"
    return f"{path}={error['input']!r} is refused: {message[0].lower()}{message[1:]}"


def _is_union_tag(part: str | int) -> bool:
    """Pydantic names the branch of a union in the path of an error; the user never wrote it."""
    return isinstance(part, str) and ("[" in part or part in {"int", "float", "constrained-int", "constrained-float"})


def _suggestion(path: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
    if not close:
        leaf = path.rsplit(".", 1)[-1]
        close = [name for name in known if name.rsplit(".", 1)[-1] == leaf][:1]
    return f"; did you mean {close[0]!r}?" if close else "; `seekr-tune validate --fields` lists the fields"


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{prefix}.{name}" if prefix else name, inner)
    else:
        yield prefix, value


def _fields(prefix: str, section: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in section.model_fields.items():
        path = f"{prefix}.{name}" if prefix else name
        yield path, field.description or ""
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                yield from _fields(path, candidate)
