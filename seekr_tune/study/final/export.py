"""A model of a study as others load it: a directory that `from_pretrained` of transformers, or of PEFT, takes.

The weights are those of the run's last checkpoint. The directory appears when all of it is on disk, or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seekr_tune.access import listed
from seekr_tune.analysis.configurations import nothing_learned_by
from seekr_tune.checkpoint.trained_model import FinishedModel, load_finished
from seekr_tune.config import Config
from seekr_tune.errors import CheckpointError, StudyError
from seekr_tune.experiment import dump_config, load_experiment
from seekr_tune.leftovers import remove_remains_of, unfinished
from seekr_tune.records import TrialRecord, read_record
from seekr_tune.study.directory.disk import disk_fault
from seekr_tune.study.directory.layout import is_run, is_study, result_path, trial_path, trials_path
from seekr_tune.study.directory.placement import require_outside
from seekr_tune.study.directory.records import read_all_records
from seekr_tune.study.directory.same_inputs import change_lines
from seekr_tune.study.directory.test_split_log import protocol_line
from seekr_tune.study.final.model_card import CardSource, model_card
from seekr_tune.study.final.reported import finished_opening, reported

EXPERIMENT_FILE = "experiment.yaml"
"""The run's resolved experiment, beside the exported model."""


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        run: key of the run; of a final run with its folder, `final/trial-0003`.
        why: why this run, in a few words.
        checkpoint: name of the checkpoint that its weights are from.
        target: where it is now.
    """

    run: str
    why: str
    checkpoint: str
    target: Path


@dataclass(frozen=True)
class ChosenRun:
    """A run whose model is wanted.

    Attributes:
        key: its key, for people.
        why: why this one.
        path: its directory.
        siblings: records of all runs of its configuration.
    """

    key: str
    why: str
    path: Path
    siblings: tuple[TrialRecord, ...]


def export_model(directory: Path | str, target: Path | str, *, trial: str | None = None) -> Export:
    """Write the model of a finished run, with a tokenizer and a model card.

    Args:
        directory: of a study or of a single run.
        target: the new directory; it must not exist, or be empty.
        trial: key of a configuration (its first replicate is taken), of one of its runs, or of a final run
            (`final/trial-0003`). None: of a study, the configuration that is best in the objective that decides; its
            final run, if `test` was opened.

    Raises:
        StudyError: there is no such run, it is not finished, its last checkpoint is gone or damaged, or the target is
            taken or cannot be written to.
        ModelError: the base model is not where it was.
    """
    directory, target = Path(directory).absolute(), Path(target).absolute()
    require_outside(target, "a model")
    _require_free(target)
    chosen = chosen_run(directory, trial)
    record = read_record(chosen.path / "result.json")
    if record.status != "finished":
        raise StudyError(f"{chosen.path}: is {record.status}, not finished; only a finished run has a model to export")
    config = load_experiment(chosen.path / "config.yaml")
    if config.model.converter is not None and config.model.lora is None:
        raise StudyError(
            f"{chosen.path}: its model was changed by the converter {config.model.converter} before training and is "
            "not exported; of a run with model.lora the adapters are"
        )
    finished = _restored(chosen.path, config)
    source = CardSource(
        study=directory.name,
        run=chosen.key,
        why=chosen.why,
        protocol=protocol_line(directory),
        changes=tuple(change_lines(directory)),
        checkpoint=finished.checkpoint,
        config=config,
        record=record,
        siblings=chosen.siblings,
    )
    with _appearing(target) as place:
        _save(finished.loaded.model, finished.loaded.tokenizer, config, place)
        (place / EXPERIMENT_FILE).write_text(dump_config(config), encoding="utf-8")
        (place / "README.md").write_text(model_card(source), encoding="utf-8")
    return Export(chosen.key, chosen.why, finished.checkpoint, target)


def chosen_run(directory: Path, trial: str | None) -> ChosenRun:
    """The run whose model is exported; arguments and errors as for `export_model`."""
    if not is_study(directory):
        if not is_run(directory):
            raise StudyError(f"{directory}: holds no study and no run; name what `seekr-tune sweep` or `run` printed")
        if trial is not None and trial != directory.name:
            raise StudyError(f"{directory}: is a single run and has no trial {trial!r}; leave --trial out")
        return ChosenRun(directory.name, "a single run", directory, ())
    if trial is None:
        found = reported(directory, "test" if finished_opening(directory) else "eval")
        is_void = nothing_learned_by(read_all_records(directory)[0]) is not None
        why = "first in tuning, and no better than another: no task was learned" if is_void else "best in tuning"
        opened = "" if found.split == "eval" else "; the run that test was opened for"
        return _in(directory, found.directory, found.best, f"{why}{opened}")
    folder, _, key = trial.rpartition("/")
    if folder and not (directory / folder).is_relative_to(directory) or ".." in (*folder.split("/"), key):
        raise StudyError(f"trial {trial!r}: leads out of {directory}; name one of its runs, such as trial-0003")
    return _in(directory, directory / folder, key, "named")


def _in(study: Path, place: Path, key: str, why: str) -> ChosenRun:
    if not result_path(place, key).is_file():
        known = sorted(path.parent.name for path in trials_path(place).glob("*/result.json"))
        shown = f"it has {known[0]} to {known[-1]}" if known else "it has none"
        raise StudyError(f"{place}: has no run {key!r}; {shown}")
    records = read_all_records(place)[0]
    configuration = next((record.configuration for record in records if record.trial == key), None) or key
    name = key if place == study else f"{place.name}/{key}"
    siblings = tuple(record for record in records if record.configuration_key == configuration)
    return ChosenRun(name, why, trial_path(place, key), siblings)


def _restored(run: Path, config: Config) -> FinishedModel:
    checkpoints = run / "checkpoints"
    try:
        return load_finished(config, checkpoints)
    except (CheckpointError, FileNotFoundError) as error:
        if any(path.name.startswith("task-") for path in listed(checkpoints)):
            raise StudyError(f"{error}; run the trial again, or export another one") from None
        raise StudyError(
            f"{run}: its checkpoints were removed (study.disk_gigabytes), so its model is gone; export another run, or "
            "run the experiment again"
        ) from None


def _save(model: Any, tokenizer: Any, config: Config, place: Path) -> None:
    """What `from_pretrained` reads. Of adapters only they are saved: the base model stays where it is."""
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    if config.model.lora is None:
        _restore_generation_config(config, place)


def _restore_generation_config(config: Config, place: Path) -> None:
    """As the base model has it: training set it aside, because scores must not depend on it."""
    from transformers.utils.hub import cached_file

    from seekr_tune.models.loading import model_directory

    target = place / "generation_config.json"
    target.unlink(missing_ok=True)
    base = str(model_directory(config.model) or config.model.path)
    found = cached_file(base, target.name, _raise_exceptions_for_missing_entries=False)
    if found is not None:
        shutil.copyfile(found, target)


def _require_free(target: Path) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise StudyError(f"{target}: is there already; give a directory that does not exist, or an empty one")


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A directory to be filled, beside `target` and hidden; it becomes `target` when the block ends without an error.

    After a kill only the hidden one is left, until the next call.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_remains_of(target)
        place = unfinished(target)
        place.mkdir(mode=0o700)
        try:
            yield place
            mask = _umask()
            for path in filter(Path.is_file, place.rglob("*")):
                path.chmod(0o666 & ~mask)  # safetensors and temporary directories are for nobody else
                with path.open("rb") as written:
                    os.fsync(written.fileno())
            place.chmod(0o777 & ~mask)
            place.rename(target)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    except Exception as error:
        fault = disk_fault(error)
        if fault is not None:
            raise StudyError(f"{target}: {fault}, or give another --to") from None
        if isinstance(error, OSError):
            raise StudyError(f"{target}: cannot be written to ({error.strerror}); give another --to") from None
        raise


def _umask() -> int:
    """Of this process; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
