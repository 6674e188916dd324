"""Check an experiment without training: its search space, its data, its model and whether they fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seekr_tune.config import Config, Split
from seekr_tune.errors import ConfigError, DataError, ModelError
from seekr_tune.experiment import with_values
from seekr_tune.study.directory.units import bytes_text

if TYPE_CHECKING:  # commands that only read results need no torch
    from transformers import PretrainedConfig

    from seekr_tune.data.prospect import Constants, Prospect
    from seekr_tune.data.task import TaskStream
    from seekr_tune.loop.footprint import Footprint, ModelSize
    from seekr_tune.methods.sizes import SampleSize
    from seekr_tune.study.search.space import Space

_TO_BE_GIVEN = "{0} is still to be given: --set {0}={1}"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: the part of the experiment.
        text: what was found, in one line.
        checked: False where something could not be checked yet.
    """

    subject: str
    text: str
    checked: bool = True


def validate(config: Config, experiment: Path) -> tuple[Finding, ...]:
    """Check an experiment as far as its data and model are at hand.

    Args:
        config: the experiment.
        experiment: its file; the search space is found relative to it.

    Raises:
        UserError: the first thing that `run` or `sweep` would refuse.
    """
    space = _space_of(config, experiment)
    findings = [Finding("schema", f"{experiment}: every field is known and in range"), _space(config, space)]
    from seekr_tune.study.search.proposals import require_proposals

    with _naming(experiment):
        stream = _load_stream(config)
        constants = _constants(config, stream)
        findings += _stream(config, stream, constants)
        findings += _protocol(config, stream is not None)
        findings += _methods(config)
        findings += _own_code(config, space)
        model = _read_model(config)
        findings += _model(config, stream, model, constants)
        if space is not None and stream is not None and model is not None:
            require_proposals(config, space)
        findings += _storage(config)
        return (*findings, *_memory(config, stream, model))


def require_ready(config: Config, experiment: Path, search: bool) -> tuple[Config, tuple[str, ...]]:
    """Refuse at once what a run or a study would stumble over later; `test` stays closed unless it is scored.

    Args:
        config: the experiment.
        experiment: its file.
        search: whether its search space is needed.

    Returns:
        The experiment with absolute paths of its data and model (its trials run in processes that stand elsewhere, and
        it may be resumed from anywhere), and what to warn of once it begins.

    Raises:
        UserError: the first thing that is wrong.
    """
    from seekr_tune.analysis.worth_lines import data_warnings
    from seekr_tune.data.prospect import lost_line, unread_script
    from seekr_tune.data.sources import load_stream
    from seekr_tune.methods.registry import with_needs
    from seekr_tune.models.compatibility import check_parts, prospects_of
    from seekr_tune.models.loading import check_fit, num_positions, read_model_config
    from seekr_tune.study.runs.outcome import prospect_rows
    from seekr_tune.study.runs.trackers import maker_of
    from seekr_tune.study.search.objectives import require_objectives
    from seekr_tune.study.search.proposals import require_proposals
    from seekr_tune.study.search.protocol import require_protocol

    wanted = ["stream.root=DATA"] * config.stream.lacks_root + ["model.path=MODEL"] * _path_missing(config)
    if wanted:
        names = " and ".join(text.partition("=")[0] for text in wanted)
        raise ConfigError(f"{experiment}: {names} still to be given; add --set {' '.join(wanted)}")
    with _naming(experiment):
        require_objectives(config)
    space = _require_search(config, experiment) if search else None
    with _naming(experiment):
        if space is not None:
            require_protocol(config)
        stream = load_stream(config, ("train", *config.evaluation.splits))
        model = read_model_config(config.model, fetch=True)  # before anything is written: a bad name must leave nothing
        assert model is not None
        config = with_needs(config)
        for name in config.training.trackers:
            maker_of(config, name)
        check_fit(config, model)
        check_parts(config, model, stream)
        if space is not None:
            require_proposals(config, space)
        prospects = prospects_of(config, model, stream)
        _require_storage(config)
    lost = lost_line(prospects)
    rows = prospect_rows(config.stream.tasks, prospects)
    notes = (
        *filter(None, (*map(unread_script, stream), lost)),
        *data_warnings(rows, _limits(config), num_positions(model)),
    )
    paths = {
        "stream.root": config.stream.root,
        "model.path": config.model.path,
        "training.storage_path": config.training.storage_path,
    }
    given = {key: Path(path) for key, path in paths.items() if path is not None and path != "builtin"}
    return with_values(config, {key: str(path.absolute()) for key, path in given.items() if path.exists()}), notes


@contextmanager
def _naming(experiment: Path) -> Iterator[None]:
    """Let what is refused in this block name the experiment file that asked for it."""
    try:
        yield
    except (ConfigError, DataError, ModelError) as error:
        raise type(error)(f"{experiment}: {error}") from None


def _require_search(config: Config, experiment: Path) -> Space:
    """What a study refuses of its settings and its search space alone; nothing else is read."""
    from seekr_tune.study.search.judge import require_comparable
    from seekr_tune.study.search.protocol import require_settings
    from seekr_tune.study.search.samplers import require_sampler
    from seekr_tune.study.search.space import space_of

    space = space_of(config, experiment)
    with _naming(experiment):
        require_settings(config)
        require_comparable(config)
        require_sampler(config, space)
    return space


def _require_storage(config: Config) -> None:
    if config.training.storage_path is not None:
        from seekr_tune.store import Store

        Store.open(config.training.storage_path).require_writable()


def _storage(config: Config) -> Iterator[Finding]:
    if config.training.storage_path is not None:
        _require_storage(config)
        yield Finding("storage", f"{config.training.storage_path}: can be written and read from this machine")


def _space_of(config: Config, experiment: Path) -> Space | None:
    from seekr_tune.study.search.objectives import require_objectives

    with _naming(experiment):
        require_objectives(config)
    return None if config.study.space is None else _require_search(config, experiment)


def _space(config: Config, space: Space | None) -> Finding:
    if space is None:
        return Finding("space", "study.space is null: this experiment can be run, but not swept")
    limits = f"; keeps {', '.join(map(str, space.constraints))}" if space.constraints else ""
    return Finding("space", f"{config.study.space}: searches {', '.join(space.dimensions)}{limits}")


def _methods(config: Config) -> Iterator[Finding]:
    """Code of a user's own, imported here as it will be by the runs."""
    from seekr_tune.methods.registry import require_methods

    for name, (cls, options) in require_methods(config).items():
        if name in config.plugins:
            fields = ", ".join(f"method.{name}.{field}={value}" for field, value in options) or "no options"
            yield Finding("method", f"{name}: class {cls.__name__} of {config.plugins[name].origin}; {fields}")


def _own_code(config: Config, space: Space | None) -> Iterator[Finding]:
    """What else of a user's own an experiment names; what cannot be imported is refused."""
    from seekr_tune.loop.optimizer import require_optimizer
    from seekr_tune.models.converter import converter_of
    from seekr_tune.study.runs.trackers import maker_of
    from seekr_tune.study.search.samplers import require_sampler

    study, plugins, optimizer = config.study, config.plugins, config.recipe.optimizer
    kept = require_optimizer(config)
    converter_of(config)
    if config.model.converter is not None:
        yield Finding("converter", f"{config.model.converter}: {plugins[config.model.converter].origin}")
    if optimizer in plugins:
        beside = "" if kept.by_element else ", and tensors of other shapes"
        said = f"{plugins[optimizer].origin}; keeps the trained weights {kept.copies} times over{beside}"
        yield Finding("optimizer", f"{optimizer}: {said}")
    if space is not None and study.sampler in plugins:
        same = "proposes the same again where a study is resumed"
        found = same if require_sampler(config, space) else "proposes something else each time that it is asked"
        yield Finding("sampler", f"{study.sampler}: {plugins[study.sampler].origin}; {found}")
    if study.pruning.rule in plugins:
        yield Finding("pruner", f"{study.pruning.rule}: {plugins[study.pruning.rule].origin}")
    for name in study.objectives:
        if name in plugins:
            yield Finding("objective", f"{name}: {plugins[name].origin}; {study.objectives[name]}")
    for name in config.training.trackers:
        maker_of(config, name)
        if name in plugins:
            yield Finding("tracker", f"{name}: {plugins[name].origin}")


def _protocol(config: Config, has_data: bool) -> Iterator[Finding]:
    """What a study of this experiment tunes on, and what it will report."""
    if config.study.space is None:
        return
    from seekr_tune.study.search.protocol import final_settings, replicates, require_protocol, tuned_tasks

    if not has_data:
        yield Finding("protocol", f"{config.study.protocol}: not checked without the data", checked=False)
        return
    notes = require_protocol(config)
    runs, final = replicates(config), final_settings(config)
    tuned, reported = tuned_tasks(config), tuple(final[0]["stream.tasks"])
    yield Finding(
        "protocol",
        f"{config.study.protocol}: tunes on {_runs_text(runs, config)} of each configuration, {', '.join(tuned)}; "
        f"`finalize` scores test in {_runs_text(final, config)} of each finalist, {', '.join(reported)}",
    )
    for note in notes:
        yield Finding("protocol", note, checked=False)


def _runs_text(settings: Sequence[Mapping[str, Any]], config: Config) -> str:
    """How many runs, and in how many orders, seeds and memory draws."""
    if len(settings) == 1:
        return "one run"
    own = {"stream.tasks": config.stream.tasks, "seed": config.seed, "memory_draw": config.memory_draw}
    names = {"stream.tasks": "orders", "seed": "seeds", "memory_draw": "memory draws"}
    counts = {name: len({repr(setting.get(path, own[path])) for setting in settings}) for path, name in names.items()}
    several = ", ".join(f"{count} {name}" for name, count in counts.items() if count > 1)
    return f"{len(settings)} runs ({several})"


def _load_stream(config: Config) -> TaskStream | None:
    from seekr_tune.data.sources import load_stream

    if config.stream.lacks_root:
        return None
    splits: tuple[Split, ...] = ("train", *config.evaluation.splits)
    return load_stream(config, tuple(dict.fromkeys((*splits, *_sealed_test(config)))))


def _constants(config: Config, stream: TaskStream | None) -> Constants:
    """By task and scored split, the best constant answer."""
    from seekr_tune.data.baseline import constant_baseline

    splits = config.evaluation.splits
    return {(task.name, split): constant_baseline(task, split) for task in stream or () for split in splits}


def _stream(config: Config, stream: TaskStream | None, constants: Constants) -> Iterator[Finding]:
    from seekr_tune.data.prospect import unread_script
    from seekr_tune.data.sources import count_rows

    if stream is None:
        yield Finding("stream", _TO_BE_GIVEN.format("stream.root", "DATA"), checked=False)
        return
    rows = count_rows(stream)
    for task in stream:
        counts = ", ".join(f"{number} {split}" for split, number in rows[task.name].items())
        told = [
            f"; the best constant answer scores {constants[task.name, split].score:.1f} on {split}"
            for split in config.evaluation.splits
        ]
        yield Finding("stream", f"{task.name}: {counts}; {task.scorer.name}{''.join(told)}")
    for note in filter(None, map(unread_script, stream)):
        yield Finding("metric", note, checked=False)
    yield Finding("stream", "no scored prompt occurs in the train split of its task")


def _sealed_test(config: Config) -> tuple[Split, ...]:
    """`test` where every task has it: its prompts are compared with those of `train`; nothing is scored on it here."""
    from seekr_tune.data.sources import has_split

    return ("test",) if all(has_split(config, task, "test") for task in config.stream.tasks) else ()


def _read_model(config: Config) -> PretrainedConfig | None:
    from seekr_tune.models.loading import read_model_config

    return None if _path_missing(config) else read_model_config(config.model)


def _model(
    config: Config, stream: TaskStream | None, model: PretrainedConfig | None, constants: Constants
) -> Iterator[Finding]:
    from seekr_tune.models.compatibility import check_parts, prospects_of
    from seekr_tune.models.loading import check_fit, check_model, model_directory, model_shape, num_positions
    from seekr_tune.models.model_files import missing_parts

    if _path_missing(config):
        yield Finding("model", _TO_BE_GIVEN.format("model.path", "MODEL"), checked=False)
        return
    if model is None:
        yield Finding("model", f"{config.model.path}: a hub name; its weights and the budgets were not checked", False)
        return
    check_fit(config, model)
    layers, heads = model_shape(model)
    shape = f"{model.model_type}, {layers} layers of {heads} heads"
    yield Finding("model", f"{config.model.path}: {shape}; budgets and lengths fit the model")
    directory = model_directory(config.model)
    missing = missing_parts(directory) if directory else []
    if missing:
        yield Finding("model", f"{config.model.path}: holds no {' and no '.join(missing)}; a run needs both", False)
        return
    check_parts(config, model, stream)
    agreed = check_model(config.model)
    measured = (
        f"logits within {max(agreed.logits, agreed.generated):.0e}, rows {agreed.rows:.0e}, energies "
        f"{agreed.energies:.0e}"
    )
    yield Finding("model", f"{config.model.path}: the tap computes what transformers computes: {measured}")
    if stream is not None:
        found = prospects_of(config, model, stream, constants)
        yield from _prospects(config, found, num_positions(model))


def _prospects(config: Config, found: Sequence[Prospect], positions: int | None) -> Iterator[Finding]:
    """Task by task what data and model allow, and what lengths would."""
    from seekr_tune.analysis.worth import worths_of
    from seekr_tune.analysis.worth_lines import outlook, warnings
    from seekr_tune.data.prospect import lost_line
    from seekr_tune.study.runs.outcome import prospect_rows

    lost = lost_line(found)
    if lost is not None:
        yield Finding("ceiling", lost, checked=False)
    worths = worths_of(prospect_rows(config.stream.tasks, found), _limits(config))
    for worth in worths:
        yield Finding("lengths", outlook(worth), checked=not list(warnings([worth])))
    prompts, answers = _needed(found, 0.0)
    fewer_prompts, fewer_answers = _needed(found, _FEW)
    too_few = positions is not None and prompts + answers > positions
    room = "" if positions is None else f" (the model has {'only ' * too_few}{positions} positions for both)"
    limits = " and ".join(map(str, _limits(config)))
    yield Finding(
        "lengths",
        f"recipe.max_prompt_tokens={prompts} and recipe.max_answer_tokens={answers} cut nothing, {fewer_prompts} and "
        f"{fewer_answers} at most {100 * _FEW:g} % of each task{room}; now they are {limits}",
        checked=not too_few,
    )
    for line in warnings(worths, positions):
        yield Finding("lengths", f"WARNING: {line}", checked=False)


_FEW = 0.01
"""A share of the samples whose ends may be lost."""


def _needed(found: Sequence[Prospect], share: float) -> tuple[int, int]:
    """The limits of prompts and answers that cut at most this share of each split of each task."""
    limits = [one.counts.needed(share) for one in found]
    return max(prompts for prompts, _ in limits), max(answers for _, answers in limits)


def _limits(config: Config) -> tuple[int, int]:
    return config.recipe.max_prompt_tokens, config.recipe.max_answer_tokens


def _memory(config: Config, stream: TaskStream | None, model: PretrainedConfig | None) -> Iterator[Finding]:
    """What a worker has to hold, where the model's shape is known; of samples, as many as the data give."""
    if model is None:
        return
    from seekr_tune.loop.footprint import ModelSize, footprint
    from seekr_tune.loop.schedule import stored_samples
    from seekr_tune.methods.semantics import SEMANTICS
    from seekr_tune.methods.sizes import SampleSize

    recipe, percent = config.recipe, config.stored_percent
    semantics, size = SEMANTICS[config.method.semantics], ModelSize.of(config.model, model)
    longest = SampleSize(recipe.max_prompt_tokens + recipe.max_answer_tokens, recipe.max_answer_tokens)
    counts = [stored_samples(len(task.train), percent, semantics) for task in stream or ()]
    found = footprint(size, config, [[longest] * count for count in counts])
    yield Finding("memory", f"{_worker_text(config, found)}; activations come on top")
    if stream is None and percent > 0:
        yield Finding("memory", _sample_text(config, size, longest), checked=False)
    else:
        yield Finding("memory", f"the last checkpoint takes {bytes_text(found.checkpoint)} on disk at most")


def _worker_text(config: Config, found: Footprint) -> str:
    on_device = {
        "weights": found.weights,
        "copies of weights": found.copies,
        "gradients": found.gradients,
        "moments": found.moments,
        "what methods know of weights": found.method,
        "the whole model while it generates": found.evaluating,
        "attention rows of a pass over stored samples": found.reading,
    }
    in_memory = {
        "teacher signals": found.signals,
        "attention rows while a task ends": found.rows,
        "a checkpoint that is being written": found.staged,
    }
    loading = {"the whole model while it is loaded": found.loading}
    if config.training.resources_per_worker.get("GPU", 0) > 0:
        return (
            f"a worker takes {bytes_text(found.device)} on its GPU ({_parts(on_device)}), at most "
            f"{bytes_text(found.host)} in main memory ({_parts(in_memory | loading)})"
        )
    return f"a worker takes at most {bytes_text(found.together)} ({_parts(on_device | in_memory)})"


def _sample_text(config: Config, size: ModelSize, sample: SampleSize) -> str:
    from seekr_tune.loop.footprint import bytes_of

    found = bytes_of(size, config)(sample)
    kept = f"each stored sample keeps about {bytes_text(found.signals)} of teacher signals"
    return f"{kept}, and takes {bytes_text(found.rows)} until its task ends; the workers share them"


def _parts(parts: dict[str, int]) -> str:
    return ", ".join(f"{name} {bytes_text(number)}" for name, number in parts.items() if number) or "nothing"


def _path_missing(config: Config) -> bool:
    return config.model.path is None
