"""Which settings are searched, how far each of them is tried, and what the result is worth."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from seekr_tune.config.section import Count, Direction, Fact, OptionValue, PluginName, Section, Seed

SamplerName = Literal["tpe", "gp", "nsgaii", "nsgaiii", "qmc", "random", "grid", "cmaes"]
StoppingRule = Literal["none", "median", "halving"]
Order = tuple[str, ...]
_MOST_REPLICATES = 10_000
_MAY_CHANGE = Fact(resumable=True)


class PruningConfig(Section):
    """When a trial is stopped after a task. Trials are compared after the same number of tasks only."""

    rule: StoppingRule | PluginName = "none"
    """`median`: worse than the median of the trials that came as far; `halving`: not among their best share. Or a
    pruner of Optuna's or your own: `optuna.pruners:PercentilePruner`, `./mine.py:Mine`."""
    options: dict[str, OptionValue] = Field(default_factory=dict)
    """What a pruner of Optuna's or your own is made with; `median` and `halving` have none."""
    grace_tasks: Count = 2
    """Tasks before the first comparison. Replay cannot change what the first task leaves."""
    startup_trials: Count = 4
    """Trials that must have come as far before any is stopped there."""
    reduction_factor: Annotated[int, Field(strict=True, ge=2, le=10**9)] = 3
    """`halving`: the best 1/n go on, compared after grace_tasks, n x grace_tasks, n^2 x grace_tasks, ... tasks."""


class RacingConfig(Section):
    """When a configuration gets no further replicates. Compared after the same number of replicates only."""

    rule: StoppingRule = "median"
    """As for pruning, on the mean over the replicates that both have."""
    startup_trials: Count = 4
    """Configurations that must have had as many replicates before any is stopped there."""
    reduction_factor: Annotated[int, Field(strict=True, ge=2, le=10**9)] = 3
    """`halving`: the best 1/n get their next replicate."""


class ReplicatesConfig(Section):
    """Runs of each configuration, one for each order, seed and memory draw; its objectives are their means."""

    orders: tuple[Order, ...] = ()
    """Learning orders; none: that of `stream.tasks`. Where there are some, `stream.tasks` counts only if listed."""
    seeds: tuple[Seed, ...] = ()
    """Seeds; none: that of the experiment."""
    memory_draws: Count = 1
    """Random memories for each order and seed."""
    pairs: Annotated[Count | None, Field(le=_MOST_REPLICATES)] = None
    """In place of the others: so many runs, each with a random order and a seed of its own, the same for every
    configuration, and the first ones of a larger number. Intervals over them speak of new orders and seeds."""

    @property
    def count(self) -> int:
        """Runs of each configuration."""
        return self.pairs or max(1, len(self.orders)) * max(1, len(self.seeds)) * self.memory_draws

    @model_validator(mode="after")
    def _pairs_stand_alone(self) -> Self:
        if self.pairs is not None and (self.orders or self.seeds or self.memory_draws > 1):
            raise ValueError("pairs draws orders and seeds itself; drop orders, seeds and memory_draws, or pairs")
        return self


class FinalConfig(Section):
    """What `seekr-tune finalize` scores on the test split."""

    select: Literal["best", "pareto"] = "best"
    """`best`: the best configurations in `by`; `pareto`: all that none beats in every objective."""
    count: Count = 1
    """`best`: how many (for each value of `for_each`)."""
    by: str | None = None
    """`best`: objective that decides; null: the first one."""
    for_each: tuple[str, ...] = ()
    """Config paths: choose among the configurations that agree in them; [method.name]: the best of each method."""
    orders: tuple[Order, ...] = ()
    """Learning orders of the final runs: needed by `held_out_orders`, which must not have tuned on them."""
    seeds: tuple[Seed, ...] = ()
    """Seeds of the final runs; none: those of the replicates."""
    memory_draws: Count = 1
    """Random memories for each order and seed."""
    pairs: Annotated[Count | None, Field(le=_MOST_REPLICATES)] = None
    """In place of seeds, memory draws and orders: so many runs, each with an order and a seed of its own that was not
    tuned on; null: as many as the replicates, if these are pairs and nothing else is said here."""

    @property
    def count_of_runs(self) -> int:
        """Runs of each finalist, as far as it is said here."""
        return self.pairs or max(1, len(self.orders)) * max(1, len(self.seeds)) * self.memory_draws

    @model_validator(mode="after")
    def _pairs_stand_alone(self) -> Self:
        if self.pairs is not None and (self.orders or self.seeds or self.memory_draws > 1):
            raise ValueError("pairs draws orders and seeds itself; drop orders, seeds and memory_draws, or pairs")
        return self


class StudyConfig(Section):
    """Which settings are searched, and how they are compared."""

    space: Annotated[str | None, _MAY_CHANGE] = None
    """Search-space file, relative to the experiment file."""
    trials: Annotated[int, Field(gt=0, le=1_000_000), _MAY_CHANGE] = 10
    """Trials in total."""
    sampler: SamplerName | PluginName = "tpe"
    """Optuna sampler, or one of your own: `./mine.py:Mine`."""
    sampler_options: dict[str, OptionValue] = Field(default_factory=dict)
    """Options of the sampler, named as Optuna names them."""
    objectives: dict[str, Direction] = Field(default={"op": "maximize"}, min_length=1)
    """Ledger columns to optimise, each with its direction; several make a Pareto search. Also functions of your own
    from the record of a run to a number: `{./mine.py:worst_task: maximize}`."""
    sample_range: Annotated[tuple[PositiveFloat, PositiveFloat] | None, _MAY_CHANGE] = None
    """Lowest and highest number of distinct replayed samples that the hypervolume covers; null: those of the finished
    configurations, which differ from study to study."""
    bounds: tuple[Literal["seqft", "joint"], ...] = ("seqft", "joint")
    """Reference runs beside the trials, for each order and seed: no replay, and all tasks at once; they give the
    normalised gain."""
    replicates: ReplicatesConfig = ReplicatesConfig()
    """Runs of each configuration."""
    pruning: PruningConfig = PruningConfig()
    """Stops hopeless trials after a task."""
    racing: RacingConfig = RacingConfig()
    """Spares hopeless configurations their later replicates."""
    target: Annotated[Literal["these_orders", "new_orders"], _MAY_CHANGE] = "these_orders"
    """What means, intervals and tests are to hold beyond: new seeds and memory draws in the orders that are run, or new
    orders, too (docs/metrics.md)."""
    protocol: Literal["full", "prefix", "held_out_orders"] = "full"
    """`full`: tune on the whole stream; `prefix`: on its first tasks, which are never scored later; `held_out_orders`:
    on some orders, and report others."""
    prefix_tasks: Annotated[int, Field(strict=True, ge=3, le=10**9)] | None = None
    """`prefix`: how many tasks."""
    final: Annotated[FinalConfig, _MAY_CHANGE] = FinalConfig()
    """Which configurations are scored on the test split, and where."""
    share_first_stage: Annotated[bool, _MAY_CHANGE] = True
    """Train the first task once for all runs that cannot differ in it."""
    cache: Annotated[str | None, _MAY_CHANGE] = None
    """Directory of first tasks and bounds that studies share; null: `.cache` beside the study's directory."""
    disk_gigabytes: Annotated[Annotated[float, Field(gt=0.0, le=1e9)] | None, _MAY_CHANGE] = None
    """Most that the study may keep on disk; checkpoints that nobody needs go first. Null: no limit."""
    max_concurrent: Annotated[Annotated[int, Field(gt=0, le=10_000)] | None, _MAY_CHANGE] = None
    """Trials at the same time; null: as many as the machine's resources allow."""

    @model_validator(mode="after")
    def _protocol_is_complete(self) -> Self:
        if self.protocol == "prefix" and self.prefix_tasks is None:
            raise ValueError("protocol 'prefix' needs prefix_tasks: the number of tasks to tune on, 3 or more")
        if self.protocol != "prefix" and self.prefix_tasks is not None:
            raise ValueError(
                f"prefix_tasks is of protocol 'prefix', but protocol is {self.protocol!r}; drop one of them"
            )
        if self.protocol == "held_out_orders" and not (self.final.orders or self.final.pairs):
            raise ValueError("protocol 'held_out_orders' needs final.orders: the orders that are not tuned on")
        if self.protocol != "held_out_orders" and self.final.orders:
            raise ValueError(
                f"final.orders is of protocol 'held_out_orders', but protocol is {self.protocol!r}; drop one of them"
            )
        return self

    @model_validator(mode="after")
    def _sample_range_rises(self) -> Self:
        if self.sample_range is not None and not self.sample_range[0] < self.sample_range[1]:
            low, high = self.sample_range
            raise ValueError(f"sample_range must have lowest < highest, but is [{low:g}, {high:g}]; swap or widen it")
        return self

    @model_validator(mode="after")
    def _what_decides_is_an_objective(self) -> Self:
        if self.final.by is not None and self.final.by not in self.objectives:
            raise ValueError(
                f"final.by is {self.final.by!r}, which is not an objective; give one of {', '.join(self.objectives)}"
            )
        return self

    @model_validator(mode="after")
    def _replicates_can_be_run(self) -> Self:
        for name, runs in (("replicates", self.replicates), ("final", self.final)):
            count = runs.count if isinstance(runs, ReplicatesConfig) else runs.count_of_runs
            if count > _MOST_REPLICATES:
                raise ValueError(
                    f"{name} asks for {count} runs of each configuration (orders x seeds x memory_draws), above "
                    f"{_MOST_REPLICATES}; lower {name}.memory_draws, or list fewer orders or seeds"
                )
        return self

    @model_validator(mode="after")
    def _replicates_differ(self) -> Self:
        for name, values in (
            ("replicates.orders", self.replicates.orders),
            ("replicates.seeds", self.replicates.seeds),
            ("final.orders", self.final.orders),
            ("final.seeds", self.final.seeds),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} lists a value twice; drop one of them")
        held_out = set(self.final.orders) & set(self.replicates.orders)
        if held_out:
            raise ValueError(
                f"final.orders and replicates.orders share {list(held_out.pop())}; held-out orders must not be tuned on"
            )
        return self
