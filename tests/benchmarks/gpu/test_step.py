"""The loops that are compared do the same work."""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from benchmarks.gpu import table
from benchmarks.gpu.batches import random_examples, sizes
from benchmarks.gpu.models import Setting, build_model
from benchmarks.gpu.step import loops_of

SETTING = Setting("tiny", lora=False, checkpointing=False)
OPTIONS = table.parse("--device cpu --dtype float32 --lengths 64 --tokens 128 --queries 5".split())


def loops_on_a_new_model() -> tuple[torch.nn.Module, dict[str, Generator[object]]]:
    size = sizes(SETTING, 64, OPTIONS)
    examples = random_examples(size, 2 * size.batch)
    model = build_model(SETTING, OPTIONS)
    return model, loops_of(model, SETTING, OPTIONS, [examples[: size.batch], examples[size.batch :]])


def weights_after_three_steps(loop: str) -> Tensor:
    model, loops = loops_on_a_new_model()
    assert len(list(islice(loops[loop], 3))) == 3
    loops[loop].close()
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("loop", ["learner", "trainer"])
def test_every_loop_makes_the_same_updates(loop: str) -> None:
    start = torch.nn.utils.parameters_to_vector(loops_on_a_new_model()[0].parameters()).detach()
    bare = weights_after_three_steps("bare") - start
    assert bare.abs().max() > 1e-6
    # AdamW divides by the root of a gradient's square, so where a gradient is almost 0 its rounding decides.
    assert_close(weights_after_three_steps(loop) - start, bare, rtol=0, atol=0.2e-6)


def test_what_trainer_raises_reaches_who_asked_for_the_step() -> None:
    model, loops = loops_on_a_new_model()
    model.forward = None  # type: ignore[assignment]
    with pytest.raises(TypeError, match="callable"):
        next(loops["trainer"])
