"""How a plain word of YAML is read: as what its author means, or not at all.

PyYAML reads YAML 1.1, in which `010` is 8, `1:30` is 90, `1e-4` is text and `2024-01-01` a date. Here

- numbers are read as in YAML 1.2 (`1e-4`, `1e5`, `.5`, `0o10`), and so are `0x10`, `0b11` and `1_000`, which mean one
  thing only;
- what 1.1 makes another number of than is written is refused, with the number to write instead;
- dates and `=` are text, for no setting is one.

`yes`, `no`, `on` and `off` are true and false where a setting is a flag, and refused wherever else they stand, for
there they are values of the wrong kind. What stands in quotes is text.
"""

from __future__ import annotations

import re

import yaml

_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_AS_TEXT = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_EXPONENT = r"[eE][-+]?[0-9]+"
_NEW_FLOAT = re.compile(rf"[-+]?(?:[0-9]+{_EXPONENT}|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:{_EXPONENT})?)$")
_NEW_INT = re.compile(r"[-+]?0o[0-7]+$")
_STRAY = re.compile(r"_(?![0-9a-fA-F])|(?<![0-9a-fA-FxXbB])_")
"""An underscore that does not part two digits."""


class UnclearValue(yaml.constructor.ConstructorError):  # type: ignore[misc]
    """Valid YAML that is not what its author means."""


class PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads plain words as this module says."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag not in _AS_TEXT]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = dict(yaml.SafeLoader.yaml_constructors)

    def construct_yaml_int(self, node: yaml.Node) -> int:
        value: int = super().construct_yaml_int(node)
        digits = node.value.lstrip("+-").replace("_", "")
        if ":" in digits:
            raise _unclear(node, f"{value} in YAML 1.1 (base 60)", f"{value}, or text in quotes")
        if digits.isdecimal() and int(digits) != abs(value):
            written = int(digits) * (-1 if node.value.startswith("-") else 1)
            raise _unclear(node, f"{value} in YAML 1.1 (base 8)", f"{written}, or 0o{abs(value):o} for {value}")
        _require_tidy(node, value)
        return value

    def construct_yaml_float(self, node: yaml.Node) -> float:
        value: float = super().construct_yaml_float(node)
        if ":" in node.value:
            raise _unclear(node, f"{value:g} in YAML 1.1 (base 60)", f"{value:g}, or text in quotes")
        _require_tidy(node, value)
        return value


class PlainDumper(yaml.SafeDumper):  # type: ignore[misc]
    """Puts into quotes what `PlainLoader`, or any reader of YAML 1.1, would not read as text."""

    yaml_implicit_resolvers = dict(yaml.SafeDumper.yaml_implicit_resolvers)

    def analyze_scalar(self, scalar: str) -> yaml.emitter.ScalarAnalysis:
        analysis = super().analyze_scalar(scalar)
        if any(mark in scalar for mark in "\x85\u2028\u2029"):  # a line's end to YAML: only escapes survive folding
            analysis.allow_single_quoted = analysis.allow_block = False
        return analysis


def _unclear(node: yaml.Node, read: str, mend: str) -> UnclearValue:
    return UnclearValue(None, None, f"{node.value[:40]} is {read}; write {mend}", node.start_mark)


def _require_tidy(node: yaml.Node, value: float) -> None:
    if _STRAY.search(node.value):
        raise _unclear(node, f"{value} with underscores that part no digits", str(value))


for _class in (PlainLoader, PlainDumper):
    _class.add_implicit_resolver(_FLOAT, _NEW_FLOAT, list("-+.0123456789"))
    _class.add_implicit_resolver(_INT, _NEW_INT, list("-+0"))
PlainLoader.add_constructor(_INT, PlainLoader.construct_yaml_int)
PlainLoader.add_constructor(_FLOAT, PlainLoader.construct_yaml_float)
PlainLoader.add_constructor("tag:yaml.org,2002:merge", PlainLoader.construct_yaml_str)  # `<<` as a value
