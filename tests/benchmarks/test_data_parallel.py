from __future__ import annotations

import pytest

from benchmarks.data_parallel import KINDS, figures_of, seconds_of_turns
from benchmarks.gpu.models import Setting


@pytest.mark.slow
def test_both_processes_take_turns_of_every_kind() -> None:
    options = "--device cpu --dtype float32 --lengths 64 --tokens 128 --queries 5"
    turns = seconds_of_turns(Setting("tiny", lora=False, checkpointing=False), options, repeats=2)
    assert tuple(turns) == KINDS and all(len(own) == 2 and min(own) > 0 for own in turns.values())


def test_two_that_take_as_long_as_one_are_twice_as_fast() -> None:
    figures = figures_of({"alone": [1.0, 3.0], "at once": [1.0, 3.0], "together": [1.25, 3.75]})
    assert [figure.value for figure in figures] == pytest.approx([0.8, 1.0, 0.8])
    assert [figure.misses for figure in figures] == [True, False, False]
