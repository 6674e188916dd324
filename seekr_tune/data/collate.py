"""Text to tensors: prompt and answer -> token ids, and examples -> left-padded batches.

Two styles, one for each semantics (docs/method.md):

- `separate` (corrected): prompt and answer are tokenised apart. The prompt is cut on the left to a fixed limit that
  does not depend on its own answer: a cut that makes room for the answer leaks the answer through the prompt's
  length. The special tokens that the tokenizer itself puts before a text (BOS, two of them, or none) stand in front
  once, also where a chat template has written them, and count inside the limit. The answer is cut to its limit and
  keeps its EOS; the labels are exactly answer + EOS.
- `joint` (official): as the authors' release does it, quirks included, see `Encoder.encode`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from seekr_tune.data.special_tokens import SpecialTokens, prefix_of, read_answer
from seekr_tune.data.task import Example
from seekr_tune.errors import ConfigError, DataError, ModelError

Style = Literal["separate", "joint"]
IGNORED_LABEL = -100
"""Label of the positions that no loss is computed for (PyTorch's default)."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One sample as tokens, without padding.

    Attributes:
        input_ids: prefix + prompt + answer + EOS (what the style and the limits leave of it).
        num_labels: how many tokens at the end are labels.
    """

    input_ids: tuple[int, ...]
    num_labels: int


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of some samples before anything is cut, and what of them the limits leave out.

    Attributes:
        prompts, answers: by sample, the `recipe.max_prompt_tokens` and `recipe.max_answer_tokens` that it needs whole.
        max_prompt_tokens, max_answer_tokens: the limits that there are.
        tokens: of all prompts and answers, without special tokens around them.
        unknown: those among them that stand for what the vocabulary lacks; None where it has no token for that.
    """

    prompts: tuple[int, ...]
    answers: tuple[int, ...]
    max_prompt_tokens: int
    max_answer_tokens: int
    tokens: int
    unknown: int | None

    @property
    def prompts_cut(self) -> float:
        """Share of the prompts that are cut."""
        return _share_above(self.prompts, self.max_prompt_tokens)

    @property
    def answers_cut(self) -> float:
        """Share of the answers that are cut."""
        return _share_above(self.answers, self.max_answer_tokens)

    @property
    def unknown_tokens(self) -> float | None:
        """Share of the tokens that are the unknown one."""
        return None if self.unknown is None else self.unknown / max(1, self.tokens)

    def needed(self, share_cut: float) -> tuple[int, int]:
        """The limits of prompts and answers that cut no more than a share of the samples."""
        return _limit_for(self.prompts, share_cut), _limit_for(self.answers, share_cut)


@dataclass(frozen=True)
class Batch:
    """A left-padded batch; every tensor is int64, [batch, length].

    Attributes:
        input_ids: token ids; pads on the left.
        attention_mask: 1 on real tokens, 0 on pads.
        labels: the token ids of answer + EOS, -100 elsewhere.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


class Encoder:
    """Turns examples into token ids, and the token ids of answers into text.

    Args:
        tokenizer: a transformers tokenizer.
        max_prompt_tokens: longest prompt, prefix included.
        max_answer_tokens: longest answer, EOS included.
        style: `separate` (corrected) or `joint` (official).
        other_ends: tokens besides EOS that end an answer when it is read.

    Attributes:
        prefix: the special tokens before a prompt: in `separate` what the tokenizer itself puts there, in `joint` BOS
            (none for a tokenizer without one), as in the release.
        ends: the tokens that end an answer, EOS first.

    Raises:
        ModelError: the tokenizer has no EOS token.
        ConfigError: the prefix leaves no room for a prompt.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_prompt_tokens: int,
        max_answer_tokens: int,
        style: Style,
        other_ends: Sequence[int] = (),
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError("the tokenizer has no EOS token, so the end of an answer cannot be learned; set eos_token")
        self._tokenizer = tokenizer
        self._max_prompt_tokens = max_prompt_tokens
        self._max_answer_tokens = max_answer_tokens
        self._style = style
        self._bos: tuple[int, ...] = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
        self._eos: tuple[int, ...] = (tokenizer.eos_token_id,)
        self.prefix = prefix_of(tokenizer) if style == "separate" else self._bos
        self.ends: tuple[int, ...] = (*self._eos, *other_ends)
        if style == "separate" and len(self.prefix) > max_prompt_tokens:
            raise ConfigError(
                f"recipe.max_prompt_tokens={max_prompt_tokens} has no room for the {len(self.prefix)} special tokens "
                "that the tokenizer puts before a prompt; set it to more"
            )

    def encode(self, example: Example) -> EncodedExample:
        """One example; see `encode_all`."""
        return self.encode_all([example])[0]

    def encode_all(self, examples: Sequence[Example]) -> list[EncodedExample]:
        """Encode examples for training, tokenising them as one batch.

        `joint` follows the release: prompt and answer are tokenised as one text and cut on the left to
        max_prompt_tokens + max_answer_tokens; EOS is appended if the row is then shorter than the limit, and BOS put
        in front if it is still shorter. As many labels are taken from the end as the answer ALONE has tokens (cut to
        the same limit), plus one for EOS if the answer is shorter than the limit. So a row that was cut has no EOS and
        one label too many.

        Raises:
            DataError: `joint` only: the answer alone has more tokens than its row.

        Source: official `data/data_collator.py`, `DataCollator.decoder_call`.
        """
        return self.encode_counted(examples)[0]

    def encode_counted(self, examples: Sequence[Example]) -> tuple[list[EncodedExample], TokenCounts]:
        """The same, and what the limits leave out.

        `joint` cuts a row as a whole, so a prompt needs what the row has beyond the room for an answer. An answer
        beyond its limit is learned there where the row has room, and is cut when it is generated.
        """
        if not examples:
            return [], self._counts([], [], [])
        answers = self._tokens([example.answer for example in examples])
        if self._style == "separate":
            prompts = self._tokens([example.prompt for example in examples])
            encoded = [
                EncodedExample((*self._separate_prompt(p), *(labels := self._answer(a))), len(labels))
                for p, a in zip(prompts, answers, strict=True)
            ]
            return encoded, self._counts(prompts, answers, [*prompts, *answers])
        rows = self._tokens([example.prompt + example.answer for example in examples])
        encoded = [self._joint(*item) for item in zip(examples, rows, answers, strict=True)]
        return encoded, self._counts([row[self._max_answer_tokens :] for row in rows], answers, rows)

    def count(self, examples: Sequence[Example]) -> TokenCounts:
        """What the limits leave out where prompts are read and answers are generated."""
        prompts, answers = ([getattr(example, name) for example in examples] for name in ("prompt", "answer"))
        if not examples:
            return self._counts([], [], [])
        read, given = self._tokens(prompts), self._tokens(answers)
        return self._counts(read, given, [*read, *given])

    def encode_prompt(self, prompt: str) -> tuple[int, ...]:
        """One prompt; see `encode_prompts`."""
        return self.encode_prompts([prompt])[0]

    def encode_prompts(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """Encode prompts alone, as generation starts from them.

        `separate`: the same ids that `encode` puts before the answer. `joint`: cut on the left to max_prompt_tokens,
        with BOS in front only if there is room for it.
        """
        if not prompts:
            return []
        encode = self._separate_prompt if self._style == "separate" else self._joint_prompt
        return [encode(ids) for ids in self._tokens(prompts)]

    def encode_answers(self, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """Encode answers alone, as a perfect model generates them.

        `separate`: the labels of `encode`. `joint`: without EOS, cut where generation stops.
        """
        if not answers:
            return []
        return [self._answer(ids) for ids in self._tokens(answers)]

    def read(self, ids: Sequence[int]) -> str:
        """The text of a generated answer; see `read_answer`."""
        return read_answer(self._tokenizer, ids, self.ends)

    @property
    def special_tokens(self) -> SpecialTokens:
        """What stands around prompts and answers."""
        return SpecialTokens(self.prefix, self.ends)

    def earlier_special_tokens(self, prompts: Sequence[str]) -> SpecialTokens:
        """What earlier versions had around these prompts: BOS always, also before one that has it, and EOS alone."""
        repeated = self._style == "separate" and any(ids[:1] == self._bos != () for ids in self._tokens(prompts))
        return SpecialTokens(self._bos * (2 if repeated else 1), self._eos)

    def _separate_prompt(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        # An answer needs something to be predicted from, also behind a prompt that the tokenizer knows nothing of.
        return (*self.prefix, *_last(self._own(ids), self._max_prompt_tokens - len(self.prefix))) or self._bos

    def _own(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """A prompt without the prefix that it has brought along."""
        return ids[len(self.prefix) :] if ids[: len(self.prefix)] == self.prefix else ids

    def _answer(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        if self._style == "joint":
            return ids[: self._max_answer_tokens]
        return (*ids[: self._max_answer_tokens - 1], *self._eos)

    def _counts(
        self, prompts: Sequence[tuple[int, ...]], answers: Sequence[tuple[int, ...]], texts: Iterable[tuple[int, ...]]
    ) -> TokenCounts:
        before, behind = (len(self.prefix), 1) if self._style == "separate" else (0, 0)
        unknown, rows = self._tokenizer.unk_token_id, list(texts)
        return TokenCounts(
            prompts=tuple(before + len(self._own(ids) if before else ids) for ids in prompts),
            answers=tuple(len(ids) + behind for ids in answers),
            max_prompt_tokens=self._max_prompt_tokens,
            max_answer_tokens=self._max_answer_tokens,
            tokens=sum(map(len, rows)),
            unknown=None if unknown is None else sum(ids.count(unknown) for ids in rows),
        )

    def _joint_prompt(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        kept = _last(ids, self._max_prompt_tokens)
        return (*self._bos, *kept) if len(kept) < self._max_prompt_tokens else kept

    def _joint(self, example: Example, row: tuple[int, ...], answer: tuple[int, ...]) -> EncodedExample:
        limit = self._max_prompt_tokens + self._max_answer_tokens
        ids = _last(row, limit)
        if len(ids) < limit:
            ids = (*ids, *self._eos)
        if len(ids) < limit:
            ids = (*self._bos, *ids)
        num_labels = min(len(answer) + 1, limit)
        if num_labels > len(ids):
            raise DataError(
                f"answer {example.answer[:40]!r}: with EOS it has {num_labels} tokens alone, but prompt and answer "
                f"together only {len(ids)}, which the official semantics cannot label; use method.semantics=corrected"
            )
        return EncodedExample(ids, num_labels)

    def _tokens(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids of each text, without special tokens and without any cut."""
        # verbose=False: the tokenizer would warn of texts beyond the model's length, which are cut afterwards
        encoded = self._tokenizer(list(texts), add_special_tokens=False, truncation=False, padding=False, verbose=False)
        return [tuple(ids) for ids in encoded["input_ids"]]


def collate(examples: Sequence[EncodedExample], pad_token_id: int, pad_to_multiple_of: int) -> Batch:
    """Pad examples on the left to the longest one, rounded up to a multiple.

    Args:
        examples: at least one.
        pad_token_id: id on pad positions.
        pad_to_multiple_of: the length of the batch is a multiple of this.
    """
    input_ids, attention_mask = collate_prompts(
        [example.input_ids for example in examples], pad_token_id, pad_to_multiple_of
    )
    length = input_ids.shape[1]
    num_labels = torch.tensor([example.num_labels for example in examples])
    is_label = torch.arange(length) >= length - num_labels[:, None]
    return Batch(input_ids, attention_mask, input_ids.masked_fill(~is_label, IGNORED_LABEL))


def padded_length(lengths: Iterable[int], multiple: int) -> int:
    """Length of a batch of sequences: that of the longest, rounded up to a multiple."""
    return -(-max(lengths) // multiple) * multiple


def collate_prompts(
    prompts: Sequence[Sequence[int]], pad_token_id: int, pad_to_multiple_of: int
) -> tuple[Tensor, Tensor]:
    """Pad prompts on the left; `input_ids` and `attention_mask`, int64, [batch, length]."""
    length = padded_length((len(ids) for ids in prompts), pad_to_multiple_of)
    input_ids = torch.tensor([[pad_token_id] * (length - len(ids)) + list(ids) for ids in prompts], dtype=torch.int64)
    attention_mask = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in prompts], dtype=torch.int64)
    return input_ids, attention_mask


def _share_above(needed: Sequence[int], limit: int) -> float:
    return sum(one > limit for one in needed) / max(1, len(needed))


def _limit_for(needed: Sequence[int], share_cut: float) -> int:
    """The smallest limit that at most this share exceeds."""
    return sorted(needed, reverse=True)[int(share_cut * len(needed))] if needed else 0


def _last(ids: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """The last `limit` ids (none for a limit of 0)."""
    return ids[max(0, len(ids) - limit) :]
