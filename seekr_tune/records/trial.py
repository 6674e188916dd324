"""All that one run tells the analysis, and the versions of it that are read."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Self

from pydantic import ConfigDict, Field, FiniteFloat, JsonValue, ValidationError, field_validator, model_validator

from seekr_tune.config import Section
from seekr_tune.config.facts import renamed
from seekr_tune.documents import is_modest, parse_json
from seekr_tune.errors import DocumentError, StudyError
from seekr_tune.records.meaning import Meaning
from seekr_tune.records.rows import HeadRow, ProspectRow, ReplayRow, Role, Row, ScoreCell, Status, TimingRow
from seekr_tune.records.seal import unsealed

SCHEMA_VERSION = 3
"""Version of `TrialRecord` and of the ledger's tables; raised when a column changes its meaning.

3: `distinct_replayed_samples` counts the samples that were replayed; before, it was what `stored_samples` is.
"""

_CURRENT = f'{{"schema_version":{SCHEMA_VERSION},'.encode()
READABLE_VERSIONS = (2, SCHEMA_VERSION)
"""Versions that are read: what changed its meaning is worked out anew, or null."""


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
        written = text.encode() if isinstance(text, str) else text
        text = unsealed(written, origin)
        # With its checksum it is as this package wrote it, and pydantic reads it in a fifth of the time.
        if text.startswith(_CURRENT) and len(text) < len(written) and is_modest(text.decode()):
            with suppress(ValidationError):  # what follows tells people what is wrong
                record = cls.model_validate_json(text)
                return record if heads or not record.heads else record.model_copy(update={"heads": ()})
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
            raise StudyError(f"{origin}: {one_line(error)}; restore the file or run the trial again") from None
        except DocumentError as error:
            raise StudyError(f"{origin}: {error.reason}; restore the file or run the trial again") from None


def readable_versions() -> str:
    """The versions that are read, in words."""
    return f"versions {' and '.join(map(str, READABLE_VERSIONS))}"


class _Versioned(Section):
    """Reads the version alone, so that another version is named before its fields are refused."""

    model_config = ConfigDict(extra="ignore")
    schema_version: int


def one_line(error: ValidationError) -> str:
    """The first of what pydantic found."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return " ".join((f"{where}: {message}" if where else message).split())[:300]  # a key may be anything at all
