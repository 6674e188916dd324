"""`seekr-tune forget`: a sample leaves a study, or a single run, for good.

In this order, so that a call that was killed anywhere is finished by the next one:

1. the sample, and every stored or training sample with the same text, is noted in `erasing.json`; from then on nothing
   is run in this directory;
2. the experiment, and that of every run, says which rows are not learned (`stream.erased`);
3. every checkpoint whose memory holds it is replaced by one that does not, at the store too; what killed launches and
   Ray have left is removed;
4. all memories are listed and all files are searched: nothing may be found;
5. `erased.json` and the ledger's table `erased` record it, and `erasing.json` is removed.

Weights that were trained with the sample stay as they are; only training again without it changes them.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from seekr_tune.access import walked
from seekr_tune.analysis.ledger import write_erased_table
from seekr_tune.atomic_files import write_atomically
from seekr_tune.checkpoint.forget_in_checkpoint import Held
from seekr_tune.config import Config, ErasedRows
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import Example, digest_of_examples
from seekr_tune.errors import StudyError
from seekr_tune.experiment import dump_config, load_experiment, with_values
from seekr_tune.foreign_text import ours
from seekr_tune.leftovers import remove_remains
from seekr_tune.records import ErasedRow
from seekr_tune.store import Store
from seekr_tune.study.directory.disk import refusing_disk_faults
from seekr_tune.study.directory.forgotten import (
    Erasing,
    SampleId,
    add_erased,
    erasing_path,
    read_erasing,
    write_erasing,
)
from seekr_tune.study.directory.layout import cache_folders, cache_path, experiment_path, is_run, is_study, ray_path
from seekr_tune.study.directory.links import require_no_links
from seekr_tune.study.directory.lock import StudyLock, held_run
from seekr_tune.study.directory.provenance import read_provenance, split_line, split_name
from seekr_tune.study.life.forget_proof import Search, patterns, search
from seekr_tune.study.runs.forget_in_run import Run, erase_from_run, held, samples_of
from seekr_tune.study.runs.outcome import code_version
from seekr_tune.study.runs.storage import known_home, require_no_links_at

ASKED, SAME = "asked for", "has the same text as one asked for"
_AGAIN = "forget"


@dataclass(frozen=True)
class Erasure:
    """What was erased.

    Attributes:
        samples: by id, why.
        checkpoints: by id, how many checkpoints held it.
        removed: damaged checkpoints that were removed, for nobody can say what they hold.
        search: what reading all files has shown.
    """

    samples: Mapping[str, str]
    checkpoints: Mapping[str, int]
    removed: tuple[str, ...]
    search: Search


def erase_samples(directory: Path | str, samples: Sequence[str]) -> Erasure:
    """Take training samples out of a study or a single run, and prove it.

    Args:
        directory: of the study or the run.
        samples: ids, `TASK:INDEX`. None finishes what a killed call began.

    Raises:
        StudyError: nothing is there, somebody runs it, an id is wrong, a disk is full or fails, or something of a
            sample was found afterwards.
        DataError: the data cannot be read, or are not those of the study.
    """
    directory = Path(directory).absolute()
    require_no_links(directory, everywhere=True)  # what lies behind one would not be erased
    with _held(directory), refusing_disk_faults(directory, _AGAIN):
        remove_remains(directory)
        begun = read_erasing(directory)
        if not samples and begun is None:
            raise StudyError("say which sample: --sample TASK:INDEX; `seekr-tune samples` lists them")
        config = load_experiment(_config_path(directory))
        runs = runs_of(directory)
        for store in _stores(runs):
            require_no_links_at(store)
        begun = begun or Erasing(samples={})
        asked = {str(sample): ASKED for sample in _known(config, samples)}
        data = _train_rows(directory, config, {**begun.samples, **asked})
        erasing = _widened(data, runs, begun.model_copy(update={"samples": {**begun.samples, **asked}}))
        erased = _erased_rows(config, data, erasing)
        write_erasing(directory, erasing)
        _write_configs(directory, runs, erased)
        removed = _erase_from_all(directory, runs, erasing)
        found = _prove(directory, config, runs, erasing)
        _record(directory, erasing, found)
        erasing_path(directory).unlink()
    return Erasure(erasing.samples, erasing.checkpoints, tuple(removed), found)


def stored_samples(directory: Path | str) -> dict[str, list[str]]:
    """By id of every sample in a memory, the runs that hold it.

    Raises:
        StudyError: no study and no run is there.
    """
    directory = Path(directory).absolute()
    _config_path(directory)
    found: dict[SampleId, list[str]] = {}
    for run in runs_of(directory):
        name = str(run.directory.relative_to(directory)).removeprefix("trials/")
        for sample in sorted({run.name_of(sample) for sample in samples_of(run)}):
            found.setdefault(sample, []).append(directory.name if name == "." else name)
    return {str(sample): found[sample] for sample in sorted(found)}


def samples_with(directory: Path | str, text: str) -> list[str]:
    """Ids of the training samples whose prompt or answer holds a text, as the data are now.

    Raises:
        StudyError: no study and no run is there.
        DataError: the data cannot be read.
    """
    stream = load_stream(load_experiment(_config_path(Path(directory).absolute())), ("train",))
    return [
        str(SampleId(task.name, row))
        for task in stream
        for row, example in zip(task.train_rows, task.train, strict=True)
        if text in example.prompt or text in example.answer
    ]


def runs_of(directory: Path) -> list[Run]:
    """Every run below a study's or a run's directory, final ones and an update that is being learned too."""
    runs = []
    for path in sorted(path for path in walked(directory) if path.name == "config.yaml"):
        own = path.parent
        home = known_home(own if own in (directory, directory / ".extending") else own.parent.parent)
        key = directory.name if own.name == ".extending" else own.name
        runs.append(Run(own, load_experiment(path).stream.tasks, None if home is None else home.at(key)))
    return runs


def _config_path(directory: Path) -> Path:
    if is_study(directory):
        return experiment_path(directory)
    if is_run(directory):
        return directory / "config.yaml"
    raise StudyError(f"{directory}: holds no study and no run; name the directory that `seekr-tune` printed")


def _held(directory: Path) -> AbstractContextManager[object]:
    if is_study(directory):
        return StudyLock(directory, erasing=True)
    _config_path(directory)
    return held_run(directory)


def _known(config: Config, samples: Iterable[str]) -> Iterator[SampleId]:
    for text in samples:
        sample = SampleId.parse(text)
        if sample.task not in config.stream.tasks:
            raise StudyError(f"sample {text!r}: there is no task {sample.task!r}; {', '.join(config.stream.tasks)} are")
        yield sample


@dataclass(frozen=True)
class _TrainRows:
    """A task's train split as it was before anything was erased from it.

    Attributes:
        size: its rows.
        examples: those that the data still hold, by row.
    """

    size: int
    examples: Mapping[int, Example]


def _train_rows(directory: Path, config: Config, samples: Mapping[str, str]) -> dict[str, _TrainRows]:
    """The train splits by task; rows that the data have lost already are counted as they were.

    Raises:
        StudyError: a task with samples to erase has other data than at the study's start, so the ids mean other rows.
    """
    noted = (read_provenance(directory) or {}).get("Data", {})
    found = {}
    for task in load_stream(config, ("train",)):
        before = config.stream.erased.get(task.name)
        size = before.size if before else len(task.train)
        rows = list(task.train_rows)
        then = noted.get(split_name(task.name, "train"))
        if before is None and then not in (None, split_line(task.train)):
            asked = {sample.row for sample in map(SampleId.parse, samples) if sample.task == task.name}
            size = int(str(then).partition(" ")[0])
            rows = [row for row in range(size) if row not in asked]
            if asked and len(rows) != len(task.train):
                raise StudyError(
                    f"task {task.name!r}: its train split is not what it was when the study began, so nobody knows "
                    "which row is meant; put it back, forget the sample, and then take it out of the data"
                )
            if not asked:
                rows = []
        found[task.name] = _TrainRows(size, dict(zip(rows, task.train, strict=False)))
    return found


def _widened(data: Mapping[str, _TrainRows], runs: Sequence[Run], erasing: Erasing) -> Erasing:
    """With what the samples look like, and with every other sample that looks the same."""
    wanted = dict(erasing.samples)
    rows = [(str(SampleId(task, row)), example) for task, own in data.items() for row, example in own.examples.items()]
    same = {example for name, example in rows if name in wanted}
    wanted |= {name: SAME for name, example in rows if example in same and name not in wanted}
    stored = [(str(run.name_of(sample)), sample.tokens) for run in runs for sample in samples_of(run)]
    tokens = {*erasing.tokens, *(ids for name, ids in stored if name in wanted)}
    wanted |= {name: SAME for name, ids in stored if ids in tokens and name not in wanted}
    counts = Counter(name for name, _ in stored)
    return Erasing(
        samples=wanted,
        tokens=tuple(sorted(tokens)),
        prompts=tuple(sorted({*erasing.prompts, *(example.prompt for example in same)})),
        checkpoints={name: max(erasing.checkpoints.get(name, 0), counts[name]) for name in wanted},
    )


def _erased_rows(config: Config, data: Mapping[str, _TrainRows], erasing: Erasing) -> dict[str, ErasedRows]:
    """By task, all rows that are not learned; those of earlier calls too.

    Raises:
        StudyError: a row that there is not, or a task of which nothing would be left.
    """
    erased = dict(config.stream.erased)
    ids = [SampleId.parse(sample) for sample in erasing.samples]
    for task, own in data.items():
        before = set(erased[task].rows) if task in erased else set()
        rows = {sample.row for sample in ids if sample.task == task} | before
        if rows and max(rows) >= own.size:
            raise StudyError(f"sample '{task}:{max(rows)}': the train split has the rows 0 to {own.size - 1}")
        if len(rows) == own.size:
            raise StudyError(f"task {task!r}: nothing would be left to learn; begin a new study without it")
        if rows != before:
            left = [example for row, example in own.examples.items() if row not in rows]
            # Built-in data are other ones for every seed, and nobody changes them.
            rest = None if config.stream.source == "builtin" else digest_of_examples(left)
            erased[task] = ErasedRows(rows=tuple(sorted(rows)), size=own.size, rest=rest)
    return erased


def _write_configs(directory: Path, runs: Sequence[Run], erased: Mapping[str, ErasedRows]) -> None:
    """Let the experiment, and that of every run, say which rows are not learned."""
    for path in dict.fromkeys([_config_path(directory), *(run.directory / "config.yaml" for run in runs)]):
        own = load_experiment(path)
        values = {task: rows.model_dump() for task, rows in erased.items() if task in own.stream.tasks}
        write_atomically(path, dump_config(with_values(own, {"stream.erased": values})).encode())


def _gone(run: Run, erasing: Erasing, sample: Held) -> bool:
    return str(run.name_of(sample)) in erasing.samples or sample.tokens in erasing.tokens


def _erase_from_all(directory: Path, runs: Sequence[Run], erasing: Erasing) -> list[str]:
    unlearned = {SampleId.parse(sample).task for sample in erasing.samples}
    for making in directory.glob(".extending.*"):  # an update that an earlier version was preparing
        shutil.rmtree(making)
    removed = []
    for run in runs:
        with held(run) if run.directory != directory else _nothing():
            removed += erase_from_run(run, lambda sample, run=run: _gone(run, erasing, sample), unlearned)  # type: ignore[misc]
            shutil.rmtree(ray_path(run.directory), ignore_errors=True)
    shutil.rmtree(ray_path(directory), ignore_errors=True)  # disposable, and its logs could quote a sample
    return removed


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _prove(directory: Path, config: Config, runs: Sequence[Run], erasing: Erasing) -> Search:
    """Raise StudyError unless nothing of the samples is left."""
    left = [f"{run.directory}" for run in runs if any(_gone(run, erasing, sample) for sample in samples_of(run))]
    cache = cache_path(directory, config.study.cache).absolute()
    shared = cache_folders(cache) if is_study(directory) else []
    places = [Path(store.path) for store in _stores(runs) if store.is_local]
    found = search(
        [directory, *shared, *places],
        patterns(erasing.tokens, erasing.prompts),
        but=erasing_path(directory),
    )
    left += [str(trace) for trace in found.traces]
    if left:
        raise StudyError(
            f"{directory}: something of the samples is still in {', '.join(left[:3])}; remove that, and give "
            f"`{ours(_AGAIN, directory)}` again"
        )
    return found


def _stores(runs: Iterable[Run]) -> list[Store]:
    return [run.place for run in runs if run.place is not None]


def _record(directory: Path, erasing: Erasing, found: Search) -> None:
    when, version = datetime.now(UTC).isoformat(timespec="seconds"), code_version()
    entries = [
        ErasedRow(
            sample=sample,
            when=when,
            why=why,
            checkpoints=erasing.checkpoints.get(sample, 0),
            files_read=found.files,
            bytes_read=found.num_bytes,
            code_version=version,
        )
        for sample, why in sorted(erasing.samples.items())
    ]
    write_erased_table(directory, add_erased(directory, entries))
