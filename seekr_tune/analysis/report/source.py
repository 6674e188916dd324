"""What a report is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seekr_tune.config import Config


@dataclass(frozen=True)
class Final:
    """What `finalize` has reported so far.

    Attributes:
        heading: which opening of the test split it is of.
        table: the final table, as `finalize` has written it; None while its runs are not done.
    """

    heading: str
    table: Mapping[str, Any] | None


@dataclass(frozen=True)
class Source:
    """A study, as its directory tells it; its numbers are in the ledger there.

    Attributes:
        directory: holds `ledger/`.
        config: the study's experiment.
        experiment: the same as YAML.
        space: the search space as YAML.
        protocol: what was tuned on, and whether `test` was opened: in one line.
        changes: of data and model, as they were accepted: one line each.
        openings: each opening of `test`, in one line.
        finals: their results.
        provenance: versions, machine and data as they were when the study began; None where nobody noted them.
        made_at: date and time of the report.
    """

    directory: Path
    config: Config
    experiment: str
    space: str
    protocol: str
    changes: tuple[str, ...]
    openings: tuple[str, ...]
    finals: tuple[Final, ...]
    provenance: Mapping[str, Any] | None
    made_at: str
