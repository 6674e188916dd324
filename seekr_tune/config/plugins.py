"""Code of a user that an experiment names: found, read and written into the experiment; nothing is imported here.

It is named by its file, beside the experiment (`./ewc.py:EWC`), by its installed package (`my_lab.ewc:EWC`), or by the
name that an installed package gives it as an entry point (`ewc`). The text of a file, and of the files that it imports
from its own folder (`from .fisher import diagonal`), become a part of the experiment: a study is whole without the
files, its workers on other machines have them, and a change of them is a change of the experiment.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from pydantic import Field

from seekr_tune.config.leaves import Kind
from seekr_tune.config.running import TrackerName
from seekr_tune.config.section import FormatName, MethodName, MetricName, Section
from seekr_tune.config.study import SamplerName, StoppingRule
from seekr_tune.documents import read_bytes, read_text
from seekr_tune.errors import ConfigError, DocumentError, NoDocument

MAX_BYTES = 256_000
"""Largest text of a file with those that it imports; it is a part of every record of a study."""
SEAMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "method.name": ("method", get_args(MethodName)),
    "stream.source": ("format", get_args(FormatName)),
    "stream.metrics": ("scorer", get_args(MetricName)),
    "model.converter": ("converter", ()),
    "recipe.optimizer": ("optimizer", ("adamw",)),
    "study.sampler": ("sampler", get_args(SamplerName)),
    "study.pruning.rule": ("pruner", get_args(StoppingRule)),
    "study.objectives": ("objective", ()),
    "training.trackers": ("tracker", get_args(TrackerName)),
}
"""Fields that take code of a user: what it is there, and the names of what the package has of the kind.

A field holds one name, a list of names, or a mapping whose values are names (`BY_KEY`: whose keys are). Entry points
of a kind stand in the group `seekr_tune.<kind>s`.
"""
BY_KEY = ("study.objectives",)
_SPEC = re.compile(r"(?P<place>[^:]+):(?P<name>[A-Za-z_][A-Za-z0-9_]*)")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Plugin(Section):
    """A class or function of a user, as the experiment knows it; written when the experiment is read."""

    origin: str
    """File or module, and the name in it."""
    sha256: str | None = None
    """Of the file and what it imports from its folder; of an installed package, of the module's file."""
    source: str | None = None
    """Text of the file; null for an installed package."""
    siblings: dict[str, str] = Field(default_factory=dict, exclude_if=lambda siblings: not siblings)
    """By module name: texts of what the file imports from its folder."""
    memory: bool = Field(False, exclude_if=lambda memory: not memory)
    """Of a method: whether it has a replay memory; written when a run begins."""
    options: dict[str, Kind] = Field(default_factory=dict, exclude_if=lambda options: not options)
    """Of a method: its options, and what their values are; written when a run begins."""


def imports(values: Mapping[str, Any]) -> list[str]:
    """One line for each piece of a user's code that runs of an experiment import; `values` are those of a config."""
    plugins: Mapping[str, Any] = values.get("plugins", {})
    named = dict.fromkeys((name, f"{kind} {name}") for kind, _, name in named_in(values) if name in plugins)
    searched = plugins.keys() - {name for name, _ in named}  # listed for a space, whose trials may take it
    said = [*named, *((name, f"{name} where a trial takes it") for name in sorted(searched))]
    return [
        f"imports {plugins[key]['origin']} as {what} (sha256 {str(plugins[key]['sha256'])[:16]})" for key, what in said
    ]


def is_spec(name: object) -> bool:
    """Whether a name says where code of a user is."""
    return isinstance(name, str) and ":" in name


def with_plugins(values: Mapping[str, Any], beside: Path, origin: str) -> dict[str, Any]:
    """An experiment in which code of a user goes by its name, and `plugins` says what that is.

    Args:
        values: of the experiment file.
        beside: directory that files are named from.
        origin: of the experiment, for messages.

    Raises:
        ConfigError: a file cannot be read, or two pieces of code have one name.
    """
    known = values.get("plugins", {})
    if not isinstance(known, dict):
        return dict(values)
    plugins: dict[str, Any] = {
        name: _found(one, beside, f"{origin}: plugins.{name}") if isinstance(one, str) else one
        for name, one in known.items()
    }
    keys: dict[str, str] = {}
    for kind, field, name in named_in(values):
        if is_spec(name):
            found = _found(name, beside, f"{origin}: {field}")
            keys[name] = key = found["origin"].rpartition(":")[2].lower()
            if key in next(names for of, names in SEAMS.values() if of == kind):
                raise ConfigError(f"{origin}: {field}: {name} has the name of the package's own {key}; rename it")
            if plugins.setdefault(key, found)["origin"] != found["origin"]:
                raise ConfigError(f"{origin}: {field}: {name} and plugins.{key} have one name; rename one of them")
        elif name not in plugins:
            installed = next(iter(metadata.entry_points(group=f"seekr_tune.{kind}s", name=name)), None)
            if installed is not None:
                plugins[name] = _found(installed.value.replace(" ", ""), beside, f"{origin}: {field}")
    if not plugins:
        return dict(values)
    return {**_renamed(values, keys), "plugins": plugins}


def digest_of(module: str) -> str | None:
    """SHA-256 of the file of an installed module, which is not imported; None: there is no such file."""
    top, *rest = module.split(".")
    spec: ModuleSpec | None = find_spec(top)  # of a name without a parent, for which nothing is imported
    for depth in range(len(rest)):
        inner = spec.submodule_search_locations if spec is not None else None
        spec = PathFinder.find_spec(".".join([top, *rest[: depth + 1]]), inner) if inner else None
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    try:
        return hashlib.sha256(read_bytes(spec.origin)).hexdigest()
    except DocumentError:
        return None


def named_in(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Kind, field and name of all that stands where code of a user may, but for what the package has."""
    for field, (kind, built_in) in SEAMS.items():
        held: Any = values
        for part in field.split("."):
            held = held.get(part) if isinstance(held, Mapping) else None
        if isinstance(held, Mapping):
            places = {key: key if field in BY_KEY else name for key, name in held.items()}
            found = [(field if field in BY_KEY else f"{field}.{key}", name) for key, name in places.items()]
        else:
            found = [(field, name) for name in (held if isinstance(held, list | tuple) else [held])]
        yield from ((kind, at, name) for at, name in found if isinstance(name, str) and name not in built_in)


def _renamed(values: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """The same with `keys` in place of what they stand for, where code of a user may stand."""

    def short(held: Any, by_key: bool) -> Any:
        if isinstance(held, Mapping):
            return {keys.get(name, name) if by_key else name: short(one, by_key) for name, one in held.items()}
        if isinstance(held, list | tuple):
            return [short(one, by_key) for one in held]
        return keys.get(held, held) if isinstance(held, str) else held

    def at(held: Mapping[str, Any], parts: list[str], by_key: bool) -> dict[str, Any]:
        part, *rest = parts
        inner: Any = held.get(part)
        if rest and not isinstance(inner, Mapping) or part not in held:
            return dict(held)
        return {**held, part: at(inner, rest, by_key) if rest else short(inner, by_key)}

    changed = dict(values)
    for field in SEAMS:
        changed = at(changed, field.split("."), field in BY_KEY)
    return changed


def _found(spec: str, beside: Path, where: str) -> dict[str, Any]:
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ConfigError(f"{where}: {spec!r} must read ./file.py:Name or package.module:Name")
    place = match["place"]
    if place.endswith(".py"):
        texts = _texts(beside / place, where)
        own = texts.pop("")
        whole = own + "".join(f"\0{name}\0{text}" for name, text in sorted(texts.items()))
        found = {"origin": spec, "sha256": hashlib.sha256(whole.encode()).hexdigest(), "source": own}
        return {**found, "siblings": texts} if texts else found
    if not _MODULE.fullmatch(place):
        raise ConfigError(f"{where}: {place!r} is neither a file (./mine.py) nor a module (my_lab.mine)")
    sha256 = digest_of(place)
    if sha256 is None:
        raise ConfigError(f"{where}: no installed package has a module {place}; install it, or name a file, ./mine.py")
    return {"origin": spec, "sha256": sha256}


def _texts(file: Path, where: str) -> dict[str, str]:
    """Text of a file at "", and of all that it imports from its folder at their names."""
    texts: dict[str, str] = {}
    waiting = {"": file}
    while waiting:
        name, path = waiting.popitem()
        try:
            texts[name] = read_text(path, MAX_BYTES)
        except NoDocument:
            mend = f"{file} imports it" if name else "name it from the experiment's folder"
            raise ConfigError(f"{where}: there is no file {path}; {mend}") from None
        except DocumentError as error:
            raise ConfigError(f"{where}: {path}: {error.reason}; give a file of Python, in UTF-8") from None
        if sum(map(len, texts.values())) > MAX_BYTES:
            raise ConfigError(f"{where}: {file} and what it imports have over {MAX_BYTES} bytes; install a package")
        waiting |= {one: file.with_name(f"{one}.py") for one in _siblings(texts[name]) if one not in texts}
    return texts


def _siblings(text: str) -> Iterator[str]:
    """Modules of its own folder that a text imports; of what is no Python, which its import will say, none."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from [node.module.partition(".")[0]] if node.module else [alias.name for alias in node.names]
