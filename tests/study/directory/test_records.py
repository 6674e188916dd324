"""Records as a study reads them: without their heads, which lie beside them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from seekr_tune.atomic_files import write_atomically
from seekr_tune.errors import StudyError
from seekr_tune.records import heads_path, read_record, write_record
from seekr_tune.records.heads import read_heads
from seekr_tune.records.seal import sealed
from seekr_tune.study.directory.records import change_record, record_at
from tests.analysis.synthetic import RecordFactory

make_record = RecordFactory()


def test_heads_keep_every_bit_and_stay_when_a_record_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    odd = [math.inf, -0.0, 5e-324, 0.1 + 0.2]
    heads = [
        row.model_copy(update={"importance": value})
        for row, value in zip(make_record.heads(1, 4)[:4], odd, strict=True)
    ]
    write_record(path, make_record(heads=heads, status="pruned"))
    before = read_heads(path)
    assert list(map(repr, before["importance"].to_pylist())) == list(map(repr, odd))
    change_record(path, status="running", revived=True)
    assert read_record(path).revived and read_heads(path) == before


def test_a_record_of_0_2_0_has_its_heads_inside_and_they_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    path, record = tmp_path / "0000" / "result.json", make_record(heads=make_record.heads())
    write_atomically(path, sealed(record.to_json().encode()))
    rows = [row.model_dump() for row in record.heads]
    assert record_at(path) == record.model_copy(update={"heads": ()})
    assert read_heads(path).to_pylist() == rows
    change_record(path, revived=True)
    assert not read_record(path).heads and read_heads(path).to_pylist() == rows, "written anew, it is as today's"


@pytest.mark.parametrize("damage", ["flipped", "gone", "another"])
def test_heads_that_are_not_what_the_record_says_are_refused_and_of_a_run_that_goes_on_left_out(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "result.json"
    write_record(path, make_record(heads=make_record.heads()))
    if damage == "gone":
        heads_path(path).unlink()
    elif damage == "another":  # killed when the next task's heads were there, and its record was not
        before = path.read_bytes()
        write_record(path, make_record(heads=make_record.heads(3, 3)))
        path.write_bytes(before)
    else:
        content = bytearray(heads_path(path).read_bytes())
        content[len(content) // 2] ^= 1
        heads_path(path).write_bytes(content)
    with pytest.raises(StudyError, match=rf"{heads_path(path)}: .*; restore the file or run the trial again"):
        read_heads(path)
    change_record(path, status="running")
    assert read_heads(path).num_rows == 0
