"""The loop on a GPU: what it learns there, and what it takes up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.methods.targets import teacher_batch
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models.loading import LoadedModel
from tests.loop.tiny import Run, run, tiny_config, tiny_loaded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
NO_SCORES: dict[str, Any] = {"evaluation.splits": []}


def on_gpu() -> LoadedModel:
    loaded = tiny_loaded()
    loaded.model.to("cuda")
    return loaded


def gpu_run(directory: Path | None = None, stop_at: tuple[int, int] | None = None, **values: Any) -> Run:
    def stop(record: StepRecord) -> None:
        if (record.task_index, record.step) == stop_at:
            raise KeyboardInterrupt

    config = tiny_config(**NO_SCORES, **values)
    return run(config, on_gpu(), directory, on_step=stop, workers=SingleProcess(torch.device("cuda")))


def test_losses_and_selected_heads_are_those_of_a_cpu() -> None:
    there, here = gpu_run(), run(tiny_config(**NO_SCORES))
    assert [kind for kind, *_ in there.losses] == [kind for kind, *_ in here.losses]
    assert_close([own[1:] for own in there.losses], [own[1:] for own in here.losses], rtol=5e-3, atol=1e-4)
    ends = [done.outcomes[-1].state for done in (there, here)]
    assert [entry.selected for entry in ends[0].history] == [entry.selected for entry in ends[1].history]
    for ours, theirs in zip(ends[0].memory, ends[1].memory, strict=True):
        assert ours.teacher is not None and theirs.teacher is not None
        for name, tensor in ours.teacher.tensors().items():
            assert tensor.device.type == "cpu"
            assert_close(tensor, theirs.teacher.tensors()[name], rtol=0.05, atol=2e-3)


def test_a_run_that_is_stopped_inside_a_task_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """The fused AdamW keeps its step counts on the GPU, and so they must come back there."""
    whole = gpu_run(tmp_path / "whole", **{"training.checkpoint_steps": 2})
    with pytest.raises(KeyboardInterrupt):
        gpu_run(tmp_path / "cut", stop_at=(1, 4), **{"training.checkpoint_steps": 2})
    resumed = gpu_run(tmp_path / "cut", **{"training.checkpoint_steps": 2})
    again = resumed.losses
    assert 0 < len(again) < len(whole.losses)
    assert_close([own[1:] for own in again], [own[1:] for own in whole.losses[-len(again) :]], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("form", ["exact", "half", "compact"])
def test_signals_on_the_gpu_are_those_of_the_memory(form: str) -> None:
    samples = list(gpu_run(**{"method.seekr.signals": form}).outcomes[-1].state.memory)[:4]
    here, there = (teacher_batch(samples, 16, torch.device(name)) for name in ("cpu", "cuda"))
    assert torch.equal(there.logits(64).cpu(), here.logits(64)) or form == "compact"
    assert_close(there.logits(64).cpu(), here.logits(64), rtol=1e-5, atol=1e-5)
    targets = there.rows()
    for layer, target in here.rows().items():
        assert targets[layer].probabilities.device.type == "cuda"
        assert_close(targets[layer].probabilities.cpu(), target.probabilities, rtol=1e-6, atol=1e-7)
        assert torch.equal(targets[layer].valid.cpu(), target.valid)
