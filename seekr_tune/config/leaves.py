"""The schema of the experiment file, leaf by leaf."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel


def leaf_types(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, set[Any]]]:
    """Path of every leaf below a section, in their order, with the types that its value may have.

    Unions and `Annotated` are opened, a `Literal` stands for the types of its values; lists and mappings stay whole.
    """
    for name, field in section.model_fields.items():
        path = f"{prefix}.{name}" if prefix else name
        types = set(alternatives(field.annotation))
        inner = [one for one in types if isinstance(one, type) and issubclass(one, BaseModel)]
        if inner:
            yield from leaf_types(inner[0], path)
        else:
            yield path, types


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
