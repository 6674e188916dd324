"""With what a study or a run was begun: versions, machine, data and model; a report shows it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from seekr_tune.access import listed
from seekr_tune.atomic_files import write_atomically
from seekr_tune.config import Config
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import Example, digest_of_examples
from seekr_tune.documents import read_json
from seekr_tune.errors import DocumentError, StudyError
from seekr_tune.study.directory.layout import cache_path, provenance_path

if TYPE_CHECKING:
    from seekr_tune.data.collate import Encoder

SPECIAL_TOKENS, AROUND = "Special tokens", ("before prompts", "behind answers")

Provenance = Mapping[str, Mapping[str, str]]
"""Facts by heading and name."""

_PACKAGES = (
    "seekr-tune torch transformers tokenizers peft datasets ray optuna numpy scipy pyarrow safetensors rapidfuzz "
    "sacrebleu"
).split()
"""What a result can depend on."""

_SECTIONS: TypeAdapter[dict[str, dict[str, str]]] = TypeAdapter(dict[str, dict[str, str]])


def write_provenance(directory: Path, config: Config) -> None:
    """Note it for a study that begins; reads the splits that are tuned on, and the files of the model."""
    sections = {
        "Software": {"begun": _now(), **_software()},
        "Machine": _machine(),
        "Data": splits_noted(config),
        "Model": model_files(config, cache_path(directory, config.study.cache)),
        SPECIAL_TOKENS: _special_tokens(config),
    }
    keep_provenance(directory, sections)


def add_data(directory: Path, target: Path, config: Config) -> None:
    """Note at `target` what is noted at `directory`, and the data of tasks that were not there; nothing where nothing
    is noted.

    Args:
        config: the experiment with the new tasks.
    """
    noted = read_provenance(directory)
    if noted is not None:
        keep_provenance(target, {**noted, "Data": {**splits_noted(config), **noted.get("Data", {})}})


def keep_provenance(directory: Path, sections: Provenance) -> None:
    write_atomically(provenance_path(directory), json.dumps(sections, indent=2, ensure_ascii=False).encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_provenance(directory: Path) -> Provenance | None:
    """What was noted; None for a study that an earlier version began.

    Raises:
        StudyError: the file is damaged.
    """
    path = provenance_path(directory)
    if not path.is_file():
        return None
    try:
        return _SECTIONS.validate_python(read_json(path))
    except (ValidationError, DocumentError):
        raise damaged(path) from None


def damaged(path: Path) -> StudyError:
    return StudyError(f"{path}: is damaged; restore it from a copy, or remove it to do without")


def _special_tokens(config: Config) -> dict[str, str]:
    """Ids of the tokens before prompts, and of those that end answers."""
    found = encoder_noted(config).special_tokens
    return dict(zip(AROUND, (json.dumps(found.prefix), json.dumps(found.ends)), strict=True))


def encoder_noted(config: Config) -> Encoder:
    from seekr_tune.models.compatibility import encoder_of  # it imports torch, which a report need not wait for
    from seekr_tune.models.loading import read_model_config

    model = read_model_config(config.model, fetch=True)
    assert model is not None
    return encoder_of(config, model)


def _software() -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _machine() -> dict[str, str]:
    """The machine on which the command was given."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": str(os.cpu_count()),
    }


def split_line(examples: Sequence[Example]) -> str:
    """What is noted of a split."""
    return f"{len(examples)} rows, SHA-256 {digest_of_examples(examples)}"


def split_name(task: str, split: str) -> str:
    """The name under which it is noted, in section `Data`."""
    return f"{task}, {split}"


def splits_noted(config: Config) -> dict[str, str]:
    """Rows and digest of every split that a study may see."""
    stream = load_stream(config, ("train", *config.evaluation.splits))
    return {
        split_name(task.name, split): split_line(examples) for task in stream for split, examples in task.splits.items()
    }


def model_files(config: Config, cache: Path) -> dict[str, str]:
    """Files of the model with their digests; of one on the hub, its name and its commit.

    Args:
        config: the experiment.
        cache: where digests of large files are kept.
    """
    from seekr_tune.models.digests import digest_of_file
    from seekr_tune.models.loading import model_directory, read_model_config  # torch, which a report need not wait for

    directory = model_directory(config.model)
    if directory is None:
        commit = getattr(read_model_config(config.model, fetch=True), "_commit_hash", None)
        return {"name": str(config.model.path), **({} if commit is None else {"commit": str(commit)})}
    files = [path for path in listed(directory) if path.is_file() and not path.name.startswith(".")]
    return {path.name: f"{path.stat().st_size} bytes, SHA-256 {digest_of_file(cache, path)}" for path in files}
