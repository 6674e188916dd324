"""Special tokens as a tokenizer has them: which stand before a text, which end an answer, and how one is read.

Tokenizers differ: Llama's puts BOS before a text, GPT-2's and Phi-3's have a BOS and put nothing, GLM's puts two
tokens, T5's one behind. None of their settings says so for all of them, so each is asked with a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

_TEXTS = ("a", "the", "1", ".")
"""Some of which every tokenizer of a language knows."""
_OWN_WORDS = 50
"""Tokens of a vocabulary that are tried where it knows none of these texts."""
_ANSWER = "seekranswer"
"""What the assistant says in a chat that is rendered to see what follows it; no template contains it."""


@dataclass(frozen=True)
class SpecialTokens:
    """What stands around prompts and answers: runs that differ in it learn and score other texts.

    Attributes:
        prefix: before a prompt.
        ends: each of them ends an answer.
    """

    prefix: tuple[int, ...]
    ends: tuple[int, ...]


def prefix_of(tokenizer: Any) -> tuple[int, ...]:
    """The special tokens that a tokenizer puts before the first token of a text; often BOS, or none.

    Args:
        tokenizer: a transformers tokenizer, fast or slow. Of one that knows no text at all, none is found.
    """
    special = set(tokenizer.all_special_ids)
    for text in (*_TEXTS, *_own_words(tokenizer, special)):
        plain = _ids(tokenizer, text, add_special_tokens=False)
        if not plain or special.intersection(plain):  # unknown words are dropped, or a special token stands for them
            continue
        whole = _ids(tokenizer, text, add_special_tokens=True)
        starts = (start for start in range(len(whole)) if whole[start : start + len(plain)] == plain)
        start = next(starts, None)
        if start is not None:
            return whole[:start]
        return tuple(takewhile(special.__contains__, whole))  # the text itself is read differently behind them
    return ()


def other_ends_of(tokenizer: Any, declared: Sequence[int] = ()) -> tuple[int, ...]:
    """The tokens besides EOS that end an answer, ascending: chat models end a turn with one that is not their EOS.

    They are those that the model declares, and the one that the chat template puts behind the assistant's words. Only
    special tokens count, and BOS does not: what a model's configuration declares by default may be any word of another
    vocabulary, and would cut answers short.

    Args:
        tokenizer: a transformers tokenizer.
        declared: `eos_token_id` of the model's generation_config.json.
    """
    special = _special_tokens(tokenizer)
    turn_end = _turn_end(tokenizer, special)
    found = {*declared, *(() if turn_end is None else (turn_end,))}
    return tuple(sorted(found & set(special.values()) - {tokenizer.eos_token_id, tokenizer.bos_token_id}))


def read_answer(tokenizer: Any, ids: Sequence[int], ends: Sequence[int]) -> str:
    """The text of an answer up to the first token that ends it, without special tokens, blanks as they are.

    Args:
        tokenizer: a transformers tokenizer.
        ids: what was generated.
        ends: the tokens that end an answer.
    """
    kept = list(takewhile(lambda token: token not in ends, ids))
    # Some tokenizers would take blanks before full stops for an artefact, also where the answer has them.
    return str(tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _turn_end(tokenizer: Any, special: dict[str, int]) -> int | None:
    """The special token that follows the assistant's words in a chat; None where there is none, or no template."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    chat = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _ANSWER}]
    try:
        rendered = str(tokenizer.apply_chat_template(chat, tokenize=False))
    except Exception:  # a template is a program of its author, which may refuse this chat with any error
        return None
    _, answer, rest = rendered.rpartition(_ANSWER)
    rest = rest.lstrip()
    first = max((token for token in special if answer and rest.startswith(token)), key=len, default=None)
    return None if first is None else special[first]


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    """Special tokens by their text."""
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    return {text: number for text, number in (added | named).items() if text}


def _own_words(tokenizer: Any, special: set[int]) -> Iterator[str]:
    """Texts of some tokens of the vocabulary."""
    regular = (token for token in sorted(tokenizer.get_vocab().values()) if token not in special)
    for token in islice(regular, _OWN_WORDS):
        text = str(tokenizer.decode([token])).strip()
        if text:
            yield text


def _ids(tokenizer: Any, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
    encoded = tokenizer(text, add_special_tokens=add_special_tokens, truncation=False, padding=False, verbose=False)
    return tuple(encoded["input_ids"])
