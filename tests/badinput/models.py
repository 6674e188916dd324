"""Models and tokenizers that cannot be learned with, and odd ones that can."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    FalconConfig,
    MambaConfig,
    T5Config,
)

from seekr_tune.data.builtin import builtin_model_directory

from .case import EXPERIMENT, RUN, SWEEP, VALIDATE, Case

_NAMED = "mine.yaml: model.path=./model"
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 144}
_LLAMA = {**_SIZES, "intermediate_size": 16, "max_position_embeddings": 64}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

_ROOM = TemporaryDirectory(prefix="badinput-models-")

Change = Callable[[Path], None]


@cache
def _saved(family: str, sizes: str) -> Path:
    """A random model with the built-in tokenizer, made once."""
    directory = Path(_ROOM.name) / str(len(list(Path(_ROOM.name).iterdir())))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **json.loads(sizes))).save_pretrained(directory)
    for name in _TOKENIZER_FILES:
        shutil.copy(builtin_model_directory() / name, directory / name)
    return directory


def _made(*changes: Change, family: str = "llama", **sizes: Any) -> Change:
    """Makes a model directory, then changes it."""

    def make(path: Path) -> None:
        shutil.copytree(_saved(family, json.dumps(_LLAMA | sizes)), path)
        for change in changes:
            change(path)

    return make


def _shape_only(config: Any) -> Change:
    """A directory that says a shape, with weights that are never looked at."""

    def make(path: Path) -> None:
        config.save_pretrained(path)
        (path / "pytorch_model.bin").write_bytes(b"")
        for name in _TOKENIZER_FILES:
            shutil.copy(builtin_model_directory() / name, path / name)

    return make


def _without(*names: str) -> Change:
    return lambda path: [(path / name).unlink() for name in names] and None


def _holding(name: str, content: bytes) -> Change:
    return lambda path: (path / name).write_bytes(content) and None


def _cut(name: str) -> Change:
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:-100]) and None


def _json(name: str, **fields: Any) -> Change:
    """Set fields of a JSON file; None removes one."""

    def change(path: Path) -> None:
        values = json.loads((path / name).read_text()) | fields
        (path / name).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))

    return change


def _tokenizer(**tokens: str | None) -> Change:
    """Set special tokens of the tokenizer; None takes one away."""

    def change(path: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(path)
        for name, token in tokens.items():
            setattr(tokenizer, name, token)
        tokenizer.save_pretrained(path)

    return change


_LORA = "model: {lora: {target_modules: [nose]}}\n"
_MINE = EXPERIMENT + "model: {path: ./model}\n"


def _refused(name: str, model: Change | None, *says: str, lines: str = "") -> Case:
    """A model that every command refuses."""
    files = {"mine.yaml": _MINE + lines, **({} if model is None else {"model": model})}
    return Case(name, files, says, (VALIDATE, RUN, SWEEP))


def _incomplete(name: str, model: Change, *says: str) -> Case:
    """A model that `validate` notes as incomplete, and that is refused where it is needed."""
    return Case(name, {"mine.yaml": _MINE, "model": model}, (_NAMED, *says), (RUN, SWEEP))


def _works(name: str, model: Change, lines: str = "") -> Case:
    return Case(name, {"mine.yaml": _MINE + lines, "model": model}, commands=(VALIDATE, RUN), works=True)


def _bert() -> Change:
    def make(path: Path) -> None:
        BertLMHeadModel(BertConfig(**_SIZES, intermediate_size=16)).save_pretrained(path)
        for name in _TOKENIZER_FILES:
            shutil.copy(builtin_model_directory() / name, path / name)

    return make


CASES: tuple[Case, ...] = (
    # --- where it is ---
    _refused("no such directory", None, _NAMED, "no such directory", "hub name"),
    _refused("a file for a model", lambda path: path.write_text("x") and None, _NAMED, "no such directory"),
    _refused("an empty directory", Path.mkdir, _NAMED, "cannot be loaded", "check the path"),
    Case("an empty path", {"mine.yaml": EXPERIMENT + "model: {path: ''}\n"}, ("mine.yaml: model.path=''",)),
    Case(
        "a hub name that cannot be had", {"mine.yaml": EXPERIMENT + "model: {path: a/b}\n"}, ("model.path=a/b",), (RUN,)
    ),
    # --- its shape ---
    _refused("a shape that is no JSON", _made(_holding("config.json", b"{oops")), _NAMED, "config.json"),
    _refused("a shape that is a list", _made(_holding("config.json", b"[]")), _NAMED, "cannot be loaded"),
    _refused("a shape of bytes", _made(_holding("config.json", b"\xff\xfe")), _NAMED, "cannot be loaded"),
    _refused("a shape without a type", _made(_holding("config.json", b"{}")), _NAMED, "model_type"),
    _refused("an unknown type", _made(_json("config.json", model_type="lama")), _NAMED, "lama"),
    _refused("words for a number of layers", _made(_json("config.json", num_hidden_layers="two")), _NAMED, "layers"),
    _refused("heads that do not divide", _made(_json("config.json", num_attention_heads=3)), _NAMED, "heads"),
    _refused("bloom", _shape_only(BloomConfig(hidden_size=16, n_layer=2, n_head=2)), _NAMED, "'bloom'", "choose llama"),
    _refused("falcon", _shape_only(FalconConfig(**_SIZES)), _NAMED, "'falcon'", "choose llama"),
    _refused("mamba", _shape_only(MambaConfig(hidden_size=16)), "mine.yaml: model.path=./model", "'mamba'", "choose"),
    _refused("t5", _shape_only(T5Config()), _NAMED, "'t5'", "no causal language model", "choose llama"),
    _refused("bert, which looks ahead", _bert(), _NAMED, "'bert'", "is_decoder"),
    _refused(
        "fewer positions than tokens", _made(max_position_embeddings=8), "20 exceeds the 8 positions", "lower one"
    ),
    _refused("a layer of none", _made(num_hidden_layers=0), "mine.yaml: model.path", "0 layers"),
    _refused(
        "more heads than it has", _made(), "head_budget=9 exceeds the 4 heads", lines="method: {head_budget: 9}\n"
    ),
    # --- its weights ---
    _incomplete("no weights", _made(_without("model.safetensors")), "holds no weights", "complete model"),
    _refused("weights that are cut off", _made(_cut("model.safetensors")), _NAMED, "model.safetensors", "copy it anew"),
    _refused("weights of zeros", _made(_holding("model.safetensors", b"\0" * 64)), _NAMED, "model.safetensors", "copy"),
    _refused("empty weights", _made(_holding("model.safetensors", b"")), _NAMED, "model.safetensors", "copy it anew"),
    # --- its tokenizer ---
    _incomplete("no tokenizer", _made(_without(*_TOKENIZER_FILES)), "holds no tokenizer", "complete model"),
    _incomplete("neither", _made(_without(*_TOKENIZER_FILES, "model.safetensors")), "no tokenizer and no weights"),
    _refused("a tokenizer that is no JSON", _made(_holding("tokenizer.json", b"{oops")), _NAMED, "tokenizer cannot be"),
    _refused("an empty tokenizer", _made(_holding("tokenizer.json", b"{}")), _NAMED, "its tokenizer cannot be loaded"),
    _refused("a tokenizer without EOS", _made(_tokenizer(eos_token=None)), _NAMED, "no EOS token", "set eos_token"),
    _refused("an EOS beyond the vocabulary", _made(vocab_size=2), _NAMED, "eos_token", "of another model"),
    _refused(
        "a vocabulary smaller than the tokenizer's",
        _made(vocab_size=40),
        "train row 1",
        "./model knows 40",
        "of another model",
    ),
    # --- adapters ---
    Case(
        "adapters on modules that are not there",
        {"mine.yaml": EXPERIMENT + _LORA},
        ("target_modules", "nose"),
        (RUN, SWEEP),
    ),
    # --- odd, but right ---
    _works("a tokenizer without pad", _made(_tokenizer(pad_token=None))),
    _works("a pad that was added to the tokenizer alone", _made(_tokenizer(pad_token="<new>"))),
    _works("a tokenizer without BOS", _made(_tokenizer(bos_token=None))),
    _works("EOS for pad and BOS", _made(_tokenizer(pad_token="<eos>", bos_token="<eos>"))),
    _works("a vocabulary larger than the tokenizer's", _made(vocab_size=1000)),
    _works("an odd vocabulary", _made(vocab_size=149)),
    _works("one layer of one head", _made(num_hidden_layers=1, num_attention_heads=1), "method: {head_budget: 1}\n"),
    _works("gpt2 and its own names", _made(family="gpt2", n_embd=16, n_layer=2, n_head=2, n_positions=64)),
)
