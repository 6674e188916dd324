"""Every causal language model of the installed transformers, built, loaded and compared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from seekr_tune.config import ModelConfig
from seekr_tune.errors import ModelError
from seekr_tune.models.loading import load_model
from tests.zoo.build import save_model, save_without_weights
from tests.zoo.faces import FACES
from tests.zoo.oracle import differences, reference_model, require_working, worst
from tests.zoo.shrink import tiny_config

PLAIN = ""
"""Name of the face that a type has by itself."""


@dataclass(frozen=True)
class Case:
    """A type of model and one of its faces."""

    model_type: str
    face: str = PLAIN

    def __str__(self) -> str:
        return f"{self.model_type}, {self.face}" if self.face else self.model_type

    @property
    def changes(self) -> dict[str, Any]:
        return FACES[self.model_type][self.face] if self.face else {}


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        unbuilt: why no model was written, or transformers itself does not compute with it; empty where all is well.
        served: it was loaded.
        refusal: what was said instead; empty where it was loaded.
        proper: a refusal is a `ModelError` of one line.
        differs: by measure, how far it is from what transformers computes; empty where it was not loaded.
    """

    unbuilt: str
    served: bool
    refusal: str
    proper: bool
    differs: dict[str, float]

    @property
    def right(self) -> bool:
        """It was loaded, and computes what transformers computes."""
        return self.served and not self.unbuilt and worst(self.differs) is None

    @property
    def sound(self) -> bool:
        """It was loaded and is right, or refused in one line."""
        return self.right or (not self.served and self.proper)


def all_cases() -> Iterator[Case]:
    """Every type by itself, each followed by its faces."""
    for model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        yield Case(model_type)
        for face in FACES.get(model_type, {}):
            yield Case(model_type, face)


def examine(case: Case) -> Outcome:
    """Build, load and compare one case."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        unbuilt = _build(case, directory)
        loaded, refusal, proper = None, "", True
        try:
            loaded = load_model(ModelConfig(path=name))
        except Exception as error:  # whatever escapes shall be told, with its case
            proper = isinstance(error, ModelError) and "\n" not in str(error)
            refusal = str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
            refusal = refusal.replace(name, "MODEL")
        differs = {} if loaded is None or unbuilt else differences(loaded, reference_model(directory))
        return Outcome(unbuilt, loaded is not None, refusal, proper, differs)


def _build(case: Case, directory: Path) -> str:
    """Write the model; why that failed, or what fails in transformers itself; empty where all is well."""
    config = None
    try:
        config = tiny_config(case.model_type, **case.changes)
        save_model(config, directory)
        require_working(reference_model(directory))
    except Exception as error:  # of transformers: any kind
        if not (directory / "model.safetensors").exists():
            save_without_weights(config, case.model_type, directory)
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""
