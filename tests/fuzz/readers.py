"""Every reader of files from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

from seekr_tune.analysis.head_maps import head_maps
from seekr_tune.analysis.ledger import TableName, read_table, read_trials, trials_table
from seekr_tune.analysis.ranking import rank
from seekr_tune.analysis.tensorboard import hparam_values
from seekr_tune.checkpoint.directories import MANIFEST, Position, base_digest, newest_intact, read_json
from seekr_tune.checkpoint.keeper import CheckpointKeeper
from seekr_tune.config import MetricName
from seekr_tune.data.baseline import constant_baseline
from seekr_tune.data.collate import Encoder
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import Example, Task, TaskStream
from seekr_tune.errors import CheckpointError
from seekr_tune.experiment import load_experiment, parse_config
from seekr_tune.loop.shared_scores import SharedScores, _digest
from seekr_tune.methods.targets import teacher_batch
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models.loading import check_fit, load_model, read_model_config
from seekr_tune.models.model_files import load_tokenizer, require_served, require_whole
from seekr_tune.records import read_record, read_steps
from seekr_tune.study.directory.forgotten import read_erasing
from seekr_tune.study.directory.log import attempts, last_failure, read_log
from seekr_tune.study.directory.provenance import read_provenance
from seekr_tune.study.directory.test_split_log import openings
from seekr_tune.study.life.show import show_trial
from seekr_tune.study.life.status import study_status
from seekr_tune.study.runs.bounds import find_bound
from seekr_tune.study.runs.console import TaskProgress
from seekr_tune.study.runs.steplog import StepLog
from seekr_tune.study.runs.storage import _begun
from seekr_tune.study.search.journal import open_study
from seekr_tune.study.search.space import load_space
from seekr_tune.study.search.warm_start import read_configurations
from tests.badinput import data_files, experiments, spaces
from tests.badinput.case import FOLDER, Case
from tests.fuzz import made
from tests.fuzz.room import Reader
from tests.loop.tiny import tiny_config, tiny_model
from tests.security.small import small_config, vouch_for


def _corpus(cases: tuple[Case, ...], name: str, largest: int = 20_000) -> Iterator[bytes]:
    """What the cases of bad input put into a file."""
    for case in cases:
        content = case.files.get(name)
        if isinstance(content, str | bytes):
            found = content.encode(errors="surrogatepass") if isinstance(content, str) else content
            yield from (found,) if len(found) <= largest else ()


def _experiment(folder: Path) -> object:
    return load_experiment(folder / "mine.yaml")


def _space(folder: Path) -> object:
    return load_space(folder / "space.yaml").distributions()


def _tries(folder: Path) -> object:
    return read_configurations(_fixed_space(folder), small_config(), folder / "tries.yaml")


@cache
def _fixed_space(folder: Path) -> Any:
    return load_space(folder / "space.yaml")


def _data(source: str, folder: Path) -> TaskStream:
    values = {"stream": {"source": source, "root": str(folder), "tasks": ["words"]}}
    return load_stream(parse_config(values, "fuzz"), ("train", "eval"))


def _scored(folder: Path) -> object:
    (task,) = _data("trace_json", folder)
    return [constant_baseline(Task(task.name, SCORERS[metric], task.splits), "eval") for metric in get_args(MetricName)]


def _record(folder: Path) -> object:
    record = read_record(folder / "result.json")
    return trials_table([record]), hparam_values(record), TaskProgress.of(record) if record.tasks_done else None


def _steps(folder: Path) -> object:
    return read_steps(folder / "steps.jsonl")


def _step_log(folder: Path) -> object:
    log = StepLog(folder, tasks_done=1)
    log.close()
    return log.num_steps


def _ledger(folder: Path) -> object:
    tables = {name: read_table(folder, name) for name in _TABLES}
    read_table(folder, "steps", ["run"])
    return rank(read_trials(folder)), head_maps(tables["heads"], "run")


def _log(folder: Path) -> object:
    return [str(entry) for entry in read_log(folder)], attempts(folder), last_failure(folder)


def _study(folder: Path) -> object:
    status = study_status(folder).summary()
    return status, show_trial(folder, "trial-0000").summary()


def _notes(folder: Path) -> object:
    """What lies beside the results of a study."""
    return read_provenance(folder), read_erasing(folder), openings(folder), _begun(folder / "storage.json")


def _search(folder: Path) -> object:
    study = open_study(folder, small_config(), load_space(folder / "space.yaml"))
    return study.get_trials(deepcopy=False)


def _verify(folder: Path) -> object:
    return newest_intact(folder / "checkpoints")


def _restore(folder: Path) -> object:
    """A checkpoint whose manifest vouches for what stands in it, taken up and replayed from."""
    directory = folder / "checkpoints"
    stage, steps = folder / made.STAGE, folder / made.STEPS
    try:
        vouch_for(stage)
        progress = read_json(steps / "progress.json") | {"base": base_digest(directory, Position(2))}
        (steps / "progress.json").write_text(json.dumps(progress))
        vouch_for(steps)
    except (ValueError, LookupError, TypeError, AttributeError, OSError):
        pass  # what was exchanged is no JSON: then nobody can vouch for it
    parameters = dict(_tiny().named_parameters())
    keeper = CheckpointKeeper(directory, SingleProcess(), kept=2)
    try:
        restored = keeper.restore_stage(parameters)
        if restored is None:
            return None
        keeper.restore_steps(parameters)
    finally:
        keeper.close()
    samples = list(restored.state.memory)
    batch = teacher_batch(samples, max(len(sample.input_ids) for sample in samples))
    rows = {layer: (own.request, own.probabilities) for layer, own in batch.rows().items()}
    return rows, batch.logits(_tiny().config.vocab_size)


@cache
def _tiny() -> Any:
    return tiny_model()


def _model(folder: Path) -> object:
    config = tiny_config(**{"model.path": str(folder), "method.seekr.head_budget": 2})
    shape = read_model_config(config.model)
    assert shape is not None
    check_fit(config, shape)
    require_served(config.model, shape)
    require_whole(config.model, folder, shape)
    encoder = Encoder(load_tokenizer(config.model, str(folder), shape), 8, 4, "separate")
    encoder.encode_all([Example("first : w1 w2 :", "w1")])
    return load_model(config.model)


def _shared(folder: Path) -> object:
    (folder / "score.json").rename(folder / f"{_digest(made.SUBJECT)}.json")
    return SharedScores(folder, SingleProcess()).get(made.SUBJECT, lambda: {"score": 1.0}), find_bound(folder / "bound")


def _file(name: str, content: str, folder: Path) -> None:
    (folder / name).write_text(content)


_STAGE_FILES = ("state.json", "samples.safetensors", "heads.safetensors", "memory-00-of-01.safetensors")
_CHECKPOINT = (
    *(f"{made.STAGE}/{name}" for name in (*_STAGE_FILES, "weights-00-of-01.safetensors")),
    *(f"{made.STEPS}/{name}" for name in ("progress.json", "learner-00-of-01.safetensors")),
)
_TABLES: tuple[TableName, ...] = tuple(name for name in get_args(TableName) if name != "erased")
"""Of a study from which nothing was erased."""
_OF_STUDY = ("experiment.yaml", "trials/trial-0000/result.json", "study/journal.log", "study/driver.json")

READERS: tuple[Reader, ...] = (
    Reader(
        "experiment",
        partial(_file, "mine.yaml", str(FOLDER["mine.yaml"])),
        ("mine.yaml",),
        _experiment,
        seeds=partial(_corpus, experiments.CASES, "mine.yaml"),
    ),
    Reader("search space", made.space, ("space.yaml",), _space, seeds=partial(_corpus, spaces.CASES, "space.yaml")),
    Reader("configurations to try", made.space, ("tries.yaml",), _tries),
    Reader(
        "task, JSON",
        partial(made.data, "json"),
        ("words/train.json", "words/eval.json"),
        partial(_data, "trace_json"),
        seeds=partial(_corpus, data_files.CASES, "data/words/train.json"),
    ),
    Reader(
        "task, JSON lines",
        partial(made.data, "jsonl"),
        ("words/train.jsonl", "words/eval.jsonl"),
        partial(_data, "jsonl"),
        seeds=partial(_corpus, data_files.CASES, "data/words/train.jsonl"),
    ),
    Reader("task, Parquet", partial(made.data, "parquet"), ("words/train.parquet",), partial(_data, "parquet")),
    Reader("task, datasets", partial(made.data, "csv"), ("words/train.csv",), partial(_data, "datasets")),
    Reader("answers to score", partial(made.data, "json"), ("words/train.json", "words/eval.json"), _scored),
    Reader("result", made.result_without_checksum, ("result.json",), _record),
    Reader("steps", made.result, ("steps.jsonl",), _steps),
    Reader("steps of a killed run", made.step_log, ("steps.partial.jsonl", "steps.jsonl"), _step_log, mends=True),
    Reader("log", made.result, ("log.jsonl",), _log),
    Reader("ledger", made.ledger, tuple(f"ledger/{name}.parquet" for name in _TABLES), _ledger),
    Reader("study", made.study, (*_OF_STUDY, "study/openings.json", "erased.json"), _study),
    Reader(
        "notes of a study",
        made.study,
        ("study/provenance.json", "erasing.json", "study/openings.json", "storage.json"),
        _notes,
    ),
    Reader(
        "journal",
        made.searched,
        ("study/journal.log", "study/given.json", "trials/trial-0000/result.json"),
        _search,
        mends=True,
    ),
    Reader("checkpoint", made.exact_checkpoints, (*_CHECKPOINT, f"{made.STAGE}/{MANIFEST}"), _verify),
    Reader("contents of a checkpoint", made.exact_checkpoints, _CHECKPOINT, _restore, CheckpointError, mends=True),
    Reader("compact replay memory", made.compact_checkpoints, _CHECKPOINT[:4], _restore, CheckpointError, mends=True),
    Reader(
        "model and tokenizer",
        made.model,
        ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"),
        _model,
    ),
    Reader("shared results", made.shared, ("score.json", "bound/manifest.json"), _shared, mends=True),
)
"""All of them."""
