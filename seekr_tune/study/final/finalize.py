"""The end of a study: the chosen configurations are scored on the test split, once.

The rule of `study.final` chooses, the opening of `test` is noted, and only then runs begin that read it: the chosen
configurations and the bounds, learned anew on the final orders and seeds. They lie in `final/`, laid out as a study's.
Killed at any moment, the same call goes on with the same opening.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from seekr_tune.analysis.configurations import mean, nothing_learned_by
from seekr_tune.analysis.final import FinalTable, final_rows, final_table, final_warnings
from seekr_tune.analysis.table import as_csv, as_markdown, json_text
from seekr_tune.atomic_files import write_atomically
from seekr_tune.cluster.session import cluster_session
from seekr_tune.config import Config
from seekr_tune.errors import DataError, StudyError
from seekr_tune.experiment import load_experiment
from seekr_tune.foreign_text import ours
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.layout import (
    bound_key,
    experiment_path,
    final_path,
    result_path,
    run_key,
    space_path,
)
from seekr_tune.study.directory.lock import StudyLock, require_study
from seekr_tune.study.directory.log import logged_in
from seekr_tune.study.directory.records import change_record, read_records
from seekr_tune.study.directory.same_inputs import change_lines, require_unchanged
from seekr_tune.study.directory.test_split_log import Finalist, Opening, openings, protocol_line, write_openings
from seekr_tune.study.final.choice import candidates, choose, decides, rule_text
from seekr_tune.study.life.drive import drive, room_in_ray
from seekr_tune.study.life.status import study_status
from seekr_tune.study.runs.outcome import code_version
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.journal import open_study, record_or_aside
from seekr_tune.study.search.objectives import objective_value
from seekr_tune.study.search.protocol import (
    final_settings,
    require_no_leak,
    require_settings,
    settings_of_bounds,
    without_test,
)
from seekr_tune.study.search.space import load_space


def finalize_study(
    directory: Path | str,
    *,
    again: bool = False,
    accept_change: bool = False,
    address: str | None = None,
    console: Console | None = None,
) -> FinalTable:
    """Score the configurations that `study.final` chooses on the test split, and write `final/table.{csv,json,md}`.

    Args:
        directory: of a finished study.
        again: open `test` although it was opened before; that is noted, too.
        accept_change: go on although data or model changed since the study was begun; that is noted, too.
        address: of a running Ray cluster, HOST:PORT or `auto`; None: this machine.
        console: where to show progress.

    Raises:
        StudyError: the study is not finished, its data or model changed, no configuration is complete, `test` was
            opened before, `study.final` was edited while runs are left, or a final run failed (the table is written,
            and the same call tries it again).
        ConfigError, DataError: the test split is missing, or leaks.
        Stopped: somebody asked to stop.
    """
    directory = Path(directory).absolute()
    require_study(directory)
    with cluster_session(address), StudyLock(directory) as lock, logged_in(directory):
        config = load_experiment(experiment_path(directory))
        open_study(directory, config, load_space(space_path(directory)), recount=False)  # refuses what was edited
        opening = _unfinished(directory, config) or _new_opening(directory, config, again)
        changes = require_unchanged(directory, config, accept=accept_change)
        queue = FinalQueue(config, opening, directory / opening.folder, changes)
        if not queue.is_done:
            with room_in_ray(config):  # a machine that is too small must not have opened anything
                _note(directory, opening)
                require_no_leak(config)
                drive(queue, directory, queue.directory, console, address, lock=lock, again="finalize")
        return _ended(directory, config, opening)


@dataclass
class FinalQueue:
    """The final runs that are left: bounds first, then setting by setting, so that all configurations keep pace.

    Args:
        config: the study's experiment.
        opening: which configurations.
        directory: of the final runs.
        changes: of data and model that were accepted so far.
    """

    config: Config
    opening: Opening
    directory: Path
    changes: int = 0
    _waiting: deque[TrialRequest] = field(default_factory=deque, init=False)
    _live: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        for request in final_requests(self.config, self.opening):
            record = self.record(request.key)
            if record is not None and record.status == "failed":  # it may have been no fault of the run
                record = change_record(result_path(self.directory, request.key), status="running", error=None)
            if record is None or record.status != "finished":
                self._waiting.append(request)

    @property
    def num_left(self) -> int:
        """Runs that `next` will still hand out."""
        return len(self._waiting)

    @property
    def is_done(self) -> bool:
        """Whether every run has ended."""
        return not self._waiting and not self._live

    def next(self) -> TrialRequest | None:
        """The next run, or None when all have been handed out."""
        if not self._waiting:
            return None
        request = replace(self._waiting.popleft(), accepted_changes=self.changes)
        self._live.add(request.key)
        return request

    def link(self, request: TrialRequest, ray_trial_id: str) -> None:
        """Nothing: the run's own record has it."""

    def finish(self, request: TrialRequest) -> None:
        """A run has ended."""
        self._live.discard(request.key)

    def record(self, key: str) -> TrialRecord | None:
        """What a run wrote so far; None before it was begun, or where it cannot be read."""
        return record_or_aside(self.directory, key)


def final_requests(config: Config, opening: Opening) -> list[TrialRequest]:
    """Every final run; each of them can be told from its key."""
    settings = final_settings(config)
    bounds = [
        TrialRequest(run_key(key, number), "bound", {"method.name": bound}, None, key, number, setting)
        for number, setting in enumerate(settings_of_bounds(settings))
        for bound, key in ((bound, bound_key(bound)) for bound in config.study.bounds)
    ]
    trials = [
        TrialRequest(run_key(one.configuration, number), "trial", one.params, None, one.configuration, number, setting)
        for number, setting in enumerate(settings)
        for one in opening.configurations
    ]
    return [*bounds, *trials]


def _unfinished(directory: Path, config: Config) -> Opening | None:
    """The opening that a killed call left, if there is one."""
    opening = next((opening for opening in openings(directory) if not opening.finished), None)
    if opening is not None:
        now = {**_settings(config), "rule": rule_text(config.study)}
        changed = [name for name, value in now.items() if getattr(opening, name) != value]
        if changed:
            raise StudyError(
                f"{experiment_path(directory)}: study.final changed since test was opened on {opening.date} "
                f"({', '.join(changed)}); put it back, and the final runs go on"
            )
    return opening


def _settings(config: Config) -> dict[str, tuple[Any, ...]]:
    """Orders, seeds and memory draws of the final runs, as an opening notes them."""
    settings = final_settings(config)
    return {
        "orders": tuple(dict.fromkeys(tuple(setting["stream.tasks"]) for setting in settings)),
        "seeds": tuple(dict.fromkeys(setting["seed"] for setting in settings)),
        "memory_draws": tuple(dict.fromkeys(setting["memory_draw"] for setting in settings)),
    }


def _new_opening(directory: Path, config: Config, again: bool) -> Opening:
    """Choose configurations; nothing is written, and `test` is not read."""
    earlier = openings(directory)
    if earlier and not again:
        raise StudyError(
            f"{directory}: test was opened on {earlier[-1].date}, and looking twice makes a result too good; the table "
            f"is in {directory / earlier[-1].folder}; --again opens it all the same, which is noted"
        )
    require_settings(config)
    _require_finished(directory)
    missing = without_test(config)
    if missing:
        raise DataError(f"stream.tasks: no test split for {', '.join(missing)}; add it under {config.stream.root}")
    chosen = choose(candidates(read_records(directory), config), config.study)
    if not chosen:
        raise StudyError(f"{directory}: no configuration has finished all of its runs; give more trials with `resume`")
    opening = Opening(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=code_version(),
        rule=rule_text(config.study),
        configurations=tuple(
            Finalist(configuration=one.key, params=dict(one.params), tuned=dict(one.values)) for one in chosen
        ),
        **_settings(config),
        folder=final_path(directory, len(earlier) + 1).name,  # its own: what was reported stays as it was
        again=bool(earlier),
    )
    for request in final_requests(config, opening):
        request.config(config)  # what cannot be run must not have opened anything
    return opening


def _require_finished(directory: Path) -> None:
    counts = study_status(directory).counts
    left = sum(counts[state] for state in ("running", "interrupted", "damaged", "waiting"))
    if left:
        raise StudyError(
            f"{directory}: {left} run{'s are' if left > 1 else ' is'} not finished yet; go on with "
            f"`{ours('resume', directory)}`, then finalize"
        )


def _note(directory: Path, opening: Opening) -> None:
    """Write the opening into the record of all, if it is not there, or as it is now."""
    others = [one for one in openings(directory) if one.folder != opening.folder]
    write_openings(directory, [*others, opening])


def _ended(directory: Path, config: Config, opening: Opening) -> FinalTable:
    """Write the table; the opening is finished unless a run failed."""
    records = read_records(directory / opening.folder)
    table = FinalTable(
        by=decides(config.study),
        rule=opening.rule,
        protocol=str(protocol_line(directory)),
        orders=opening.orders,
        seeds=opening.seeds,
        memory_draws=opening.memory_draws,
        rows=final_rows(
            records, [one.configuration for one in opening.configurations], _tuned(directory, config, opening)
        ),
        warnings=(*change_lines(directory), *_of_tuning(directory), *final_warnings(records)),
    )
    whole = asdict(table)
    shown = [final_table(whole)]
    for suffix, text in {"csv": as_csv(shown), "json": json_text(whole), "md": as_markdown(shown)}.items():
        write_atomically(directory / opening.folder / f"table.{suffix}", text.encode())
    failed = [record for record in records if record.status == "failed"]
    if failed:
        raise StudyError(
            f"{directory}: {len(failed)} of {len(records)} final runs failed ({failed[0].trial}: {failed[0].error}); "
            f"the others are in {directory / opening.folder / 'table.md'}; mend that, and finalize again"
        )
    _note(directory, opening.model_copy(update={"finished": True}))
    return table


def _of_tuning(directory: Path) -> Iterator[str]:
    """That nothing was chosen by merit."""
    void = nothing_learned_by(read_records(directory))
    if void is not None:
        yield f"in tuning {void}, so what was chosen is no better than the rest"


def _tuned(directory: Path, config: Config, opening: Opening) -> Mapping[str, float | None]:
    """By configuration and bound: the objective that decided, as tuning saw it."""
    by = decides(config.study)
    bounds: dict[str, list[float | None]] = {}
    for record in read_records(directory):
        if record.role == "bound":
            bounds.setdefault(record.configuration_key, []).append(objective_value(record, by))
    return {
        **{key: mean(values) for key, values in bounds.items()},
        **{one.configuration: one.tuned.get(by) for one in opening.configurations},
    }
