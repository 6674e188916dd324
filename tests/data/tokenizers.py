"""Tiny tokenizers that put special tokens where those of well-known models put them."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

WORDS = ("question", "answer", "apple", "bell", "bird", "boat", "a", "the")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
)
PHI3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
GLM = "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
PLAIN = "{% for m in messages %}### {{ m.role }}: {{ m.content }}\n{% endfor %}"


def words(
    special: tuple[str, ...],
    *,
    before: tuple[str, ...] = (),
    behind: tuple[str, ...] = (),
    template: str | None = None,
    **names: str,
) -> PreTrainedTokenizerFast:
    """One token a word, and the special tokens first, in the order in which they are given.

    Args:
        special: `<unk>` among them.
        before, behind: what the post-processor puts around a text.
        template: of chats.
        names: `eos_token` and the like.
    """
    ids = {token: i for i, token in enumerate((*special, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    if before or behind:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join((*before, "$A", *behind)), special_tokens=[(t, ids[t]) for t in {*before, *behind}]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", chat_template=template, **names)


def llama2() -> PreTrainedTokenizerFast:
    """Sentence-piece with a blank in front, bytes for what it does not know, BOS before a text."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for token in ("▁", "[", "I", "N", "S", "T", "]", "/", *"aelpb"):
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=LLAMA2, **names)


def gpt2() -> PreTrainedTokenizerFast:
    """Bytes; one special token that is BOS, EOS and unknown at once and stands nowhere by itself."""
    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary | {"<|endoftext|>": len(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end)


def llama3() -> PreTrainedTokenizerFast:
    begin, end = "<|begin_of_text|>", "<|end_of_text|>"
    special = ("<unk>", begin, end, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    return words(special, before=(begin,), template=LLAMA3, bos_token=begin, eos_token=end)


def phi3() -> PreTrainedTokenizerFast:
    special = ("<unk>", "<s>", "<|endoftext|>", "<|assistant|>", "<|user|>", "<|end|>")
    return words(special, template=PHI3, bos_token="<s>", eos_token="<|endoftext|>")


def glm() -> PreTrainedTokenizerFast:
    special = ("<unk>", "<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>")
    return words(special, before=("[gMASK]", "<sop>"), template=GLM, eos_token="<|endoftext|>")


def t5() -> PreTrainedTokenizerFast:
    return words(("<pad>", "</s>", "<unk>"), behind=("</s>",), eos_token="</s>", pad_token="<pad>")


class Slow(PreTrainedTokenizer):
    """Written in Python: letters, BOS before a text and EOS behind it."""

    def __init__(self, **names: Any) -> None:
        self._letters = {letter: i for i, letter in enumerate("<>/sabcdet1 .")}
        super().__init__(bos_token="<s>", eos_token="</s>", special_tokens_pattern="bos_eos", **names)

    @property
    def vocab_size(self) -> int:
        return len(self._letters)

    def get_vocab(self) -> dict[str, int]:
        return self._letters | self.added_tokens_encoder

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._letters.get(token)

    def _convert_id_to_token(self, index: int) -> str:
        return list(self._letters)[index]
