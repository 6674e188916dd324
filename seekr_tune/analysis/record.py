"""The result of one run, as typed rows: what a trial writes and the analysis reads.

A trial rewrites its `result.json` (one `TrialRecord`), the heads beside it (`result.heads.parquet`) and its
`steps.jsonl` after every finished task. Each is replaced as a whole, so a reader sees the old file or the new one,
never half of one. Heads and steps are many: whoever needs them reads them, of one run at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, FiniteFloat, JsonValue, ValidationError, field_validator, model_validator

from seekr_tune.analysis.column_file import read_columns, table_of, write_columns
from seekr_tune.analysis.columns import Meaning, columns_of
from seekr_tune.analysis.seal import sealed, sealed_line, unsealed, unsealed_line
from seekr_tune.config import Section
from seekr_tune.config.facts import renamed
from seekr_tune.documents import MAX_GROWN_BYTES, parse_json
from seekr_tune.errors import DocumentError, StudyError
from seekr_tune.files import read_bytes, write_atomically

SCHEMA_VERSION = 3
"""Version of `TrialRecord` and of the ledger's tables; raised when a column changes its meaning.

3: `distinct_replayed_samples` counts the samples that were replayed; before, it was what `stored_samples` is.
"""

READABLE_VERSIONS = (2, SCHEMA_VERSION)
"""Versions that are read: what changed its meaning is worked out anew, or null."""

Scores = NDArray[np.float64]
ScoredSplit = Literal["eval", "test"]
Role = Literal["trial", "bound", "run"]
Status = Literal["running", "finished", "pruned", "failed"]


class Row(Section):
    """A frozen row that survives JSON unchanged; a diverged run's nan and inf are written as strings."""

    model_config = ConfigDict(ser_json_inf_nan="strings", allow_inf_nan=True)


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
    sensitivity: float
    """How much the task depends on the head, as its method measures it; of SEEKR its share of the layer's."""
    forgettability: float
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


class TrialRecord(Row):
    """Everything that one run tells the analysis, except its heads and its steps."""

    schema_version: int = SCHEMA_VERSION
    """Version of this layout."""
    trial: str
    """Key of the run; of a configuration, that of its first run. It names the directory under trials/."""
    role: Role
    """`trial`: proposed by the search; `bound`: a reference beside it; `run`: stands alone. Bounds are not ranked."""
    configuration: str | None = None
    """Key of the trial or bound that it is a replicate of; null for a run that stands alone. It joins replicates."""
    replicate: int = Field(0, ge=0)
    """Which run of its configuration, from 0: one for each order, seed and memory draw. In a ranking it is 0."""
    status: Status
    """How far it came: finished, running, pruned (stopped after a task, may be revived) or failed. Only finished
    configurations are ranked: those whose replicates all are; one that gets no further replicates counts as pruned."""
    accepted_changes: int = Field(0, ge=0)
    """How often data or model had changed, and that was accepted (`--accept-change`), when the run was last begun or
    taken up. Runs with different numbers saw different data or models: compare them among themselves."""
    revived: bool = False
    """Whether it was pruned once and then taken up again; it is not pruned any more."""
    method: str
    """`method.name` of the config. What each one does is in docs/method.md."""
    semantics: str
    """`method.semantics` of the config, official or corrected. What they differ in is in docs/method.md."""
    config: dict[str, JsonValue]
    """The resolved experiment, nested, as `Config.model_dump(mode="json")` gives it. In a ledger it is JSON, and
    `config.<path>` has each field by itself."""
    params: dict[str, JsonValue] = Field(default_factory=dict)
    """What the search chose, by config path. In a ledger it is JSON."""
    tasks: tuple[str, ...]
    """Tasks in learning order. In a ranking those of the first replicate; others may have other orders."""
    scores: tuple[ScoreCell, ...] = ()
    """The score matrix, without the cells that were not evaluated."""
    prospects: tuple[ProspectRow, ...] = ()
    """What data and model allow of each task and split; empty where an earlier version ran it."""
    heads: tuple[HeadRow, ...] = ()
    """Head importance after each task, in the process that learns, and in files of version 0.2.0; elsewhere empty, and
    `read_heads` has them."""
    heads_sha256: str | None = None
    """Of the file of its heads; null for methods that select none."""
    replay: tuple[ReplayRow, ...] = ()
    """Cost of replay, one row a finished task."""
    timing: tuple[TimingRow, ...] = ()
    """Time and memory, one row a finished stage."""
    tasks_done: Annotated[int, Meaning(unit="tasks", better="higher", reads=("result.json",))] = Field(0, ge=0)
    """Tasks that are finished. It says how far the run came."""
    wall_seconds: Annotated[float, Meaning(unit="s", better="lower", reads=("result.json",), heading="sec")] = Field(
        0.0, ge=0
    )
    """Time that the run took, summed over resumes. It includes evaluation. Beware: spared what shared_seconds says;
    runs side by side slow each other down."""
    objectives: dict[str, tuple[FiniteFloat | None, ...]] = Field(default_factory=dict, exclude_if=lambda own: not own)
    """Objectives of the user's own, by name: the value after each finished task; null where there is none. In a ledger
    each has a column with its last value."""
    error: str | None = None
    """Why it failed, in one line. The traceback is in the run's error.txt."""
    optuna_number: int | None = None
    """Number of the Optuna trial. It is its name in optuna-dashboard."""
    ray_trial_id: str | None = None
    """Id of the Ray Tune trial. It is its name in Ray's logs."""
    num_layers: int | None = None
    """Layers of the model; null until it was loaded. `method.seekr.layer_ratio` is a share of them."""
    num_heads: int | None = None
    """Attention heads of each layer; null until the model was loaded. Times num_layers: what head_budget is of."""
    code_version: str
    """Version of this package that ran the trial. One study should have one."""

    @property
    def configuration_key(self) -> str:
        """Key of the configuration that it is a run of; its own where it stands alone."""
        return self.configuration or self.trial

    @field_validator("config")
    @classmethod
    def _with_present_paths(cls, config: dict[str, JsonValue]) -> dict[str, JsonValue]:
        return renamed(config, "config")

    @model_validator(mode="after")
    def _indices_name_tasks(self) -> Self:
        count = len(self.tasks)
        if self.tasks_done > count:
            raise ValueError(f"tasks_done is {self.tasks_done}, but the stream has {count} tasks")
        for cell in self.scores:
            if cell.trained_index >= count or cell.evaluated_index >= count:
                raise ValueError(f"score cell ({cell.trained_index}, {cell.evaluated_index}) is outside {count} tasks")
        for row in self.prospects:
            if row.task_index >= count:
                raise ValueError(f"prospect of task {row.task_index} is outside {count} tasks")
        return self

    def to_json(self) -> str:
        """The record as one JSON object; `from_json` gives an equal record."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes, origin: str = "result", *, heads: bool = True) -> TrialRecord:
        """Read what `to_json` or `write_record` wrote.

        Args:
            text: what was written.
            origin: names it in errors.
            heads: with the heads that stand in it.

        Raises:
            StudyError: not a record, not as it was written, or one of another schema version.
        """
        text = unsealed(text.encode() if isinstance(text, str) else text, origin)
        try:
            values = parse_json(text)
            version = _Versioned.model_validate(values).schema_version
            if version not in READABLE_VERSIONS:
                raise StudyError(
                    f"{origin}: has schema version {version}, but this package reads {readable_versions()}; "
                    "use the package version that wrote it, or run the trial again"
                )
            left_out = set() if heads else {"heads"}
            known = {name: value for name, value in values.items() if name not in left_out}
            return cls.model_validate(known | {"schema_version": SCHEMA_VERSION})
        except ValidationError as error:
            raise StudyError(f"{origin}: {_one_line(error)}; restore the file or run the trial again") from None
        except DocumentError as error:
            raise StudyError(f"{origin}: {error.reason}; restore the file or run the trial again") from None


def readable_versions() -> str:
    """The versions that are read, in words."""
    return f"versions {' and '.join(map(str, READABLE_VERSIONS))}"


class _Versioned(Section):
    """Reads the version alone, so that another version is named before its fields are refused."""

    model_config = ConfigDict(extra="ignore")
    schema_version: int


def score_matrix(record: TrialRecord, split: ScoredSplit) -> Scores:
    """Scores in percent, `[T, T]`: row = after training that task, column = evaluated task, nan = not evaluated."""
    return _arrays(record, split)[0]


def initial_scores(record: TrialRecord, split: ScoredSplit) -> Scores:
    """Scores before any training in percent, `[T]`; nan = not evaluated."""
    return _arrays(record, split)[1]


def score_arrays(cells: Iterable[tuple[int, int, float]], num_tasks: int) -> tuple[Scores, Scores]:
    """Score matrix, `[T, T]`, and scores before any training, `[T]`, in percent; nan = not evaluated.

    Args:
        cells: index of the task learned last (-1: none), index of the evaluated one, score.
        num_tasks: T.
    """
    arrays = np.full((num_tasks + 1, num_tasks), np.nan)  # the last row, which index -1 means, is before any training
    for trained, evaluated, score in cells:
        arrays[trained, evaluated] = score
    return arrays[:-1], arrays[-1]


def _arrays(record: TrialRecord, split: ScoredSplit) -> tuple[Scores, Scores]:
    cells = [(cell.trained_index, cell.evaluated_index, cell.score) for cell in record.scores if cell.split == split]
    return score_arrays(cells, len(record.tasks))


def tuning_split(record: TrialRecord) -> ScoredSplit | None:
    """The split that trials are compared on: `eval` if it was scored, else `test`; None without any score."""
    scored = {cell.split for cell in record.scores}
    if "eval" in scored:
        return "eval"
    return "test" if scored else None


def score_cells(
    tasks: Sequence[str],
    scores: Mapping[str, Scores],
    initial: Mapping[str, Scores],
    errors: Mapping[str, Scores] | None = None,
) -> tuple[ScoreCell, ...]:
    """The cells of score matrices; the inverse of `score_matrix` and `initial_scores`.

    Args:
        tasks: T task names in learning order.
        scores: by split, `[T, T]` in percent, nan where nothing was evaluated.
        initial: by split, `[T]` in percent before any training, nan where nothing was evaluated.
        errors: by split, `[T, T, 2]` in points: `error` and `margin_error`, nan where they are not known.
    """
    cells: list[ScoreCell] = []
    for split in sorted({*scores, *initial}):
        if split in initial:
            cells.extend(_row_cells(tasks, split, -1, initial[split]))
        for index, row in enumerate(scores.get(split, ())):
            known = errors[split][index] if errors and split in errors else None
            cells.extend(_row_cells(tasks, split, index, row, known))
    return tuple(cells)


def _row_cells(
    tasks: Sequence[str], split: str, trained: int, row: Scores, errors: Scores | None = None
) -> Iterator[ScoreCell]:
    for evaluated, score in enumerate(row):
        if not np.isnan(score):
            error, margin = (None, None) if errors is None else (_known(value) for value in errors[evaluated])
            cell = {
                "trained": tasks[trained] if trained >= 0 else "",
                "evaluated": tasks[evaluated],
                "trained_index": trained,
                "evaluated_index": evaluated,
                "split": split,
                "score": float(score),
                "error": error,
                "margin_error": margin,
            }
            yield ScoreCell.model_validate(cell)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def write_record(path: Path, record: TrialRecord) -> TrialRecord:
    """Replace `path` by the record as JSON with its checksum, atomically; heads that it has go into their file first.

    Heads of a record that was read stay as they lie there.

    Returns:
        The record as `read_record` reads it.
    """
    if record.heads:
        digest = write_columns(heads_path(path), table_of(record.heads, columns_of(HeadRow)))
        record = record.model_copy(update={"heads": (), "heads_sha256": digest})
    write_atomically(path, sealed(record.to_json().encode()))
    return record


def read_record(path: Path, *, heads: bool = True) -> TrialRecord:
    """The record that a trial wrote.

    Args:
        path: of the record.
        heads: with those that version 0.2.0 wrote into it: they are more than all the rest.

    Raises:
        StudyError: the file is missing, damaged, or of another schema version.
    """
    return TrialRecord.from_json(read_bytes(path), str(path), heads=heads)


def heads_path(path: Path) -> Path:
    """Where the heads of the record at `path` are."""
    return path.with_suffix(".heads.parquet")


def read_heads(path: Path) -> pa.Table:
    """The heads of the record at `path`, with the fields of `HeadRow` as columns.

    The record vouches for its heads, and is written after them: of a run that has not ended well they may be newer than
    it says, and are left out until it is written.

    Raises:
        StudyError: the record or its heads are missing or damaged.
    """
    record, columns = read_record(path), columns_of(HeadRow)
    if record.heads or record.heads_sha256 is None:
        return table_of(record.heads, columns)
    try:
        return read_columns(heads_path(path), record.heads_sha256, columns)
    except StudyError:
        if record.status in ("finished", "pruned"):
            raise
        return table_of((), columns)


def write_steps(path: Path, steps: Sequence[StepRow]) -> None:
    """Replace `path` by the steps of all finished tasks, one JSON object a line, atomically."""
    write_atomically(path, b"".join(map(step_line, steps)))


def step_line(step: StepRow) -> bytes:
    """A step as a line of its file, with a checksum."""
    return sealed_line(step.model_dump_json().encode()) + b"\n"


def step_of(line: bytes) -> StepRow:
    """The step of a line, without its end.

    Raises:
        ValueError: in one line, why it is none.
    """
    try:
        return StepRow.model_validate(parse_json(unsealed_line(line)))
    except ValidationError as error:
        raise ValueError(_one_line(error)) from None
    except DocumentError as error:
        raise ValueError(error.reason) from None


def read_steps(path: Path) -> tuple[StepRow, ...]:
    """The steps that a trial wrote.

    Raises:
        StudyError: the file is missing, or a line of it is damaged.
    """
    steps = []
    for number, line in enumerate(read_bytes(path, MAX_GROWN_BYTES).splitlines(), start=1):
        try:
            steps.append(step_of(line))
        except ValueError as error:
            raise StudyError(f"{path}, line {number}: {error}; restore the file or run the trial again") from None
    return tuple(steps)


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return " ".join((f"{where}: {message}" if where else message).split())[:300]  # a key may be anything at all
