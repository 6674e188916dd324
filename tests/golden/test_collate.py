"""Official collation against the vectors of the authors' release (`collate/`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from seekr_tune.data.collate import Encoder, collate, collate_prompts
from seekr_tune.data.task import Example
from seekr_tune.errors import DataError

PAD, BOS, EOS = 0, 1, 2  # fixed by the layout of the vectors


def _tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    pad, bos, eos = tokenizer.convert_ids_to_tokens([PAD, BOS, EOS])
    tokenizer.add_special_tokens({"pad_token": pad, "bos_token": bos, "eos_token": eos})
    return tokenizer


def _assert_rows(found: torch.Tensor, expected: np.ndarray) -> None:
    assert torch.equal(found, torch.from_numpy(expected))


def _check(case: dict[str, Any], arrays: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(tokenizer, case["max_prompt_len"], case["max_ans_len"], "joint")
    examples = [Example(prompt, answer) for prompt, answer in case["pairs"]]
    if case["error"] is not None:
        with pytest.raises(DataError, match="semantics=corrected"):
            encoder.encode_all(examples)
        return
    multiple, prefix = case["pad_to_multiple_of"], f"case{case['case']}_"
    if case["inference"]:
        prompts = [encoder.encode_prompt(example.prompt) for example in examples]
        input_ids, attention_mask = collate_prompts(prompts, PAD, multiple)
    else:
        encoded = encoder.encode_all(examples)
        assert [row.num_labels for row in encoded] == case["label_lens"]
        batch = collate(encoded, PAD, multiple)
        input_ids, attention_mask = batch.input_ids, batch.attention_mask
        _assert_rows(batch.labels, arrays[prefix + "labels"])
    _assert_rows(input_ids, arrays[prefix + "input_ids"])
    _assert_rows(attention_mask, arrays[prefix + "attention_mask"])


def test_joint_style_gives_the_rows_masks_and_labels_of_the_release(golden: Path) -> None:
    directory = golden / "collate"
    cases = json.loads((directory / "cases.json").read_text(encoding="utf-8"))
    arrays = np.load(directory / "collate.npz")
    tokenizer = _tokenizer(directory)
    assert cases
    for case in cases:
        _check(case, arrays, tokenizer)
