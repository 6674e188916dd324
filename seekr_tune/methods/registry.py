"""Methods by name: those of the package, and a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from seekr_tune.config import Config
from seekr_tune.config.leaves import kind_of, leaf_types
from seekr_tune.config.messages import one_line
from seekr_tune.config.plugins import Plugin
from seekr_tune.errors import ConfigError
from seekr_tune.methods.combined import Combined
from seekr_tune.methods.protocol import Method, Setting
from seekr_tune.methods.semantics import SEMANTICS
from seekr_tune.methods.sizes import ModelShape, SampleBytes, SampleSize
from seekr_tune.plugins import imported

BUILT_IN: Mapping[str, str] = {
    "seqft": "seekr_tune.methods.seqft:SeqFT",
    "replay": "seekr_tune.methods.replay:Replay",
    "derpp": "seekr_tune.methods.derpp:DerPP",
    "seekr": "seekr_tune.methods.seekr.method:Seekr",
    "joint": "seekr_tune.methods.joint:Joint",
}


def method_of(config: Config, setting: Setting) -> Combined:
    """The methods of an experiment, as one, at the beginning of a run.

    Raises:
        ConfigError: see `require_methods`; or they cannot work together.
    """
    return Combined({name: cls(options, setting) for name, (cls, options) in require_methods(config).items()})


def require_methods(config: Config) -> dict[str, tuple[type[Method], Any]]:
    """The class of each method of an experiment and its options; code of a user is imported.

    Raises:
        ConfigError: code that cannot be imported or is no method, options that it refuses, a way of training that it
            does not serve.
    """
    found: dict[str, tuple[type[Method], Any]] = {}
    for name in config.method.names:
        cls = _built_in(name) if name in BUILT_IN else _class_of(name, config.plugins[name])
        _require_served(name, cls, config)
        found[name] = cls, _options(cls, name, config)
    return found


def with_needs(config: Config) -> Config:
    """The experiment, which says of each method of a user's own what must be known of it without its code: whether it
    has a replay memory, and what its options are.

    Raises:
        ConfigError: see `require_methods`.
    """
    if not any(name in config.plugins for name in config.method.names):
        return config
    noted = {}
    for name, (cls, _) in require_methods(config).items():
        if name in config.plugins:
            known = {
                "memory": cls.needs.memory,
                "options": {at: kind_of(types) for at, types in leaf_types(cls.Options)},
            }
            noted[name] = config.plugins[name].model_copy(update=known)
    return config.model_copy(update={"plugins": {**config.plugins, **noted}})


def require_fits(config: Config, layers: int, heads: int) -> None:
    """Refuse options that the model cannot serve.

    Raises:
        ConfigError: naming the field; see also `require_methods`.
    """
    for cls, options in require_methods(config).values():
        cls.require_fits(options, layers, heads)


def bytes_of_samples(config: Config, layers: int, heads: int, vocabulary: int) -> Callable[[SampleSize], SampleBytes]:
    """What a stored sample takes besides its tokens, in all methods of an experiment."""
    methods = require_methods(config).values()
    shape = ModelShape(layers, heads, vocabulary, config.model.computed_dtype, SEMANTICS[config.method.semantics])
    return cache(lambda sample: sum((cls.sample_bytes(own, sample, shape) for cls, own in methods), SampleBytes()))


def _require_served(name: str, cls: type[Method], config: Config) -> None:
    ways = {way: f"training.strategy={way}" for way in ("ddp", "fsdp")} | {"lora": "model.lora"}
    unknown = next((way for way in cls.unsupported if way not in ways), None)
    if unknown is not None:
        raise ConfigError(f"method {name}: its `unsupported` names {unknown!r}, which is none of {', '.join(ways)}")
    asked = {config.training.parallelism} | ({"lora"} if config.model.lora else set())
    for way, reason in cls.unsupported.items():
        if way in asked:
            raise ConfigError(f"method {name} cannot run with {ways[way]}: {reason}")


def _built_in(name: str) -> type[Method]:
    module, _, attribute = BUILT_IN[name].partition(":")
    found: type[Method] = getattr(import_module(module), attribute)
    return found


def _class_of(name: str, plugin: Plugin) -> type[Method]:
    found = imported("method", name, plugin)
    if not isinstance(found, type) or not issubclass(found, Method):
        own = plugin.origin.rpartition(":")[2]
        raise ConfigError(f"method {name} ({plugin.origin}): {own} is no class derived from seekr_tune.methods.Method")
    return found


def _options(cls: type[Method], name: str, config: Config) -> Any:
    try:
        return cls.Options.model_validate(config.method.options_of(name))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        paths = [f"method.{name}.{field}" for field in cls.Options.model_fields]
        first["loc"] = ("method", name, *first["loc"])
        raise ConfigError(one_line(first, paths)) from None
