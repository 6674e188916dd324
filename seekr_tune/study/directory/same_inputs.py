"""Whether a study or a run goes on with what it was begun with.

Results of different data, models or tokens cannot be ranked together without a word: whoever goes on compares first.
What was accepted as changed is noted in the section `Changes` of the provenance.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from seekr_tune.config import Config
from seekr_tune.data.sources import load_stream
from seekr_tune.documents import parse_json
from seekr_tune.errors import StudyError
from seekr_tune.study.directory.layout import cache_path, provenance_path
from seekr_tune.study.directory.provenance import (
    AROUND,
    SPECIAL_TOKENS,
    Provenance,
    damaged,
    encoder_noted,
    keep_provenance,
    model_files,
    read_provenance,
    split_name,
    splits_noted,
)

_CHANGES = "Changes"
_TEXTS = (".md", ".txt", "SHA256SUMS", "LICENSE")
"""Names of files beside a model that are read by people alone."""

_logger = logging.getLogger(__name__)


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
    for section, now in (("Data", splits_noted(config)), ("Model", model_files(config, cache))):
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


def _note(directory: Path, noted: Provenance, found: Sequence[Change]) -> None:
    sections = {heading: dict(facts) for heading, facts in noted.items()}
    when = datetime.now(UTC).isoformat()  # to the microsecond: each call is a change of its own
    for change in found:
        sections.setdefault(_CHANGES, {})[f"{when} {change}"] = f"{change.before} -> {change.now}"
        if change.now is None:
            sections[change.section].pop(change.name)
        else:
            sections[change.section][change.name] = change.now
    keep_provenance(directory, sections)
    _logger.warning("%s: changed and accepted: %s", directory, ", ".join(map(str, found)))


def require_same_special_tokens(directory: Path, config: Config) -> None:
    """Refuse to add runs to a study whose earlier ones had other special tokens around prompts and answers.

    Raises:
        StudyError: naming both, or the file where they are noted, if it is damaged.
        UserError: the data or the tokenizer cannot be used.
    """
    from seekr_tune.data.special_tokens import SpecialTokens
    from seekr_tune.loop.same_tokens import require_same_tokens

    noted = (read_provenance(directory) or {}).get(SPECIAL_TOKENS)
    try:
        begun = None if noted is None else SpecialTokens(*(tuple(parse_json(noted[name])) for name in AROUND))
    except (ValueError, LookupError, TypeError):
        raise damaged(provenance_path(directory)) from None
    require_same_tokens(begun, encoder_noted(config), load_stream(config, ("train",)), directory)
