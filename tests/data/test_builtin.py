"""The built-in stream and the files of its base model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from seekr_tune.config import Limits, Split
from seekr_tune.data.builtin import (
    QUESTIONS,
    builtin_examples,
    builtin_model_directory,
    check_builtin_names,
    verify_checksums,
)
from seekr_tune.errors import DataError, ModelError

SPLITS: tuple[Split, ...] = ("train", "eval", "test")
ALL = Limits()


def _prompts(task: str, seed: int, split: Split) -> list[str]:
    return [example.prompt for example in builtin_examples(task, seed, split, ALL)]


@pytest.mark.parametrize("task", QUESTIONS)
def test_a_task_has_400_100_and_100_rows(task: str) -> None:
    assert [len(builtin_examples(task, 0, split, ALL)) for split in SPLITS] == [400, 100, 100]


def test_every_answer_is_the_word_that_the_question_asks_for() -> None:
    """The answer is found in the text of the prompt, not through the generator's own bookkeeping."""
    for task in QUESTIONS:
        for example in builtin_examples(task, 3, "train", Limits(train=50)):
            pieces = example.prompt.split(" . ")[0].removeprefix("note : ").split()
            plain = [word for at, word in enumerate(pieces) if word not in "*()=" and pieces[at + 1 : at + 2] != ["="]]
            expected = {
                "star": pieces[pieces.index("*") + 1],
                "paren": pieces[pieces.index("(") + 1],
                "first": plain[0],
                "second": plain[1],
                "last": plain[-1],
            }
            assert example.answer == expected[task]
            assert len(set(plain)) == 7
            assert pieces.count("=") == 2  # every prompt carries all decorations


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(list(QUESTIONS)))
@settings(max_examples=5, deadline=None)
def test_no_prompt_is_in_two_splits_of_any_seed_or_twice_in_one(seed: int, other_seed: int, task: str) -> None:
    prompts = {split: _prompts(task, seed, split) for split in SPLITS}
    other = {split: set(_prompts(task, other_seed, split)) for split in SPLITS}
    for split in SPLITS:
        assert len(set(prompts[split])) == len(prompts[split])
        for wrong in set(SPLITS) - {split}:
            assert not other[wrong] & set(prompts[split])


def test_rows_depend_on_seed_task_and_split_only() -> None:
    again = _prompts("star", 5, "eval")
    builtin_examples("last", 1, "train", ALL)
    assert _prompts("star", 5, "eval") == again
    assert _prompts("star", 6, "eval") != again
    assert _prompts("last", 5, "eval")[0].split(" . ")[0] != again[0].split(" . ")[0]


def test_rows_are_the_same_on_every_machine() -> None:
    """Frozen: a change of the generator would silently change every published figure."""
    first = builtin_examples("star", 0, "train", Limits(train=1))[0]
    assert first.prompt == (
        "note : rope ivo = door pen * rice ben = horse ( knife ) chair . question : say which one has a star ? answer :"
    )
    assert first.answer == "rice"


def test_a_smaller_limit_is_a_prefix() -> None:
    few, all_rows = (builtin_examples("first", 2, "train", limits) for limits in (Limits(train=7), ALL))
    assert few == all_rows[:7]
    assert builtin_examples("first", 2, "train", Limits(train=10_000)) == all_rows


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match="no task 'stat'; did you mean 'star'"):
        check_builtin_names(["stat"])
    with pytest.raises(DataError, match="choose from star, last"):
        builtin_examples("xyzzy", 0, "train", ALL)


def test_the_model_is_small_loads_and_knows_every_word() -> None:
    directory = builtin_model_directory()
    assert (directory / "model.safetensors").stat().st_size < 1_000_000
    assert all(tensor.dtype == torch.float16 for tensor in load_file(directory / "model.safetensors").values())
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert sum(parameter.numel() for parameter in model.parameters()) == 132_544
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.padding_side == "left"
    assert len(tokenizer) == model.config.vocab_size
    for task in QUESTIONS:
        for example in builtin_examples(task, 1, "eval", ALL):
            ids = tokenizer(f"{example.prompt} {example.answer}")["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert ids[0] == tokenizer.bos_token_id
            assert len(ids) == 1 + len(example.prompt.split()) + 1  # one token a word


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "base_model"
    shutil.copytree(builtin_model_directory(), copy)
    verify_checksums(copy)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged"):
        verify_checksums(copy)
    weights.unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: a file of the built-in model is missing"):
        verify_checksums(copy)
    (copy / "SHA256SUMS").unlink()
    with pytest.raises(ModelError, match="no readable SHA256SUMS"):
        verify_checksums(copy)
