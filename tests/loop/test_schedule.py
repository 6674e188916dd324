"""Which samples are learned in which step."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekr_tune.loop.schedule import (
    Stage,
    Step,
    accumulation_steps,
    batches,
    interleave,
    plan_steps,
    replayed_samples,
    spread,
    stages_of,
    stored_samples,
)
from seekr_tune.methods.draws import FixedDraws, SeededDraws
from seekr_tune.methods.semantics import CORRECTED, OFFICIAL

from .tiny import tiny_config

counts = st.integers(min_value=1, max_value=80)


@given(num_new=counts, num_replay=st.integers(0, 200))
def test_spreading_keeps_every_step_once_and_in_order(num_new: int, num_replay: int) -> None:
    new, replay = [("new", i) for i in range(num_new)], [("replay", i) for i in range(num_replay)]
    steps = spread(new, replay)
    assert [step for step in steps if step[0] == "new"] == new
    assert [step for step in steps if step[0] == "replay"] == replay


@given(num_new=counts, num_replay=st.integers(0, 200))
def test_the_first_step_is_a_new_one(num_new: int, num_replay: int) -> None:
    assert spread(["new"] * num_new, ["replay"] * num_replay)[0] == "new"


@given(num_new=counts, num_replay=st.integers(0, 200))
def test_replay_never_runs_ahead_or_behind_by_more_than_half_a_step(num_new: int, num_replay: int) -> None:
    steps = spread(["new"] * num_new, ["replay"] * num_replay)
    starts = [i for i, step in enumerate(steps) if step == "new"]
    for k, (_, end) in enumerate(zip(starts, [*starts[1:], len(steps)], strict=True), start=1):
        replayed = steps[:end].count("replay")
        assert abs(replayed - k * num_replay / num_new) <= 0.5


def test_more_replay_than_new_steps_are_all_presented() -> None:
    assert spread("ab", "12345") == ["a", "1", "2", "3", "b", "4", "5"]


def test_a_single_replay_step_stands_in_the_middle() -> None:
    assert spread("abcd", "1") == ["a", "b", "1", "c", "d"]


@given(samples=st.lists(st.integers(), max_size=40), size=st.integers(1, 9))
def test_batches_are_full_but_for_the_last(samples: list[int], size: int) -> None:
    cut = batches(samples, size)
    assert [sample for batch in cut for sample in batch] == samples
    assert all(len(batch) == size for batch in cut[:-1])
    assert all(0 < len(batch) <= size for batch in cut)


def test_interleaving_puts_a_replay_step_before_every_cycle_th_new_step() -> None:
    assert interleave("abcdef", "12", cycle=2) == ["a", "1", "b", "c", "2", "d", "e", "1", "f"]
    assert interleave("abcdefg", "12") == ["a", "b", "1", "c", "d", "e", "2", "f", "g"]  # 7 // 2 = 3
    assert interleave("abc", "") == ["a", "b", "c"]


def test_the_release_replays_nothing_where_replay_steps_outnumber_new_ones() -> None:
    assert interleave("ab", "123") == ["a", "b"]
    assert interleave("ab", "123", cycle=1) == ["1", "a", "2", "b"]


@given(size=st.integers(1, 5000), percent=st.floats(0.001, 100.0))
def test_a_positive_percentage_always_stores_something_when_corrected(size: int, percent: float) -> None:
    count = stored_samples(size, percent, CORRECTED)
    assert 1 <= count <= size
    assert abs(count - size * percent / 100) <= 1


@given(size=st.integers(1, 5000), percents=st.tuples(st.floats(0, 100), st.floats(0, 100)))
def test_a_larger_percentage_never_stores_less(size: int, percents: tuple[float, float]) -> None:
    low, high = sorted(percents)
    for semantics in (CORRECTED, OFFICIAL):
        assert stored_samples(size, low, semantics) <= stored_samples(size, high, semantics)


def test_zero_percent_stores_nothing_in_either_reading() -> None:
    assert stored_samples(500, 0.0, CORRECTED) == stored_samples(500, 0.0, OFFICIAL) == 0


def test_the_release_rounds_the_memory_down() -> None:
    assert stored_samples(199, 1.0, OFFICIAL) == 1
    assert stored_samples(199, 1.0, CORRECTED) == 2
    assert stored_samples(50, 1.0, OFFICIAL) == 0
    assert stored_samples(500, 100.0, OFFICIAL) == stored_samples(500, 100.0, CORRECTED) == 500


def test_a_joint_run_is_one_stage_of_all_tasks_and_any_other_one_stage_a_task() -> None:
    assert stages_of(tiny_config(**{"method.name": "joint"})) == [Stage("first+last+second", (0, 1, 2))]
    for name in ("seqft", "replay", "derpp", "seekr"):
        stages = stages_of(tiny_config(**{"method.name": name}))
        assert stages == [Stage("first", (0,)), Stage("last", (1,)), Stage("second", (2,))]
        assert [stage.last for stage in stages] == [0, 1, 2]


def test_steps_make_up_an_update_in_the_release_only() -> None:
    config = tiny_config(**{"recipe.batch_size": 12, "recipe.micro_batch_size": 4})
    assert accumulation_steps(config, OFFICIAL) == 3
    assert accumulation_steps(config, CORRECTED) == 1
    assert accumulation_steps(tiny_config(**{"recipe.batch_size": 12}), OFFICIAL) == 1


def test_a_corrected_plan_presents_each_sample_once_an_epoch_and_the_memory_too() -> None:
    config = tiny_config(**{"recipe.batch_size": 4, "recipe.replay_batch_size": 3})
    steps = plan_steps([range(10), range(10)], 7, config, "last", CORRECTED, SeededDraws(1))
    new = [step.samples for step in steps if step.kind == "new"]
    replay = [step.samples for step in steps if step.kind == "replay"]
    assert [len(batch) for batch in new] == [4, 4, 2, 4, 4, 2]  # batches do not reach over the end of an epoch
    assert [len(batch) for batch in replay] == [3, 3, 3, 3, 2]  # memory batches do
    draws = SeededDraws(1)
    assert [i for batch in new for i in batch] == [i for e in range(2) for i in draws.epoch_order("last", e, 10)]
    assert [i for batch in replay for i in batch] == [i for e in range(2) for i in draws.replay_order("last", e, 7)]


def test_a_corrected_plan_replays_even_where_memory_is_larger_than_the_task() -> None:
    config = tiny_config(**{"recipe.batch_size": 4, "recipe.replay_batch_size": 1})
    steps = plan_steps([range(4)], 9, config, "last", CORRECTED, SeededDraws(1))
    assert [step.kind for step in steps] == ["new"] + ["replay"] * 9


def test_an_official_plan_starts_the_memory_anew_in_every_epoch() -> None:
    config = tiny_config(**{"recipe.batch_size": 2, "recipe.replay_batch_size": 2, "method.semantics": "official"})
    steps = plan_steps([range(8), range(8)], 4, config, "last", OFFICIAL, FixedDraws(1))
    one_epoch = ["new", "replay", "new", "new", "replay", "new"]
    assert [step.kind for step in steps] == one_epoch * 2
    assert steps[: len(one_epoch)] == steps[len(one_epoch) :]


def test_an_official_plan_follows_the_cycle_it_is_given() -> None:
    values = {"recipe.batch_size": 2, "recipe.replay_batch_size": 2, "method.semantics": "official"}
    config = tiny_config(**values, **{"method.memory.cycle": 1})
    steps = plan_steps([range(8)], 2, config, "last", OFFICIAL, FixedDraws(1))
    assert [step.kind for step in steps] == ["replay", "new"] * 4
    assert len({step.samples for step in steps if step.kind == "replay"}) == 1


def test_an_official_new_step_is_one_micro_batch() -> None:
    values = {"recipe.batch_size": 8, "recipe.micro_batch_size": 2, "method.semantics": "official"}
    steps = plan_steps([range(8)], 0, tiny_config(**values), "last", OFFICIAL, FixedDraws(1))
    assert [len(step.samples) for step in steps] == [2, 2, 2, 2]


def test_epochs_may_hold_different_samples() -> None:
    config = tiny_config(**{"recipe.batch_size": 1})
    steps = plan_steps([[0, 1, 2], [1]], 0, config, "joint", CORRECTED, SeededDraws(1))
    assert Counter(step.samples for step in steps) == {(0,): 1, (1,): 2, (2,): 1}
    assert steps[-1] == Step("new", (1,))


@pytest.mark.parametrize("semantics", [CORRECTED, OFFICIAL], ids=lambda s: s.name)
def test_an_empty_memory_gives_new_steps_only(semantics: object) -> None:
    assert isinstance(semantics, type(CORRECTED))
    steps = plan_steps([range(8)], 0, tiny_config(), "first", semantics, SeededDraws(1))
    assert {step.kind for step in steps} == {"new"}


def test_replayed_are_the_samples_of_all_tasks_but_the_last() -> None:
    config = tiny_config(**{"method.memory.percent": 25.0})
    assert replayed_samples(config, [12] * len(config.stream.tasks)) == 3 * (len(config.stream.tasks) - 1)


def test_a_method_without_replay_and_a_single_stage_replay_nothing() -> None:
    for name in ("seqft", "joint"):
        config = tiny_config(**{"method.name": name, "method.memory.percent": 25.0})
        assert replayed_samples(config, [12] * len(config.stream.tasks)) == 0


def test_the_release_may_show_a_part_of_the_memory() -> None:
    config = tiny_config(
        **{
            "method.semantics": "official",
            "method.memory.percent": 50.0,
            "method.memory.cycle": 2,
            "recipe.batch_size": 4,
            "recipe.replay_batch_size": 1,
        }
    )
    sizes = [12] * len(config.stream.tasks)
    # 3 new steps a task, a replay step before the second: one sample a task, where 6 are stored of each.
    assert 1 <= replayed_samples(config, sizes) <= len(sizes) - 1
