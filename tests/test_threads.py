"""The check that no test leaves a thread behind."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from hypothesis import settings

from tests import threads


def test_a_thread_that_is_left_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_SECONDS_TO_END", 0.01)
    ended = threading.Event()
    left = threading.Thread(target=ended.wait, name="a server of somebody", daemon=True)
    with pytest.raises(AssertionError, match=r"leaves threads behind: a server of somebody \(Event\.wait\)"):
        with threads.none_left():
            left.start()
    ended.set()
    left.join()


def test_a_thread_that_ends_by_itself_or_was_there_before_is_none() -> None:
    ended = threading.Event()
    before, soon = threading.Thread(target=ended.wait), threading.Thread(target=ended.wait)
    before.start()
    with threads.none_left():
        soon.start()
        ended.set()
    assert not soon.is_alive()  # it was waited for
    with threads.none_left():
        pass
    before.join()


def test_no_test_has_a_deadline() -> None:
    assert settings().deadline is None
    paths = [path for path in Path(__file__).parent.rglob("*.py") if path != Path(__file__)]
    timed = [path.name for path in paths if re.search(r"deadline=(?!None)", path.read_text(encoding="utf-8"))]
    assert len(paths) > 100 and not timed
