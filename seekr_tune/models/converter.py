"""A model converter of a user's own: weights in fewer bits, adapters of another kind, layers that are frozen.

A function that gets the model as it was loaded and compared with transformers, and returns the one that is trained; on
every rank, on the CPU or on the device, with torch's generator seeded by the experiment. What it leaves with
`requires_grad` is trained and saved; `model.lora` comes after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.models.pretrained import first_line
from seekr_tune.plugins import imported

Convert = Callable[[Any], Any]
"""From a model of transformers to the one that is trained."""


def converter_of(config: Config) -> Convert | None:
    """The converter of an experiment; None: it has none.

    Raises:
        ConfigError: it cannot be imported or called. The function that is returned raises it, too, where it fails, or
            what it returns cannot be trained.
    """
    name = config.model.converter
    if name is None:
        return None
    plugin = config.plugins[name]
    found, said = imported("converter", name, plugin), f"converter {name} ({plugin.origin})"
    if not callable(found):
        raise ConfigError(f"{said}: is no function from a model to a model; mend it")

    def convert(model: Any) -> Any:
        try:
            made = found(model, **config.model.converter_options)
        except Exception as error:  # of any kind: it is code of others
            raise ConfigError(f"{said}: fails ({first_line(error)}); mend it or model.converter_options") from error
        if not isinstance(made, nn.Module) or not hasattr(made, "config"):
            raise ConfigError(f"{said}: returns a {type(made).__name__}, not a model of transformers; mend it")
        if config.model.lora is None and not any(weight.requires_grad for weight in made.parameters()):
            raise ConfigError(f"{said}: leaves nothing to be trained; set model.lora, or leave weights that are")
        return made

    return convert
