from __future__ import annotations

from pathlib import Path

from benchmarks.study_growth import COUNTS, LAST, PARTS, curves_of, drive
from seekr_tune.analysis.ledger import read_table
from seekr_tune.study.directory.records import read_records


def test_every_part_of_a_study_is_done_and_timed(tmp_path: Path) -> None:
    clock = drive(tmp_path, counts=(LAST, 7))
    assert len(read_records(tmp_path)) == 7
    assert {record.status for record in read_records(tmp_path)} == {"finished"}
    assert read_table(tmp_path, "trials").num_rows == 7
    every, *parts = curves_of(clock, counts=(LAST, 7))
    assert [part.name for part in parts] == list(PARTS)
    assert all(y > 0 for part in parts for _, y in part.points)
    assert every.points[0][1] == sum(part.points[0][1] for part in parts)


def test_the_windows_of_the_counts_do_not_overlap() -> None:
    assert all(after - before >= LAST for before, after in zip((0, *COUNTS), COUNTS, strict=False))
