"""What a model's directory holds, looked at without its weights: a run is refused before it writes anything."""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, PretrainedConfig
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, AutoQuantizationConfig
from transformers.utils import GENERATION_CONFIG_NAME
from transformers.utils.hub import cached_file

from seekr_tune.config import ModelConfig
from seekr_tune.data.special_tokens import other_ends_of
from seekr_tune.documents import read_json
from seekr_tune.errors import DocumentError, ModelError
from seekr_tune.models.model_folder import require_weights, unread_weights
from seekr_tune.models.pretrained import first_line, panics_as_errors, read_tokenizer

LOOKS_AHEAD = "its attention looks ahead, so it would learn to copy; set is_decoder to true in its config.json"
"""Why an encoder is refused."""

_BY_KERNELS = frozenset(("eetq", "fbgemm_fp8", "fp8", "metal", "mxfp4", "nvfp4"))
"""Forms of quantised weights for which transformers fetches kernels, which are code, from the hub."""

_SENTENCEPIECE = "tokenizer.model"
_TOKENIZERS = ("tokenizer.json", _SENTENCEPIECE, "tokenizer_config.json", "vocab.json", "vocab.txt")
_MAX_LAYERS = 10_000
"""Of a model; building one takes time for each, and the deepest have some hundred."""
_TRIED_TEXT = "The answer, in 2 words: yes.\n"
"""That is encoded once: some tokenizers load, and panic at the first text."""
_logger = logging.getLogger(__name__)


def missing_parts(directory: Path) -> list[str]:
    """Which of tokenizer and weights a model's directory lacks."""
    present = {
        "tokenizer": any((directory / name).is_file() for name in _TOKENIZERS),
        "weights": any(file.is_file() for file in directory.glob("*.safetensors")) or bool(unread_weights(directory)),
    }
    return [part for part, there in present.items() if not there]


def require_served(config: ModelConfig, model: PretrainedConfig) -> None:
    """Refuse a type of model that is no causal language model, or whose attention cannot be tapped.

    Raises:
        ModelError: naming the type.
    """
    layers = getattr(model, "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > _MAX_LAYERS:
        raise ModelError(f"model.path={config.path}: its config.json says {layers} layers; check it, or copy it anew")
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(model), None)
    if found is None:
        raise ModelError(
            f"model.path={config.path}: model type {model.model_type!r} is no causal language model; choose llama, "
            "qwen2, qwen3, mistral, gpt2 or gpt_neox"
        )
    _require_quantisation(config, model)
    if not hasattr(model, "vocab_size"):
        raise ModelError(
            f"model.path={config.path}: model type {model.model_type!r} is a language model among other parts; save "
            "that part by itself and give its directory"
        )
    if not found._supports_attention_backend:
        raise ModelError(f"model.path={config.path}: {unserved(model)}")
    if type(model) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(model, "is_decoder", False):
        raise ModelError(f"model.path={config.path}: model type {model.model_type!r}: {LOOKS_AHEAD}")


def _require_quantisation(config: ModelConfig, model: PretrainedConfig) -> None:
    """Refuse quantised weights that cannot be loaded with what is installed, as transformers itself judges."""
    form: Any = getattr(model, "quantization_config", None)
    if form is None:
        return
    method = (form.get("quant_method") or _method_of(form)) if isinstance(form, dict) else None
    name, mend = f"model.path={config.path}", "give the model with weights of 16 or 32 bits"
    if method is None:
        raise ModelError(f"{name}: quantization_config of its config.json names no quant_method; {mend}")
    if method in _BY_KERNELS:
        raise ModelError(
            f"{name}: its weights are quantised ({method}), and transformers would fetch kernels for them; {mend}"
        )
    try:
        bits = "_8bit" if form.get("load_in_8bit") else "_4bit"
        quantiser = AUTO_QUANTIZER_MAPPING.get(method + bits if method == "bitsandbytes" else method)
        if quantiser is None:  # it would load them as if they were not quantised
            raise ValueError("transformers does not know this form")
        settings = AutoQuantizationConfig.from_dict(form)
        quantiser(settings, pre_quantized=True).validate_environment(dtype=None, device_map=None)
    except Exception as error:  # of any kind: each form asks its own library, which may not be there
        reason = f"its weights are quantised ({method}) and cannot be loaded here ({first_line(error)})"
        raise ModelError(f"{name}: {reason}; {mend}") from None


def _method_of(form: dict[str, Any]) -> str | None:
    """Of configurations that were written before the method was named."""
    return "bitsandbytes" if form.get("load_in_4bit") or form.get("load_in_8bit") else None


def require_whole(config: ModelConfig, directory: Path, model: PretrainedConfig) -> None:
    """Refuse a directory that lacks tokenizer or weights, or whose weights are cut off, incomplete or not read.

    Raises:
        ModelError: naming what is missing, or the file.
    """
    missing = missing_parts(directory)
    if missing:
        raise ModelError(f"model.path={config.path}: holds no {' and no '.join(missing)}; give a complete model")
    quantised = getattr(model, "quantization_config", None) is not None
    named = getattr(model, "transformers_weights", None)
    require_weights(f"model.path={config.path}", directory, quantised=quantised, named=named)


def load_tokenizer(config: ModelConfig, path: str, model: PretrainedConfig) -> Any:
    """The tokenizer of a model, able to end an answer and knowing no special token beyond the model's vocabulary.

    Args:
        config: names the model in messages.
        path: where it is.
        model: its shape.

    Raises:
        ModelError: it cannot be loaded, or does not fit.
    """
    try:
        with panics_as_errors():
            tokenizer = read_tokenizer(path)
            with suppress(Exception):  # one that lacks these words may serve data that do without
                tokenizer.decode(tokenizer(_TRIED_TEXT)["input_ids"])
    except Exception as error:  # the tokenizers library raises nothing more special for a damaged file
        if _needs_sentencepiece(Path(path)):
            raise ModelError(
                f"model.path={config.path}: its tokenizer is {_SENTENCEPIECE} alone, which transformers reads with the "
                "package sentencepiece; install that, or give a tokenizer.json, which save_pretrained writes"
            ) from None
        reason = f"its tokenizer cannot be loaded ({first_line(error)})"
        raise ModelError(f"model.path={config.path}: {reason}; give a model with its tokenizer's files") from None
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"model.path={config.path}: its tokenizer has no EOS token to end answers with; set eos_token in its "
            "tokenizer_config.json"
        )
    for name in ("eos", "bos"):
        token = getattr(tokenizer, f"{name}_token_id")
        if token is not None and not 0 <= token < model.vocab_size:
            raise ModelError(
                f"model.path={config.path}: {name}_token of its tokenizer is {token}, but its vocabulary has "
                f"{model.vocab_size} tokens; the tokenizer is of another model"
            )
    return tokenizer


def _needs_sentencepiece(directory: Path) -> bool:
    alone = (directory / _SENTENCEPIECE).is_file() and not (directory / "tokenizer.json").exists()
    return alone and find_spec("sentencepiece") is None


def load_other_ends(path: str, tokenizer: Any) -> tuple[int, ...]:
    """The tokens besides EOS that end an answer of a model; see `other_ends_of`.

    Args:
        path: a model's directory, or its name on the hub.
        tokenizer: the model's.
    """
    try:
        file = cached_file(path, GENERATION_CONFIG_NAME)
    except OSError:  # it has none
        return other_ends_of(tokenizer)
    try:
        declared = read_json(str(file), finite=False).get("eos_token_id")
    except (DocumentError, AttributeError) as error:
        _logger.warning("%s: cannot be read (%s); it says nothing of what ends an answer", file, first_line(error))
        return other_ends_of(tokenizer)
    listed = declared if isinstance(declared, list) else [declared]
    return other_ends_of(tokenizer, [token for token in listed if type(token) is int])


def unserved(model: PretrainedConfig | None = None) -> str:
    """Why the tap cannot serve a model, and which to choose."""
    model_type = "this model type" if model is None else f"model type {model.model_type!r}"
    return (
        f"the attention tap cannot serve {model_type}; choose llama, qwen2, qwen3, mistral, gpt2, gpt_neox or another "
        "that uses transformers' attention interface"
    )
