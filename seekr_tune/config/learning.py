"""What is learned, and how: the stream, the model and the recipe."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from seekr_tune.config.methods import WITH_MEMORY
from seekr_tune.config.section import (
    Count,
    Fact,
    FormatName,
    MetricName,
    Natural,
    OptionValue,
    PluginName,
    Positive,
    Section,
    Split,
)

_Epochs = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
_Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


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


class ErasedRows(Section):
    """Rows of a train split that `seekr-tune forget` has taken out of a study."""

    rows: tuple[int, ...] = Field(min_length=1)
    """Their indices in the split, from 0."""
    size: Count
    """Rows of the split when they were erased, up to its cap."""
    rest: str | None = None
    """SHA-256 of the other rows, by which they are known when the data have lost the erased ones; null: not checked."""


class StreamConfig(Section):
    """Which tasks are learned, in which order, and how they are scored."""

    source: FormatName | PluginName = "builtin"
    """Where tasks come from: the built-in generator, files under `root` in one of four layouts, or a format of your own
    (`./chat.py:Chat`, docs/how-to/own-format.md)."""
    root: str | None = Field(None, min_length=1)
    """Directory of the tasks (or a hub name for `datasets`); not used by `builtin`. Null: still to be given, but for a
    format of your own."""
    tasks: Annotated[tuple[str, ...], Field(min_length=1), Fact(searchable=False)]
    """Tasks in learning order, each named by its folder under `root`; sub-folders are allowed."""
    metrics: dict[str, MetricName | PluginName] = Field(default_factory=dict)
    """Metric of a task, or a function of your own (`./mine.py:f`, docs/how-to/own-scorer.md); a task that is not listed
    is scored by `exact_match`."""
    limits: Limits = Limits()
    """Caps on the rows of each split."""
    columns: Columns = Columns()
    """Field names of a row."""
    erased: Annotated[dict[str, ErasedRows], Fact(resumable=True)] = Field(default_factory=dict)
    """By task: training rows that are not learned; written by `seekr-tune forget`."""

    @model_validator(mode="after")
    def _tasks_are_distinct(self) -> Self:
        twice = sorted({task for task in self.tasks if self.tasks.count(task) > 1})
        if twice:
            raise ValueError(f"tasks must differ, but {twice[0]!r} is listed twice; drop one of them")
        return self

    @property
    def lacks_root(self) -> bool:
        """Whether the format reads files under a root, and none is given yet."""
        return self.root is None and self.source in get_args(FormatName) and self.source != "builtin"

    def metric_of(self, task: str) -> str:
        """Name of the metric of one task."""
        return self.metrics.get(task, "exact_match")


class LoraConfig(Section):
    """Low-rank adapters (PEFT); only they are trained and saved."""

    rank: Annotated[int, Field(gt=0, le=65_536)] = 8
    """Rank of each adapter."""
    alpha: Positive = 16
    """Scale: the adapter's output is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Dropout before each adapter."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["all-linear"] = "all-linear"
    """Modules that get an adapter, by name."""


class ModelConfig(Section):
    """The base model that learns the stream."""

    path: str | None = Field("builtin", min_length=1)
    """A directory, a hub name, or `builtin` for the model that ships with the package. Null: still to be given."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights, of their gradients and of the optimizer's moments."""
    compute_dtype: Literal["float32", "bfloat16"] | None = None
    """Precision of forward and backward passes; null: that of the weights. `bfloat16` over float32 weights is the usual
    mixed precision on GPUs."""
    lora: LoraConfig | None = None
    """Adapter settings; null trains all weights."""
    converter: PluginName | None = None
    """A function of yours that changes the model before training: `./mine.py:halved` (docs/how-to/own-training.md)."""
    converter_options: dict[str, OptionValue | tuple[OptionValue, ...]] = Field(default_factory=dict)
    """What it is called with besides the model."""

    @property
    def computed_dtype(self) -> Literal["float32", "bfloat16"]:
        """Precision of forward and backward passes."""
        return self.compute_dtype or self.dtype

    @model_validator(mode="after")
    def _options_have_a_converter(self) -> Self:
        if self.converter_options and self.converter is None:
            raise ValueError("converter_options are read by a converter alone; name one, or drop them")
        return self

    @model_validator(mode="after")
    def _compute_is_not_finer_than_the_weights(self) -> Self:
        if self.dtype == "bfloat16" and self.compute_dtype == "float32":
            raise ValueError("compute_dtype float32 needs float32 weights; set dtype to float32, or drop compute_dtype")
        return self


class RecipeConfig(Section):
    """How one task is trained. Belongs to the recipe, not to the search: tune it on `seqft`, then freeze it."""

    epochs: _Epochs | tuple[_Epochs, ...] = 1
    """Passes over a task's train split: one number, or one for each task."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1e30)] = 1e-5
    """Peak learning rate."""
    optimizer: Literal["adamw"] | PluginName = "adamw"
    """`adamw`, or a class of PyTorch's or yours: `torch.optim:SGD`, `./mine.py:Lion` (docs/how-to/own-training.md)."""
    optimizer_options: dict[str, OptionValue | tuple[OptionValue, ...]] = Field(default_factory=dict)
    """What a class other than `adamw` is called with besides the parameters and `lr`: `{momentum: 0.9}`."""
    batch_size: Positive = 16
    """New-task samples of one optimizer step, over all workers."""
    micro_batch_size: Positive | None = None
    """Samples of one forward pass on one worker; null takes the whole share of the step."""
    replay_batch_size: Annotated[Positive, Fact(read_by=WITH_MEMORY)] = 4
    """Replay samples of one replay step, over all workers. Smaller means more replay updates for the same samples."""
    betas: tuple[_Decay, _Decay] = (0.9, 0.95)
    """AdamW moment decays."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW weight decay."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Clip the global gradient norm to this; null does not clip."""
    lr_schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant"
    """Learning-rate schedule within a task (transformers)."""
    warmup_steps: Natural = 0
    """Optimizer steps of warm-up at the start of each schedule."""
    reset_optimizer: bool | None = None
    """Start each task with a fresh optimizer; null: as the semantics say (corrected resets, official keeps)."""
    max_prompt_tokens: Positive = 512
    """Longer prompts are cut on the left."""
    max_answer_tokens: Positive = 64
    """Longest answer, EOS included; also the most tokens that evaluation generates."""
    pad_to_multiple_of: int = Field(8, ge=1, le=1024)
    """Batches are padded on the left to a multiple of this length."""

    @model_validator(mode="after")
    def _options_have_a_reader(self) -> Self:
        if self.optimizer == "adamw" and self.optimizer_options:
            raise ValueError(
                "optimizer_options are not read by adamw; set betas and weight_decay, or another optimizer"
            )
        default = type(self).model_fields
        own = [name for name in ("betas", "weight_decay") if getattr(self, name) != default[name].default]
        if self.optimizer != "adamw" and own:
            raise ValueError(f"{own[0]} is read by adamw alone; give {self.optimizer} its own in optimizer_options")
        return self

    @model_validator(mode="after")
    def _decay_shrinks(self) -> Self:
        factor = self.learning_rate * self.weight_decay
        if factor >= 2.0:
            raise ValueError(
                f"weight_decay x learning_rate is {factor:g}, and AdamW multiplies every weight by 1 minus that at "
                "each step, which makes it grow; lower weight_decay"
            )
        return self

    def epochs_of(self, index: int) -> int:
        """Passes over the train split of task `index`."""
        return self.epochs if isinstance(self.epochs, int) else self.epochs[index]
