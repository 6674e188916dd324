"""Loading a model and its tokenizer, and refusing what the tap cannot serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import GenerationConfig, PretrainedConfig

from seekr_tune.access import MEND_LINK, dangling
from seekr_tune.config import Config, LoraConfig, ModelConfig
from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.data.collate import EncodedExample
from seekr_tune.errors import ConfigError, DataError, ModelError
from seekr_tune.methods.registry import require_fits
from seekr_tune.methods.seekr.attention import AttentionTap, all_heads_request
from seekr_tune.models.agreement import Agreement, measure_agreement, require_agreement
from seekr_tune.models.compared import comparison_of, recall, remember
from seekr_tune.models.converter import Convert
from seekr_tune.models.model_files import LOOKS_AHEAD, load_other_ends, load_tokenizer, require_served, unserved
from seekr_tune.models.model_folder import first_misfit, require_readable
from seekr_tune.models.pretrained import empty_model, fetched_directory, first_line, read_config, read_weights
from seekr_tune.quiet_libraries import hear_libraries


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model that runs through the tap, and its tokenizer.

    Attributes:
        model: the model, with adapters if the config asks for them.
        tokenizer: a transformers tokenizer.
        pad_token_id: id that fills batches; its value never matters, since it is masked.
        other_ends: tokens besides EOS that end an answer.
    """

    model: Any
    tokenizer: Any
    pad_token_id: int
    other_ends: tuple[int, ...] = ()

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer, EOS first."""
        return (self.tokenizer.eos_token_id, *self.other_ends)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers of the model, heads of a layer."""
        return model_shape(self.model.config)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that are trained, by name."""
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}


def load_model(
    config: ModelConfig,
    device: torch.device | None = None,
    *,
    compare: bool = True,
    convert: Convert | None = None,
) -> LoadedModel:
    """Load weights and tokenizer, compare the model through the tap with transformers alone, convert it, add adapters.

    Args:
        config: which model, and how.
        device: where it computes.
        compare: False where another process of the same run does it.
        convert: what `converter_of` has returned.

    Raises:
        ModelError: nothing is there, it cannot be loaded, or the tap cannot serve it.
        ConfigError: it cannot be converted, or has no modules for adapters.
    """
    loaded = _load_base(config, device)
    if compare:
        _agreement(config, lambda: loaded, loaded.model.device)
    if convert is not None:
        loaded = replace(loaded, model=convert(loaded.model))
        _require_tap(loaded.model, f"{config.path}, converted by {config.converter}")
    if config.lora is not None:
        loaded = replace(loaded, model=with_adapters(loaded.model, config.lora))
    return loaded


def check_model(config: ModelConfig) -> Agreement:
    """Compare a model, through the tap, with itself under transformers' own attention; on the CPU, once.

    Returns:
        The largest differences that were measured, now or the last time.

    Raises:
        ModelError: nothing is there, it cannot be loaded, or the tap cannot serve it; with the measured differences.
    """
    return _agreement(config, lambda: _load_base(config), torch.device("cpu"))


def _agreement(config: ModelConfig, load: Callable[[], LoadedModel], device: torch.device) -> Agreement:
    """What was measured of a model without adapters; refused where it differs."""
    shape = read_model_config(config, fetch=True)
    assert shape is not None
    require_served(config, shape)
    directory = model_directory(config) or fetched_directory(model_location(config))
    comparison = comparison_of(directory, config.dtype, device)
    found = recall(comparison)
    if found is None:
        found = _compare(config, load())
        remember(comparison, found)
    require_agreement(found, f"model.path={config.path}: model type {shape.model_type!r}")
    return found


def _compare(config: ModelConfig, loaded: LoadedModel) -> Agreement:
    model, device = loaded.model, loaded.model.device

    def measure() -> Agreement:
        return measure_agreement(model, loaded.shape, num_positions(model.config), loaded.pad_token_id)

    if any(not bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise ModelError(f"model.path={config.path}: {_not_finite(model)}")
    try:
        try:
            return measure()
        except torch.OutOfMemoryError:  # weights of 16 bits that fit once; in float32 they are twice as large
            nn.Module.to(model, torch.device("cpu"))
            found = measure()
            nn.Module.to(model, device)
            return found
    except Exception as error:  # of any kind: passes of every type of model
        reason = f"its attention cannot be compared with transformers' own ({first_line(error)})"
        raise ModelError(f"model.path={config.path}: {unserved(model.config)}; {reason}") from None


def _load_base(config: ModelConfig, device: torch.device | None = None) -> LoadedModel:
    """Weights and tokenizer, without adapters; every attention layer reaches the tap."""
    path = model_location(config)
    shape = read_model_config(config, fetch=True)
    assert shape is not None
    require_served(config, shape)
    tokenizer = load_tokenizer(config, path, shape)
    try:
        model, missing = read_weights(path, shape, getattr(torch, config.dtype))
    except Exception as error:  # of any kind: modules are built from whatever the configuration holds
        misfit = _misfit(path, shape)
        if misfit is not None:
            mend = "config.json and weights are of different models: copy them anew, from one place"
            raise ModelError(f"model.path={config.path}: {misfit}; {mend}") from None
        raise ModelError(f"model.path={config.path}: cannot be loaded ({first_line(error)}); check the path") from None
    if missing:  # transformers would go on with random weights
        raise ModelError(f"model.path={config.path}: its weights lack {', '.join(sorted(missing)[:3])}; copy it anew")
    # Chat models ship penalties and limits that would bend greedy answers too; scores must not depend on them.
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    pad_token_id = tokenizer.pad_token_id
    if pad_token_id is None or pad_token_id >= shape.vocab_size:  # added to the tokenizer, never to the model
        pad_token_id = tokenizer.eos_token_id
    model = nn.Module.to(model, device or torch.device("cpu"))
    _require_tap(model, str(config.path))
    return LoadedModel(model, tokenizer, pad_token_id, load_other_ends(path, tokenizer))


def _misfit(path: str, shape: PretrainedConfig) -> str | None:
    """The weight for which a model could not be loaded, if its shape is why."""
    try:
        shapes = {name: list(own.shape) for name, own in empty_model(shape).named_parameters()}
        return first_misfit(Path(path), shapes) if Path(path).is_dir() else None
    except ModelError:  # another reason
        return None


def read_model_config(config: ModelConfig, *, fetch: bool = False) -> PretrainedConfig | None:
    """Shape and limits of a model without its weights; None for a hub name, unless it may be fetched.

    Args:
        config: where the model is.
        fetch: ask the hub (a few kilobytes) where the path is no directory.

    Raises:
        ModelError: nothing is there, or no model.
    """
    hear_libraries()
    path = model_location(config)
    if not fetch and not Path(path).exists():
        return None
    if Path(path).is_dir():
        require_readable(f"model.path={config.path}", Path(path))
    try:
        return read_config(path)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, StrictDataclassError) as error:
        raise ModelError(f"model.path={config.path}: cannot be loaded ({first_line(error)}); check the path") from None


def model_directory(config: ModelConfig) -> Path | None:
    """Where the files of a model are; None for a hub name.

    Raises:
        ModelError: no such directory.
    """
    path = Path(model_location(config))
    return path if path.is_dir() else None


def check_fit(config: Config, model: PretrainedConfig) -> None:
    """Refuse a type of model that cannot be learned with, and budgets and lengths that it does not have.

    Raises:
        ModelError: naming the type.
        ConfigError: naming the field.
    """
    require_served(config.model, model)
    require_fits(config, *model_shape(model))
    check_lengths(config, model)


def check_lengths(config: Config, model: PretrainedConfig) -> None:
    """Refuse limits that allow longer sequences than the model has positions for.

    Raises:
        ConfigError: naming the fields.
    """
    needed = config.recipe.max_prompt_tokens + config.recipe.max_answer_tokens
    available = num_positions(model)
    if available is not None and needed > available:
        raise ConfigError(
            f"recipe.max_prompt_tokens + recipe.max_answer_tokens = {needed} exceeds the {available} positions of "
            f"model.path={config.model.path}; lower one of them"
        )


def require_learnable(task: str, examples: Sequence[EncodedExample], positions: int | None) -> None:
    """Refuse samples that nothing can be learned from, or that the model has no room for.

    Raises:
        DataError: naming the row.
    """
    for row, example in enumerate(examples, start=1):  # as the readers of files count
        length = len(example.input_ids)
        if length < 2:
            raise DataError(f"task {task!r}, train row {row}: has no token to predict an answer from; drop the row")
        if positions is not None and length > positions:
            raise DataError(
                f"task {task!r}, train row {row}: has {length} tokens, the model {positions} positions; "
                "lower recipe.max_prompt_tokens or recipe.max_answer_tokens"
            )


def num_positions(model: PretrainedConfig) -> int | None:
    """Positions that the model was made for; None where it does not say."""
    positions: int | None = getattr(model, "max_position_embeddings", None)
    return positions


def model_shape(model: PretrainedConfig) -> tuple[int, int]:
    """Layers, and query heads of a layer.

    Raises:
        ModelError: a model without attention heads.
    """
    try:
        layers, heads = int(model.num_hidden_layers), int(model.num_attention_heads)
    except (AttributeError, TypeError, RuntimeError) as error:  # it has none, or other ones in each layer
        raise ModelError(f"model.path: {unserved(model)}; {first_line(error)}") from None
    if min(layers, heads) < 1:
        raise ModelError(f"model.path: the model has {layers} layers of {heads} heads; give one with attention")
    return layers, heads


def model_location(config: ModelConfig) -> str:
    """Where a model is: a directory, or a hub name.

    Raises:
        ModelError: it is not given, or no such directory.
    """
    if config.path is None:
        raise ModelError("model.path is not set; give a directory or hub name, such as --set model.path=models/mine")
    if config.path == "builtin":
        return str(builtin_model_directory())
    broken = dangling(config.path)
    if broken is not None:
        raise ModelError(f"model.path={config.path}: {broken}; {MEND_LINK}")
    is_local = Path(config.path).is_absolute() or config.path.startswith(".") or config.path.count("/") != 1
    if is_local and not Path(config.path).is_dir():
        raise ModelError(f"model.path={config.path}: no such directory; give a model directory, a hub name or builtin")
    return config.path


def _require_tap(model: Any, path: str) -> None:
    """One tiny forward pass that taps every layer."""
    layers, heads = model_shape(model.config)
    device = next(model.parameters()).device
    tap = AttentionTap(dict.fromkeys(range(layers), all_heads_request(heads, torch.tensor([[0, 1]], device=device))))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device), attention_tap=tap, use_cache=False)
    except (TypeError, ValueError, RuntimeError, AssertionError, AttributeError) as error:
        reason = f"its forward pass fails with {first_line(error)!r}"
        raise ModelError(f"model.path={path}: {unserved(model.config)}; {reason}") from None
    finally:
        model.train(was_training)
    if any(bool(rows.isnan().any()) for rows in tap.rows.values()):
        raise ModelError(f"model.path={path}: {_not_finite(model)}")
    if not tap.missing() and any(bool(rows[:, 0, 1].exp().any()) for rows in tap.rows.values()):
        raise ModelError(f"model.path={path}: {LOOKS_AHEAD}")
    if tap.missing():
        raise ModelError(f"model.path={path}: {unserved(model.config)}; layers {tap.missing()} do not call it")


def _not_finite(model: Any) -> str:
    """Why a model computes what is no number: weights that are none, or settings."""
    mend = "copy it anew, or give a checkpoint of before its training diverged"
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            return f"its weights hold NaN or infinity ({name}); {mend}"
    return f"its forward pass gives NaN, though its weights are numbers; check its config.json, or {mend}"


def with_adapters(model: Any, lora: LoraConfig) -> Any:
    """The model with new adapters, which are all that is trained from then on.

    Raises:
        ConfigError: it has no modules of these names.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    settings = PeftLoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules, task_type="CAUSAL_LM"
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(f"model.lora.target_modules: {first_line(error)}") from None
