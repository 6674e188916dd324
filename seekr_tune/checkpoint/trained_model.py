"""The model of a finished run, from its last checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seekr_tune.checkpoint.directories import Position, newest_intact, read_document
from seekr_tune.checkpoint.tensorfiles import require_weights, restore_weights
from seekr_tune.config import Config
from seekr_tune.errors import CheckpointError
from seekr_tune.models.loading import LoadedModel, load_model


@dataclass(frozen=True)
class FinishedModel:
    """A trained model, on the CPU.

    Attributes:
        loaded: the model (with its adapters, where they were trained) and its tokenizer.
        checkpoint: name of the checkpoint that its weights are from.
    """

    loaded: LoadedModel
    checkpoint: str


def load_finished(config: Config, checkpoints: Path) -> FinishedModel:
    """The base model with the weights that a run ended with, however many workers and shards saved them.

    Args:
        config: the run's experiment.
        checkpoints: the run's directory of checkpoints; only read.

    Raises:
        CheckpointError: there is no intact checkpoint behind the last task.
        ModelError: the base model cannot be loaded.
    """
    stage, _ = newest_intact(checkpoints)
    last = Position(len(config.stream.tasks))
    if stage is None or Position.of(stage) != last:
        raise CheckpointError(f"{checkpoints}: has no intact checkpoint {last.name}")
    loaded = load_model(config.model)
    parameters = loaded.trainable()
    restore_weights(require_weights(stage, read_document(stage)["parts"]["weights"], parameters), parameters)
    return FinishedModel(loaded, stage.name)
