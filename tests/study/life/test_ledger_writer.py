"""When a study writes its ledger, and what it reads anew for that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seekr_tune.analysis.ledger import read_table, table_path
from seekr_tune.records import heads_path, write_record, write_steps
from seekr_tune.study.directory.layout import result_path, trial_key
from seekr_tune.study.directory.records import change_record
from seekr_tune.study.life import ledger_writer
from seekr_tune.study.life.ledger_writer import LedgerWriter
from tests.analysis.synthetic import RecordFactory

make_record = RecordFactory()
Reads = list[str]


def test_a_ledger_that_takes_long_is_written_when_a_tenth_of_the_time_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = [0.0], []

    def write_slowly(*_: object) -> None:
        written.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(ledger_writer.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ledger_writer, "write_ledger", write_slowly)
    ledger = LedgerWriter(tmp_path, tmp_path)
    for moment in (0.0, 5.0, 19.0, 20.0, 21.0, 30.0):
        now[0] = max(now[0], moment)
        ledger.write_when_due()
    assert written == [0.0, 20.0]
    ledger.write()
    assert written == [0.0, 20.0, 30.0], "the last word is always written"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Five runs: the second judged no heads, the third logged no steps."""
    for number in range(5):
        finish(tmp_path, number, heads=() if number == 1 else make_record.heads(), steps=2 if number != 2 else 0)
    return tmp_path


def finish(directory: Path, number: int, *, heads: Any, steps: int) -> None:
    path = result_path(directory, trial_key(number))
    write_record(path, make_record(trial_key(number), heads=heads))
    if steps:
        write_steps(path.with_name("steps.jsonl"), make_record.steps(0, steps))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Names of the files of heads and steps that are read, each with the end of its run's key."""
    found: Reads = []

    def told(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def reading(path: Path) -> Any:
            found.append(f"{path.parent.name[-1]}/{path.name}")
            return read(path)

        return reading

    for name in ("read_heads", "read_steps"):
        monkeypatch.setattr(ledger_writer, name, told(getattr(ledger_writer, name)))
    return found


def tables(directory: Path) -> list[pa.Table]:
    return [read_table(directory, "heads"), read_table(directory, "steps")]


def test_what_has_not_changed_is_taken_from_the_ledger_that_was_written_last(runs: Path, reads: Reads) -> None:
    ledger = LedgerWriter(runs, runs)
    ledger.write()
    first = tables(runs)
    assert len(reads) == 5 + 4 and [table.num_rows for table in first] == [4 * 12, 4 * 2]
    reads.clear()
    ledger.write()
    assert not reads and tables(runs) == first

    finish(runs, 0, heads=make_record.heads(1, 2), steps=3)
    finish(runs, 5, heads=make_record.heads(), steps=1)
    change_record(result_path(runs, trial_key(4)), status="failed")  # its heads are asked for by the record
    ledger.write()
    assert sorted(reads) == ["0/result.json", "0/steps.jsonl", "4/result.json", "5/result.json", "5/steps.jsonl"]
    now = tables(runs)
    LedgerWriter(runs, runs).write()
    assert tables(runs) == now, "as if all had been read anew"


@pytest.mark.parametrize("change", ["removed", "damaged", "of others"])
def test_a_ledger_that_is_not_as_it_was_left_is_made_anew(
    runs: Path, reads: Reads, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = LedgerWriter(runs, runs)
    ledger.write()
    expected, path = tables(runs), table_path(runs, "heads")
    reads.clear()
    if change == "removed":
        path.unlink()
    elif change == "of others":
        path.write_bytes(table_path(runs, "steps").read_bytes())
    else:  # and nobody can see it from outside
        content = bytearray(path.read_bytes())
        content[len(content) // 8] ^= 0xFF
        path.write_bytes(content)
        monkeypatch.setattr(ledger_writer, "_stamp", lambda *paths: ())
    ledger.write()
    assert tables(runs) == expected
    assert {"0/result.json", "4/result.json"} <= {*reads}


def test_damaged_heads_cost_their_own_rows_only(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = heads_path(result_path(runs, trial_key(3)))
    path.write_bytes(b"PAR1")
    ledger = LedgerWriter(runs, runs)
    for _ in range(2):
        ledger.write()
        kept = read_table(runs, "heads").column("trial").unique().to_pylist()
        assert kept == [trial_key(number) for number in (0, 2, 4)]
    assert read_table(runs, "trials").num_rows == 5
    assert caplog.text.count(str(path)) == 1
