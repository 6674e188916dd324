"""What is at hand: the fields of an experiment file, and the experiments, search spaces and results in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seekr_tune.config import Section
from seekr_tune.errors import UserError
from seekr_tune.experiment import load_experiment, parse_config
from seekr_tune.study.directory.layout import is_run, is_study

_NO_OPTIONS: Mapping[str, type[Section]] = {}


@dataclass(frozen=True)
class Field:
    """One field of an experiment file."""

    path: str
    values: str
    default: str
    meaning: str


@dataclass(frozen=True)
class ExperimentEntry:
    """One experiment file and, in one line, what it is or why it cannot be used."""

    path: Path
    summary: str


@dataclass(frozen=True)
class Catalogue:
    """What `seekr-tune ls` shows."""

    experiments: tuple[ExperimentEntry, ...]
    spaces: tuple[Path, ...]
    results: tuple[tuple[str, Path], ...]


def catalogue(folder: Path = Path()) -> Catalogue:
    """Look into `experiments/`, `search_spaces/` and `runs/` of a folder; what is missing is an empty list."""
    experiments = tuple(_entry(path) for path in sorted((folder / "experiments").glob("*.yaml")))
    results = tuple(_results(folder / "runs"))
    return Catalogue(experiments, tuple(sorted((folder / "search_spaces").glob("*.yaml"))), results)


def fields(options: Mapping[str, type[Section]] = _NO_OPTIONS) -> tuple[Field, ...]:
    """Every field of an experiment file, in the order of the schema.

    Args:
        options: of methods of the user's own, by name.
    """
    defaults = parse_config({"stream": {"tasks": ["any"]}}, "defaults")
    sections = {"": defaults, **{f"method.{name}.": own() for name, own in options.items()}}
    schemas = {prefix: values.model_json_schema() for prefix, values in sections.items()}
    return tuple(
        field
        for prefix, values in sections.items()
        for field in _fields(prefix, schemas[prefix], schemas[prefix].get("$defs", {}), values.model_dump(mode="json"))
    )


def fields_as_markdown(options: Mapping[str, type[Section]] = _NO_OPTIONS) -> str:
    """The fields as one Markdown table for each section; see `fields`."""
    sections: dict[str, list[Field]] = {}
    for field in fields(options):
        sections.setdefault(field.path.rpartition(".")[0], []).append(field)
    return "\n".join(_table(name, rows) for name, rows in sections.items())


def _entry(path: Path) -> ExperimentEntry:
    try:
        config = load_experiment(path)
    except UserError as error:
        return ExperimentEntry(path, f"cannot be used: {error}")
    stream, model = config.stream, config.model.path or "to be given"
    data = "to be given" if stream.lacks_root else stream.root or stream.source.replace("builtin", "built-in")
    return ExperimentEntry(path, f"{config.method.label}, {len(stream.tasks)} tasks, data: {data}, model: {model}")


def _results(runs: Path) -> Iterator[tuple[str, Path]]:
    for directory in sorted(path for path in runs.glob("*") if path.is_dir()):
        if is_study(directory):
            yield "study", directory
        elif is_run(directory):
            yield "run", directory


def _table(section: str, rows: list[Field]) -> str:
    title = f"`{section}`" if section else "Top level"
    lines = [f"### {title}", "", "| field | values | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{row.path}` | {row.values} | {row.default} | {row.meaning} |" for row in rows]
    return "\n".join(lines) + "\n"


def _fields(
    prefix: str, section: Mapping[str, Any], definitions: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[Field]:
    """The leaves of a section first, then its sub-sections; the schema lacks defaults that are made by a factory."""
    required = section.get("required", ())
    nested: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []
    for name, schema in section.get("properties", {}).items():
        path = f"{prefix}{name}"
        inner = _section_of(schema, definitions)
        if inner is not None:
            nested.append((f"{path}.", inner, defaults.get(name) or {}))
        if inner is None or "anyOf" in schema:  # a section that may be null is a value of its own
            default = defaults.get(name, schema.get("default"))
            shown = "required" if name in required else f"`{json.dumps(default)}`"
            yield Field(path, _values(schema), shown, " ".join(schema.get("description", "").split()))
    for path, inner, inner_defaults in nested:
        yield from _fields(path, inner, definitions, inner_defaults)


def _section_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for candidate in (schema, *schema.get("anyOf", ())):
        if "$ref" in candidate:
            section: Mapping[str, Any] = definitions[candidate["$ref"].rpartition("/")[2]]
            return section
    return None


def _values(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words: `whole number >= 1, or null`."""
    if "anyOf" in schema:
        return ", or ".join(_values(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        return "a section"
    kind = schema["type"]
    if kind == "array":
        return _array(schema)
    if kind == "object":
        return f"mapping of name to {_values(schema['additionalProperties'])}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    return " ".join([words.get(kind, kind), *_limits(schema)])


def _array(schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])}: {_values(schema['prefixItems'][0])}"
    return f"list of {_values(schema['items'])}"


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [
        f"{sign} {schema[key]:{'d' if isinstance(schema[key], int) else 'g'}}"
        for key, sign in signs.items()
        if key in schema
    ]
    if limits:
        yield " and ".join(limits)
    if "pattern" in schema:
        yield "of letters, digits, `.`, `_`, `-`"
