from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.trainer_start import figures_of, measured


def test_the_difference_is_of_pairs() -> None:
    ours, rays, more = figures_of(ours=[10.0, 20.0, 12.0], rays=[9.5, 18.0, 11.75])
    assert (ours.value, rays.value, more.value) == (12.0, 11.75, 0.5)
    assert more.spread == (0.25, 2.0) and not more.misses


@pytest.mark.slow
@pytest.mark.ray
def test_both_sides_take_a_first_step(tmp_path: Path) -> None:
    ours, rays = measured(pairs=1, root=tmp_path)
    assert len(ours) == len(rays) == 1 and min(*ours, *rays) > 0
