"""What a study may look at, and when: the replicates it tunes on, and the runs that are reported.

A study scores the `eval` split only. `test` is opened by `seekr-tune finalize`, on the settings that `study.protocol`
names: the same stream (`full`), the tasks behind the ones that were tuned on (`prefix`, as Chaudhry et al. 2019 do), or
orders that were not tuned on (`held_out_orders`). Before that, `test` is read for one thing: to refuse a stream whose
test prompts occur in `train` or `eval`.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from math import factorial
from typing import Any

from seekr_tune.config import Config
from seekr_tune.data.sources import has_split, leak_key, load_stream
from seekr_tune.errors import ConfigError, DataError
from seekr_tune.experiment import require_path

Setting = Mapping[str, Any]
"""Config paths that make a replicate, with their values."""

_FEWEST_FINAL_TASKS = 2
"""One task cannot be forgotten: there would be nothing to report."""


def require_protocol(config: Config) -> tuple[str, ...]:
    """Refuse a study whose answer could not be trusted. Reads `test` where it is there, to look for leaks only.

    Returns:
        What is to be known, though nothing is wrong: that a test split is not there yet.

    Raises:
        ConfigError: settings that contradict the protocol.
        DataError: prompts of `test` occur in `train` or `eval`, or data cannot be read.
    """
    require_settings(config)
    require_no_leak(config)
    missing = without_test(config)
    return (f"no test split for {', '.join(missing)}: `seekr-tune finalize` will need it",) if missing else ()


def require_settings(config: Config) -> None:
    """Refuse settings that contradict the protocol; nothing is read."""
    if "test" in config.evaluation.splits:
        raise ConfigError(
            "evaluation.splits lists test, which a study must not see before its end; drop it: `seekr-tune finalize` "
            "scores the chosen configurations on test"
        )
    for path in config.study.final.for_each:
        require_path(path, "study.final.for_each")
    _require_prefix(config)
    _require_orders(config)
    _require_draws(config)


def without_test(config: Config) -> tuple[str, ...]:
    """Tasks that are to be reported and have no test split; nothing is read."""
    return tuple(task for task in final_tasks(config) if not has_split(config, task, "test"))


def require_no_leak(config: Config) -> None:
    """Refuse a stream in which a test prompt occurs in `train` or `eval`, be it of another task.

    Reads `test` where it is there, and is the only part of a study that does.
    """
    missing = without_test(config)
    sealed = tuple(task for task in final_tasks(config) if task not in missing)
    if not sealed:
        return
    seen: dict[str, str] = {}
    for task in load_stream(config, ("train", *config.evaluation.splits)):
        for split, examples in task.splits.items():
            for example in examples:
                seen.setdefault(leak_key(example.prompt), f"{split} of {task.name!r}")
    only_sealed = config.model_copy(update={"stream": config.stream.model_copy(update={"tasks": sealed})})
    for task in load_stream(only_sealed, ("test",)):
        prompts = [leak_key(example.prompt) for example in task.splits["test"]]
        leaked = [(row, seen[prompt]) for row, prompt in enumerate(prompts, start=1) if prompt in seen]
        if leaked:
            row, where = leaked[0]
            raise DataError(
                f"task {task.name!r}: {len(leaked)} of {len(prompts)} prompts of split 'test' also occur in another "
                f"split (first: row {row}, in {where}); remove them from one of the two"
            )


def tuned_tasks(config: Config) -> tuple[str, ...]:
    """The tasks that are tuned on, in the order of the experiment."""
    return config.stream.tasks[: config.study.prefix_tasks]


def final_tasks(config: Config) -> tuple[str, ...]:
    """The tasks that are reported, in the order of the experiment."""
    return config.stream.tasks[config.study.prefix_tasks or 0 :]


def replicates(config: Config) -> list[dict[str, Any]]:
    """The settings of a configuration's runs, in the order of racing: orders vary fastest, then seeds, then draws.

    One empty setting where each configuration is run once, as the experiment says.
    """
    asked = config.study.replicates
    if asked.pairs is not None:
        return _pairs(config, tuned_tasks(config), asked.pairs, "tuned")
    orders = asked.orders or (tuned_tasks(config),)
    settings = _settings(config, orders, asked.seeds or (config.seed,), asked.memory_draws)
    as_it_is = {"stream.tasks": list(config.stream.tasks), "seed": config.seed, "memory_draw": config.memory_draw}
    is_one = len(settings) == 1 and all(settings[0][path] == value for path, value in as_it_is.items())
    return [{}] if is_one else settings


def final_settings(config: Config) -> list[dict[str, Any]]:
    """The settings of a finalist's runs, in the order of `replicates`; only `test` is scored in them."""
    tuned, final = config.study.replicates, config.study.final
    says_nothing = not (final.orders or final.seeds) and final.memory_draws == 1
    pairs = final.pairs or (tuned.pairs if says_nothing else None)
    if pairs is not None:
        tasks = final_tasks(config) if config.study.protocol == "prefix" else config.stream.tasks
        held_out = tuned.orders if config.study.protocol == "held_out_orders" else ()
        drawn = _pairs(config, tasks, pairs, "final", held_out)
        return [{**setting, "evaluation.splits": ["test"]} for setting in drawn]
    if config.study.protocol == "held_out_orders":
        orders = final.orders
    elif config.study.protocol == "prefix":
        orders = (final_tasks(config),)
    else:
        orders = tuned.orders or (config.stream.tasks,)
    settings = _settings(config, orders, final.seeds or tuned.seeds or (config.seed,), final.memory_draws)
    return [{**setting, "evaluation.splits": ["test"]} for setting in settings]


def settings_of_bounds(settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """Those of them in which a bound differs: it has no memory, so one draw for each order and seed is enough."""
    first: dict[str, dict[str, Any]] = {}
    for setting in settings:
        first.setdefault(repr((setting.get("stream.tasks"), setting.get("seed"))), dict(setting))
    return list(first.values())


def _settings(
    config: Config, orders: Sequence[Sequence[str]], seeds: Sequence[int], memory_draws: int
) -> list[dict[str, Any]]:
    draws = range(config.memory_draw, config.memory_draw + memory_draws)
    return [
        {"stream.tasks": list(order), "seed": seed, "memory_draw": draw, **_epochs(config, order)}
        for draw, seed, order in product(draws, seeds, orders)
    ]


def _pairs(
    config: Config, tasks: Sequence[str], count: int, drawn_for: str, held_out: Collection[Sequence[str]] = ()
) -> list[dict[str, Any]]:
    """Settings with an order and a seed of their own, keyed by their number: more of them begin with the same ones.

    Args:
        drawn_for: what they are for; others are drawn for something else.
        held_out: orders that are not drawn.
    """
    settings = []
    for number in range(count):
        rng = random.Random(f"{config.seed}/{drawn_for}/{number}")
        order = rng.sample(tasks, len(tasks))
        while tuple(order) in held_out:
            order = rng.sample(tasks, len(tasks))
        setting = {"stream.tasks": order, "seed": rng.randrange(2**31), "memory_draw": config.memory_draw}
        settings.append({**setting, **_epochs(config, order)})
    return settings


def _epochs(config: Config, order: Sequence[str]) -> dict[str, Any]:
    """Epochs that are listed task by task follow their tasks."""
    if isinstance(config.recipe.epochs, int):
        return {}
    of_task = dict(zip(config.stream.tasks, config.recipe.epochs, strict=True))
    return {"recipe.epochs": [of_task[task] for task in order]}


def _require_prefix(config: Config) -> None:
    count, tasks = config.study.prefix_tasks, len(config.stream.tasks)
    if count is not None and tasks - count < _FEWEST_FINAL_TASKS:
        raise ConfigError(
            f"study.prefix_tasks is {count} of {tasks} tasks, which leaves fewer than {_FEWEST_FINAL_TASKS} to report; "
            "lower it (3 or more), or give more tasks"
        )


def _require_orders(config: Config) -> None:
    study = config.study
    held_out = study.replicates.orders if study.protocol == "held_out_orders" else ()
    if study.final.pairs is not None and len(held_out) >= factorial(len(config.stream.tasks)):
        raise ConfigError("study.final.pairs: study.replicates.orders tunes on every order there is; list fewer")
    for name, orders, tasks in (
        ("study.replicates.orders", study.replicates.orders, tuned_tasks(config)),
        ("study.final.orders", study.final.orders, config.stream.tasks),
    ):
        for order in orders:
            if sorted(order) != sorted(tasks):
                raise ConfigError(
                    f"{name}: {_listed(order)} is no order of the tasks {_listed(tasks)}; list each of them once"
                )
    if not study.replicates.orders and config.stream.tasks in study.final.orders:
        raise ConfigError(
            f"study.final.orders lists {_listed(config.stream.tasks)}, the order of stream.tasks, which is tuned on; "
            "drop it there, or give other study.replicates.orders"
        )


def _require_draws(config: Config) -> None:
    if config.method.semantics == "official" and config.study.final.memory_draws > 1:
        raise ConfigError(
            f"study.final.memory_draws is {config.study.final.memory_draws}, but method.semantics official knows one "
            "memory only; set it to 1"
        )


def _listed(tasks: Sequence[str]) -> str:
    return f"[{', '.join(tasks)}]"
