"""The result of one run as typed rows: one class for each table of the ledger; each field says what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, model_validator

from seekr_tune.config import Section
from seekr_tune.records.meaning import Meaning

ScoredSplit = Literal["eval", "test"]
Role = Literal["trial", "bound", "run"]
Status = Literal["running", "finished", "pruned", "failed"]


class Row(Section):
    """A frozen row that survives JSON unchanged; a diverged run's nan and inf are written as strings."""

    model_config = ConfigDict(ser_json_inf_nan="strings", allow_inf_nan=True, defer_build=True)


class ScoreCell(Row):
    """One entry of the score matrix."""

    trained: str
    """Task learned last when the score was taken; empty before any training."""
    evaluated: str
    """Task that was scored."""
    trained_index: int = Field(ge=-1)
    """Place of `trained` in the stream; -1 before any training."""
    evaluated_index: int = Field(ge=0)
    """Place of `evaluated` in the stream."""
    split: ScoredSplit
    """Split that was scored."""
    score: FiniteFloat
    """Score in percent."""
    error: FiniteFloat | None = Field(None, ge=0)
    """Standard error of the score over its samples, in points; null where an earlier version scored, or one sample."""
    margin_error: FiniteFloat | None = Field(None, ge=0)
    """The same of the difference to the best constant answer, sample by sample."""


class ProspectRow(Row):
    """What data and model allow of one split of one task, as it was found before anything was trained."""

    task: str
    """The task."""
    task_index: int = Field(ge=0)
    """Its place in the stream."""
    split: Literal["train", "eval", "test"]
    """The split; `train` has neither ceiling nor floor."""
    rows: int = Field(ge=0)
    """Samples of the split."""
    prompts_cut: float = Field(ge=0, le=1)
    """Share of the prompts that `recipe.max_prompt_tokens` cuts."""
    answers_cut: float = Field(ge=0, le=1)
    """Share of the answers that `recipe.max_answer_tokens` cuts."""
    unknown_tokens: float | None = Field(None, ge=0, le=1)
    """Share of the tokens that stand for what the vocabulary lacks; null where it has no token for that."""
    longest_prompt: int = Field(ge=0)
    """The `recipe.max_prompt_tokens` that cuts no prompt."""
    longest_answer: int = Field(ge=0)
    """The `recipe.max_answer_tokens` that cuts no answer."""
    ceiling: FiniteFloat | None = None
    """What the answers themselves score when they have been tokens, in percent: the best that a model can reach."""
    floor: FiniteFloat | None = None
    """What the best constant answer scores, in percent."""


class HeadRow(Row):
    """One attention head, as it was judged when a task ended."""

    task: str
    """Task that ended."""
    task_index: int = Field(ge=0)
    """Its place in the stream."""
    layer: int = Field(ge=0)
    """Layer of the head."""
    head: int = Field(ge=0)
    """Head within the layer."""
    sensitivity: float | None = None
    """How much the task depends on the head, if its method measures it; of SEEKR its share of the layer's."""
    forgettability: float | None = None
    """How much the head changed while the task was learned; of SEEKR the mean squared change of its attention rows."""
    importance: float
    """What the selection ranks; of SEEKR the running sum over tasks of sensitivity times forgettability."""
    selected: bool
    """Whether the method selected the head when the task ended; of SEEKR those that are distilled for its samples."""


_TERMS = ("cross_entropy", "logit_distillation", "attention_distillation")
EARLIER_TERMS: Mapping[str, Mapping[str, str]] = {
    "terms": {name: name for name in _TERMS},
    "weights": {"attention_weight": "attention_distillation"},
    "shares": {f"{name}_share": name for name in _TERMS},
}
"""By field: the fields that earlier versions had in its place, each with the term that it is of."""


class _TermRow(Row):
    """A row with numbers by the name of a loss term."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        """What an earlier version wrote, with its terms by name."""
        if not isinstance(values, dict) or values.keys() & {"terms", "shares"}:
            return values
        named = dict(values)
        for field, earlier in EARLIER_TERMS.items():
            own = {term: named.pop(name) for name, term in earlier.items() if name in named}
            if known := {term: value for term, value in own.items() if value is not None}:
                named[field] = known
        others = named.pop("other_terms", {})
        if others:
            named["terms"] = named.get("terms", {}) | others if isinstance(others, dict) else others
        return named


class ReplayRow(_TermRow):
    """What replay cost around one task."""

    task: str
    """The task."""
    task_index: int = Field(ge=0)
    """Its place in the stream."""
    stored_samples: int = Field(ge=0)
    """Distinct samples of this task that were kept in the replay memory."""
    presentations: int = Field(ge=0)
    """Samples of earlier tasks that were shown again while this task was trained, repeats counted."""
    replay_updates: int = Field(ge=0)
    """Optimizer steps on replayed samples while this task was trained."""
    tokens: int = Field(ge=0)
    """Tokens of those presentations, pads not counted."""
    bytes: int = Field(ge=0)
    """Memory that this task's samples take, teacher tensors included."""
    first_presentations: int | None = Field(None, ge=0)
    """Those of the presentations that showed a sample for the first time; null where version 2 did not count them."""
    state_bytes: Annotated[int | None, Meaning(unit="bytes")] = Field(None, ge=0)
    """All that was kept for old tasks when this one ended, besides the model: the memory, and what the method knows.
    Null where an earlier version did not count it."""
    shares: dict[str, float] = Field(default_factory=dict)
    """Share of each loss term, by its name, in the replay gradient while this task was trained; a mean over the steps
    in which it was measured; empty where it was not."""


class TimingRow(Row):
    """Where the time of one stage went (a task, or all tasks learned at once), and what it took."""

    task: str
    """The task; the last one, where all are learned at once."""
    task_index: int = Field(ge=0)
    """Its place in the stream."""
    new_seconds: float = Field(ge=0)
    """Training steps on new samples."""
    replay_seconds: float = Field(ge=0)
    """Training steps on replayed samples."""
    distillation_seconds: float = Field(ge=0)
    """Part of `replay_seconds`: teacher signals, attention rows and distillation terms, forward."""
    teacher_seconds: float = Field(ge=0)
    """Reading the model before and after the stage."""
    evaluation_seconds: float = Field(ge=0)
    """Generating and scoring."""
    checkpoint_seconds: float = Field(ge=0)
    """Time that training waited for checkpoints inside the stage."""
    tokens: int = Field(ge=0)
    """Tokens trained, new and replayed, pads not counted."""
    peak_memory_bytes: int | None = Field(None, ge=0)
    """Most bytes at once on the fullest worker: of device memory on a GPU, of resident memory on a CPU; null where the
    system cannot count a CPU's peak from the start of the task (anything but Linux)."""
    model_flops: float = Field(ge=0)
    """Operations of the forward and backward passes of those tokens, over all workers."""
    flops_utilisation: float | None = None
    """Share of what the devices could have done in the steps' time; null where their peak is not known."""
    shared_seconds: Annotated[float, Meaning(unit="s", heading="sec spared")] = Field(0.0, ge=0)
    """Time of training and scoring that the run was spared, because another run had done the same. With wall_seconds
    it is about what the run takes alone."""
    shared_step_seconds: float | None = Field(None, ge=0)
    """Its part that are training steps, which count in `new_seconds`, too; null: an earlier version did not say."""

    @property
    def step_seconds(self) -> float:
        """Training steps of both kinds."""
        return self.new_seconds + self.replay_seconds

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens in the time of the steps; None where it was not measured."""
        return self.tokens / self.step_seconds if self.step_seconds > 0 else None


class StepRow(_TermRow):
    """One training step."""

    task_index: int = Field(ge=0)
    """Place of the task in training; of the last task, where all are learned at once."""
    step: int = Field(ge=0)
    """Number of the step within its task, from 0."""
    kind: Literal["new", "replay"]
    """Whether the step saw samples of the new task or of the replay memory."""
    loss: float
    """The loss that was minimised."""
    terms: dict[str, float]
    """What the loss is made of: each term by its name, before its weight."""
    weights: dict[str, float] = Field(default_factory=dict)
    """What each term was multiplied by; earlier versions noted that of attention distillation only."""
    shares: dict[str, float] = Field(default_factory=dict)
    """Share of each term, weighted, in the gradient; empty where it was not measured
    (`training.gradient_shares_every`)."""
    grad_norm: float | None = None
    """Global gradient norm before clipping; null where gradients only accumulated."""
    learning_rate: float
    """Learning rate of the step."""
    samples: int = Field(ge=0)
    """Samples of the step, over all workers."""
    tokens: int = Field(ge=0)
    """Tokens of the step, over all workers, pads not counted."""
    seconds: float
    """Duration of the step in seconds."""
    distillation_seconds: float | None = None
    """Its part that prepared and computed distillation terms, forward; null on steps without them."""
    batch: tuple[int, ...] = ()
    """Indices of the samples, in the train samples of the stage or in the replay memory."""
    flops: float | None = None
    """Operations of the forward and backward passes, over all workers."""


class ErasedRow(Row):
    """A sample that was taken out of a study."""

    sample: str
    """Its id."""
    when: str
    """Date and time in UTC, ISO 8601."""
    why: str
    """`asked for`, or the sample that was asked for and has the same text."""
    checkpoints: int = Field(ge=0)
    """Checkpoints that held it."""
    files_read: int = Field(ge=0)
    """Files that were searched for it afterwards, without finding it."""
    bytes_read: int = Field(ge=0)
    """Their bytes."""
    code_version: str
    """Version of this package."""
