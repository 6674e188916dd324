"""Event files of TensorBoard: read back by TensorBoard itself, on a disk that is full and one that is not."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard.summary import scalar

from seekr_tune.analysis.event_file import EventFile, event_file_name

FULL_DISK = Path("/dev/full")


def points(directory: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(directory))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_what_is_flushed_can_be_read_while_the_file_is_open(tmp_path: Path) -> None:
    file = EventFile(tmp_path / event_file_name(), purge_step=0)
    for step in (1, 2):
        file.add(scalar("loss", step / 2), step)
    file.flush()
    assert points(tmp_path, "loss") == [(1, 0.5), (2, 1.0)]
    file.close()


def test_a_later_file_takes_the_place_of_what_an_earlier_one_holds_from_a_step_on(tmp_path: Path) -> None:
    for value, purge_step, steps in ((1.0, 0, (1, 2, 3)), (2.0, 2, (2, 3))):
        file = EventFile(tmp_path / event_file_name(), purge_step)
        for step in steps:
            file.add(scalar("loss", value), step)
        file.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert points(tmp_path, "loss") == [(1, 1.0), (2, 2.0), (3, 2.0)]


def test_a_record_that_was_cut_costs_what_stands_behind_it_in_its_own_file_only(tmp_path: Path) -> None:
    cut = tmp_path / event_file_name()
    file = EventFile(cut, purge_step=0)
    for step in (1, 2):
        file.add(scalar("loss", 1.0), step)
    file.close()
    cut.write_bytes(cut.read_bytes()[:-5])
    resumed = EventFile(tmp_path / event_file_name(), purge_step=2)
    resumed.add(scalar("loss", 2.0), 2)
    resumed.close()
    assert points(tmp_path, "loss") == [(1, 1.0), (2, 2.0)]


@pytest.mark.skipif(not FULL_DISK.exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_is_an_error_of_the_call_and_of_no_thread(capsys: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    with pytest.raises(OSError) as raised:
        EventFile(FULL_DISK, purge_step=0)
    assert raised.value.errno == errno.ENOSPC
    assert threading.active_count() == before
    assert capsys.readouterr() == ("", "")
