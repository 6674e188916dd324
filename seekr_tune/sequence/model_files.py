"""What a model's directory holds, looked at without its weights: a run is refused before it writes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, PretrainedConfig

from seekr_tune.config import ModelConfig
from seekr_tune.errors import ModelError
from seekr_tune.sequence.pretrained import first_line, read_tokenizer

LOOKS_AHEAD = "its attention looks ahead, so it would learn to copy; set is_decoder to true in its config.json"
"""Why an encoder is refused."""

_BY_KERNELS = frozenset(("eetq", "fbgemm_fp8", "fp8", "metal", "mxfp4", "nvfp4"))
"""Forms of quantised weights for which transformers fetches kernels, which are code, from the hub."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")
_WEIGHTS = ("*.safetensors", "*.bin")


def missing_parts(directory: Path) -> list[str]:
    """Which of tokenizer and weights a model's directory lacks."""
    present = {
        "tokenizer": any((directory / name).is_file() for name in _TOKENIZERS),
        "weights": any(file.is_file() for pattern in _WEIGHTS for file in directory.glob(pattern)),
    }
    return [part for part, there in present.items() if not there]


def require_served(config: ModelConfig, model: PretrainedConfig) -> None:
    """Refuse a type of model that is no causal language model, or whose attention cannot be tapped.

    Raises:
        ModelError: naming the type.
    """
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(model), None)
    if found is None:
        raise ModelError(
            f"model.path={config.path}: model type {model.model_type!r} is no causal language model; choose llama, "
            "qwen2, qwen3, mistral, gpt2 or gpt_neox"
        )
    quantised = (getattr(model, "quantization_config", None) or {}).get("quant_method")
    if quantised in _BY_KERNELS:
        raise ModelError(
            f"model.path={config.path}: its weights are quantised ({quantised}), and transformers would fetch kernels "
            "for them; give the model with weights of 16 or 32 bits"
        )
    if not hasattr(model, "vocab_size"):
        raise ModelError(
            f"model.path={config.path}: model type {model.model_type!r} is a language model among other parts; save "
            "that part by itself and give its directory"
        )
    if not found._supports_attention_backend:
        raise ModelError(f"model.path={config.path}: {unserved(model)}")
    if type(model) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(model, "is_decoder", False):
        raise ModelError(f"model.path={config.path}: model type {model.model_type!r}: {LOOKS_AHEAD}")


def require_whole(config: ModelConfig, directory: Path) -> None:
    """Refuse a directory that lacks tokenizer or weights, or whose weights are cut off.

    Raises:
        ModelError: naming what is missing, or the file.
    """
    missing = missing_parts(directory)
    if missing:
        raise ModelError(f"model.path={config.path}: holds no {' and no '.join(missing)}; give a complete model")
    for file in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            reason = f"{file.name} is damaged ({first_line(error)})"
            raise ModelError(f"model.path={config.path}: {reason}; copy it anew") from None


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
        tokenizer = read_tokenizer(path)
    except Exception as error:  # the tokenizers library raises nothing more special for a damaged file
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


def unserved(model: PretrainedConfig | None = None) -> str:
    """Why the tap cannot serve a model, and which to choose."""
    model_type = "this model type" if model is None else f"model type {model.model_type!r}"
    return (
        f"the attention tap cannot serve {model_type}; choose llama, qwen2, qwen3, mistral, gpt2, gpt_neox or another "
        "that uses transformers' attention interface"
    )
