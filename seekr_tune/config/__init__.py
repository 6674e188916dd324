"""The one schema: what an experiment file may say.

The paths of these fields (`method.memory.percent`, ...) are the keys of experiment files, of `--set` and of search
spaces alike. Values are checked where they enter; what needs the data or the model (a head budget above the
model's heads) is checked when those are loaded.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from seekr_tune.config.learning import (
    Columns,
    ErasedRows,
    Limits,
    LoraConfig,
    ModelConfig,
    RecipeConfig,
    StreamConfig,
)
from seekr_tune.config.messages import hint, nearest
from seekr_tune.config.methods import WITH_MEMORY, DerppOptions, MemoryConfig, MethodConfig, SeekrOptions
from seekr_tune.config.plugins import SEAMS, Plugin, named_in
from seekr_tune.config.running import EvaluationConfig, TrainingConfig
from seekr_tune.config.section import (
    BUILT_IN,
    Count,
    Direction,
    Fact,
    Fraction,
    MethodName,
    MetricName,
    Natural,
    Section,
    Seed,
    SelectionName,
    SemanticsName,
    SignalForm,
    Split,
)
from seekr_tune.config.study import (
    FinalConfig,
    PruningConfig,
    RacingConfig,
    ReplicatesConfig,
    SamplerName,
    StoppingRule,
    StudyConfig,
)

__all__ = [
    "Columns",
    "Config",
    "Count",
    "DerppOptions",
    "Direction",
    "ErasedRows",
    "EvaluationConfig",
    "FinalConfig",
    "Fraction",
    "Limits",
    "LoraConfig",
    "MemoryConfig",
    "MethodConfig",
    "MethodName",
    "MetricName",
    "ModelConfig",
    "PruningConfig",
    "RacingConfig",
    "RecipeConfig",
    "ReplicatesConfig",
    "SamplerName",
    "Section",
    "Seed",
    "SeekrOptions",
    "SelectionName",
    "SemanticsName",
    "SignalForm",
    "Split",
    "StoppingRule",
    "StreamConfig",
    "StudyConfig",
    "TrainingConfig",
]


class Config(Section):
    """One experiment."""

    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100), Fact(searchable=False, learned=False)
    ] = "experiment"
    """Name of the experiment; part of the default output directory."""
    seed: Seed = 0
    """Seed of data order, memory draws, query rows and the built-in data."""
    memory_draw: Annotated[Natural, Fact(searchable=False)] = 0
    """Which of the random replay memories of this seed: only the stored samples differ. `official` knows no other."""
    stream: StreamConfig
    model: ModelConfig = ModelConfig()
    recipe: RecipeConfig = RecipeConfig()
    method: MethodConfig = MethodConfig()
    training: Annotated[TrainingConfig, Fact(searchable=False, learned=False, resumable=True)] = TrainingConfig()
    evaluation: Annotated[EvaluationConfig, Fact(searchable=False)] = EvaluationConfig()
    study: Annotated[StudyConfig, Fact(searchable=False, learned=False)] = StudyConfig()
    plugins: Annotated[dict[str, Plugin], Fact(searchable=False)] = Field(
        default_factory=dict, exclude_if=lambda plugins: not plugins
    )
    """Classes of your own by name: `{ewc: ./ewc.py:EWC}`. `method.name: ./ewc.py:EWC` says the same."""

    @model_validator(mode="after")
    def _methods_are_known(self) -> Self:
        names, known = self.method.names, (*BUILT_IN, *self.plugins)
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            own = "or name one of your own by its file, ./mine.py:Mine"
            raise ValueError(f"method.name={unknown!r} is refused: {hint(unknown, known)} {own}")
        if len(set(names)) < len(names) or (len(names) > 1 and {"seqft", "joint"} & {*names}):
            raise ValueError(f"method.name: {self.method.label}: a list names methods that differ, not seqft or joint")
        taken = next((name for name in self.plugins if name in MethodConfig.model_fields), None)
        if taken is not None:
            raise ValueError(f"plugins.{taken}: method.{taken} is a field of its own; rename the class, or give a name")
        foreign = next((name for name in self.method.model_extra or {} if name not in self.plugins), None)
        if foreign is not None:
            raise ValueError(f"method.{foreign}: there is no method {foreign!r} of your own; name it in method.name")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for kind, field, name in named_in(self.model_dump()):
            if kind not in ("method", "objective") and name not in self.plugins:
                known = (*next(names for of, names in SEAMS.values() if of == kind), *self.plugins)
                near = nearest(name, known)
                asked = "" if near is None else f"did you mean {near!r}? "
                own = f"choose from {', '.join(known)}, or name one of your own by its file, ./mine.py:Mine"
                raise ValueError(f"{field}={name!r} is refused: {asked}{own}")
        return self

    @property
    def stored_percent(self) -> float:
        """Share of each task's train split that the memory keeps, in percent; 0 where no method has a memory."""
        own = {name for name, plugin in self.plugins.items() if plugin.memory}
        return self.method.memory.percent if {*self.method.names} & {*WITH_MEMORY, *own} else 0.0

    @model_validator(mode="after")
    def _official_gradients_are_whole(self) -> Self:
        if self.method.semantics == "official" and self.training.strategy == "fsdp":
            raise ValueError(
                "training.strategy 'fsdp' cannot run method.semantics 'official': the release lets gradients wait "
                "from step to step, and fsdp keeps only reduced shards of them; set strategy to ddp"
            )
        return self

    @model_validator(mode="after")
    def _every_worker_has_samples(self) -> Self:
        if self.recipe.batch_size < self.training.workers:
            raise ValueError(
                f"recipe.batch_size is {self.recipe.batch_size}, so some of the {self.training.workers} "
                "training.workers would never have a sample; raise it, or take fewer workers"
            )
        return self

    @model_validator(mode="after")
    def _one_epoch_count_per_task(self) -> Self:
        epochs, tasks = self.recipe.epochs, self.stream.tasks
        if isinstance(epochs, tuple) and len(epochs) != len(tasks):
            raise ValueError(
                f"recipe.epochs lists {len(epochs)} numbers for {len(tasks)} tasks; give one, or one for each task"
            )
        return self

    @model_validator(mode="after")
    def _a_memory_of_the_first_samples_is_not_drawn(self) -> Self:
        first = "method.memory.choice 'first'" if self.method.memory.choice == "first" else None
        first = "method.semantics 'official'" if self.method.semantics == "official" else first
        if first is not None and max(self.memory_draw + 1, self.study.replicates.memory_draws) > 1:
            raise ValueError(
                f"{first} stores the first samples of each task, so there is one memory only; set "
                "memory_draw to 0 and study.replicates.memory_draws to 1"
            )
        return self

    @model_validator(mode="after")
    def _trials_see_one_another(self) -> Self:
        if self.training.storage_path is not None and self.study.pruning.rule != "none":
            raise ValueError(
                "study.pruning compares trials by their directories, which workers with a training.storage_path do not "
                "see; set study.pruning.rule to none, or drop storage_path"
            )
        return self
