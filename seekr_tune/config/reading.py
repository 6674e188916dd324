"""YAML text -> plain values and back: safe types only, keys once, and bounded, so that no file can eat the machine.

All YAML of this package is read and written here; `numerals` says how plain words are read. A few hundred bytes of
anchors can stand for billions of values, brackets can nest deeper than Python's stack, and a key that is written twice
would silently lose one of its values. Each is refused with the place where it stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from seekr_tune.access import dangling
from seekr_tune.config.numerals import PlainDumper, PlainLoader, UnclearValue
from seekr_tune.documents import read_text
from seekr_tune.errors import ConfigError, DocumentError, NoDocument

MAX_BYTES = 1_000_000
"""Largest file; the largest that people write (a list of configurations to try) has a hundred kilobytes."""
MAX_DEPTH = 50
"""Deepest nesting; an experiment needs 4."""
MAX_VALUES = 100_000
"""Most values, those that aliases stand for counted each time."""
_KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


def read_yaml(path: Path, missing: str = "check the path") -> Any:
    """What a YAML file holds.

    Args:
        path: the file.
        missing: what to do where there is none, for the message.

    Raises:
        ConfigError: the file cannot be read, is too large, or is not YAML; one line that names it and the mend.
    """
    try:
        text = read_text(path, MAX_BYTES)
    except NoDocument as error:
        broken = dangling(path)
        raise ConfigError(str(error) if broken else f"{path}: no such file; {missing}") from None
    except DocumentError as error:
        raise ConfigError(f"{path}: {error.reason}; give a YAML file of settings, in UTF-8") from None
    try:
        return parse_yaml(text)
    except UnclearValue as error:
        raise ConfigError(f"{path}: {told(error)}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({told(error)}); mend its syntax") from None


def parse_yaml(text: str) -> Any:
    """The value of one YAML document.

    Raises:
        UnclearValue: it is YAML, but not what its author means.
        yaml.YAMLError: it is not YAML, or beyond the bounds of this module.
    """
    return yaml.load(text, Loader=_Loader)


def dump_yaml(values: Any) -> str:
    """Values as YAML, in their order; `parse_yaml` gives equal ones."""
    return str(yaml.dump(values, Dumper=PlainDumper, sort_keys=False, allow_unicode=True))


class _Loader(PlainLoader):
    """A safe loader that counts what it reads."""

    yaml_constructors = dict(PlainLoader.yaml_constructors)

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._values = 0
        self._counted: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        if self._depth == MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        before = self._values
        self._depth += 1
        self._values += 1
        alias = self.check_event(yaml.AliasEvent)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and alias:
            if node not in self._counted:
                raise yaml.composer.ComposerError(None, None, "an anchor that holds itself", mark)
            self._values = before + self._counted[node]
        elif node is not None:
            self._counted[node] = self._values - before
        if self._values > MAX_VALUES:
            raise yaml.composer.ComposerError(None, None, f"too large: more than {MAX_VALUES} values", mark)
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"the key {key.value!r} stands twice; drop one", key.start_mark
                    )
                seen.add((key.tag, key.value))
                if key.tag not in _KEYS:
                    problem = f"the key {key.value[:40]!r} is no text; put it into quotes"
                    raise UnclearValue(None, None, problem, key.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, OverflowError):  # 2024-13-45, !!bool maybe, 5000 digits
            shown = f"{str(node.value)[:40]!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, shown, node.start_mark) from None


for _tag in ("binary", "set", "omap", "pairs"):  # no setting is one of these, and pydantic would make lists of them
    del _Loader.yaml_constructors[f"tag:yaml.org,2002:{_tag}"]


def told(error: yaml.YAMLError) -> str:
    """What is not YAML, in one line; places are counted from 1."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return " ".join(f"{place}{error.problem or error.context}".split())[:200]
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position + 1}: {error.reason}"
    return " ".join(str(error).split())
