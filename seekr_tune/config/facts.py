"""What the fields of the schema say of themselves (`Fact`), by path; and the names that settings had before.

`replay_percent`, `head_budget` and their kind stood directly below `method` in earlier versions: whoever writes one
there means the field that it has become, of every method that has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from seekr_tune.config import Config
from seekr_tune.config.leaves import fields_of
from seekr_tune.config.methods import WITH_MEMORY
from seekr_tune.config.section import BUILT_IN, Fact
from seekr_tune.errors import ConfigError


@cache
def facts() -> Mapping[str, Fact]:
    """What each field of the schema says, by path."""
    return {field.path: field.fact for field in fields_of(Config)}


@cache
def former_paths() -> Mapping[str, tuple[str, ...]]:
    """The fields that a path of earlier versions has become."""
    found: dict[str, tuple[str, ...]] = {}
    for path, fact in facts().items():
        if fact.formerly is not None:
            found[fact.formerly] = (*found.get(fact.formerly, ()), path)
    return found


def fields_at(path: str) -> tuple[str, ...]:
    """The fields that a path means: its own, or what a path of earlier versions has become."""
    return former_paths().get(path, (path,))


def fact_at(path: str) -> Fact:
    """What the field at a path says, or the field that it is a part of."""
    (path, *_) = fields_at(path)
    while path and path not in facts():
        path = path.rpartition(".")[0]
    return facts().get(path, Fact())


def short_name(path: str) -> str:
    """What tables call a field: the end of its path, or of the path that it had."""
    return (fact_at(path).formerly or path).rpartition(".")[2] if path in facts() else path.rpartition(".")[2]


def is_read(path: str, method: str) -> bool:
    """Whether a method reads a field: where it does not, its value means nothing.

    Args:
        path: of the field.
        method: its name; of several, their names with `+` between them.
    """
    return any(_reads(field, name) for field in fields_at(path) for name in method.split("+"))


def _reads(path: str, name: str) -> bool:
    section, _, rest = path.partition(".")
    if section == "method" and "." in rest and path not in facts():  # an option of a method of the user's own
        return rest.partition(".")[0] == name
    readers = fact_at(path).read_by
    return readers is None or name in readers or (readers == WITH_MEMORY and name not in BUILT_IN)


def recipe_of_all(config: Config) -> dict[str, Any]:
    """What of the recipe every method reads: what the first task, and a run without replay, can depend on."""
    values = config.recipe.model_dump(mode="json")
    return {name: value for name, value in values.items() if fact_at(f"recipe.{name}").read_by is None}


def is_searchable(path: str) -> bool:
    """Whether trials of one study may differ in it."""
    return fact_at(path).searchable is not False


def is_learned(path: str) -> bool:
    """Whether what a run learns and scores may depend on it."""
    return fact_at(path).learned is not False


def may_change(path: str) -> bool:
    """Whether it may differ between two launches of a study: how much and where it runs, never what a trial is."""
    return fact_at(path).resumable is True


def gives_way(path: str) -> str | None:
    """The field that is unset where this one is set."""
    other = fact_at(path).in_place_of
    return None if other is None else f"{path.rpartition('.')[0]}.{other}"


def renamed(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Nested values of an experiment, with those at paths of earlier versions where they stand now.

    Raises:
        ConfigError: a field is set at both.
    """
    found = _with_chosen_paths(dict(values))
    for former, now in former_paths().items():
        section, _, leaf = former.partition(".")
        held = found.get(section)
        if not isinstance(held, Mapping) or leaf not in held or leaf in _plugins_of(values):
            continue
        found[section] = {name: value for name, value in held.items() if name != leaf}
        also = f" ({former} stands for {' and '.join(now)})" if len(now) > 1 else ""
        for path in now:
            _, inner, field = path.split(".")
            given = found[section].get(inner) or {}
            if isinstance(given, Mapping):
                if field in given:
                    raise ConfigError(f"{origin}: {former} and {path} are one setting{also}; drop one of them")
                found[section] = {**found[section], inner: {**given, field: held[leaf]}}
    return found


def _with_chosen_paths(values: dict[str, Any]) -> dict[str, Any]:
    """`study.final.for_each` lists paths."""
    study = values.get("study")
    final = study.get("final") if isinstance(study, Mapping) else None
    paths = final.get("for_each") if isinstance(final, Mapping) else None
    if not (isinstance(study, Mapping) and isinstance(final, Mapping) and isinstance(paths, list | tuple)):
        return values
    now = [fields_at(path)[-1] if isinstance(path, str) else path for path in paths]
    return {**values, "study": {**study, "final": {**final, "for_each": now}}}


def _plugins_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    known = values.get("plugins")
    return known if isinstance(known, Mapping) else {}
