"""With what a study or a run was begun: versions, machine, data and model; a report shows it.

Whoever goes on with one compares data and model first: results of different ones cannot be ranked together without a
word. What was accepted as changed is noted in the section `Changes`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from seekr_tune.access import access_told, listed
from seekr_tune.analysis.files import read_bytes, write_atomically
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.stream.sources import load_stream
from seekr_tune.stream.task import Example, digest_of_examples
from seekr_tune.study.directory.layout import cache_path, provenance_path

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

_CHANGES = "Changes"
_TEXTS = (".md", ".txt", "SHA256SUMS", "LICENSE")
"""Names of files beside a model that are read by people alone."""

_DIGITS = 64
_KEPT = 10**6
"""Bytes of a file whose digest is worth keeping."""

_LARGE = 2 * 10**9
"""Bytes of a file that takes so long to read that it is said."""

_logger = logging.getLogger(__name__)

_SECTIONS: TypeAdapter[dict[str, dict[str, str]]] = TypeAdapter(dict[str, dict[str, str]])


def write_provenance(directory: Path, config: Config) -> None:
    """Note it for a study that begins; reads the splits that are tuned on, and the files of the model."""
    sections = {
        "Software": {"begun": _now(), **_software()},
        "Machine": _machine(),
        "Data": _data(config),
        "Model": model_files(config, cache_path(directory, config.study.cache)),
        _SPECIAL_TOKENS: _special_tokens(config),
    }
    _write(directory, sections)


@dataclass(frozen=True)
class Change:
    """Something that is not what it was when a study or a run was begun.

    Attributes:
        section: `Data` or `Model`.
        name: task and split, or a file of the model.
        before, now: what is noted of it; None where it is not there.
    """

    section: str
    name: str
    before: str | None
    now: str | None

    def __str__(self) -> str:
        return f"{'data' if self.section == 'Data' else 'model'} {self.name}"


def changes(noted: Provenance, config: Config, cache: Path) -> list[Change]:
    """What of data and model is not as it was noted.

    A task's train split of which samples were erased is not compared here: what is left of it is known by a digest of
    its own, which is looked at whenever it is read. Texts about a model change nothing.

    Args:
        noted: what `read_provenance` returned.
        config: the experiment.
        cache: where digests of large files are kept.
    """
    found = []
    erased = {split_name(task, "train") for task in config.stream.erased}
    for section, now in (("Data", _data(config)), ("Model", model_files(config, cache))):
        before = noted.get(section, {})
        if not before:
            continue
        for name in {**before, **now}:
            is_known = name in before or (section == "Model" and "name" not in before)
            is_compared = name not in erased and not name.endswith(_TEXTS) and is_known
            if section == "Data" and name not in now:  # of a task that is not learned
                continue
            if is_compared and before.get(name) != now.get(name):
                found.append(Change(section, name, before.get(name), now.get(name)))
    return found


def require_unchanged(directory: Path, config: Config, *, accept: bool = False) -> int:
    """Refuse to go on with other data or another model; the caller holds the directory.

    Args:
        directory: of a study or a run.
        config: its experiment.
        accept: go on all the same, and note it.

    Returns:
        How often changes were accepted so far.

    Raises:
        StudyError: something changed.
    """
    noted = read_provenance(directory)
    if noted is None or not (noted.get("Data") and noted.get("Model")):
        _logger.warning(
            "%s: has no digests of its data and model (an earlier version began it), so nobody can see whether they "
            "changed",
            directory,
        )
        return 0
    found = changes(noted, config, cache_path(directory, config.study.cache))
    if found and not accept:
        raise StudyError(
            f"{directory}: {', '.join(map(str, found))} changed since it was begun, so what is learned now could not "
            "be compared with what was learned before; put them back, or give --accept-change, which is noted"
        )
    if found:
        _note(directory, noted, found)
        noted = read_provenance(directory) or noted
    return accepted_changes(noted)


def accepted_changes(noted: Provenance | None) -> int:
    """How often changes of data or model were accepted."""
    return len({name.partition(" ")[0] for name in (noted or {}).get(_CHANGES, {})})


def change_lines(directory: Path) -> list[str]:
    """For people: which changes of data and model were accepted, and when."""
    noted = read_provenance(directory) or {}
    by_time: dict[str, list[str]] = {}
    for name in noted.get(_CHANGES, {}):
        when, _, what = name.partition(" ")
        by_time.setdefault(when, []).append(what)
    return [
        f"changed and accepted on {when.partition('T')[0]}: {', '.join(what)}; runs with accepted_changes below "
        f"{number} were begun before"
        for number, (when, what) in enumerate(by_time.items(), start=1)
    ]


def add_data(directory: Path, target: Path, config: Config) -> None:
    """Note at `target` what is noted at `directory`, and the data of tasks that were not there; nothing where nothing
    is noted.

    Args:
        config: the experiment with the new tasks.
    """
    noted = read_provenance(directory)
    if noted is not None:
        _write(target, {**noted, "Data": {**_data(config), **noted.get("Data", {})}})


def _note(directory: Path, noted: Provenance, found: Sequence[Change]) -> None:
    sections = {heading: dict(facts) for heading, facts in noted.items()}
    when = datetime.now(UTC).isoformat()  # to the microsecond: each call is a change of its own
    for change in found:
        sections.setdefault(_CHANGES, {})[f"{when} {change}"] = f"{change.before} -> {change.now}"
        if change.now is None:
            sections[change.section].pop(change.name)
        else:
            sections[change.section][change.name] = change.now
    _write(directory, sections)
    _logger.warning("%s: changed and accepted: %s", directory, ", ".join(map(str, found)))


def _write(directory: Path, sections: Provenance) -> None:
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


def model_files(config: Config, cache: Path) -> dict[str, str]:
    """Files of the model with their digests; of one on the hub, its name and its commit.

    Args:
        config: the experiment.
        cache: where digests of large files are kept.
    """
    from seekr_tune.sequence.model import model_directory, read_model_config  # torch, which a report need not wait for

    directory = model_directory(config.model)
    if directory is None:
        commit = getattr(read_model_config(config.model, fetch=True), "_commit_hash", None)
        return {"name": str(config.model.path), **({} if commit is None else {"commit": str(commit)})}
    files = [path for path in listed(directory) if path.is_file() and not path.name.startswith(".")]
    return {path.name: f"{path.stat().st_size} bytes, SHA-256 {digest_of_file(cache, path)}" for path in files}


def digest_of_file(cache: Path, path: Path) -> str:
    """SHA-256 of a file, remembered as long as it is the same file, of the same size, that nobody has touched.

    The time of its content can be set by anybody; that of its inode cannot.
    """
    with access_told(path):
        stat = path.stat()
        stamp = [str(path.resolve()), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        known = cache / "digests" / hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:32]
        with suppress(OSError):
            if len(text := known.read_text(encoding="ascii", errors="replace")) == _DIGITS:
                return text
        if stat.st_size >= _LARGE:
            _logger.warning("%s: reading %.1f GB once, to know its digest", path, stat.st_size / 1e9)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    if stat.st_size >= _KEPT:
        with suppress(OSError):  # whoever may not write there, or has no room, reads it again
            write_atomically(known, digest.encode())
    return digest
