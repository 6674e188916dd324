"""Which samples count as replayed: what was shown, not what is stored."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic import RecordFactory

from seekr_tune.analysis.measures import measure, replayed_samples
from seekr_tune.records import ReplayRow, TrialRecord
from tests.replayed import replay_row


def rows(*counts: tuple[int, int, int | None]) -> tuple[ReplayRow, ...]:
    """One row a task: stored, shown while it was learned, and how many of those for the first time."""
    return tuple(replay_row(f"task-{index}", index, *count) for index, count in enumerate(counts))


def of(epochs: int | list[int]) -> dict[str, Any]:
    return {"recipe": {"epochs": epochs}}


def test_the_samples_of_the_last_task_are_stored_and_not_replayed(make_record: RecordFactory) -> None:
    found = measure(make_record(replay=rows((5, 0, 0), (5, 5, 5), (5, 10, 5)), matrix=make_record.matrix(60.0)))
    assert (found.distinct_replayed_samples, found.stored_samples, found.replay_presentations) == (10, 15, 15)
    assert found.op_per_replayed_sample == 60 / 10


def test_a_sample_that_was_never_shown_does_not_count() -> None:
    assert replayed_samples(rows((8, 0, 0), (8, 4, 4), (8, 4, 3)), of(1)) == 7


@pytest.mark.parametrize(
    ("epochs", "counts", "expected"),
    [
        (1, [(5, 0), (5, 5), (5, 10)], 10),
        (3, [(5, 0), (5, 15), (5, 30)], 10),
        ([1, 2, 3], [(5, 0), (4, 10), (5, 27)], 9),
        (1, [(5, 0), (5, 7), (5, 0)], 5),  # semantics official: some batches twice, then more replay than new steps
        (2, [(0, 0), (0, 0), (0, 0)], 0),
        (2, [(5, 0), (5, 8), (5, 20)], 10),  # a part at first, and later all
        (2, [(5, 0), (5, 10), (5, 18)], None),  # a part: nobody counted which
    ],
)
def test_earlier_records_are_counted_where_all_of_the_memory_was_shown_or_none_of_it(
    epochs: int | list[int], counts: list[tuple[int, int]], expected: int | None
) -> None:
    assert replayed_samples(rows(*((stored, shown, None) for stored, shown in counts)), of(epochs)) == expected


def test_what_nobody_can_count_has_no_quotient(make_record: RecordFactory) -> None:
    found = measure(make_record(replay=rows((5, 0, None), (5, 4, None), (5, 3, None))))
    assert found.distinct_replayed_samples is None and found.op_per_replayed_sample is None


def test_a_record_of_version_2_is_read_as_one_of_this_version(make_record: RecordFactory) -> None:
    record = make_record(replay=rows((5, 0, None), (5, 5, None), (5, 10, None)))
    text = record.to_json().replace('"schema_version":3', '"schema_version":2')
    text = text.replace(',"first_presentations":null', "")
    assert "first_presentations" not in text
    assert TrialRecord.from_json(text) == record and measure(record).distinct_replayed_samples == 10
