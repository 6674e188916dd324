"""The driver's side of `training.storage_path`: where a run stands at the store, and how it comes back from there.

    <storage_path>/<name>-<8 hex>/          of a study or a single run; `storage.json` in its directory remembers it
        <key>/                              the place of one run
            owner  checkpoints/             see `seekr_tune.checkpoint.remote`
            stop                            while the run shall stop
            config.yaml  result.json  result.heads.parquet  log.jsonl  steps.jsonl  steps.partial.jsonl  events/
            ray/                            Ray's own files; disposable

The run's directory, which only the driver sees, follows the place while the workers train.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from pyarrow import ArrowException

from seekr_tune.atomic_files import require_plain, write_atomically
from seekr_tune.checkpoint.directories import choose_intact, newest_intact
from seekr_tune.checkpoint.remote import saved_at, send
from seekr_tune.config import Config
from seekr_tune.documents import parse_json, read_json
from seekr_tune.errors import AccessError, StudyError
from seekr_tune.leftovers import unfinished
from seekr_tune.store import Stamp, Store
from seekr_tune.study.directory.layout import storage_path
from seekr_tune.study.directory.links import require_no_links_below
from seekr_tune.study.directory.log import merge_log
from seekr_tune.study.runs.watch import polled

PARTIAL = "steps.partial.jsonl"
"""The one result that also goes away."""
LOG = "log.jsonl"
"""Here it has lines of its own, too: those of the workers are added to them."""
RESULTS = ("config.yaml", LOG, PARTIAL, "result.heads.parquet", "steps.jsonl")
EVENTS = "events"
RECORD = "result.json"
"""Copied last, for it vouches for the others."""
STOP = "stop"
"""There when the run shall end after the step that it takes."""

_PULL_SECONDS = 3.0
_REFUSED = (OSError, ArrowException)
_logger = logging.getLogger(__name__)


def home_of(directory: Path, config: Config) -> Store | None:
    """The folder at the store of a study or a single run, drawn at the first launch; None without a store.

    Args:
        directory: of the study or run, held by the caller.
        config: its experiment.

    Raises:
        StudyError: it was begun with another `training.storage_path`, or holds a link.
        ConfigError: the store cannot be used.
    """
    place = config.training.storage_path
    wanted = place if place is None or "://" in place else str(Path(place).absolute())
    path = storage_path(directory)
    if path.is_file():
        begun = _begun(path)
        if begun["storage_path"] != wanted:
            raise StudyError(
                f"{directory}: was begun with training.storage_path {begun['storage_path']}, where its checkpoints "
                f"are ({begun['folder']}); keep it, or copy that folder and name the new storage_path in {path}"
            )
    elif wanted is not None:
        Store.open(wanted).require_writable()
        folder = f"{directory.name.lstrip('.')}-{secrets.token_hex(4)}"
        write_atomically(path, json.dumps({"storage_path": wanted, "folder": folder}).encode())
    home = known_home(directory)
    if home is not None:
        require_no_links_at(home)
    return home


def require_no_links_at(place: Store) -> None:
    """Refuse links in the folder of a study or a run at a store that is a directory; that one itself may be a link.

    Raises:
        StudyError: naming the link.
    """
    if place.is_local:
        require_plain(Path(place.path))
        require_no_links_below(Path(place.path))


def known_home(directory: Path) -> Store | None:
    """What `home_of` has drawn for a directory."""
    path = storage_path(directory)
    if not path.is_file():
        return None
    begun = _begun(path)
    return Store.open(begun["storage_path"]).at(begun["folder"])


def forget(directory: Path) -> None:
    """Remove what a directory that is about to be removed has at the store."""
    path = storage_path(directory)
    if path.is_file():
        begun = _begun(path)
        Store.open(begun["storage_path"]).remove(begun["folder"])


def _begun(path: Path) -> dict[str, str]:
    """What stands in `storage.json`."""
    try:
        begun = read_json(path)
        if not _is_plain(begun["folder"]):  # it may be removed one day, with all that is in it
            raise ValueError
        return {name: str(begun[name]) for name in ("storage_path", "folder")}
    except AccessError:
        raise
    except (ValueError, TypeError, KeyError):
        raise StudyError(
            f"{path}: is damaged; write into it again where the checkpoints are, as "
            '{"storage_path": "...", "folder": "..."}'
        ) from None


def _is_plain(name: object) -> bool:
    """Whether a name is that of something in a folder, and leads nowhere else."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


class Mirror:
    """Brings what a run leaves at its place into the run's directory.

    Args:
        place: of the run.
        directory: of the run; held by the caller.
    """

    def __init__(self, place: Store, directory: Path) -> None:
        self._place, self._directory = place, directory
        self._seen: dict[str, Stamp] = {}
        self._is_stopped = False

    def begin(self) -> bool:
        """Bring both sides to the same state; returns whether there is something left to learn.

        A run that was begun without the store goes on from what its directory holds.

        Raises:
            StudyError: the store cannot be used now.
        """
        try:
            self._place.remove("ray")
            self._place.remove(STOP)
            if self._place.read(RECORD) is None:
                self._seed()
            self.pull()
            return not self._is_finished()
        except _REFUSED as error:
            raise StudyError(f"{self._place}: cannot be used now ({error}); give the command again") from None

    def following(self, stop_asked: Callable[[], bool] | None = None) -> AbstractContextManager[None]:
        """For the time of the block, and when it ends, bring what is new. A store that fails for a while is waited
        for.

        Args:
            stop_asked: when it says so, the run is asked to stop.
        """

        def look() -> None:
            self._try_to_pull()
            if stop_asked is not None and not self._is_stopped and stop_asked():
                self._try_to_stop()

        return polled(look, _PULL_SECONDS)

    def complete(self) -> None:
        """Bring a finished run's last checkpoint, and then the record that says so; nothing of one that was stopped.

        Raises:
            StudyError: the store cannot be read, or the run is neither finished there nor stopped.
        """
        try:
            if not self._is_finished():
                if self._is_stopped:
                    return
                raise StudyError(f"{self._place}: holds no finished run; give the command again to go on")
            self._bring_checkpoint()
            self._seen.clear()  # nothing may hang on clocks now
            self.pull()
            self._place.remove("ray")
            self._place.download(RECORD, self._directory / RECORD)
        except _REFUSED as error:
            raise StudyError(
                f"{self._place}: holds the finished run, but cannot be read ({error}); give the command again"
            ) from None

    def pull(self) -> None:
        """Bring what has changed; the record of a finished run is left to `complete`."""
        here = _stamps(self._place)
        for name in sorted(here.keys() - {RECORD}):
            self._pull(name, here[name])
        if PARTIAL not in here:
            (self._directory / PARTIAL).unlink(missing_ok=True)
        if RECORD in here and not self._is_finished():
            self._pull(RECORD, here[RECORD])

    def _pull(self, name: str, stamp: Stamp) -> None:
        if self._seen.get(name) != stamp:
            with suppress(FileNotFoundError):  # it was taken away meanwhile
                if name == LOG:
                    self._pull_log()
                else:
                    self._place.download(name, self._directory / name)
                self._seen[name] = stamp

    def _pull_log(self) -> None:
        fetched = unfinished(self._directory / LOG)
        try:
            self._place.download(LOG, fetched)
            merge_log(self._directory / LOG, fetched)
        finally:
            fetched.unlink(missing_ok=True)

    def _try_to_pull(self) -> None:
        try:
            self.pull()
        except _REFUSED as error:
            _logger.warning("%s: cannot be read now (%s)", self._place, error)

    def _try_to_stop(self) -> None:
        try:
            self._place.write(STOP, b"")
            self._is_stopped = True
        except _REFUSED as error:
            _logger.warning("%s: cannot be written now (%s)", self._place, error)

    def _is_finished(self) -> bool:
        record = self._place.read(RECORD)
        return record is not None and parse_json(record)["status"] == "finished"

    def _seed(self) -> None:
        checkpoints, token = self._directory / "checkpoints", secrets.token_hex(4)
        found = [path for path in newest_intact(checkpoints) if path is not None]
        if not found:
            return
        for path in found:
            send(path, self._place, token)
        for name in (*RESULTS, *_events(self._directory), RECORD):
            if (self._directory / name).is_file():
                self._place.upload(self._directory / name, name)

    def _bring_checkpoint(self) -> None:
        """A checkpoint appears in the directory by a rename, as it does without a store."""
        making = self._directory / "checkpoints" / f".writing-{secrets.token_hex(4)}"
        stages = [(saved.position, saved) for saved in saved_at(self._place) if not saved.position.steps]
        stage, _ = choose_intact(stages, lambda saved: saved.fetch(making))
        if stage is None:
            return
        final = self._directory / "checkpoints" / stage.position.name
        shutil.rmtree(final, ignore_errors=True)  # of a call that was killed just now
        (making / stage.position.name).rename(final)
        making.rmdir()


def local_stamps(directory: Path) -> dict[str, Stamp]:
    """Results in a run's directory, the record last; a file without steps does not count."""
    found = {}
    for name in (*RESULTS, *_events(directory), RECORD):
        with suppress(FileNotFoundError):
            stat = (directory / name).stat()
            if stat.st_size or name != PARTIAL:
                found[name] = (stat.st_size, stat.st_mtime_ns)
    return found


def fetch_results(place: Store, directory: Path) -> None:
    """Bring what a run goes on with into a directory that has no results; its curves go on in files of their own."""
    for name in _stamps(place):
        if not name.startswith(EVENTS):
            place.download(name, directory / name)


def _stamps(place: Store) -> dict[str, Stamp]:
    """Results at a place, by their path in it."""
    found = place.stamps()
    events = place.at(EVENTS).stamps() if EVENTS in found else {}
    return {
        **{name: stamp for name, stamp in found.items() if name in (*RESULTS, RECORD)},
        **{f"{EVENTS}/{name}": stamp for name, stamp in events.items()},
    }


def _events(directory: Path) -> Sequence[str]:
    return [f"{EVENTS}/{path.name}" for path in sorted((directory / EVENTS).glob("*"))]
