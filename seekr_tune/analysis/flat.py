"""A trial's config as flat columns whose type depends on the schema alone, never on the values of one study.

A field that only takes numbers is a number everywhere (null where it is off), a switch is a flag, and all else is
text: strings as they are, lists and mixed values as JSON. So is a field that takes a count or a share: as text `1` and
`1.0` stay what they are. So `method.memory.percent` is a float in every ledger,
whether a study searched it or not, and the ledgers of several studies can be joined.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import cast, get_origin

from pydantic import JsonValue

from seekr_tune.config import Config
from seekr_tune.config.leaves import Kind, leaf_types, leaves_of, value_types
from seekr_tune.config.leaves import kind_of as types_kind
from seekr_tune.config.meaning import counts_or_shares
from seekr_tune.errors import StudyError

Scalar = float | bool | str | None


@cache
def known_kinds() -> Mapping[str, Kind]:
    """The kind of every fixed leaf of the config, by path, in the order of the schema."""
    return {path: kind for path, kind in _leaf_kinds() if not path.endswith(".*")}


@cache
def _open_kinds() -> Mapping[str, Kind]:
    """The kind of the values of mappings whose keys are the user's, by the mapping's path."""
    return {path.removesuffix(".*"): kind for path, kind in _leaf_kinds() if path.endswith(".*")}


def kind_of(path: str) -> Kind:
    """The kind of a config path; text for one that this version of the schema does not know."""
    known = known_kinds().get(path)
    if known is not None:
        return known
    for prefix, kind in _open_kinds().items():
        if path.startswith(f"{prefix}."):
            return kind
    return "text"


def flat_config(config: Mapping[str, JsonValue]) -> dict[str, Scalar]:
    """Every leaf of a nested config by its path, each of the kind that `kind_of` gives."""
    plugins = config.get("plugins")
    own = {
        f"method.{name}.{field}": cast(Kind, kind)
        for name, plugin in (plugins.items() if isinstance(plugins, Mapping) else ())
        if isinstance(plugin, Mapping) and isinstance(kinds := plugin.get("options"), Mapping)
        for field, kind in kinds.items()
    }
    flat = {path: value for path, value in leaves_of(config) if value != {}}
    return {path: flat_value(path, value, own.get(path)) for path, value in flat.items() if not _is_code(path)}


def _is_code(path: str) -> bool:
    """Whether it is the text of a user's code, or what is known of it; its origin and its digest stay."""
    return path.startswith("plugins.") and not path.endswith((".origin", ".sha256"))


def flat_value(path: str, value: JsonValue, kind: Kind | None = None) -> Scalar:
    """One config value as its kind, or that of its path; null stays null.

    Raises:
        StudyError: the value is of another kind than this version of the schema gives the field.
    """
    kind = kind or kind_of(path)
    if value is None:
        return None
    if kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind == "flag" and isinstance(value, bool):
        return value
    if kind == "text":
        return value if isinstance(value, str) else json.dumps(value)
    raise StudyError(f"config field {path}={value!r} is not a {kind}; the package version that wrote it must read it")


def _leaf_kinds() -> Iterator[tuple[str, Kind]]:
    for path, types in leaf_types(Config):
        mapping = next((one for one in types if get_origin(one) is dict), None)
        if mapping is not None:
            yield f"{path}.*", types_kind(value_types(mapping))
        else:
            yield path, "text" if path in counts_or_shares() else types_kind(types)
