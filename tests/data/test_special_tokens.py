"""Special tokens of tokenizers in the styles of well-known models: before a text, behind an answer, in a chat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import AutoTokenizer

from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.data.collate import EncodedExample, Encoder
from seekr_tune.data.special_tokens import SpecialTokens, other_ends_of, prefix_of, read_answer
from seekr_tune.data.task import Example
from seekr_tune.errors import ConfigError

from . import tokenizers as styles

STYLES: dict[str, tuple[Callable[[], Any], list[str], list[str]]] = {  # tokenizer, tokens before a text, other ends
    "llama 2": (styles.llama2, ["<s>"], []),
    "llama 3": (styles.llama3, ["<|begin_of_text|>"], ["<|eot_id|>"]),
    "gpt 2": (styles.gpt2, [], []),
    "phi 3": (styles.phi3, [], ["<|end|>"]),
    "glm": (styles.glm, ["[gMASK]", "<sop>"], []),
    "t5": (styles.t5, [], []),
    "slow": (styles.Slow, ["<s>"], []),
}


def chat(tokenizer: Any, text: str, **options: Any) -> str:
    return str(tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, **options))


@pytest.mark.parametrize("style", STYLES)
def test_the_prefix_is_what_the_tokenizer_itself_puts_before_a_text(style: str) -> None:
    make, before, _ = STYLES[style]
    tokenizer = make()
    assert prefix_of(tokenizer) == tuple(tokenizer.convert_tokens_to_ids(before))


@pytest.mark.parametrize("style", STYLES)
def test_prompts_begin_as_the_tokenizer_itself_begins_them(style: str) -> None:
    """Compared with the library's own call, less what it puts behind."""
    tokenizer = STYLES[style][0]()
    text = "a apple bell" if style != "slow" else "a bed"
    whole, plain = (tokenizer(text, add_special_tokens=flag)["input_ids"] for flag in (True, False))
    found = Encoder(tokenizer, 64, 8, "separate").encode_prompt(text)
    assert list(found) == whole[: len(found)] and len(found) == len(STYLES[style][1]) + len(plain)


@pytest.mark.parametrize("style", ["llama 2", "llama 3", "phi 3", "glm"])
def test_a_rendered_chat_has_its_prefix_once(style: str) -> None:
    tokenizer = STYLES[style][0]()
    rendered = chat(tokenizer, "apple bell")
    found = Encoder(tokenizer, 64, 8, "separate").encode_prompt(rendered)
    assert list(found) == tokenizer(rendered, add_special_tokens=False)["input_ids"]


def test_a_chat_that_is_cut_keeps_its_prefix() -> None:
    tokenizer = styles.glm()
    mask, sop, bell, bird = tokenizer.convert_tokens_to_ids(["[gMASK]", "<sop>", "bell", "bird"])
    encoder = Encoder(tokenizer, 4, 8, "separate")
    for prompt in ("apple bell bird", chat(tokenizer, "apple bell bird")):
        assert encoder.encode_prompt(prompt) == (mask, sop, bell, bird)
    row = encoder.encode(Example("bell bird", "boat"))
    assert row == EncodedExample((mask, sop, bell, bird, *encoder.encode_answers(["boat"])[0]), num_labels=2)


def test_a_prefix_that_fills_the_limit_is_all_of_the_prompt_and_a_longer_one_is_refused() -> None:
    tokenizer = styles.glm()
    assert Encoder(tokenizer, 2, 8, "separate").encode_prompt("apple") == prefix_of(tokenizer)
    with pytest.raises(ConfigError, match="max_prompt_tokens=1 has no room for the 2 special tokens"):
        Encoder(tokenizer, 1, 8, "separate")


def test_the_official_style_puts_bos_whatever_the_tokenizer_does() -> None:
    """The release adds `bos_token_id` by hand."""
    tokenizer = styles.phi3()
    apple, bos = tokenizer.convert_tokens_to_ids(["apple", "<s>"])
    assert Encoder(tokenizer, 8, 8, "joint").encode_prompt("apple") == (bos, apple)
    assert Encoder(tokenizer, 8, 8, "separate").encode_prompt("apple") == (apple,)


def test_a_prompt_that_the_tokenizer_knows_nothing_of_begins_with_bos_at_least() -> None:
    tokenizer = styles.gpt2()
    assert Encoder(tokenizer, 8, 8, "separate").encode_prompt("") == (tokenizer.bos_token_id,)


def test_the_model_of_the_package_keeps_its_bos() -> None:
    tokenizer = AutoTokenizer.from_pretrained(builtin_model_directory())
    assert prefix_of(tokenizer) == (tokenizer.bos_token_id,) and other_ends_of(tokenizer) == ()


def test_a_vocabulary_without_the_words_that_are_asked_is_asked_with_its_own() -> None:
    tokenizer = styles.words(("<unk>", "<s>", "</s>"), before=("<s>",), bos_token="<s>", eos_token="</s>")
    assert tokenizer("the")["input_ids"] == [1, tokenizer.convert_tokens_to_ids("the")]
    foreign = styles.words(("<unk>", "<s>", "</s>"), before=("<s>",), bos_token="<s>", eos_token="</s>")
    foreign.backend_tokenizer.model = type(foreign.backend_tokenizer.model)(
        {"<unk>": 0, "<s>": 1, "</s>": 2, "haus": 3}, unk_token="<unk>"
    )
    assert foreign("the")["input_ids"] == [1, 0] and prefix_of(foreign) == (1,)


def test_what_an_earlier_version_had_around_texts_is_known() -> None:
    """It looked at `bos_token_id` and `eos_token_id`, not at the text."""
    llama, phi = styles.llama3(), styles.phi3()
    for tokenizer, prompt, prefix in (
        (llama, "apple", ["<|begin_of_text|>"]),
        (llama, chat(llama, "apple"), ["<|begin_of_text|>"] * 2),
        (phi, chat(phi, "apple"), ["<s>"]),
        (styles.glm(), "apple", []),
    ):
        found = Encoder(tokenizer, 64, 8, "separate", other_ends_of(tokenizer)).earlier_special_tokens(["the", prompt])
        ids = tuple(tokenizer.convert_tokens_to_ids(prefix))
        assert found == SpecialTokens(ids, (tokenizer.eos_token_id,))


# --- the end of an answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_the_turn_of_an_assistant_ends_with_one_special_token_or_none(style: str) -> None:
    make, _, ends = STYLES[style]
    tokenizer = make()
    assert other_ends_of(tokenizer) == tuple(tokenizer.convert_tokens_to_ids(ends))


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (styles.CHATML, ["<|im_end|>"]),
        (styles.GEMMA, ["<end_of_turn>"]),
        (styles.PLAIN, []),
        ("{{ raise_exception('no') }}", []),
        ("{% for m in messages %}{{ m.parts[0] }}{% endfor %}", []),
        ("{{ messages[0].content }}<|im_end|>", []),
        ("{% if %}", []),
    ],
    ids=["chatml", "gemma", "no special token", "refuses", "other fields", "never shows it", "no template"],
)
def test_what_follows_the_assistant_is_read_from_the_rendered_template(template: str, ends: list[str]) -> None:
    special = ("<unk>", "</s>", "<bos>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>")
    tokenizer = styles.words(special, template=template, eos_token="</s>", bos_token="<bos>")
    assert other_ends_of(tokenizer) == tuple(tokenizer.convert_tokens_to_ids(ends))


def test_declared_ends_count_where_they_are_special_tokens() -> None:
    tokenizer = styles.glm()
    user, eos, apple = tokenizer.convert_tokens_to_ids(["<|user|>", "<|endoftext|>", "apple"])
    assert other_ends_of(tokenizer, [eos, user, apple, 10_000]) == (user,)  # a word, and none at all, end nothing


def test_an_answer_is_read_up_to_the_first_of_its_ends() -> None:
    tokenizer = styles.llama3()
    apple, bell, eos, eot = tokenizer.convert_tokens_to_ids(["apple", "bell", "<|end_of_text|>", "<|eot_id|>"])
    for ids in ([apple, eot, bell], [apple, eos, bell], [apple, eot, eos], [apple]):
        assert read_answer(tokenizer, ids, (eos, eot)) == "apple"
    assert read_answer(tokenizer, [eot, apple], (eos, eot)) == ""
    assert read_answer(tokenizer, [apple, eot, bell], (eos,)) == "apple bell"


def test_blanks_before_full_stops_stay() -> None:
    """Some tokenizers ask for them to be removed when text is made of tokens."""
    tokenizer = styles.words(("<unk>", "</s>"), eos_token="</s>")
    tokenizer.clean_up_tokenization_spaces = True
    tokenizer.add_tokens(["."])
    ids = tokenizer("apple . bell .")["input_ids"]
    assert tokenizer.decode(ids) != "apple . bell ."
    assert read_answer(tokenizer, ids, (tokenizer.eos_token_id,)) == "apple . bell ."
