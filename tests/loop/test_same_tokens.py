"""A run goes on with the special tokens that it began with, or not at all."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import processors

from seekr_tune.data.collate import Encoder, Style
from seekr_tune.data.scoring import SCORERS
from seekr_tune.data.special_tokens import SpecialTokens
from seekr_tune.data.task import Example, Task, TaskStream
from seekr_tune.errors import StudyError
from seekr_tune.loop.loop import StreamRun, run_stream
from seekr_tune.loop.same_tokens import require_same_tokens
from seekr_tune.models.loading import LoadedModel

from .tiny import tiny_config, tiny_loaded, tiny_stream

CONFIG = tiny_config(**{"evaluation.splits": ()})
BOS, EOS = 2, 3


def with_bos() -> LoadedModel:
    """The tiny model, behind a tokenizer that puts BOS before a text."""
    loaded = tiny_loaded()
    template = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    loaded.tokenizer.backend_tokenizer.post_processor = template
    return loaded


@pytest.mark.parametrize("other", [with_bos(), replace(tiny_loaded(), other_ends=(0,))], ids=["prefix", "end"])
def test_checkpoints_made_with_other_special_tokens_are_refused(tmp_path: Path, other: LoadedModel) -> None:
    stream = tiny_stream()
    list(islice(run_stream(CONFIG, stream, tiny_loaded(), directory=tmp_path), 1))
    with pytest.raises(StudyError, match=re.escape(f"{tmp_path}: began with special tokens [] before prompts and [3]")):
        StreamRun(CONFIG, stream, other, directory=tmp_path)
    (first, second) = islice(run_stream(CONFIG, stream, tiny_loaded(), directory=tmp_path), 2)
    assert (first.index, second.index) == (1, 2)


def tasks(prompt: str) -> TaskStream:
    return TaskStream((Task("first", SCORERS["exact_match"], {"train": (Example("w1", "w2"), Example(prompt, "w2"))}),))


@pytest.mark.parametrize(
    ("loaded", "style", "prompt", "goes_on"),
    [
        (with_bos(), "separate", "w3", True),  # as Llama: nothing has changed
        (with_bos(), "separate", "<s> w3", False),  # BOS stood twice
        (tiny_loaded(), "separate", "w3", False),  # as GPT-2: BOS stood before prompts
        (replace(with_bos(), other_ends=(0,)), "separate", "w3", False),  # a chat model answered on
        (tiny_loaded(), "joint", "<s> w3", True),  # the release's way has not changed
    ],
)
def test_what_an_earlier_version_began_goes_on_where_nothing_has_changed(
    loaded: LoadedModel, style: Style, prompt: str, goes_on: bool
) -> None:
    encoder = Encoder(loaded.tokenizer, 12, 4, style, loaded.other_ends)
    if goes_on:
        require_same_tokens(None, encoder, tasks(prompt), "run")
    else:
        with pytest.raises(StudyError, match="run: began with special tokens"):
            require_same_tokens(None, encoder, tasks(prompt), "run")


def test_a_run_that_says_what_it_began_with_is_believed() -> None:
    encoder = Encoder(tiny_loaded().tokenizer, 12, 4, "separate")
    require_same_tokens(SpecialTokens((), (EOS,)), encoder, tasks("<s> w3"), "run")
    with pytest.raises(StudyError, match=re.escape("special tokens [2] before prompts and [3] behind answers, but")):
        require_same_tokens(SpecialTokens((BOS,), (EOS,)), encoder, tasks("w3"), "run")
