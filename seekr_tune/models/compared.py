"""Models that were compared with transformers already: what was measured, in the user's cache directory.

A name there is a digest of everything that the numbers depend on: the model's files, the libraries, the code that
compares and what it compares. A study of many trials, and the commands that follow, compare a model once on a machine.
Where the directory cannot be written, every load compares anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from seekr_tune.documents import parse_json, read_text
from seekr_tune.errors import UserError
from seekr_tune.models.agreement import Agreement
from seekr_tune.models.digests import digest_of_file, digest_of_sources, leave


def comparison_of(directory: Path, dtype: str, device: torch.device) -> str:
    """The name of a comparison; reads files that were not read before.

    Args:
        directory: of the model.
        dtype: in which its weights are loaded.
        device: where it is compared.
    """
    files = sorted(path for pattern in ("*.json", "*.safetensors") for path in directory.glob(pattern))
    libraries = [torch.__version__, transformers.__version__]
    subject = [_digests(files), libraries, digest_of_sources("methods", "models.agreement"), dtype, device.type]
    return hashlib.sha256(json.dumps(subject).encode()).hexdigest()


def recall(comparison: str) -> Agreement | None:
    """What was measured; None where nothing was, or the file is damaged."""
    text = _read(f"compared/{comparison}.json")
    try:
        return None if text is None else Agreement(**parse_json(text))
    except (ValueError, TypeError):
        return None


def remember(comparison: str, found: Agreement) -> None:
    """Let the next load know what was measured."""
    _write(f"compared/{comparison}.json", json.dumps(asdict(found)))


def _digests(files: Iterable[Path]) -> list[Any]:
    folder = _folder()
    return [[path.name, digest_of_file(folder, path)] for path in files]


def _folder() -> Path | None:
    """Of this user's comparisons; None for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seekr-tune"
    except RuntimeError:
        return None


def _read(name: str) -> str | None:
    folder = _folder()
    with suppress(OSError, UserError):
        return read_text(folder / name) if folder else None
    return None


def _write(name: str, text: str) -> None:
    folder = _folder()
    if folder is not None:
        leave(folder / name, text)
