"""What the directory of a study tells a report, beside its ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seekr_tune.analysis.report.source import Final, Source
from seekr_tune.atomic_files import read_bytes
from seekr_tune.documents import read_json
from seekr_tune.errors import DocumentError, StudyError
from seekr_tune.experiment import load_experiment
from seekr_tune.study.directory.layout import experiment_path, space_path
from seekr_tune.study.directory.lock import require_study
from seekr_tune.study.directory.provenance import read_provenance
from seekr_tune.study.directory.same_inputs import change_lines
from seekr_tune.study.directory.test_split_log import Opening, openings, protocol_line


def report_source(directory: Path) -> Source:
    """All of it, of a study that runs or has ended.

    Raises:
        StudyError: the directory holds no study, or a file of it is damaged.
    """
    require_study(directory)
    every = openings(directory)
    return Source(
        directory=directory,
        config=load_experiment(experiment_path(directory)),
        experiment=read_bytes(experiment_path(directory)).decode(),
        space=read_bytes(space_path(directory)).decode(),
        protocol=str(protocol_line(directory)),
        changes=tuple(change_lines(directory)),
        openings=tuple(map(_line, every)),
        finals=tuple(_final(directory, opening) for opening in every),
        provenance=read_provenance(directory),
        made_at=datetime.now(UTC).isoformat(timespec="minutes"),
    )


def _line(opening: Opening) -> str:
    chosen = ", ".join(one.configuration for one in opening.configurations)
    state = "finished" if opening.finished else "not finished yet"
    return f"{opening.when}: {chosen}; {opening.rule}; code {opening.code_version}; {state}"


def _final(directory: Path, opening: Opening) -> Final:
    path = directory / opening.folder / "table.json"
    heading = f"Final result, test opened {opening.date}{' again' if opening.again else ''}"
    return Final(heading, _read_json(path) if path.is_file() else None)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        values: Mapping[str, Any] = read_json(path)
    except DocumentError as error:
        raise StudyError(f"{path}: is damaged ({error.reason}); `seekr-tune finalize` writes it again") from None
    return values
