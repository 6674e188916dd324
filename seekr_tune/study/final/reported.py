"""What of a study is reported: of its tuning (`eval`), or of its final runs (`test`).

The configurations are those that the rule of `study.final` takes. Their scores on `test` never decide anything: where
the best one is asked for, it is the best in tuning, of the last finished opening too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import load_experiment
from seekr_tune.foreign_text import ours
from seekr_tune.records import ScoredSplit
from seekr_tune.study.directory.layout import experiment_path
from seekr_tune.study.directory.records import read_all_records
from seekr_tune.study.directory.test_split_log import Opening, openings
from seekr_tune.study.final.choice import Candidate, candidates, choose, decides
from seekr_tune.study.search.objectives import as_gains


@dataclass(frozen=True)
class Reported:
    """The runs that a report shows.

    Attributes:
        directory: holds their `trials/` and `ledger/`.
        split: what they were scored on.
        configurations: keys of the chosen configurations, best first (group after group, where the rule has groups).
        best: the one that is best in the objective that decides, by tuning.
    """

    directory: Path
    split: ScoredSplit
    configurations: tuple[str, ...]
    best: str


def reported(directory: Path, split: ScoredSplit) -> Reported:
    """What of a study is reported on a split.

    Args:
        directory: of the study.
        split: `eval` for the runs of the study, `test` for those of its last finished opening.

    Raises:
        StudyError: no configuration is complete, or `test` was not opened.
    """
    config = load_experiment(experiment_path(directory))
    if split == "test":
        opening = finished_opening(directory)
        if opening is None:
            raise StudyError(f"{directory}: has no scores on test; `{ours('finalize', directory)}` opens it, once")
        chosen = [Candidate(one.configuration, {}, one.params, one.tuned) for one in opening.configurations]
        place = directory / opening.folder
    else:
        found = candidates(read_all_records(directory)[0], config)
        if not found:
            raise StudyError(f"{directory}: no configuration has finished all of its runs yet; name one with --trial")
        chosen, place = choose(found, config.study), directory
    return Reported(place, split, tuple(one.key for one in chosen), _best(chosen, config))


def finished_opening(directory: Path) -> Opening | None:
    """The last opening of `test` whose runs are all finished; None where there is none."""
    return next((opening for opening in reversed(openings(directory)) if opening.finished), None)


def _best(chosen: list[Candidate], config: Config) -> str:
    """The first of the best ones: the rule has put equals in order."""
    name = decides(config.study)
    direction = config.study.objectives[name]
    return max(chosen, key=lambda one: as_gains([one.values[name]], [direction])[0]).key
