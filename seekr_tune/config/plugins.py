"""Code of a user that an experiment names: found, read and written into the experiment; nothing is imported here.

A class is named by its file, beside the experiment (`./ewc.py:EWC`), or by its installed package (`my_lab.ewc:EWC`).
The text of a file becomes a part of the experiment: a study is whole without the file, its workers on other machines
have it, and a change of it is a change of the experiment.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seekr_tune.config.section import Section
from seekr_tune.documents import read_text
from seekr_tune.errors import ConfigError, DocumentError, NoDocument

MAX_BYTES = 256_000
"""Largest file; it is a part of every record of a study."""
_SPEC = re.compile(r"(?P<place>[^:]+):(?P<name>[A-Za-z_][A-Za-z0-9_]*)")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Plugin(Section):
    """A class of a user, as the experiment knows it; written when the experiment is read."""

    origin: str
    """File or module, and the class in it."""
    sha256: str | None = None
    """Of the file; null for a class of an installed package."""
    source: str | None = None
    """Text of the file; null for a class of an installed package."""

    @property
    def class_name(self) -> str:
        """Name of the class."""
        return self.origin.rpartition(":")[2]


def imports(plugins: Mapping[str, Plugin], methods: Sequence[str]) -> list[str]:
    """One line for each class of a user that runs of an experiment import."""
    named = [(name, plugins[name]) for name in methods if name in plugins]
    return [
        f"imports {one.origin} as method {name}" + (f" (sha256 {one.sha256[:16]})" if one.sha256 else "")
        for name, one in named
    ]


def is_spec(name: object) -> bool:
    """Whether a name is that of a class of a user."""
    return isinstance(name, str) and ":" in name


def with_plugins(values: Mapping[str, Any], beside: Path, origin: str) -> dict[str, Any]:
    """An experiment in which each class of a user goes by its name, and `plugins` says what that is.

    Args:
        values: of the experiment file.
        beside: directory that files are named from.
        origin: of the experiment, for messages.

    Raises:
        ConfigError: a file cannot be read, or two classes have one name.
    """
    section = values.get("method")
    given = section.get("name") if isinstance(section, dict) else None
    names = list(given) if isinstance(given, list | tuple) else [given]
    known = values.get("plugins", {})
    if not isinstance(known, dict) or not (any(map(is_spec, names)) or any(isinstance(k, str) for k in known.values())):
        return dict(values)
    plugins = dict(known)
    for name, one in known.items():
        if isinstance(one, str):
            plugins[name] = _found(one, beside, f"{origin}: plugins.{name}")
    for place, name in enumerate(names):
        if isinstance(name, str) and is_spec(name):
            found = _found(name, beside, f"{origin}: method.name")
            key = found["origin"].rpartition(":")[2].lower()
            if plugins.setdefault(key, found)["origin"] != found["origin"]:
                raise ConfigError(f"{origin}: method.name: {name} and plugins.{key} have one name; rename one class")
            names[place] = key
    method = {**section, "name": names if isinstance(given, list | tuple) else names[0]} if section else section
    return {**values, "method": method, "plugins": plugins}


def _found(spec: str, beside: Path, where: str) -> dict[str, Any]:
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ConfigError(f"{where}: {spec!r} must read ./file.py:Class or package.module:Class")
    place = match["place"]
    if not place.endswith(".py"):
        if not _MODULE.fullmatch(place):
            raise ConfigError(f"{where}: {place!r} is neither a file (./mine.py) nor a module (my_lab.mine)")
        return {"origin": spec}
    try:
        text = read_text(beside / place, MAX_BYTES)
    except NoDocument:
        raise ConfigError(f"{where}: there is no file {beside / place}; name it from the experiment's folder") from None
    except DocumentError as error:
        raise ConfigError(f"{where}: {beside / place}: {error.reason}; give a file of Python, in UTF-8") from None
    return {"origin": spec, "sha256": hashlib.sha256(text.encode()).hexdigest(), "source": text}
