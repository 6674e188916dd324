"""Which trials are hopeless, by what the other trials of the study reached at the same position.

Only trials that compete are compared: where `study.final.for_each` chooses the best of each method, a weak method does
not lose its trials to a strong one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.records import read_all_records
from seekr_tune.study.search.fidelity import Position, Rule, Settings, at_position, is_hopeless, is_rung
from seekr_tune.study.search.progress import group_of
from seekr_tune.study.search.pruners import require_pruner, rule_of


@dataclass(frozen=True)
class Judge:
    """Judges the trials of a study; travels to the processes that train.

    Attributes:
        config: the experiment; `study` says how strict to be.
        directory: of the study, where the other trials' records are.
    """

    config: Config
    directory: Path

    def __call__(self, record: TrialRecord) -> bool:
        """Whether a run should be stopped after the task that it has just learned."""
        settings, done = self.config.study.pruning, record.tasks_done
        if record.role != "trial" or done >= len(record.tasks) or not is_rung(done, settings):
            return False
        every = self._competing_with(record)
        own = [*every.pop(record.configuration_key, [])[: record.replicate], record]
        is_revived = any(one.revived for one in own)  # a configuration that somebody took up again is not stopped again
        return not is_revived and self._is_hopeless(own, every.values(), settings, rule_of(self.config, done))

    def ends_race(self, records: Sequence[TrialRecord]) -> bool:
        """Whether a configuration should get no further replicates.

        Args:
            records: of its replicates so far, in order, all finished.
        """
        settings = self.config.study.racing
        if settings.rule == "none" or any(record.revived for record in records):
            return False
        every = self._competing_with(records[0])
        every.pop(records[0].configuration_key, None)
        return self._is_hopeless(records, every.values(), settings, None)

    def _is_hopeless(
        self,
        own: Sequence[TrialRecord],
        others: Iterable[Sequence[TrialRecord]],
        settings: Settings,
        rule: Rule | None,
    ) -> bool:
        objectives = self.config.study.objectives
        position = Position(len(own) - 1, own[-1].tasks_done)
        mine = at_position(own, objectives).get(position)
        if mine is None:
            return False
        theirs = [at_position(records, objectives).get(position) for records in others]
        known = [values for values in theirs if values is not None]
        return is_hopeless(mine, known, list(objectives.values()), settings, rule)

    def _competing_with(self, own: TrialRecord) -> dict[str, list[TrialRecord]]:
        """By configuration, the records of the trials of its group, without those of trials that failed."""
        paths = self.config.study.final.for_each
        group = group_of(own.config, paths)
        found: dict[str, list[TrialRecord]] = defaultdict(list)
        for record in read_all_records(self.directory)[0]:
            if record.role == "trial" and group_of(record.config, paths) == group:
                found[record.configuration_key].append(record)
        return {
            key: _without_gap(records)
            for key, records in found.items()
            if not any(record.status == "failed" for record in records)
        }


def require_comparable(config: Config) -> None:
    """Refuse pruning where a trial has no value before its end, and a pruner that cannot be had.

    Raises:
        ConfigError: naming the field.
    """
    if config.study.pruning.rule != "none" and config.evaluation.matrix == "diagonal_and_last":
        raise ConfigError(
            "study.pruning compares scores after each task, which evaluation.matrix 'diagonal_and_last' does not take; "
            "set evaluation.matrix to seen or full"
        )
    require_pruner(config)


def _without_gap(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The replicates in order, up to the first whose record is lost."""
    by_number = {record.replicate: record for record in records}
    return [by_number[number] for number in range(len(records)) if set(range(number + 1)) <= set(by_number)]
