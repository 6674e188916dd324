"""Where a run is computed, and what of it is scored."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from seekr_tune.config.section import Count, PluginName, Positive, Section

TrackerName = Literal["tensorboard"]
_Amount = Annotated[float, Field(gt=0.0, le=1e9)]
_SECRET_IN_URI = re.compile(r"://[^?]*:[^?]*@|[?&][^=]*(key|secret|password|token|sas)[^=]*=", re.IGNORECASE)


class TrainingConfig(Section):
    """Where a trial runs, and how often it is saved; nothing here changes what is learned."""

    workers: Annotated[int, Field(ge=0, le=10_000)] = 0
    """0: in the process of the trial itself; N: a Ray TorchTrainer of N workers."""
    min_workers: Count | None = None
    """Elastic: go on with as few workers as this while others cannot be had; null: exactly `workers`."""
    strategy: Literal["single", "ddp", "fsdp"] | None = None
    """How workers share the model: `ddp` copies it to each, `fsdp` splits it over them (FSDP2). Null: `ddp` for two or
    more workers, else `single`."""
    resources_per_worker: dict[str, Annotated[float, Field(gt=0.0, le=1e9)]] = Field(
        default_factory=lambda: {"CPU": 1.0}
    )
    """Ray resources of one worker (of the trial's process where `workers` is 0), e.g. {CPU: 4, GPU: 1}."""
    placement: Literal["pack", "spread"] = "pack"
    """Workers on as few nodes of a cluster as possible, or over as many as possible."""
    max_failures: Annotated[int, Field(ge=0, le=10**9)] = 2
    """Times that lost workers are started again from the newest checkpoint before the trial fails."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    gradient_shares_every: Count | None = 100
    """Measure which share of the replay gradient each loss term has at one in so many replay steps, and once a task at
    least, by a pass for each term; null: never. Steps come out the same, bit for bit."""
    checkpoint_steps: Count | None = None
    """Save inside a task after this many steps, too; null: by time only."""
    checkpoint_seconds: PositiveFloat | None = 600.0
    """Save inside a task when this many seconds of steps have passed since the last time; null: never by time."""
    checkpoints_kept: Count = 2
    """Newest checkpoints that are kept, of finished tasks and (besides) of the task that is being learned."""
    trackers: tuple[TrackerName | PluginName, ...] = ("tensorboard",)
    """Who follows each run as it is learned: TensorBoard's curves, and trackers of your own: `./mine.py:Mine`."""
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
    batch_size: Positive = 32
    """Prompts generated at once."""

    @model_validator(mode="after")
    def _splits_differ(self) -> Self:
        if len(set(self.splits)) < len(self.splits):
            raise ValueError("splits lists a split twice; drop one of them")
        return self
