"""A stand-in for Ray Tune that does one trial after the other in the process of the driver.

Everything else of a study is real: the lock, the journal, the searcher between Tune and the queue, the runs, the
ledger, the quota. So the process can be killed, and its writes can fail, hundreds of times in the time of a few Ray
sessions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

import seekr_tune.study.life.drive as drive
import seekr_tune.study.life.study as study
import seekr_tune.study.life.tuner as tuner

_logger = logging.getLogger(__name__)
_reports: list[dict[str, Any]] = []
_trial_id = ""


@contextmanager
def without_ray() -> Iterator[None]:
    """In this block, studies of this process run without Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drive, "room_in_ray", _room)
        patch.setattr(study, "room_in_ray", _room)
        patch.setattr(tuner, "tune", _TUNE)
        yield


@contextmanager
def _room(config: object) -> Iterator[int]:
    yield 1


class _Tuner:
    def __init__(self, trainable: Callable[[dict[str, Any]], None], tune_config: Any, run_config: Any) -> None:
        self._trainable, self._searcher, self._stop = trainable, tune_config.search_alg, run_config.stop

    def fit(self) -> None:
        global _trial_id
        for number in count():
            _trial_id = f"plain_{number:05d}"
            settings = None if self._stop.stop_all() else self._searcher.suggest(_trial_id)
            if settings is None or settings == Searcher.FINISHED:
                return
            failed = self._fails(settings)
            for result in _reports:
                self._searcher.on_trial_result(_trial_id, result)
            last = _reports[-1] if _reports else None
            _reports.clear()
            self._searcher.on_trial_complete(_trial_id, last, error=failed)

    def _fails(self, settings: dict[str, Any]) -> bool:
        try:
            self._trainable(settings)
        except Exception as error:  # Tune, too, takes whatever a trial raises
            _logger.warning("the trial raised %r", error)
            return True
        return False


def _with_parameters(trainable: Callable[..., None], **parameters: Any) -> Callable[[dict[str, Any]], None]:
    return lambda settings: trainable(settings, **parameters)


_TUNE = SimpleNamespace(
    PlacementGroupFactory=list,
    RunConfig=SimpleNamespace,
    TuneConfig=SimpleNamespace,
    Tuner=_Tuner,
    get_context=lambda: SimpleNamespace(get_trial_id=lambda: _trial_id),
    report=_reports.append,
    with_parameters=_with_parameters,
    with_resources=lambda trainable, resources: trainable,
)
