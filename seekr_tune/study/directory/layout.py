"""Where things lie in the directory of a study and of a run."""

from __future__ import annotations

from pathlib import Path


def experiment_path(directory: Path) -> Path:
    """The resolved experiment of a study: the file that marks a directory as one."""
    return directory / "experiment.yaml"


def space_path(directory: Path) -> Path:
    """The study's own copy of its search space."""
    return directory / "space.yaml"


def journal_path(directory: Path) -> Path:
    """The Optuna journal of a study."""
    return directory / "study" / "journal.log"


def driver_path(directory: Path) -> Path:
    """Process that runs a study now."""
    return directory / "study" / "driver.json"


def ray_path(directory: Path) -> Path:
    """What Ray writes; disposable."""
    return directory / "ray"


def trials_path(directory: Path) -> Path:
    """The runs of a study, one directory each."""
    return directory / "trials"


def trial_path(directory: Path, key: str) -> Path:
    """One run of a study."""
    return trials_path(directory) / key


def result_path(directory: Path, key: str) -> Path:
    """The record of one run of a study."""
    return trial_path(directory, key) / "result.json"


def log_path(directory: Path) -> Path:
    """What happened to a run, or to a study's driver."""
    return directory / "log.jsonl"


def storage_path(directory: Path) -> Path:
    """Where a study or a run stands at the store of `training.storage_path`."""
    return directory / "storage.json"


def extending_path(directory: Path) -> Path:
    """Where an update of a finished run is learned."""
    return directory / ".extending"


def rejected_path(directory: Path, task: str) -> Path:
    """The record of an update that the gate refused."""
    return directory / "rejected" / f"{task.replace('/', '_')}.json"


def trial_key(number: int) -> str:
    """Name of the run that the Optuna trial `number` proposed."""
    return f"trial-{number:04d}"


def bound_key(method: str) -> str:
    """Name of a reference."""
    return f"bound-{method}"


def run_key(configuration: str, replicate: int) -> str:
    """Name of a replicate's run and directory; the first one is called as its configuration."""
    return f"{configuration}-r{replicate}" if replicate else configuration


def stop_path(directory: Path) -> Path:
    """While it is there, the runs of a study save what they have and end."""
    return directory / "study" / "stop"


def openings_path(directory: Path) -> Path:
    """When, and for what, the test split of a study was opened."""
    return directory / "study" / "openings.json"


def provenance_path(directory: Path) -> Path:
    """With what a study was begun: versions, machine, data and model."""
    return directory / "study" / "provenance.json"


def final_path(directory: Path, number: int = 1) -> Path:
    """The runs of `finalize` (of the first, or of a later one): laid out as a study's, with a ledger of their own."""
    return directory / ("final" if number == 1 else f"final-{number}")


def cache_path(directory: Path, cache: str | None) -> Path:
    """First tasks and bounds that studies share: as `study.cache` says, else beside the study's directory."""
    return Path(cache) if cache else directory.parent / ".cache"


def cache_folders(cache: Path) -> list[Path]:
    """What there is in a cache: of base models, first stages and bounds."""
    return [cache / name for name in ("base", "stages", "bounds")]


def is_study(directory: Path) -> bool:
    """Whether a directory holds a study."""
    return experiment_path(directory).is_file()


def is_run(directory: Path) -> bool:
    """Whether a directory holds a single run."""
    return (directory / "config.yaml").is_file()
