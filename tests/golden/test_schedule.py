from __future__ import annotations

from pathlib import Path

from seekr_tune.loop.schedule import interleave

from .vectors import read_json


def test_step_order_equals_the_release(golden: Path) -> None:
    cases = read_json(golden / "schedule" / "schedule.json")
    assert cases
    for case in cases:
        new = [f"N{i}" for i in range(case["n_train_batches"])]
        replay = [f"R{i}" for i in range(case["n_replay_batches"] or 0)]
        sequence = interleave(new, replay, case["replay_cycle_arg"] or None) * case["epochs"]
        if case["error"] is None:
            assert sequence == case["sequence"], case
        else:  # where the release fails, every new batch still comes once an epoch
            assert [step for step in sequence if step.startswith("N")] == new * case["epochs"]
