"""What a configuration means for its model and its data: budgets in heads, layers and samples.

Two configurations that mean the same give the same results, so only one of them is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from seekr_tune.config import Config, ModelConfig
from seekr_tune.config.facts import fact_at, former_paths, is_learned, is_read
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import flatten, with_values
from seekr_tune.study.search.constraints import Constraint


@dataclass(frozen=True)
class Resolution:
    """What one configuration means.

    Attributes:
        settings: what is read, by config path; budgets are left out.
        heads: heads distilled in total; None for a method that distils none, or an unknown model.
        layers: layers that may hold some of them.
        stored: samples kept of each task; None for a method without replay.
    """

    settings: Mapping[str, Any]
    heads: int | None
    layers: int | None
    stored: tuple[int, ...] | None

    @cached_property
    def key(self) -> str:
        """Equal for configurations that mean the same."""
        return json.dumps([self.settings, self.heads, self.layers, self.stored], sort_keys=True)

    @property
    def quantities(self) -> dict[str, Any]:
        """What constraints compare, config paths included."""
        stored = None if self.stored is None else sum(self.stored)
        return {**self.settings, "heads": self.heads, "layers": self.layers, "stored_samples": stored}


class Resolver:
    """Resolves configurations of one experiment; its data and its model's shape are read once, when needed.

    Args:
        config: the experiment, as the first replicate of a trial sees it.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._shapes: dict[str, tuple[int, int] | None] = {}

    def resolve(self, values: Mapping[str, Any]) -> Resolution:
        """What the experiment means with these values.

        Raises:
            ConfigError: the values do not go together, or the model lacks such a budget.
        """
        config = with_values(self._config, values, origin="search space")
        flat, method = flatten(config), config.method
        read = {path: value for path, value in flat.items() if is_learned(path) and is_read(path, method.label)}
        counted = {path: read.pop(path) for path in list(read) if fact_at(path).resolved}
        stored = self._stored(config) if "method.memory.percent" in counted else None
        heads = layers = None
        if "method.seekr.head_budget" in counted:
            heads, layers = self._budgets(config)
            if heads is None:  # a model whose shape is not known: the budgets as they are written
                read |= {path: value for path, value in counted.items() if path.startswith("method.seekr.")}
        return Resolution(read, heads, layers, stored)

    def quantities(self, values: Mapping[str, Any], constraints: Sequence[Constraint] = ()) -> dict[str, Any]:
        """What constraints compare; the values themselves count, too.

        Args:
            values: by config path.
            constraints: what is dear is worked out only where one of them names it.

        Raises:
            ConfigError: see `resolve`.
        """
        config = with_values(self._config, values, origin="search space")
        read = {path: value for path, value in flatten(config).items() if is_read(path, config.method.label)}
        former = {path: next((read[one] for one in now if one in read), None) for path, now in former_paths().items()}
        found = {**former, **read, **self.resolve(values).quantities}
        if any("distinct_replayed_samples" in (one.left, one.right) for one in constraints):
            found["distinct_replayed_samples"] = self._replayed(config)
        return found

    def _replayed(self, config: Config) -> int | None:
        """Samples that will be replayed; None for a method without replay."""
        from seekr_tune.loop.schedule import replayed_samples

        if not is_read("method.memory.percent", config.method.label):
            return None
        return replayed_samples(config, self._train_sizes(config))

    def _stored(self, config: Config) -> tuple[int, ...]:
        from seekr_tune.loop.schedule import stored_samples
        from seekr_tune.methods.semantics import SEMANTICS

        semantics = SEMANTICS[config.method.semantics]
        return tuple(
            stored_samples(size, config.method.memory.percent, semantics) for size in self._train_sizes(config)
        )

    def _train_sizes(self, config: Config) -> tuple[int, ...]:
        from seekr_tune.data.sources import load_stream

        key = json.dumps([config.stream.model_dump(mode="json"), config.seed])
        if key not in self._sizes:
            self._sizes[key] = tuple(len(task.train) for task in load_stream(config, ("train",)))
        return self._sizes[key]

    def _budgets(self, config: Config) -> tuple[int | None, int | None]:
        from seekr_tune.methods.seekr.selection import resolve_budgets

        shape = self._shape(config.model)
        if shape is None:
            return None, None
        layers, heads = shape
        options = config.method.seekr
        if options.selection == "all":
            return layers * heads, layers
        budgets = resolve_budgets(options.head_budget, options.layer_ratio, layers, heads)
        return budgets.num_heads, budgets.num_layers

    def _shape(self, model: ModelConfig) -> tuple[int, int] | None:
        from seekr_tune.models.loading import model_shape, read_model_config

        path = str(model.path)
        if path not in self._shapes:
            found = None if model.path is None else read_model_config(model, fetch=True)
            self._shapes[path] = None if found is None else model_shape(found)
        return self._shapes[path]


def refusal(resolver: Resolver, constraints: Sequence[Constraint], values: Mapping[str, Any]) -> str | None:
    """Why values cannot be a configuration, in a few words; None if they can."""
    try:
        quantities = resolver.quantities(values, constraints)
    except ConfigError as error:
        return str(error)
    broken = next((constraint for constraint in constraints if not constraint.admits(quantities)), None)
    return None if broken is None else f"breaks the constraint {broken}"
