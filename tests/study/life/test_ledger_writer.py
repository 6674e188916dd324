"""When a study writes its ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.study.life import drive
from seekr_tune.study.life.drive import LedgerWriter


def test_a_ledger_that_takes_long_is_written_when_a_tenth_of_the_time_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = [0.0], []

    def write_slowly(*_: object) -> None:
        written.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(drive.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(drive, "write_ledger", write_slowly)
    ledger = LedgerWriter(tmp_path, tmp_path)
    for moment in (0.0, 5.0, 19.0, 20.0, 21.0, 30.0):
        now[0] = max(now[0], moment)
        ledger.write_when_due()
    assert written == [0.0, 20.0]
    ledger.write()
    assert written == [0.0, 20.0, 30.0], "the last word is always written"
