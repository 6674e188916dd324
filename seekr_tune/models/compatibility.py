"""Whether data, adapters and model fit together: asked before the weights are loaded, and nothing is begun."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers import PretrainedConfig

from seekr_tune.config import Config, ModelConfig
from seekr_tune.config.messages import hint
from seekr_tune.data.collate import Encoder
from seekr_tune.data.prospect import Constants, Prospect, prospects
from seekr_tune.data.task import TaskStream
from seekr_tune.errors import ConfigError, DataError
from seekr_tune.methods.semantics import SEMANTICS
from seekr_tune.models.loading import model_directory, model_location
from seekr_tune.models.model_files import load_other_ends, load_tokenizer, require_whole
from seekr_tune.models.pretrained import empty_model


def check_parts(config: Config, model: PretrainedConfig, stream: TaskStream | None) -> None:
    """Refuse tokenizers and weights that are missing, damaged or of another model, and adapters that fit nowhere.

    Args:
        config: the experiment.
        model: the model's shape.
        stream: its data, as far as they are at hand.

    Raises:
        ModelError: naming the part.
        ConfigError: naming the module that is not there.
        DataError: naming the first row with a token that the model does not know.
    """
    directory = model_directory(config.model)
    if directory is not None:
        require_whole(config.model, directory, model)
    tokenizer = load_tokenizer(config.model, model_location(config.model), model)
    check_adapters(config.model, model)
    # Some models have fewer rows than their tokenizer has tokens, and never meet the last ones: only the data tell.
    if stream is not None and max(tokenizer.get_vocab().values(), default=0) >= model.vocab_size:
        recipe, style = config.recipe, SEMANTICS[config.method.semantics].collation
        encoder = Encoder(tokenizer, recipe.max_prompt_tokens, recipe.max_answer_tokens, style)
        for place, token in _largest_tokens(stream, encoder):
            if token >= model.vocab_size:
                raise DataError(
                    f"{place}: has token {token}, but model.path={config.model.path} knows {model.vocab_size}; its "
                    "tokenizer is of another model: give the model its own"
                )


def encoder_of(config: Config, model: PretrainedConfig) -> Encoder:
    """The encoder of a run, without its weights.

    Args:
        config: the experiment.
        model: the model's shape.

    Raises:
        ModelError: the tokenizer cannot be loaded, or does not fit.
    """
    path = model_location(config.model)
    tokenizer = load_tokenizer(config.model, path, model)
    recipe, style = config.recipe, SEMANTICS[config.method.semantics].collation
    limits = (recipe.max_prompt_tokens, recipe.max_answer_tokens)
    return Encoder(tokenizer, *limits, style, load_other_ends(path, tokenizer))


def prospects_of(
    config: Config, model: PretrainedConfig, stream: TaskStream, constants: Constants | None = None
) -> list[Prospect]:
    """What data and model allow of each task and split; arguments and errors as for `encoder_of`.

    Args:
        stream: the data, with `train` and the splits that are scored.
        constants: the best constant answers; None leaves the floors out.
    """
    return prospects(stream, config.evaluation.splits, encoder_of(config, model), constants)


def check_adapters(config: ModelConfig, model: PretrainedConfig) -> None:
    """Refuse names of modules that the model does not have; PEFT passes over them if one of the names is right.

    Raises:
        ConfigError: naming the module.
    """
    if config.lora is None or isinstance(config.lora.target_modules, str):
        return
    empty = empty_model(model)
    paths = [name for name, _ in empty.named_modules()]
    linear = {name.rpartition(".")[2] for name, module in empty.named_modules() if isinstance(module, nn.Linear)}
    for wanted in config.lora.target_modules:
        if not any(path == wanted or path.endswith(f".{wanted}") for path in paths):
            raise ConfigError(
                f"model.lora.target_modules: the model has no module {wanted!r}; {hint(wanted, sorted(linear))}"
            )


def _largest_tokens(stream: TaskStream, encoder: Encoder) -> Iterator[tuple[str, int]]:
    """Every row by its place, and the largest token of its prompt and answer."""
    for task in stream:
        for split, examples in task.splits.items():
            for row, encoded in enumerate(encoder.encode_all(examples), start=1):
                yield f"task {task.name!r}, {split} row {row}", max(encoded.input_ids)
