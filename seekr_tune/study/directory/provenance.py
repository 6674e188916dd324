"""With what a study was begun: versions, machine, data and model. Written once, when it starts; a report shows it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from seekr_tune.analysis.files import read_bytes, write_atomically
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.stream.sources import load_stream
from seekr_tune.stream.task import Example, digest_of_examples
from seekr_tune.study.directory.layout import provenance_path

if TYPE_CHECKING:
    from seekr_tune.stream.collate import Encoder

_SPECIAL_TOKENS, _AROUND = "Special tokens", ("before prompts", "behind answers")

Provenance = Mapping[str, Mapping[str, str]]
"""Facts by heading and name."""

_PACKAGES = (
    "seekr-tune torch transformers tokenizers peft datasets ray optuna numpy scipy pyarrow safetensors rapidfuzz rouge "
    "sacrebleu"
).split()
"""What a result can depend on."""

_SECTIONS: TypeAdapter[dict[str, dict[str, str]]] = TypeAdapter(dict[str, dict[str, str]])


def write_provenance(directory: Path, config: Config) -> None:
    """Note it for a study that begins; reads the splits that are tuned on, and the files of the model."""
    sections = {
        "Software": {"begun": datetime.now(UTC).isoformat(timespec="seconds"), **_software()},
        "Machine": _machine(),
        "Data": _data(config),
        "Model": _model(config),
        _SPECIAL_TOKENS: _special_tokens(config),
    }
    write_atomically(provenance_path(directory), json.dumps(sections, indent=2, ensure_ascii=False).encode())


def read_provenance(directory: Path) -> Provenance | None:
    """What was noted; None for a study that an earlier version began.

    Raises:
        StudyError: the file is damaged.
    """
    path = provenance_path(directory)
    if not path.is_file():
        return None
    try:
        return _SECTIONS.validate_json(read_bytes(path))
    except ValidationError:
        raise _damaged(path) from None


def _damaged(path: Path) -> StudyError:
    return StudyError(f"{path}: is damaged; restore it from a copy, or remove it to do without")


def require_same_special_tokens(directory: Path, config: Config) -> None:
    """Refuse to add runs to a study whose earlier ones had other special tokens around prompts and answers.

    Raises:
        StudyError: naming both, or the file where they are noted, if it is damaged.
        UserError: the data or the tokenizer cannot be used.
    """
    from seekr_tune.sequence.same_tokens import require_same_tokens
    from seekr_tune.stream.special_tokens import SpecialTokens

    noted = (read_provenance(directory) or {}).get(_SPECIAL_TOKENS)
    try:
        begun = None if noted is None else SpecialTokens(*(tuple(json.loads(noted[name])) for name in _AROUND))
    except (ValueError, LookupError, TypeError):
        raise _damaged(provenance_path(directory)) from None
    require_same_tokens(begun, _encoder(config), load_stream(config, ("train",)), directory)


def _special_tokens(config: Config) -> dict[str, str]:
    """Ids of the tokens before prompts, and of those that end answers."""
    found = _encoder(config).special_tokens
    return dict(zip(_AROUND, (json.dumps(found.prefix), json.dumps(found.ends)), strict=True))


def _encoder(config: Config) -> Encoder:
    from seekr_tune.sequence.fit import encoder_of  # it imports torch, which a report need not wait for
    from seekr_tune.sequence.model import read_model_config

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


def _data(config: Config) -> dict[str, str]:
    """Rows and digest of every split that a study may see."""
    stream = load_stream(config, ("train", *config.evaluation.splits))
    return {
        split_name(task.name, split): split_line(examples)
        for task in stream
        for split, examples in task.splits.items()
    }


def _model(config: Config) -> dict[str, str]:
    """Files of the model; of one on the hub, its name alone."""
    from seekr_tune.sequence.model import model_directory  # it imports torch, which a report need not wait for

    directory = model_directory(config.model)
    if directory is None:
        return {"name": str(config.model.path)}
    files = sorted(path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    return {path.name: f"{path.stat().st_size} bytes, SHA-256 {_digest_of_file(path)}" for path in files}


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
