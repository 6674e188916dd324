"""The files of one run: settings, results, steps and curves, held by one process at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from seekr_tune.atomic_files import write_atomically
from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.checkpoint.writing import remove_rooms
from seekr_tune.config import Config
from seekr_tune.config.facts import is_learned
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.experiment import differing, dump_config, leaves_that, load_experiment
from seekr_tune.leftovers import remove_remains
from seekr_tune.records import StepRow, TrialRecord, read_record, read_steps, write_record
from seekr_tune.study.directory.directory_moved import Footing
from seekr_tune.study.directory.forgotten import require_nothing_erasing
from seekr_tune.study.directory.links import require_no_links
from seekr_tune.study.directory.log import attempts, logged_in
from seekr_tune.study.runs.outcome import step_rows
from seekr_tune.study.runs.steplog import StepLog
from seekr_tune.study.runs.trackers import Trackers

LOCK_SECONDS = 60.0
"""Workers of a killed driver were seen to go on for a few seconds; longer means that somebody else runs the trial."""


class TrialFiles:
    """What rank 0 writes into a run's directory.

    Args:
        directory: the run's own directory, absolute.
        config: the experiment as the run sees it.
    """

    def __init__(self, directory: Path, config: Config) -> None:
        self._directory, self._config = directory, config
        self._path = directory / "result.json"
        self._lock = FileLock(directory / ".lock", timeout=LOCK_SECONDS)
        self._steps: StepLog | None = None
        self._trackers: Trackers | None = None
        self._footing: Footing | None = None
        self._log = ExitStack()

    def open(self) -> TrialRecord | None:
        """Take the directory; returns what was recorded there.

        Raises:
            StudyError: another process runs it, it belongs to other settings, a sample is erased by half, or a link
                stands where something is written.
        """
        require_no_links(self._directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise StudyError(
                f"{self._directory}: another process has been running this trial for {self._lock.timeout:.0f} s; "
                "wait for it, or end it"
            ) from None
        self._footing = Footing(self._directory, "the same command goes on")
        require_nothing_erasing(self._directory)
        _require_same_settings(self._directory, self._config)
        self._log.enter_context(logged_in(self._directory, attempt=attempts(self._directory) + 1))
        remove_remains(self._directory)
        record = read_record(self._path) if self._path.is_file() else None
        if record is not None and record.status in ("finished", "pruned"):
            _tidy(self._directory)
        return record

    def require_there(self) -> None:
        """Ask whether the directory is still where it was opened; nothing on a rank that has not opened it.

        Raises:
            StudyError: it was moved or deleted.
        """
        if self._footing is not None:
            self._footing.require()

    def start(self, record: TrialRecord, unfinished: Sequence[StepRecord]) -> Callable[[StepRecord], None]:
        """Bring the files to where the checkpoints stand; returns what logs a step.

        Args:
            record: the tasks that are finished.
            unfinished: steps of the next task that need not be taken again.
        """
        self._steps = StepLog(self._directory, record.tasks_done, list(step_rows(unfinished)))
        self._trackers = Trackers(self._config, record, self._directory, self._steps.num_steps)
        if record.status == "finished":  # killed between the last checkpoint and its record
            self._trackers.log_task(record)
        else:
            write_record(self._path, record)
        return self._log_step

    def finish_task(self, record: TrialRecord, steps: list[StepRow]) -> None:
        """Steps, curves, and last the record: it vouches for the others. That of the last task is left to `end`."""
        assert self._steps is not None and self._trackers is not None
        self.require_there()  # what is replaced below would make it again
        self._steps.finish_task(steps)
        self._trackers.log_task(record)
        if record.status != "finished":
            write_record(self._path, record)

    def end(self, record: TrialRecord) -> TrialRecord:
        """Nothing changes any more once a record says that the run is finished or pruned; one that was stopped goes on.

        So the curves, the log and the steps in progress are closed before it is written.
        """
        assert self._steps is not None and self._trackers is not None
        self.require_there()
        if record.status in ("finished", "pruned"):
            self._trackers.close(record)
            self._trackers = None
            self._close_steps()
            self._log.close()
        return write_record(self._path, record)

    def take_over(self, record: TrialRecord, steps: Sequence[StepRow]) -> None:
        """The files of a run whose results another one has found.

        Args:
            record: of a finished run; written by `end`.
            steps: all its steps.
        """
        self.start(record.model_copy(update={"status": "running", "tasks_done": 0, "scores": (), "timing": ()}), ())
        for number, stage in enumerate(record.timing, start=1):
            rows = [row for row in steps if row.task_index == stage.task_index]
            for row in rows:
                self._log_row(row)
            done = {"tasks_done": stage.task_index + 1, "timing": record.timing[:number]}
            status = "finished" if number == len(record.timing) else "running"  # which `end` says
            self.finish_task(record.model_copy(update=done | {"status": status}), rows)

    def steps(self) -> tuple[StepRow, ...]:
        """Steps of the finished tasks."""
        return read_steps(self._directory / "steps.jsonl")

    def close(self) -> None:
        """Give the directory back, also where a full disk does not take the last curves."""
        with ExitStack() as ends:  # the last one first
            ends.callback(self._lock.release)
            if self._footing is not None:
                footing, self._footing = self._footing, None
                ends.callback(footing.close)
            ends.callback(self._log.close)
            if self._trackers is not None:
                ends.callback(self._trackers.close)
            ends.callback(self._close_steps)

    def _close_steps(self) -> None:
        if self._steps is not None:
            steps, self._steps = self._steps, None
            steps.close()

    def _log_step(self, step: StepRecord) -> None:
        self.require_there()
        (row,) = step_rows([step])
        self._log_row(row)

    def _log_row(self, row: StepRow) -> None:
        assert self._steps is not None and self._trackers is not None
        self._steps.append(row)
        self._trackers.log_step(row)


def tidy_ended(directory: Path) -> None:
    """Remove what a run that is finished or pruned needs no more: its process may have been killed before it could.

    Not while a process holds the run, which then does it by itself.

    Args:
        directory: the run's own directory.
    """
    if any(_needed_no_more(directory)):
        with suppress(Timeout), FileLock(directory / ".lock", timeout=0):
            _tidy(directory)


def _tidy(directory: Path) -> None:
    remove_rooms(directory / "checkpoints")
    (directory / "steps.partial.jsonl").unlink(missing_ok=True)


def _needed_no_more(directory: Path) -> Iterator[Path]:
    yield from directory.glob("checkpoints/.writing-*")
    yield from directory.glob("steps.partial.jsonl")


def begun_settings(directory: Path) -> Config:
    """The settings that a run was begun with.

    Raises:
        StudyError: their file is damaged.
    """
    try:
        return load_experiment(directory / "config.yaml")
    except ConfigError as error:
        raise StudyError(
            f"{error}; it is damaged: restore it, or delete it if nothing was changed since the run was begun"
        ) from None


def _require_same_settings(directory: Path, config: Config) -> None:
    path = directory / "config.yaml"
    if not path.is_file():
        write_atomically(path, dump_config(config).encode())
        return
    begun, now = (leaves_that(one, is_learned) for one in (begun_settings(directory), config))
    changed = differing(begun, now)
    if changed:
        raise StudyError(
            f"{directory}: was begun with other settings ({', '.join(changed)} differ); "
            "go on with the same ones, or choose another directory"
        )
