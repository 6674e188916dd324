"""Encoding and padding: what is a label, what is cut, and that a prompt never knows its own answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.data.collate import EncodedExample, Encoder, collate, collate_prompts
from seekr_tune.data.task import Example
from seekr_tune.errors import DataError, ModelError

WORDS = ["apple", "bell", "bird", "boat", "book"]
BOS, EOS = 1, 2
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)

TOKENIZER = AutoTokenizer.from_pretrained(builtin_model_directory())


def _ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER(text, add_special_tokens=False)["input_ids"])


@given(texts, texts, texts, st.integers(1, 12), st.integers(1, 8))
def test_prompt_ids_do_not_depend_on_the_answer(
    prompt: str, answer: str, other: str, max_prompt_tokens: int, max_answer_tokens: int
) -> None:
    """A cut that makes room for the answer would tell the answer's length: the label leak."""
    encoder = Encoder(TOKENIZER, max_prompt_tokens, max_answer_tokens, "separate")
    rows = [encoder.encode(Example(prompt, text)) for text in (answer, other)]
    prompts = [row.input_ids[: len(row.input_ids) - row.num_labels] for row in rows]
    assert prompts[0] == prompts[1] == encoder.encode_prompt(prompt)


@given(texts, texts, st.integers(1, 12), st.integers(1, 8))
def test_labels_are_exactly_answer_and_eos(
    prompt: str, answer: str, max_prompt_tokens: int, max_answer_tokens: int
) -> None:
    row = Encoder(TOKENIZER, max_prompt_tokens, max_answer_tokens, "separate").encode(Example(prompt, answer))
    labels = row.input_ids[-row.num_labels :]
    assert labels == (*_ids(answer)[: max_answer_tokens - 1], EOS)
    assert len(labels) <= max_answer_tokens
    before = row.input_ids[: -row.num_labels]
    assert before == (BOS, *_ids(prompt))[:1] + _ids(prompt)[max(0, len(_ids(prompt)) - max_prompt_tokens + 1) :]
    assert len(before) <= max_prompt_tokens


def test_long_prompts_lose_their_beginning_but_keep_bos() -> None:
    encoder = Encoder(TOKENIZER, 3, 4, "separate")
    assert encoder.encode_prompt("apple bell bird boat") == (BOS, *_ids("bird boat"))


def test_joint_rows_that_are_cut_lose_eos_and_label_a_prompt_token() -> None:
    row = Encoder(TOKENIZER, 3, 1, "joint").encode(Example("apple bell bird boat ", "book"))
    assert row == EncodedExample(_ids("bell bird boat book"), num_labels=2)  # 'boat' is a label


def test_joint_rows_get_eos_before_bos() -> None:
    example = Example("apple bell ", "book")
    ids = _ids("apple bell book")
    assert Encoder(TOKENIZER, 3, 1, "joint").encode(example).input_ids == (*ids, EOS)
    assert Encoder(TOKENIZER, 3, 2, "joint").encode(example).input_ids == (BOS, *ids, EOS)


def test_joint_prompts_get_bos_only_where_there_is_room() -> None:
    encoder = Encoder(TOKENIZER, 3, 1, "joint")
    assert encoder.encode_prompt("apple bell") == (BOS, *_ids("apple bell"))
    assert encoder.encode_prompt("apple bell bird") == _ids("apple bell bird")
    assert encoder.encode_prompt("apple bell bird boat") == _ids("bell bird boat")


def _merging_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """`h` + `ouse` is one token when joined; `ouse` alone is three."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "h": 3, "o": 4, "u": 5, "se": 6, "house": 7, "s": 8, "e": 9}
    vocabulary |= {"ho": 10, "hou": 11}
    merges = [("s", "e"), ("h", "o"), ("ho", "u"), ("hou", "se")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", **special)


def test_joint_refuses_an_answer_longer_alone_than_its_row() -> None:
    tokenizer = _merging_tokenizer(bos_token="<s>", eos_token="</s>")
    with pytest.raises(DataError, match="4 tokens alone, but prompt and answer together only 3"):
        Encoder(tokenizer, 60, 20, "joint").encode(Example("h", "ouse"))
    separate = Encoder(tokenizer, 60, 20, "separate").encode(Example("h", "ouse"))
    assert separate == EncodedExample((3, 4, 5, 6, 2), num_labels=4)


def test_a_tokenizer_without_bos_gets_none() -> None:
    tokenizer = _merging_tokenizer(eos_token="</s>")
    assert Encoder(tokenizer, 1, 9, "separate").encode(Example("h house", "h")) == EncodedExample((7, 3, 2), 2)
    assert Encoder(tokenizer, 5, 9, "joint").encode_prompt("h") == (3,)


def test_a_tokenizer_without_eos_is_refused() -> None:
    with pytest.raises(ModelError, match="no EOS"):
        Encoder(_merging_tokenizer(), 8, 8, "separate")


def test_encoding_many_rows_at_once_equals_one_by_one() -> None:
    examples = [Example("apple bell bird", "boat"), Example("book", "bell bell"), Example("boat " * 9, "bird")]
    for style in ("separate", "joint"):
        encoder = Encoder(TOKENIZER, 5, 3, style)  # type: ignore[arg-type]
        assert encoder.encode_all(examples) == [encoder.encode(example) for example in examples]
        assert encoder.encode_all([]) == encoder.encode_prompts([]) == []


def test_batches_are_padded_on_the_left_to_a_multiple() -> None:
    batch = collate([EncodedExample((1, 5, 6, 7, 2), 2), EncodedExample((1, 8, 2), 1)], 0, 4)
    assert batch.input_ids.tolist() == [[0, 0, 0, 1, 5, 6, 7, 2], [0, 0, 0, 0, 0, 1, 8, 2]]
    assert batch.attention_mask.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1, 1]]
    ignored = -100
    assert batch.labels.tolist() == [[ignored] * 6 + [7, 2], [ignored] * 7 + [2]]
    assert batch.input_ids.dtype == batch.labels.dtype == batch.attention_mask.dtype == torch.int64


def test_prompts_are_padded_like_batches() -> None:
    input_ids, attention_mask = collate_prompts([(1, 5), (1, 5, 6)], 9, 1)
    assert input_ids.tolist() == [[9, 1, 5], [1, 5, 6]]
    assert attention_mask.tolist() == [[0, 1, 1], [1, 1, 1]]


def test_texts_beyond_the_models_length_are_cut_without_a_warning(
    data_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(data_directory / "models" / "stories260K")
    encoder = Encoder(tokenizer, 64, 8, "separate")
    example = Example("A long story about a bird. " * 300 + "Output: ", "The end")
    row = encoder.encode(example)
    assert len(row.input_ids) == 64 + row.num_labels
    assert row.input_ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(row.input_ids[-row.num_labels : -1]).strip() == "The end"
    assert not caplog.records
