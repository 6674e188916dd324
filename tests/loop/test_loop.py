"""What must hold of a whole run, whatever the numbers are."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seekr_tune.checkpoint.state import StepRecord, StreamState
from seekr_tune.config import Config
from seekr_tune.data.collate import Encoder
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import Example, Task, TaskStream
from seekr_tune.errors import ConfigError, DataError, TrainingError
from seekr_tune.loop.loop import StreamRun, run_stream
from seekr_tune.loop.schedule import replayed_samples
from seekr_tune.methods.storage import unpack_rows

from .tiny import Run, run, same_memory, same_weights, tiny_config, tiny_loaded, tiny_stream, tiny_tokenizer

OFFICIAL = {"method.semantics": "official"}
NO_SCORES = {"evaluation.splits": ()}
BOTH = pytest.mark.parametrize("semantics", ["corrected", "official"])


def final(outcome_of: Run) -> StreamState:
    return outcome_of.outcomes[-1].state


# --- methods are one loop with parts off ---------------------------------------------------------------------------


@BOTH
def test_distillation_weights_zero_is_plain_replay_step_for_step(semantics: str) -> None:
    off = {
        "method.semantics": semantics,
        "method.seekr.logit_weight": 0.0,
        "method.seekr.attention_weight": 0.0,
    } | NO_SCORES
    without = run(tiny_config(**off))
    replay = run(tiny_config(**{"method.name": "replay", "method.semantics": semantics}, **NO_SCORES))
    assert {step.kind for step in replay.steps} == {"new", "replay"}
    assert without.losses == replay.losses
    assert same_weights(without, replay)


@BOTH
def test_distillation_changes_the_run(semantics: str) -> None:
    config = {"method.semantics": semantics} | NO_SCORES
    replay, derpp, seekr = (run(tiny_config(**{"method.name": n}, **config)) for n in ("replay", "derpp", "seekr"))
    assert [step.kind for step in replay.steps] == [step.kind for step in seekr.steps]
    assert not same_weights(replay, derpp)
    assert not same_weights(derpp, seekr)


@BOTH
def test_replay_percentage_zero_is_seqft(semantics: str) -> None:
    none = run(tiny_config(**{"method.memory.percent": 0.0, "method.semantics": semantics}))
    seqft = run(tiny_config(**{"method.name": "seqft", "method.semantics": semantics}))
    assert {step.kind for step in seqft.steps} == {"new"}
    assert none.losses == seqft.losses
    assert same_weights(none, seqft)
    assert len(final(none).memory) == len(final(seqft).memory) == 0


def test_weights_of_an_old_task_change_nothing_before_there_is_a_memory() -> None:
    runs = [run(tiny_config(**{"method.name": name}, **NO_SCORES)) for name in ("seqft", "seekr")]
    first, second = (list(r.outcomes[0].steps) for r in runs)
    assert [step.loss for step in first] == [step.loss for step in second]


def test_a_joint_run_is_one_stage_that_fills_the_last_row_only() -> None:
    joint = run(tiny_config(**{"method.name": "joint", "evaluation.matrix": "full"}))
    (outcome,) = joint.outcomes
    assert (outcome.index, outcome.task) == (2, "second")
    assert filled(outcome.state) == {(2, 0), (2, 1), (2, 2)}
    assert sum(step.samples for step in joint.steps) == 2 * 3 * 12
    assert len(outcome.state.memory) == 0


def test_a_joint_run_shows_each_task_in_its_own_number_of_epochs() -> None:
    joint = run(tiny_config(**{"method.name": "joint", "recipe.epochs": (1, 3, 2)}, **NO_SCORES))
    assert sum(step.samples for step in joint.steps) == (1 + 3 + 2) * 12


def test_each_task_is_learned_in_its_own_number_of_epochs() -> None:
    seqft = run(tiny_config(**{"method.name": "seqft", "recipe.epochs": (1, 3, 2)}, **NO_SCORES))
    assert [sum(step.samples for step in outcome.steps) for outcome in seqft.outcomes] == [12, 36, 24]


# --- randomness ------------------------------------------------------------------------------------------------------


@BOTH
def test_the_same_seed_gives_the_same_run_bit_for_bit(semantics: str) -> None:
    config = tiny_config(**{"method.semantics": semantics})
    one = run(config)
    torch.manual_seed(12345)  # what else the process drew must not matter
    other = run(config)
    assert one.losses == other.losses
    assert same_weights(one, other)
    assert same_memory(final(one).memory, final(other).memory)
    assert_same_scores(final(one), final(other))


def test_dropout_depends_on_the_seed_only() -> None:
    config = tiny_config(**NO_SCORES)
    dropped = []
    for state in (1, 2):
        loaded = tiny_loaded(attention_dropout=0.3)
        torch.manual_seed(state)
        dropped.append(run(config, loaded))
    assert dropped[0].losses == dropped[1].losses
    assert dropped[0].losses != run(config).losses  # else nothing was dropped


def test_another_seed_gives_another_run() -> None:
    one, other = run(tiny_config(seed=3, **NO_SCORES)), run(tiny_config(seed=4, **NO_SCORES))
    assert one.losses != other.losses
    assert [sample.index for sample in final(one).memory] != [sample.index for sample in final(other).memory]


def test_the_micro_batch_size_changes_the_result_by_rounding_only() -> None:
    values = {"recipe.batch_size": 6, "recipe.replay_batch_size": 4, "recipe.epochs": 1} | NO_SCORES
    whole = run(tiny_config(**values))
    for micro in (1, 4):
        cut = run(tiny_config(**{"recipe.micro_batch_size": micro}, **values))
        assert [(s.kind, s.samples, s.tokens) for s in cut.steps] == [
            (s.kind, s.samples, s.tokens) for s in whole.steps
        ]
        for ours, expected in zip(cut.steps, whole.steps, strict=True):
            assert ours.loss == pytest.approx(expected.loss, rel=1e-3, abs=1e-4)
            if "attention_distillation" in expected.terms:
                assert ours.terms["attention_distillation"] == pytest.approx(
                    expected.terms["attention_distillation"], rel=1e-2, abs=1e-5
                )


# --- replay memory ---------------------------------------------------------------------------------------------------


@BOTH
def test_a_smaller_memory_is_a_prefix_of_a_larger_one_task_by_task(semantics: str) -> None:
    kept = {}
    for percent in (10.0, 50.0):
        values = {"method.semantics": semantics, "method.name": "replay", "method.memory.percent": percent}
        memory = final(run(tiny_config(**values, **NO_SCORES))).memory
        kept[percent] = [[s.index for s in memory if s.task == task] for task in range(3)]
    for small, large in zip(kept[10.0], kept[50.0], strict=True):
        assert 1 == len(small) < len(large) == 6
        assert large[: len(small)] == small


def test_memory_holds_train_samples_of_learned_tasks_and_nothing_of_eval_or_test() -> None:
    config = tiny_config(**{"method.memory.percent": 100.0, "evaluation.splits": ("eval", "test")})
    stream, tokenizer = tiny_stream(), tiny_tokenizer()
    state = final(run(config))
    encoder = Encoder(tokenizer, config.recipe.max_prompt_tokens, config.recipe.max_answer_tokens, "separate")
    held_out = {encoder.encode_prompt(e.prompt) for task in stream for s in ("eval", "test") for e in task.splits[s]}
    stored = {tuple(s.input_ids[: -s.num_labels].tolist()) for s in state.memory}
    trained = {encoder.encode_prompt(e.prompt) for task in stream for e in task.train}
    assert stored == trained
    assert not stored & held_out


def test_a_stored_sample_is_the_train_row_that_it_names() -> None:
    config = tiny_config(**NO_SCORES)
    encoder = Encoder(tiny_tokenizer(), config.recipe.max_prompt_tokens, config.recipe.max_answer_tokens, "separate")
    stream = tiny_stream()
    for sample in final(run(config)).memory:
        expected = encoder.encode(stream[sample.task].train[sample.index])
        assert tuple(sample.input_ids.tolist()) == expected.input_ids
        assert sample.num_labels == expected.num_labels


def test_seekr_keeps_answer_rows_and_chosen_rows_only() -> None:
    history = final(run(tiny_config(**NO_SCORES))).history
    state = final(run(tiny_config(**NO_SCORES)))
    for sample in state.memory:
        teacher, length = sample.teacher, len(sample.input_ids)
        assert teacher is not None and teacher.logits is not None
        num_queries = min(5, length)
        assert teacher.logits.values.shape == (sample.num_labels, 64)
        assert sample.queries.shape == (num_queries,)
        assert dict(sample.heads) == dict(history[sample.task].selected)
        for layer, heads in sample.heads.items():
            rows = unpack_rows(teacher.rows_of(sample.heads, layer).values, sample.queries, length)
            assert torch.allclose(rows.sum(dim=-1), torch.ones(len(heads), num_queries), atol=1e-5)
        visible = int((sample.queries + length + 1).sum())
        numbers = sample.num_labels * 64 + 3 * visible  # float32; 3 heads over all layers
        integers = length + num_queries  # int64
        assert sample.num_bytes == 4 * numbers + 8 * integers
    for entry in history:
        own = [sample for sample in state.memory if sample.task == entry.index]
        assert entry.stored_samples == len(own) == 3
        assert entry.memory_bytes == sum(sample.num_bytes for sample in own)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method.semantics": "official", "method.memory.cycle": 2, "recipe.replay_batch_size": 1, "recipe.epochs": 1},
    ],
)
def test_the_history_says_which_samples_were_shown_for_the_first_time_as_foreseen(settings: dict[str, Any]) -> None:
    config = tiny_config(**{"method.name": "replay", **settings}, **NO_SCORES)
    outcomes = run(config).outcomes
    shown: set[tuple[int, int]] = set()
    for before, outcome in zip([None, *outcomes], outcomes, strict=False):
        memory = before.state.memory if before else ()
        own = {(memory[i].task, memory[i].index) for step in outcome.steps if step.kind == "replay" for i in step.batch}
        assert outcome.state.history[-1].first_shown == tuple(sorted(own - shown))
        shown |= own
    stream = tiny_stream()
    assert len(shown) == replayed_samples(config, [len(task.train) for task in stream])
    assert 0 < len(shown) < len(outcomes[-1].state.memory)


def test_stored_tensors_do_not_keep_a_larger_tensor_alive() -> None:
    for sample in final(run(tiny_config(**NO_SCORES))).memory:
        assert sample.teacher is not None and sample.teacher.logits is not None
        for tensor in (sample.queries, *sample.teacher.tensors().values()):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
            assert not tensor.requires_grad


def test_derpp_stores_logits_only_and_replay_neither() -> None:
    derpp = final(run(tiny_config(**{"method.name": "derpp"}, **NO_SCORES)))
    for sample in derpp.memory:
        assert sample.teacher is not None and sample.teacher.logits is not None
        assert sample.teacher.logits.values.shape == (sample.num_labels, 64)
        assert not sample.teacher.rows and not sample.heads and not len(sample.queries)
    assert all(entry.heads is None and not entry.selected for entry in derpp.history)
    replay = final(run(tiny_config(**{"method.name": "replay"}, **NO_SCORES)))
    assert all(sample.teacher is None for sample in replay.memory)


def test_attention_alone_stores_no_logits() -> None:
    state = final(run(tiny_config(**{"method.seekr.logit_weight": 0.0}, **NO_SCORES)))
    assert all(sample.teacher and sample.teacher.logits is None and sample.teacher.rows for sample in state.memory)


def test_old_signals_stay_as_they_were_when_the_task_ended() -> None:
    memories = [outcome.state.memory for outcome in run(tiny_config(**NO_SCORES)).outcomes]
    for earlier, later in zip(memories, memories[1:], strict=False):
        assert len(later) == len(earlier) + 3
        assert same_memory(type(later)(later.samples[: len(earlier)]), earlier)


def test_the_history_counts_what_was_replayed() -> None:
    done = run(tiny_config(**NO_SCORES))
    assert [entry.presentations for entry in final(done).history] == [0, 2 * 3, 2 * 6]
    assert [entry.replay_updates for entry in final(done).history] == [0, 3, 6]
    for outcome, entry in zip(done.outcomes, final(done).history, strict=True):
        replayed = [step for step in outcome.steps if step.kind == "replay"]
        assert entry.replay_tokens == sum(step.tokens for step in replayed)
        assert (outcome.task, outcome.index) == (entry.task, entry.index)


# --- heads -----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("selection", ["importance", "sensitivity", "forgettability", "random"])
def test_every_ranking_respects_the_budgets(selection: str, semantics: str) -> None:
    values = {"method.seekr.selection": selection, "method.semantics": semantics, "method.seekr.layer_ratio": 0.5}
    state = final(run(tiny_config(**values, **NO_SCORES)))
    for entry in state.history:
        assert sum(len(heads) for heads in entry.selected.values()) == 3
        assert len(entry.selected) == 1
        if selection != "random":
            ranked = entry.heads.total[selection]
            layer = int(ranked.sum(dim=1).argmax())
            best = ranked[layer].argsort(descending=True)[:3]
            assert dict(entry.selected) == {layer: tuple(sorted(best.tolist()))}


def test_all_heads_ignore_the_budgets() -> None:
    values = {"method.seekr.selection": "all", "method.seekr.layer_ratio": 0.5}
    state = final(run(tiny_config(**values, **NO_SCORES)))
    assert all(dict(entry.selected) == {0: (0, 1, 2, 3), 1: (0, 1, 2, 3)} for entry in state.history)


def test_totals_are_the_sum_of_the_tasks_scores() -> None:
    history = final(run(tiny_config(**NO_SCORES))).history
    for field in ("sensitivity", "forgettability", "importance"):
        total = torch.zeros(2, 4)
        for entry in history:
            assert entry.heads is not None
            total = total + entry.heads.scores[field]
            assert torch.allclose(entry.heads.total[field], total)
    assert history[0].heads is not None
    first = history[0].heads.scores
    assert torch.allclose(first["importance"], first["sensitivity"] * first["forgettability"])
    assert torch.allclose(first["sensitivity"].sum(dim=1), torch.ones(2))


def test_all_queries_are_kept_where_there_is_no_query_budget() -> None:
    for sample in final(run(tiny_config(**{"method.seekr.query_budget": None}, **NO_SCORES))).memory:
        assert sample.queries.tolist() == list(range(-len(sample.input_ids), 0))


# --- scores ----------------------------------------------------------------------------------------------------------


def filled(state: StreamState, split: str = "eval") -> set[tuple[int, int]]:
    return {(int(row), int(column)) for row, column in np.argwhere(~np.isnan(state.scores[split]))}


def assert_same_scores(one: StreamState, other: StreamState) -> None:
    assert one.scores.keys() == other.scores.keys()
    for split, scores in one.scores.items():
        np.testing.assert_array_equal(scores, other.scores[split])
        np.testing.assert_array_equal(one.initial[split], other.initial[split])


@pytest.mark.parametrize(
    ("matrix", "cells"),
    [
        ("full", {(row, column) for row in range(3) for column in range(3)}),
        ("seen", {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)}),
        ("diagonal_and_last", {(0, 0), (1, 1), (2, 0), (2, 1), (2, 2)}),
    ],
)
def test_a_matrix_mode_fills_exactly_its_cells(matrix: str, cells: set[tuple[int, int]]) -> None:
    values = {"evaluation.matrix": matrix, "evaluation.splits": ("eval", "test"), "recipe.epochs": 1}
    state = final(run(tiny_config(**{"method.name": "seqft"}, **values)))
    for split in ("eval", "test"):
        assert filled(state, split) == cells
        assert bool(np.isnan(state.initial[split]).all()) == (matrix != "full")
        assert bool(np.isnan(state.initial[split]).any()) == (matrix != "full")


def test_a_row_is_filled_when_its_task_ends_and_never_again() -> None:
    outcomes = run(tiny_config(**{"evaluation.matrix": "seen"})).outcomes
    for earlier, later in zip(outcomes, outcomes[1:], strict=False):
        rows = slice(0, earlier.index + 1)
        np.testing.assert_array_equal(earlier.state.scores["eval"][rows], later.state.scores["eval"][rows])
        assert np.isnan(earlier.state.scores["eval"][earlier.index + 1 :]).all()


def test_a_split_that_is_not_scored_is_not_needed() -> None:
    tasks = tuple(Task(t.name, t.scorer, {"train": t.train}) for t in tiny_stream())
    outcomes = list(run_stream(tiny_config(**NO_SCORES), TaskStream(tasks), tiny_loaded()))
    assert dict(outcomes[-1].state.scores) == {}


def test_a_learned_task_scores_better_than_before() -> None:
    """The loop learns: with twelve rows, it can at least recite them."""
    tasks = tuple(Task(t.name, t.scorer, {"train": t.train, "eval": t.train}) for t in tiny_stream(("first",)))
    config = tiny_config(
        **{"stream.tasks": ("first",), "recipe.epochs": 30, "evaluation.matrix": "full", "method.name": "seqft"}
    )
    (outcome,) = run_stream(config, TaskStream(tasks), tiny_loaded())
    assert outcome.state.initial["eval"][0] < 50
    assert outcome.state.scores["eval"][0, 0] == 100


# --- restarting ------------------------------------------------------------------------------------------------------


class Killed(Exception):
    """Stands for whatever ends a process."""


def killed_at(step: tuple[int, int]) -> Callable[[StepRecord], None]:
    """Die after a step, given as (task index, step)."""

    def on_step(record: StepRecord) -> None:
        if (record.task_index, record.step) == step:
            raise Killed

    return on_step


def assert_resumes_bit_for_bit(config: Config, directory: Path, load: Callable[[], Any] = tiny_loaded) -> None:
    """Kill a run within its first task, within its second, and between its second and third."""
    whole = run(config, load())
    for step in ((0, 1), (1, 2)):
        with pytest.raises(Killed):
            run(config, load(), directory, killed_at(step))
    torch.manual_seed(99)  # a new process is in another random state
    between = list(islice(run_stream(config, tiny_stream(), load(), directory=directory), 1))
    assert [outcome.index for outcome in between] == [1]
    torch.manual_seed(7)
    rest = run(config, load(), directory)
    assert [outcome.index for outcome in rest.outcomes] == [2]
    assert [(s.loss, s.grad_norm) for s in rest.steps] == [(s.loss, s.grad_norm) for s in whole.outcomes[2].steps]
    assert same_weights(rest, whole)
    assert same_memory(final(rest).memory, final(whole).memory)
    assert_same_scores(final(rest), final(whole))
    for ours, expected in zip(final(rest).history, final(whole).history, strict=True):
        assert (ours.task, ours.selected, ours.presentations) == (
            expected.task,
            expected.selected,
            expected.presentations,
        )


@pytest.mark.parametrize("matrix", ["full", "diagonal_and_last"])
def test_a_corrected_run_that_was_killed_equals_an_uninterrupted_one(tmp_path: Path, matrix: str) -> None:
    assert_resumes_bit_for_bit(tiny_config(**{"evaluation.matrix": matrix}), tmp_path)


def test_an_official_run_that_was_killed_keeps_moments_and_leaked_gradients(tmp_path: Path) -> None:
    # 3 new steps an epoch and 2 steps an update: a gradient is waiting when each task ends
    values = {"recipe.batch_size": 8, "recipe.micro_batch_size": 4, "recipe.epochs": (1, 2, 1)} | OFFICIAL
    assert_resumes_bit_for_bit(tiny_config(**values), tmp_path)


def test_the_official_gradients_of_the_sensitivity_pass_enter_the_next_update() -> None:
    """Else the test above would show nothing."""
    values = {"method.memory.cycle": 3} | OFFICIAL | NO_SCORES  # the second task starts with a new step
    seekr, derpp = (run(tiny_config(**{"method.name": name}, **values)) for name in ("seekr", "derpp"))
    first = [r.outcomes[1].steps[0] for r in (seekr, derpp)]
    assert first[0].kind == first[1].kind == "new"
    assert first[0].loss == first[1].loss
    assert first[0].grad_norm != first[1].grad_norm


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant_with_warmup"])
@pytest.mark.parametrize("semantics", ["corrected", "official"])
def test_a_killed_run_takes_up_its_learning_rate_schedule(tmp_path: Path, schedule: str, semantics: str) -> None:
    values = {"recipe.lr_schedule": schedule, "recipe.warmup_steps": 2, "method.semantics": semantics} | NO_SCORES
    assert_resumes_bit_for_bit(tiny_config(**values), tmp_path)


@pytest.mark.parametrize("reset", [True, False])
@BOTH
def test_a_killed_run_keeps_moments_as_the_recipe_says(tmp_path: Path, reset: bool, semantics: str) -> None:
    values = {"recipe.reset_optimizer": reset, "method.semantics": semantics, "recipe.weight_decay": 0.1} | NO_SCORES
    assert_resumes_bit_for_bit(tiny_config(**values), tmp_path)


def test_keeping_moments_makes_a_difference() -> None:
    kept, reset = (run(tiny_config(**{"recipe.reset_optimizer": r}, **NO_SCORES)) for r in (False, True))
    assert [s.loss for s in kept.outcomes[0].steps] == [s.loss for s in reset.outcomes[0].steps]
    assert [s.loss for s in kept.outcomes[1].steps] != [s.loss for s in reset.outcomes[1].steps]


@BOTH
def test_a_killed_run_with_attention_dropout_equals_an_uninterrupted_one(tmp_path: Path, semantics: str) -> None:
    config = tiny_config(**{"method.semantics": semantics}, **NO_SCORES)
    assert_resumes_bit_for_bit(config, tmp_path, lambda: tiny_loaded(attention_dropout=0.2))


@pytest.mark.parametrize("name", ["seqft", "replay", "derpp"])
def test_every_method_resumes(tmp_path: Path, name: str) -> None:
    assert_resumes_bit_for_bit(tiny_config(**{"method.name": name}, **NO_SCORES), tmp_path)


def killed_after(steps: int) -> Callable[[StepRecord], None]:
    """Die after so many steps of this launch."""
    seen: list[StepRecord] = []

    def on_step(record: StepRecord) -> None:
        seen.append(record)
        if len(seen) == steps:
            raise Killed

    return on_step


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"recipe.lr_schedule": "cosine", "recipe.reset_optimizer": False},
        {"recipe.micro_batch_size": 1, "training.activation_checkpointing": True},
        # 2 steps an update: every other checkpoint holds a gradient that waits, every task ends with one
        {"recipe.batch_size": 8, "recipe.micro_batch_size": 4, "recipe.epochs": (1, 2, 1)} | OFFICIAL,
        {"method.name": "joint"},
    ],
    ids=["corrected", "kept moments", "micro-batches", "official, within accumulation", "joint"],
)
def test_a_run_that_is_killed_after_every_step_equals_an_uninterrupted_one(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    config = tiny_config(**{"training.checkpoint_steps": 1}, **values)
    whole = run(config, tiny_loaded(attention_dropout=0.2))
    launches = 0
    while True:
        launches += 1
        torch.manual_seed(launches)  # a new process is in another random state
        try:
            rest = run(config, tiny_loaded(attention_dropout=0.2), tmp_path, killed_after(2))
            break
        except Killed:  # one step is behind the newest checkpoint, and is taken again
            continue
    assert launches > len(whole.steps) // 2
    expected = whole.steps[-len(rest.steps) :]
    assert [(s.loss, s.grad_norm) for s in rest.steps] == [(s.loss, s.grad_norm) for s in expected]
    assert same_weights(rest, whole)
    assert same_memory(final(rest).memory, final(whole).memory)
    assert_same_scores(final(rest), final(whole))


def test_a_task_is_saved_when_its_steps_have_taken_long_enough(tmp_path: Path) -> None:
    """Steps of this model take milliseconds: a budget of a microsecond is spent after each."""
    config = tiny_config(**{"training.checkpoint_seconds": 1e-6}, **NO_SCORES)
    with pytest.raises(Killed):
        run(config, directory=tmp_path, on_step=killed_after(4))
    stopped = StreamRun(config, tiny_stream(), tiny_loaded(), directory=tmp_path)
    assert [record.step for record in stopped.unfinished] == [0, 1, 2]


def test_a_killed_joint_run_starts_again(tmp_path: Path) -> None:
    config = tiny_config(**{"method.name": "joint"})
    with pytest.raises(Killed):
        run(config, directory=tmp_path, on_step=killed_at((2, 3)))
    again, whole = run(config, directory=tmp_path), run(config)
    assert same_weights(again, whole)
    assert_same_scores(final(again), final(whole))


def test_a_finished_run_yields_nothing_and_changes_nothing_when_started_again(tmp_path: Path) -> None:
    config = tiny_config()
    first = run(config, directory=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = run(config, directory=tmp_path)
    assert again.outcomes == ()
    assert same_weights(again, first)  # the model is the learned one all the same
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_directory_makes_no_difference_to_the_numbers(tmp_path: Path) -> None:
    config = tiny_config(**NO_SCORES)
    assert run(config, directory=tmp_path).losses == run(config).losses


# --- what cannot be learned ------------------------------------------------------------------------------------------


def test_a_diverging_run_names_task_step_and_term() -> None:
    told = r"stage 'first', step \d+ \(new, train rows [\d, ]+\): \w+ is (nan|inf); lower"
    with pytest.raises(TrainingError, match=told) as caught:
        run(tiny_config(**{"recipe.learning_rate": 1e25, "recipe.max_grad_norm": None}, **NO_SCORES))
    assert "\n" not in str(caught.value)


def test_a_diverging_distillation_term_is_the_one_that_is_named() -> None:
    values = {"method.seekr.attention_weight": 1e38, "recipe.learning_rate": 0.05} | NO_SCORES
    with pytest.raises(TrainingError, match=r"stage 'last', step \d+ \(replay, first row \d.*\): (loss|grad_norm) is"):
        run(tiny_config(**values))


def test_a_head_budget_above_the_model_is_refused_before_anything_is_learned() -> None:
    seen: list[StepRecord] = []
    with pytest.raises(ConfigError, match="method.seekr.head_budget=9 exceeds the 8 heads"):
        run(tiny_config(**{"method.seekr.head_budget": 9}), on_step=seen.append)
    assert not seen


def test_a_row_without_anything_to_predict_from_is_refused_by_task_and_row() -> None:
    loaded = tiny_loaded()
    loaded.tokenizer.bos_token = None
    task = Task("first", SCORERS["exact_match"], {"train": (Example("", "w1"), Example("", ""))})
    config = tiny_config(**{"stream.tasks": ("first",)}, **NO_SCORES)
    with pytest.raises(DataError, match="task 'first', train row 2"):
        list(run_stream(config, TaskStream((task,)), loaded))


def test_without_scores_only_sequences_longer_than_the_model_s_positions_are_refused() -> None:
    limits = {"recipe.max_prompt_tokens": 100, "recipe.max_answer_tokens": 100}  # of 64 positions; the data need few
    with pytest.raises(ConfigError, match="exceeds the 64 positions"):
        run(tiny_config(**limits))
    assert len(run(tiny_config(**limits, **NO_SCORES)).outcomes) == 3
    long = Example(" ".join(["w1"] * 80), "w1")
    stream = TaskStream((Task("first", SCORERS["exact_match"], {"train": (long,)}),))
    config = tiny_config(**limits, **{"stream.tasks": ("first",)}, **NO_SCORES)
    with pytest.raises(DataError, match="task 'first', train row 1: has .* tokens, the model 64 positions"):
        list(run_stream(config, stream, tiny_loaded()))


# --- what is reported ------------------------------------------------------------------------------------------------


def test_every_step_is_told_as_it_happens_and_again_with_its_task() -> None:
    told: list[StepRecord] = []
    done = run(tiny_config(**NO_SCORES), on_step=told.append)
    assert told == done.steps
    for outcome in done.outcomes:
        assert [step.step for step in outcome.steps] == list(range(len(outcome.steps)))
        assert {step.task_index for step in outcome.steps} == {outcome.index}


def test_a_replay_loss_is_the_weighted_sum_of_its_terms() -> None:
    values = {"method.seekr.logit_weight": 0.3, "method.seekr.attention_weight": 7.0} | NO_SCORES
    steps = run(tiny_config(**values)).steps
    for step in steps:
        assert math.isfinite(step.loss) and step.grad_norm is not None and step.seconds >= 0
        if step.kind == "new":
            assert step.loss == step.terms["cross_entropy"]
            assert list(step.terms) == ["cross_entropy"]
        else:
            weights = {"cross_entropy": 0.7, "logit_distillation": 0.3, "attention_distillation": 7.0}
            assert step.weights == weights and list(step.terms) == list(weights)
            assert step.loss == pytest.approx(sum(weights[name] * step.terms[name] for name in weights), rel=1e-5)
            assert step.terms["attention_distillation"] > 0
    assert any(step.kind == "replay" for step in steps)


def test_the_built_in_stream_and_model_run_as_they_ship() -> None:
    from seekr_tune.models.loading import load_model

    config = tiny_config(
        **{
            "stream.tasks": ("star", "last"),
            "stream.limits": {"train": 8, "eval": 4},
            "recipe.max_prompt_tokens": 64,
            "recipe.epochs": 1,
            "recipe.learning_rate": 1e-3,
            "evaluation.matrix": "full",
        }
    )
    stream = load_stream(config, ("train", "eval"))
    outcomes = list(run_stream(config, stream, load_model(config.model)))
    assert [outcome.task for outcome in outcomes] == ["star", "last"]
    assert filled(outcomes[-1].state) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert len(outcomes[-1].state.memory) == 4
