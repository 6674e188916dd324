"""The schema of the experiment file and its values, leaf by leaf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from seekr_tune.config.section import NO_FACT, Fact

Kind = Literal["number", "flag", "text"]


class SchemaField(NamedTuple):
    """A field of the schema.

    Attributes:
        path: of the field.
        types: of its value; unions and `Annotated` are opened, a `Literal` stands for the types of its values, lists
            and mappings stay whole.
        sections: those of the types that are sections.
        fact: what it says of itself, and the section that it is in.
    """

    path: str
    types: set[Any]
    sections: list[type[BaseModel]]
    fact: Fact


def fields_of(section: type[BaseModel], prefix: str = "", outer: Fact = NO_FACT) -> Iterator[SchemaField]:
    """Every field below a section, in order."""
    for name, field in section.model_fields.items():
        path = f"{prefix}.{name}" if prefix else name
        types = set(alternatives(field.annotation))
        inner = [one for one in types if isinstance(one, type) and issubclass(one, BaseModel)]
        fact = next((one for one in field.metadata if isinstance(one, Fact)), NO_FACT).within(outer)
        yield SchemaField(path, types, inner, fact)
        for one in inner:
            yield from fields_of(one, path, fact)


def leaf_types(section: type[BaseModel]) -> Iterator[tuple[str, set[Any]]]:
    """Path and types of every field below a section that is no section itself."""
    return ((field.path, field.types) for field in fields_of(section) if not field.sections)


def kind_of(types: set[Any]) -> Kind:
    """What the values of a field are in a table: numbers, flags, or text."""
    types = types - {NoneType}
    if types and types <= {int, float}:
        return "number"
    return "flag" if types == {bool} else "text"


def leaves_of(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings by its path; an empty mapping is a value."""
    if isinstance(values, Mapping) and values:
        for name, inner in values.items():
            yield from leaves_of(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, values


def value_types(mapping: Any) -> set[Any]:
    """The types that the values of a mapping may have."""
    return set(alternatives(get_args(mapping)[1]))


def alternatives(annotation: Any) -> Iterator[Any]:
    """The types that a value may have, as `leaf_types` has them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from (type(value) for value in arguments)
    elif origin in (dict, tuple, list):
        yield annotation
    elif hasattr(annotation, "__metadata__"):
        yield from alternatives(arguments[0])
    elif arguments:
        for argument in arguments:
            yield from alternatives(argument)
    else:
        yield annotation
