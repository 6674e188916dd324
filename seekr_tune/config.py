"""The one schema: what an experiment file may say.

The paths of these fields (`method.replay_percent`, ...) are the keys of experiment files, of `--set` and of search
spaces alike. Values are checked where they enter; what needs the data or the model (a head budget above the
model's heads) is checked when those are loaded.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

Count = Annotated[int, Field(strict=True, ge=1)]
Fraction = Annotated[float, Field(strict=True, gt=0.0, le=1.0)]
Split = Literal["train", "eval", "test"]
MethodName = Literal["seqft", "replay", "derpp", "seekr", "joint"]
SemanticsName = Literal["corrected", "official"]
SelectionName = Literal["importance", "sensitivity", "forgettability", "random", "all"]
MetricName = Literal["exact_match", "first_character", "first_word", "rouge_l", "edit_similarity", "sari"]
Direction = Literal["maximize", "minimize"]

_SECRET_IN_URI = re.compile(r"://[^?]*:[^?]*@|[?&][^=]*(key|secret|password|token|sas)[^=]*=", re.IGNORECASE)


class Section(BaseModel):
    """A part of the experiment file: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Limits(Section):
    """Caps on the rows of each split, taken from its start; null reads all."""

    train: Count | None = None
    """Most rows of a task's `train` split."""
    eval: Count | None = None
    """Most rows of a task's `eval` split."""
    test: Count | None = None
    """Most rows of a task's `test` split."""

    def of(self, split: Split) -> int | None:
        """The cap of one split, or None for all of its rows."""
        return {"train": self.train, "eval": self.eval, "test": self.test}[split]


class Columns(Section):
    """Names of the two fields of a row."""

    prompt: str = "prompt"
    """Field that holds the input text."""
    answer: str = "answer"
    """Field that holds the text to be learned."""


class StreamConfig(Section):
    """Which tasks are learned, in which order, and how they are scored."""

    source: Literal["builtin", "trace_json", "datasets", "jsonl", "parquet"] = "builtin"
    """Where tasks come from: the built-in generator, or files under `root` in one of four layouts."""
    root: str | None = None
    """Directory of the tasks (or a hub name for `datasets`); not used by `builtin`. Null: still to be given."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Tasks in learning order, each named by its folder under `root`; sub-folders are allowed."""
    metrics: dict[str, MetricName] = Field(default_factory=dict)
    """Metric of a task; a task that is not listed is scored by `exact_match`."""
    limits: Limits = Limits()
    """Caps on the rows of each split."""
    columns: Columns = Columns()
    """Field names of a row."""

    @model_validator(mode="after")
    def _tasks_are_distinct(self) -> Self:
        twice = sorted({task for task in self.tasks if self.tasks.count(task) > 1})
        if twice:
            raise ValueError(f"tasks must differ, but {twice[0]!r} is listed twice; drop one of them")
        return self

    def metric_of(self, task: str) -> MetricName:
        """The metric of one task."""
        return self.metrics.get(task, "exact_match")


class LoraConfig(Section):
    """Low-rank adapters (PEFT); only they are trained and saved."""

    rank: PositiveInt = 8
    """Rank of each adapter."""
    alpha: PositiveInt = 16
    """Scale: the adapter's output is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Dropout before each adapter."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Modules that get an adapter, by name."""


class ModelConfig(Section):
    """The base model that learns the stream."""

    path: str | None = "builtin"
    """A directory, a hub name, or `builtin` for the model that ships with the package. Null: still to be given."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights, of their gradients and of the optimizer's moments."""
    compute_dtype: Literal["float32", "bfloat16"] | None = None
    """Precision of forward and backward passes; null: that of the weights. `bfloat16` over float32 weights is the usual
    mixed precision on GPUs."""
    lora: LoraConfig | None = None
    """Adapter settings; null trains all weights."""

    @model_validator(mode="after")
    def _compute_is_not_finer_than_the_weights(self) -> Self:
        if self.dtype == "bfloat16" and self.compute_dtype == "float32":
            raise ValueError("compute_dtype float32 needs float32 weights; set dtype to float32, or drop compute_dtype")
        return self


class RecipeConfig(Section):
    """How one task is trained. Belongs to the recipe, not to the search: tune it on `seqft`, then freeze it."""

    epochs: Count | tuple[Count, ...] = 1
    """Passes over a task's train split: one number, or one for each task."""
    learning_rate: PositiveFloat = 1e-5
    """Peak learning rate of AdamW."""
    batch_size: PositiveInt = 16
    """New-task samples of one optimizer step, over all workers."""
    micro_batch_size: PositiveInt | None = None
    """Samples of one forward pass on one worker; null takes the whole share of the step."""
    replay_batch_size: PositiveInt = 4
    """Replay samples of one replay step, over all workers. Smaller means more replay updates for the same samples."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW moment decays."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW weight decay."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Clip the global gradient norm to this; null does not clip."""
    lr_schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant"
    """Learning-rate schedule within a task (transformers)."""
    warmup_steps: int = Field(0, ge=0)
    """Optimizer steps of warm-up at the start of each schedule."""
    reset_optimizer: bool | None = None
    """Start each task with a fresh optimizer; null: as the semantics say (corrected resets, official keeps)."""
    max_prompt_tokens: PositiveInt = 512
    """Longer prompts are cut on the left."""
    max_answer_tokens: PositiveInt = 64
    """Longest answer, EOS included; also the most tokens that evaluation generates."""
    pad_to_multiple_of: PositiveInt = 8
    """Batches are padded on the left to a multiple of this length."""

    def epochs_of(self, index: int) -> int:
        """Passes over the train split of task `index`."""
        return self.epochs if isinstance(self.epochs, int) else self.epochs[index]


class MethodConfig(Section):
    """What keeps the old tasks alive."""

    name: MethodName = "seekr"
    """`seqft` no replay, `replay` samples only, `derpp` also logits, `seekr` also attention, `joint` all at once."""
    semantics: SemanticsName = "corrected"
    """`official` reproduces the authors' release number for number; `corrected` mends its quirks (docs/method.md)."""
    replay_percent: float = Field(1.0, ge=0.0, le=100.0)
    """Share of each task's train split that is kept in the replay memory, in percent."""
    head_budget: Count | Fraction = 0.125
    """Heads distilled, in total: a count (integer) or a fraction (0.125) of all heads."""
    layer_ratio: float = Field(0.75, gt=0.0, le=1.0)
    """Share of the layers that may hold selected heads."""
    query_budget: Count | None = 100
    """Query rows distilled per sample; null takes all."""
    selection: SelectionName = "importance"
    """What ranks the heads; `all` ignores the budgets."""
    logit_weight: float = Field(0.5, ge=0.0, le=1.0)
    """Weight of logit distillation; cross-entropy on replayed samples weighs 1 minus this (paper: 1 - lambda1)."""
    attention_weight: NonNegativeFloat = 1000.0
    """Weight of attention distillation (paper: lambda2)."""
    replay_cycle: Count | None = None
    """`official` only: one replay step every so many new steps; null: new batches / replay batches, rounded down."""

    def in_effect(self) -> MethodConfig:
        """The same settings with the parts that `name` leaves out set to zero."""
        off: dict[MethodName, dict[str, float]] = {
            "seqft": {"replay_percent": 0.0, "logit_weight": 0.0, "attention_weight": 0.0},
            "joint": {"replay_percent": 0.0, "logit_weight": 0.0, "attention_weight": 0.0},
            "replay": {"logit_weight": 0.0, "attention_weight": 0.0},
            "derpp": {"attention_weight": 0.0},
            "seekr": {},
        }
        return self.model_copy(update=off[self.name])

    @model_validator(mode="after")
    def _cycle_needs_official_schedule(self) -> Self:
        if self.replay_cycle is not None and self.semantics != "official":
            raise ValueError(
                "replay_cycle is read by the official schedule only; drop it, or set method.semantics to official"
            )
        return self


class TrainingConfig(Section):
    """Where a trial runs, and how often it is saved; nothing here changes what is learned."""

    workers: int = Field(0, ge=0)
    """0: in the process of the trial itself; N: a Ray TorchTrainer of N workers."""
    min_workers: Count | None = None
    """Elastic: go on with as few workers as this while others cannot be had; null: exactly `workers`."""
    strategy: Literal["single", "ddp", "fsdp"] | None = None
    """How workers share the model: `ddp` copies it to each, `fsdp` splits it over them (FSDP2). Null: `ddp` for two or
    more workers, else `single`."""
    resources_per_worker: dict[str, PositiveFloat] = Field(default_factory=lambda: {"CPU": 1.0})
    """Ray resources of one worker (of the trial's process where `workers` is 0), e.g. {CPU: 4, GPU: 1}."""
    placement: Literal["pack", "spread"] = "pack"
    """Workers on as few nodes of a cluster as possible, or over as many as possible."""
    max_failures: int = Field(2, ge=0)
    """Times that lost workers are started again from the newest checkpoint before the trial fails."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    checkpoint_steps: Count | None = None
    """Save inside a task after this many steps, too; null: by time only."""
    checkpoint_seconds: PositiveFloat | None = 600.0
    """Save inside a task when this many seconds of steps have passed since the last time; null: never by time."""
    checkpoints_kept: Count = 2
    """Newest checkpoints that are kept, of finished tasks and (besides) of the task that is being learned."""
    storage_path: str | None = None
    """For clusters whose nodes share no disk: a directory or a URI (s3://, gs://, abfs://, hdfs://, file://) that all
    nodes reach, through which checkpoints and results pass; null: the nodes share the output directory itself."""

    @property
    def parallelism(self) -> Literal["single", "ddp", "fsdp"]:
        """The strategy, chosen where it was left open."""
        return self.strategy or ("ddp" if self.workers > 1 else "single")

    @model_validator(mode="after")
    def _strategy_fits_workers(self) -> Self:
        if self.strategy == "single" and self.workers > 1:
            raise ValueError(
                f"strategy 'single' allows one worker, but workers is {self.workers}; set strategy to ddp or fsdp"
            )
        if self.strategy in ("ddp", "fsdp") and self.workers < 2:
            raise ValueError(
                f"strategy {self.strategy!r} needs 2 workers or more, but workers is {self.workers}; set it to single"
            )
        return self

    @model_validator(mode="after")
    def _workers_are_a_range(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers is {self.min_workers}, above workers ({self.workers}); lower it")
        return self

    @model_validator(mode="after")
    def _storage_is_of_workers(self) -> Self:
        if self.storage_path is not None and self.workers == 0:
            raise ValueError(
                "storage_path is for workers that do not see the output directory, but workers is 0; set workers to 1 "
                "or more, or drop storage_path"
            )
        return self

    @model_validator(mode="after")
    def _storage_holds_no_secret(self) -> Self:
        if self.storage_path is not None and _SECRET_IN_URI.search(self.storage_path):
            raise ValueError(
                "storage_path has a password or a key in it, which would stand in every result; leave it out and let "
                "each node find it where its tools do (for s3: a role, ~/.aws, or AWS_ACCESS_KEY_ID)"
            )
        return self

    @model_validator(mode="after")
    def _shards_need_whole_gpus(self) -> Self:
        if self.strategy == "fsdp" and 0 < self.resources_per_worker.get("GPU", 0) < 1:
            raise ValueError(
                "strategy 'fsdp' needs a whole GPU for each worker (its collectives run on NCCL, which refuses two "
                "ranks on one); set resources_per_worker.GPU to 1, or strategy to ddp"
            )
        return self


class EvaluationConfig(Section):
    """What is scored, and when."""

    matrix: Literal["full", "seen", "diagonal_and_last"] = "full"
    """`full`: every task, before and after each; `seen`: learned tasks only; `diagonal_and_last`: OP and BWT only."""
    splits: tuple[Literal["eval", "test"], ...] = ("eval",)
    """Splits that are scored. `test` is not read unless it is listed here."""
    batch_size: PositiveInt = 32
    """Prompts generated at once."""


class StudyConfig(Section):
    """Which settings are searched."""

    space: str | None = None
    """Search-space file, relative to the experiment file."""
    trials: PositiveInt = 10
    """Trials in total."""
    sampler: Literal["tpe", "random", "qmc", "nsgaii"] = "tpe"
    """Optuna sampler."""
    objectives: dict[str, Direction] = Field(default={"op": "maximize"}, min_length=1)
    """Ledger columns to optimise, each with its direction; several make a Pareto search."""
    bounds: tuple[Literal["seqft", "joint"], ...] = ()
    """Reference runs beside the trials: no replay, and all tasks at once; they give the normalised gain."""
    max_concurrent: PositiveInt | None = None
    """Trials at the same time; null: as many as the machine's resources allow."""


class Config(Section):
    """One experiment."""

    name: str = Field("experiment", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the experiment; part of the default output directory."""
    seed: int = Field(0, ge=0)
    """Seed of data order, memory draws, query rows and the built-in data."""
    stream: StreamConfig
    model: ModelConfig = ModelConfig()
    recipe: RecipeConfig = RecipeConfig()
    method: MethodConfig = MethodConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    study: StudyConfig = StudyConfig()

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
