"""Code of a user, imported: here and nowhere else, and never by a command that only reads a study.

The texts that an experiment carries are modules under a private name with their digest in it, `_seekr_tune_plugins.
ewc_1f2e...`, so that two versions of a file can be in one process; nothing joins the path of modules.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import CodeType, ModuleType
from typing import Any

from seekr_tune.config.messages import hint
from seekr_tune.config.plugins import Plugin, digest_of
from seekr_tune.errors import ConfigError

ROOT = "_seekr_tune_plugins"
"""The package that all of them are in."""


def imported(kind: str, name: str, plugin: Plugin) -> Any:
    """The class or function of a user.

    Args:
        kind: what it is, for messages: `method`.
        name: by which the experiment knows it.
        plugin: where it is.

    Raises:
        ConfigError: it cannot be imported, is not there, or is not what the experiment was begun with.
    """
    place, _, attribute = plugin.origin.rpartition(":")
    said = f"{kind} {name} ({plugin.origin})"
    if plugin.source is None and plugin.sha256 is not None and digest_of(place) not in (None, plugin.sha256):
        raise ConfigError(
            f"{said}: the installed {place} is another than this experiment began with (sha256 {plugin.sha256[:16]}); "
            "install that version again, or begin anew in another directory"
        )
    try:
        module = import_module(place if plugin.source is None else _texts.named(name, place, plugin))
    except (Exception, SystemExit) as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{said}: cannot be imported ({line}); mend it") from error
    if not hasattr(module, attribute):
        there = [own for own in vars(module) if not own.startswith("_")]
        raise ConfigError(f"{said}: {place} has no {attribute}; {hint(attribute, there, 'check its name')}")
    return getattr(module, attribute)


class _Texts(MetaPathFinder, InspectLoader):
    """Finds the modules whose texts experiments carry."""

    def __init__(self) -> None:
        self._texts = {ROOT: ("", ROOT)}

    def named(self, name: str, place: str, plugin: Plugin) -> str:
        """Take up the texts of a plugin; the name of the module of its file."""
        main = f"{ROOT}.{name}_{str(plugin.sha256)[:16]}"
        self._texts[main] = (str(plugin.source), place)
        self._texts |= {f"{main}.{own}": (text, f"{own}.py") for own, text in plugin.siblings.items()}
        return main

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._texts:
            return None
        spec = spec_from_loader(fullname, self, origin=self._file(fullname))
        assert spec is not None
        spec.has_location = True  # `inspect`, and so pydantic's docstrings of fields, go by `__file__`
        return spec

    def is_package(self, fullname: str) -> bool:
        """Whether others are below it: a file imports what is beside it from itself."""
        return any(name.startswith(f"{fullname}.") for name in self._texts) or fullname.count(".") < 2

    def get_source(self, fullname: str) -> str:
        """Its text, for tracebacks too."""
        return self._texts[fullname][0]

    def get_code(self, fullname: str) -> CodeType:
        """Its text, compiled under the name of its file; the lines are kept for whoever asks for a class's source."""
        text, name = self._texts[fullname][0], self._file(fullname)
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        return self.source_to_code(text, name)

    def _file(self, fullname: str) -> str:
        """A name that no file has."""
        return f"<{self._texts[fullname][1]} of {fullname}>"


_texts = _Texts()
sys.meta_path.append(_texts)
