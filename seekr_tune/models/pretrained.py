"""Configuration, weights and tokenizer of a model that others wrote: read as data, never as code.

Every call of transformers that reads a model's directory, or builds a model from its configuration, is here. None of
them asks on the terminal whether to run code, and none lets a configuration choose what is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig
from transformers.utils.hub import cached_file

from seekr_tune.errors import ModelError
from seekr_tune.methods.seekr.attention import TAP_ATTENTION

_ORDERS = ("auto_map", "fusion_config", "distributed_config")
"""Fields of a configuration that say what is run: code of its own, modules that are put in place of others."""


def read_config(path: str) -> PretrainedConfig:
    """Shape and limits of a model, without what its author wants to be run; attention is that of the tap.

    Raises:
        What transformers raises where there is none, or one that it does not know.
    """
    found: PretrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=False)
    for own in _with_nested(found):
        own._attn_implementation_internal = TAP_ATTENTION  # a name such as `org/kernel` would be fetched from the hub
        own._experts_implementation_internal = None
        for name in _ORDERS:
            own.__dict__.pop(name, None)
        if str(own.__dict__.get("transformers_weights", "")).endswith(".bin"):
            del own.__dict__["transformers_weights"]  # a pickle, which can hold code
    return found


def read_weights(path: str, config: PretrainedConfig, dtype: torch.dtype) -> tuple[Any, set[str]]:
    """A model with the weights that lie at a path, and the names of those that do not.

    Raises:
        What transformers and safetensors raise.
    """
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        path,
        config=config,
        attn_implementation=TAP_ATTENTION,
        dtype=dtype,
        output_loading_info=True,
        use_safetensors=True,  # the other format is a pickle, which can hold code
        trust_remote_code=False,
    )
    model, report = loaded
    return model, set(report["missing_keys"])


def read_tokenizer(path: str) -> Any:
    """A tokenizer that pads on the left.

    Raises:
        What transformers and tokenizers raise.
    """
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left", trust_remote_code=False)
    getattr(tokenizer, "init_kwargs", {}).pop("auto_map", None)  # an exported tokenizer has no code either
    return tokenizer


def fetched_directory(name: str) -> Path:
    """Where the files of a model of the hub are, once it was loaded.

    Raises:
        ModelError: they are not on this machine.
    """
    try:
        return Path(str(cached_file(name, "config.json"))).parent
    except OSError as error:
        raise ModelError(f"model.path={name}: cannot be loaded ({first_line(error)}); check the path") from None


def empty_model(config: PretrainedConfig, **settings: Any) -> Any:
    """The modules of a model, without any number in them.

    Args:
        settings: such as `dtype`, over those of the configuration.

    Raises:
        ModelError: the configuration makes none.
    """
    factory: Any = AutoModelForCausalLM
    try:
        with torch.device("meta"):
            return factory.from_config(config, trust_remote_code=False, **settings)
    except Exception as error:  # of any kind: modules are built from whatever the configuration holds
        raise ModelError(f"model.path: its config.json makes no model ({first_line(error)}); check it") from None


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """A panic of a Rust library is no Exception, so that nothing that expects one would end this process in order.

    Raises:
        RuntimeError: with what the library said.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of each library its own class, which cannot be imported
            raise RuntimeError(str(error)) from None
        raise


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    if "trust_remote_code" in str(error):  # it says how to allow it; here nothing does
        return "it brings code of its own, which is never run"
    return " ".join((str(error).strip() or type(error).__name__).split())[:300]


def _with_nested(value: Any) -> Iterator[Any]:
    """A configuration and all that it holds, also in lists and mappings."""
    inside: Iterable[Any] = ()
    if isinstance(value, PretrainedConfig):
        yield value
        inside = vars(value).values()
    elif isinstance(value, Mapping):
        inside = value.values()
    elif isinstance(value, (list, tuple)):
        inside = value
    for own in inside:
        yield from _with_nested(own)
