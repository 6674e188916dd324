"""A whole run of the release's main loop, reproduced by the real loop in official semantics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close
from transformers import PreTrainedTokenizerFast

from seekr_tune.checkpoint.state import TaskOutcome
from seekr_tune.config import Config
from seekr_tune.data.collate import Encoder
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.task import Example, Task, TaskStream
from seekr_tune.experiment import parse_config
from seekr_tune.loop.loop import run_stream
from seekr_tune.methods.passes import answer_logits
from seekr_tune.methods.semantics import OFFICIAL
from seekr_tune.methods.storage import unpack_rows
from seekr_tune.models.loading import LoadedModel

from .vectors import Arrays, load_model, read_json, relative_error


@dataclass(frozen=True)
class RecordedDraws:
    """The orders and query rows that the release drew, from its event log."""

    events: list[dict[str, Any]]
    hyper: dict[str, Any]
    arrays: Arrays

    def _presented(self, task: str, epoch: int, kind: str) -> list[tuple[int, int]]:
        index = self.hyper["tasks"].index(task)
        own = [event for event in self.events if event["task"] == index]
        new_per_epoch = -(-self.hyper["n_train"] // self.hyper["batch_size"])
        presented, seen_new = [], 0
        for event in own:
            # A replay step comes before the new step of the same index, so it belongs to that step's epoch.
            if seen_new // new_per_epoch == epoch and event["kind"] == kind:
                presented += [(task_index, sample) for task_index, sample in event["samples"]]
            seen_new += event["kind"] == "new"
        return presented

    def epoch_order(self, task: str, epoch: int, size: int) -> list[int]:
        return [sample for _, sample in self._presented(task, epoch, "new")]

    def replay_order(self, task: str, epoch: int, size: int) -> list[int]:
        per_task = self.hyper["n_replay_per_task"]
        positions = [t * per_task + sample for t, sample in self._presented(task, epoch, "replay")]
        return list(dict.fromkeys([*positions, *range(size)]))  # the order wraps around; what was never drawn goes last

    def memory_samples(self, task: str, size: int, count: int) -> list[int]:
        return list(range(count))

    def query_rows(self, task: str, sample: int, length: int, budget: int | None) -> Tensor:
        rows = self.arrays[f"task{self.hyper['tasks'].index(task)}_query_rel"][sample]
        return rows[rows >= -length]

    def head_scores(self, task: str, num_layers: int, num_heads: int) -> Tensor:
        raise AssertionError("the release ranks heads by importance here")

    def torch_seed(self, task: str, step: int, rank: int) -> int:
        return 0


@dataclass(frozen=True)
class Trajectory:
    """Our run beside the release's."""

    facts: dict[str, Any]
    arrays: Arrays
    directory: Path
    tag: str
    outcomes: list[TaskOutcome]
    weights: list[dict[str, Tensor]]
    probe: list[tuple[Tensor, float]]


def _config(hyper: dict[str, Any], num_layers: int) -> Config:
    accumulation = hyper["grad_accum"]
    return parse_config(
        {
            "seed": hyper["seed"],
            "stream": {"tasks": hyper["tasks"]},
            "recipe": {
                "epochs": hyper["epochs"],
                "learning_rate": hyper["lr"],
                "betas": hyper["betas"],
                "weight_decay": hyper["weight_decay"],
                "batch_size": hyper["batch_size"] * accumulation,
                "micro_batch_size": hyper["batch_size"],
                "replay_batch_size": hyper["batch_size"],
                "max_grad_norm": hyper["max_grad_norm"],
                "max_prompt_tokens": hyper["max_prompt_len"],
                "max_answer_tokens": hyper["max_ans_len"],
                "pad_to_multiple_of": hyper["pad_to_multiple_of"],
            },
            "method": {
                "name": "seekr",
                "semantics": "official",
                # any percentage that the release's rounding down turns into this number of samples
                "replay_percent": 100 * (hyper["n_replay_per_task"] + 0.5) / hyper["n_train"],
                "head_budget": hyper["head_budget"],
                "layer_ratio": hyper["layer_budget"] / num_layers,
                "query_budget": hyper["query_budget"] or None,
                "logit_weight": hyper["logits_distill_weight"],
                "attention_weight": hyper["attns_distill_weight"],
                "replay_cycle": hyper["replay_cycle_arg"] or None,
            },
            "evaluation": {"splits": []},
        },
        "golden trajectory",
    )


def _tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    pad, bos, eos = tokenizer.convert_ids_to_tokens([0, 1, 2])  # ids that the layout of the vectors fixes
    tokenizer.add_special_tokens({"pad_token": pad, "bos_token": bos, "eos_token": eos})
    return tokenizer


def _run(directory: Path, tag: str) -> Trajectory:
    facts, arrays, data = (
        read_json(directory / f"{tag}.json"),
        Arrays(directory / f"{tag}.npz"),
        read_json(directory / "data.json"),
    )
    hyper = facts["hyper"]
    model = load_model(directory, "weights_initial.safetensors")
    config = _config(hyper, model.config.num_hidden_layers)
    tokenizer = _tokenizer(directory)
    tasks = []
    for name in hyper["tasks"]:
        rows = tuple(Example(row["prompt"], row["answer"]) for row in data["tasks"][name])
        encoded = Encoder(tokenizer, hyper["max_prompt_len"], hyper["max_ans_len"], "joint").encode_all(rows)
        assert [list(e.input_ids) for e in encoded] == [row["ids"] for row in data["tasks"][name]]
        assert [e.num_labels for e in encoded] == [row["label_len"] for row in data["tasks"][name]]
        tasks.append(Task(name, SCORERS["exact_match"], {"train": rows}))
    leaks = hyper["stale_importance_gradients_leak_into_next_update"]
    run = run_stream(
        config,
        TaskStream(tuple(tasks)),
        LoadedModel(model, tokenizer, tokenizer.pad_token_id),
        semantics=replace(OFFICIAL, leaks_importance_gradients=leaks),
        draws=RecordedDraws(facts["events"], hyper, arrays),
    )
    outcomes, weights, probe = [], [], []
    for outcome in run:
        outcomes.append(outcome)
        weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        probe.append(_probe(model, arrays))
    return Trajectory(facts, arrays, directory, tag, outcomes, weights, probe)


@torch.no_grad()
def _probe(model: Any, arrays: Arrays) -> tuple[Tensor, float]:
    tokens = arrays.tokens("probe_")
    output = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, labels=tokens.labels)
    return output.logits.clone(), float(output.loss)


@pytest.fixture(scope="module")
def trajectories(golden: Path) -> list[Trajectory]:
    directory = golden / "trajectory"
    tags = sorted(path.stem for path in directory.glob("*.npz"))
    assert tags
    return [_run(directory, tag) for tag in tags]


def test_the_steps_are_those_of_the_release_in_the_same_order(trajectories: list[Trajectory]) -> None:
    for run in trajectories:
        steps = [step for outcome in run.outcomes for step in outcome.steps]
        assert [(s.task_index, s.kind) for s in steps] == [(e["task"], e["kind"]) for e in run.facts["events"]]
        updates = [step.grad_norm is not None for step in steps]
        assert updates == [event["optimizer_step"] for event in run.facts["events"]]


def test_every_loss_and_gradient_norm_equals_the_release(trajectories: list[Trajectory]) -> None:
    for run in trajectories:
        steps = [step for outcome in run.outcomes for step in outcome.steps]
        for step, event in zip(steps, run.facts["events"], strict=True):
            pairs = [
                (step.terms["cross_entropy"], event["loss_ce"]),
                (step.loss, event["loss_total"]),
                (step.terms.get("logit_distillation"), event.get("logits_distill")),
                (step.terms.get("attention_distillation"), event.get("attn_distill")),
                (step.grad_norm, event["grad_norm_before_clip"]),
            ]
            for ours, theirs in pairs:
                assert (ours is None) == (theirs is None)
                assert ours is None or ours == pytest.approx(theirs, rel=1e-3), (run.tag, event)


def test_head_scores_and_selected_heads_equal_the_release_after_each_task(trajectories: list[Trajectory]) -> None:
    for run in trajectories:
        for task, history in enumerate(run.outcomes[-1].state.history):
            assert history.heads is not None
            assert relative_error(history.heads.scores["sensitivity"], run.arrays[f"task{task}_attn_grads"]) < 1e-3
            assert relative_error(history.heads.scores["forgettability"], run.arrays[f"task{task}_attn_diff"]) < 1e-3
            assert relative_error(history.heads.total["importance"], run.arrays[f"task{task}_attn_ipt_cum"]) < 1e-3
            expected = {int(layer): tuple(heads) for layer, heads in run.facts["select_heads"][task].items()}
            assert dict(history.selected) == expected


def test_the_first_teacher_signals_equal_the_release(trajectories: list[Trajectory]) -> None:
    for run in trajectories:
        logits, rows = run.arrays["task0_teacher_logits_first2"], run.arrays["task0_attn_after_first2"]
        for sample, teacher_logits, all_rows in zip(run.outcomes[0].state.memory, logits, rows, strict=False):
            teacher = sample.teacher
            assert teacher is not None and teacher.logits is not None
            assert_close(teacher.logits.values, teacher_logits[-sample.num_labels :], rtol=1e-3, atol=1e-4)
            length = len(sample.input_ids)
            real = run.arrays["task0_query_rel"][sample.index] >= -length
            for layer, heads in sample.heads.items():
                expected = all_rows[layer, list(heads)][:, real][..., -length:]
                stored = unpack_rows(teacher.rows_of(sample.heads, layer).values, sample.queries, length)
                assert_close(stored, expected, rtol=1e-3, atol=1e-5)


def test_weights_equal_the_release_after_each_task(trajectories: list[Trajectory]) -> None:
    if not list(trajectories[0].directory.glob("*_weights_after_task*.safetensors")):
        pytest.skip("no weights in this subset of the vectors; set SEEKR_GOLDEN_DIR to the full directory")
    for run in trajectories:
        stored = sorted(run.directory.glob(f"{run.tag}_weights_after_task*.safetensors"))
        assert stored
        for path in stored:
            ours = run.weights[int(path.stem.rpartition("task")[2])]
            for name, expected in load_file(path).items():
                assert_close(ours[name], expected, rtol=0, atol=1e-3, msg=f"{path.name}: {name}")


def test_the_model_answers_the_probe_as_the_release_after_each_task(trajectories: list[Trajectory]) -> None:
    for run in trajectories:
        real = run.arrays["probe_attention_mask"].bool()
        for task, (logits, loss) in enumerate(run.probe):
            expected = run.arrays[f"probe_logits_after_task{task}"]
            assert_close(logits[real], expected[real], rtol=1e-3, atol=1e-3)
            assert loss == pytest.approx(float(run.arrays[f"probe_loss_after_task{task}"]), rel=1e-3)


def test_the_initial_model_is_the_release_s(trajectories: list[Trajectory]) -> None:
    for run in trajectories:
        model = load_model(run.directory, "weights_initial.safetensors")
        tokens = run.arrays.tokens("probe_")
        logits = answer_logits(model, tokens, OFFICIAL)
        kept = logits.shape[1]
        real = tokens.attention_mask.bool()[:, -kept:]
        assert_close(logits[real], run.arrays["probe_logits_initial"][:, -kept:][real], rtol=1e-4, atol=1e-5)
