"""Methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from seekr_tune.config import Config
from seekr_tune.method.combined import Combined
from seekr_tune.method.protocol import Method, Needs, Setting

BUILT_IN: Mapping[str, str] = {
    "seqft": "seekr_tune.method.seqft:SeqFT",
    "replay": "seekr_tune.method.replay:Replay",
    "derpp": "seekr_tune.method.derpp:DerPP",
    "seekr": "seekr_tune.method.seekr:Seekr",
    "joint": "seekr_tune.method.joint:Joint",
}


def method_class(name: str) -> type[Method]:
    """The class of a method."""
    module, _, attribute = BUILT_IN[name].partition(":")
    found: type[Method] = getattr(import_module(module), attribute)
    return found


def method_of(config: Config, setting: Setting) -> Combined:
    """The methods of an experiment, as one, at the beginning of a run."""
    name = config.method.name
    return Combined({name: method_class(name)(config.method.in_effect(), setting)})


def needs_of(config: Config) -> Needs:
    """What the methods of an experiment ask of a run."""
    return method_class(config.method.name).needs
