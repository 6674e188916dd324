"""What is wrong with settings, in one line, by the path and in the words of the file that the user wrote."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from reprlib import Repr

from pydantic_core import ErrorDetails

_FIELD_RULES = {  # where pydantic would speak of one branch of a union only, or of a regular expression
    "name": "it must be text of at most 100 letters, digits, '.', '_' and '-', the first one a letter or a digit",
    "method.name": "it must be seqft, replay, derpp, seekr, joint, a method of your own (./mine.py:Mine), or a list",
    "method.seekr.head_budget": "it must be a count of heads (1, 2, ...) or a fraction of all above 0 and up to 1.0",
    "model.lora.target_modules": "it must be a list of at least 1 module name, or all-linear",
    "recipe.epochs": "it must be a whole number from 1 to 1000000, or a list of one such number for each task",
}
_TYPE_RULES = {  # pydantic's names of Python's types, in words of YAML
    "model_type": "it must be a mapping of fields",
    "dict_type": "it must be a mapping, such as {a: 1}",
    "tuple_type": "it must be a list, such as [a, b]",
    "list_type": "it must be a list, such as [a, b]",
    "string_type": "it must be text; put it into quotes",
    "finite_number": "it must be a finite number",
    "bool_parsing": "it must be true or false",
    "bool_type": "it must be true or false",
    "int_parsing": "it must be a whole number",
    "int_type": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_parsing": "it must be a number",
    "float_type": "it must be a number",
}
_LONGEST = 120  # letters of a path or a value in a message
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def one_line(error: ErrorDetails, paths: Sequence[str]) -> str:
    """One error of pydantic.

    Args:
        error: the error.
        paths: of all fields that there are.
    """
    parts = [str(part) for part in error["loc"] if not _is_union_tag(part)]
    path = _cut(".".join(parts))
    if error["type"] == "extra_forbidden":
        return f"unknown field {shown(path)}{suggestion(parts, paths)}"
    if error["type"] == "invalid_key":
        return f"unknown field {shown(error['input'])}{suggestion([], paths)}"
    if error["type"] == "missing":
        return f"{path} is missing; set it"
    message = _FIELD_RULES.get(path) or rule(error)
    if not path:
        return message
    if error["type"] == "value_error":
        return f"{path}: {message}"
    return f"{path}={shown(error['input'])} is refused: {message[0].lower()}{message[1:]}"


def shown(value: object) -> str:
    """A value as it may stand in a line, however large it is."""
    return _cut(_SHORT.repr(value))


def suggestion(parts: Sequence[str], paths: Sequence[str]) -> str:
    """What may be meant by a path that is none."""
    path = ".".join(parts)
    if path in paths:  # written with its dots, as --set and search spaces have it
        section, _, leaf = path.rpartition(".")
        return f"; in this file, write {leaf} into the section {section}"
    return "; " + hint(path, paths, "`seekr-tune validate --fields` lists the fields")


def hint(name: str, known: Collection[str], otherwise: str | None = None) -> str:
    """What to say of a name that is none: the one that may be meant, or else what there is.

    Args:
        name: as it was written.
        known: the names that there are; parts of a name are parted by dots or slashes.
        otherwise: where none of them is near; None lists them.
    """
    near = nearest(name, known)
    if near is not None:
        return f"did you mean {near!r}?"
    return otherwise or f"choose from {', '.join(known)}"


def nearest(name: str, known: Collection[str], likeness: float = 0.5) -> str | None:
    """The name that may be meant: one that ends alike, or the most similar one; None where none is similar.

    Args:
        likeness: least ratio of `difflib`, from 0 to 1.
    """
    others = [one for one in known if one != name]
    same = next((one for one in others if _last_part(one) == _last_part(name)), None)
    folded = {one.casefold(): one for one in others}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=likeness)
    return same or (folded[close[0]] if close else None)


def _last_part(name: str) -> str:
    return re.split(r"[./]", name)[-1].casefold()


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def rule(error: ErrorDetails) -> str:
    """What a value must be, in words of YAML."""
    if error["type"] in ("too_short", "too_long"):
        bound, limit = ("least", "min_length") if error["type"] == "too_short" else ("most", "max_length")
        return f"it must have at {bound} {error['ctx'][limit]} of them, but has {error['ctx']['actual_length']}"
    return _TYPE_RULES.get(error["type"]) or error["msg"].removeprefix("Value error, ")


def _is_union_tag(part: str | int) -> bool:
    """Pydantic names the branch of a union in the path of an error; the user never wrote it."""
    return isinstance(part, str) and ("[" in part or part in {"int", "float", "constrained-int", "constrained-float"})
