"""What lies in a model's directory is refused in a line that names the file, before a library stumbles over it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from seekr_tune.config import ModelConfig
from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.errors import ModelError
from seekr_tune.models import model_files
from seekr_tune.models.loading import load_model, read_model_config
from seekr_tune.models.model_files import load_tokenizer, missing_parts, require_served, require_whole
from seekr_tune.models.pretrained import panics_as_errors

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"
INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")

Weights = dict[str, Tensor]
Places = dict[str, str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the built-in model, to be damaged."""
    return Path(shutil.copytree(builtin_model_directory(), tmp_path / "model"))


def look(directory: Path) -> None:
    """At all that is looked at before weights are loaded."""
    config = ModelConfig(path=str(directory))
    shape = read_model_config(config)
    assert shape is not None
    require_served(config, shape)
    require_whole(config, directory, shape)
    load_tokenizer(config, str(directory), shape)


def refusal(directory: Path, how: Callable[[Path], Any] = look) -> str:
    with pytest.raises(ModelError) as refused:
        how(directory)
    text = str(refused.value)
    assert text.startswith(f"model.path={directory}: ") and "\n" not in text
    return text


def load(directory: Path) -> None:
    load_model(ModelConfig(path=str(directory)))


def set_config(directory: Path, **fields: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change(directory: Path, how: Callable[[Weights], Weights | None]) -> None:
    weights = load_file(directory / WEIGHTS)
    changed = how(weights) or weights
    save_file({name: tensor.contiguous() for name, tensor in changed.items()}, directory / WEIGHTS, {"format": "pt"})


def split(directory: Path, how: Callable[[Places], Places] = lambda places: places) -> None:
    """The weights in two files, with an index that may be wrong."""
    weights = load_file(directory / WEIGHTS)
    names = sorted(weights)
    places = {name: SHARDS[position % 2] for position, name in enumerate(names)}
    for file in SHARDS:
        save_file({name: weights[name] for name in names if places[name] == file}, directory / file, {"format": "pt"})
    (directory / WEIGHTS).unlink()
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": how(places)}))


# --- files that stand for others -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_pointer_of_git_lfs_is_named(model: Path, name: str) -> None:
    (model / name).write_bytes(POINTER)
    assert f"{name} is a pointer of Git LFS" in refusal(model) and "git lfs pull" in refusal(model)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_a_pipe_is_not_waited_for(model: Path, name: str) -> None:
    (model / name).unlink()
    os.mkfifo(model / name)
    assert f"{name} is a pipe" in refusal(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "adapter_config.json"])
@pytest.mark.parametrize(
    ("content", "says"), [(b"", "not valid JSON"), (b"[" * 100_000, "nests deeper"), (b"[]", "no JSON object")]
)
def test_json_that_is_none_names_its_file(model: Path, name: str, content: bytes, says: str) -> None:
    (model / name).write_bytes(content)
    assert name in refusal(model) and says in refusal(model)


def test_a_damaged_generation_config_says_nothing_and_is_served(model: Path) -> None:
    (model / "generation_config.json").write_bytes(b"")
    look(model)
    assert load_model(ModelConfig(path=str(model))).other_ends == ()


# --- adapters --------------------------------------------------------------------------------------------------------


def test_an_adapter_names_its_base_and_how_to_merge_it(model: Path) -> None:
    (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base", "peft_type": "LORA"}))
    beside = refusal(model)
    assert "a model and an adapter of org/base" in beside and "merge_and_unload" in beside
    for name in (WEIGHTS, "config.json"):
        (model / name).unlink()
        alone = refusal(model)
        assert "an adapter, not a model" in alone and "its base, org/base" in alone and "merge_and_unload" in alone


# --- forms of weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"quant_method": "gptq", "bits": 4}, "quantised (gptq) and cannot be loaded here"),
        ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "quantised (awq) and cannot be loaded here"),
        ({"load_in_4bit": True}, "quantised (bitsandbytes) and cannot be loaded here"),
        ({"quant_method": "unheard"}, "quantised (unheard) and cannot be loaded here (transformers does not know"),
        ({"bits": 4}, "names no quant_method"),
        ([1], "is no mapping"),
        ("gptq", "is no mapping"),
    ],
    ids=str,
)
def test_quantised_weights_that_cannot_be_loaded_name_their_form(model: Path, form: Any, says: str) -> None:
    set_config(model, quantization_config=form)
    assert says in refusal(model)


def test_whole_numbers_for_weights_are_a_quantised_form(model: Path) -> None:
    change(model, lambda weights: {name: tensor.to(torch.int8) for name, tensor in weights.items()})
    assert "as I8, which is a quantised form that config.json does not declare" in refusal(model)


def test_eight_bits_with_scales_are_a_quantised_form_and_without_are_numbers(model: Path) -> None:
    change(model, lambda weights: {name: tensor.to(torch.float8_e4m3fn) for name, tensor in weights.items()})
    look(model)
    change(model, lambda weights: weights | {"model.norm.weight_scale_inv": torch.ones(1)})
    assert "as F8_E4M3, which is a quantised form" in refusal(model)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pytorch_model.bin", "a pickle"),
        ("consolidated.00.pth", "a pickle"),
        ("model.gguf", "not a form that is read"),
        ("consolidated.safetensors", "not a form that is read"),
    ],
)
def test_weights_of_another_form_or_name_are_named(model: Path, name: str, says: str) -> None:
    (model / WEIGHTS).rename(model / name)
    assert missing_parts(model) == []
    assert f"its weights are in {name}, {says}" in refusal(model)


@pytest.mark.parametrize("kind", ["foo", "auto", "Tensor"])
def test_a_type_of_numbers_that_is_none_is_named(model: Path, kind: str) -> None:
    set_config(model, torch_dtype=kind)
    assert f"torch_dtype of its config.json is {kind!r}" in refusal(model)


@pytest.mark.parametrize("kind", ["float16", "float8_e4m3fn", None])
def test_the_type_that_a_config_names_does_not_matter(model: Path, kind: str | None) -> None:
    set_config(model, dtype=kind)
    look(model)
    assert load_model(ModelConfig(path=str(model))).model.dtype == torch.float32


# --- shards ----------------------------------------------------------------------------------------------------------


def test_weights_in_several_files_are_served(model: Path) -> None:
    whole = load_model(ModelConfig(path=str(model))).model.state_dict()
    split(model)
    look(model)
    parts = load_model(ModelConfig(path=str(model))).model.state_dict()
    assert parts.keys() == whole.keys() and all(torch.equal(parts[name], whole[name]) for name in whole)


def test_an_index_without_metadata_is_refused_and_its_mend_mends(model: Path) -> None:
    split(model)
    index = json.loads((model / INDEX).read_text())
    (model / INDEX).write_text(json.dumps({"weight_map": index["weight_map"]}))
    assert 'has no metadata; add "metadata": {} to it' in refusal(model)
    (model / INDEX).write_text(json.dumps(index))
    look(model)
    assert load_model(ModelConfig(path=str(model))).shape == (3, 4)


def test_shards_that_are_not_there_are_counted(model: Path) -> None:
    split(model)
    (model / SHARDS[1]).unlink()
    assert f"lacks 1 of the 2 files that {INDEX} names (first: '{SHARDS[1]}')" in refusal(model)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda places: dict.fromkeys(places, SHARDS[0]), f"says that {SHARDS[0]} holds"),
        (lambda places: dict.fromkeys(places, "../x.safetensors"), "lacks 1 of the 1 files"),
        (lambda places: {}, "has no weight_map"),
        (lambda places: [], "has no weight_map"),
        (lambda places: dict.fromkeys(places, 3), "has no weight_map"),
    ],
)
def test_an_index_that_fits_its_files_not_is_refused(model: Path, how: Callable[[Places], Any], says: str) -> None:
    split(model, how)
    assert says in refusal(model)


# --- weights that do not fit, or are no numbers ----------------------------------------------------------------------


def test_weights_of_another_shape_name_both(model: Path) -> None:
    set_config(model, vocab_size=192)
    text = refusal(model, load)
    assert "is [144, " in text and "asks for [192, " in text and "of different models" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.weight", "model.norm.weight"])
def test_a_weight_that_is_no_number_is_named(model: Path, name: str, value: float) -> None:
    def spoil(weights: Weights) -> None:
        weights[name].view(-1)[0] = value

    change(model, spoil)
    assert f"its weights hold NaN or infinity ({name})" in refusal(model, load)


def test_settings_that_give_no_numbers_are_told_from_weights(model: Path) -> None:
    set_config(model, rms_norm_eps=float("nan"))
    assert "gives NaN, though its weights are numbers" in refusal(model, load)


def test_a_number_of_layers_that_nobody_has_is_refused_before_they_are_built(model: Path) -> None:
    set_config(model, num_hidden_layers=10**9)
    assert "says 1000000000 layers" in refusal(model)


# --- tokenizers ------------------------------------------------------------------------------------------------------


class PanicException(BaseException):
    """As a Rust library raises it: no Exception."""


def test_a_panic_at_the_first_text_is_a_refusal(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panics:
        def __call__(self, text: str) -> None:
            raise PanicException("index out of range")

        def decode(self, ids: object) -> str:
            return ""

    monkeypatch.setattr(model_files, "read_tokenizer", lambda path: Panics())
    assert "its tokenizer cannot be loaded (index out of range)" in refusal(model)


def test_a_keyboard_interrupt_is_no_panic() -> None:
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt


def test_a_regular_expression_that_is_none_is_a_refusal(model: Path) -> None:
    path = model / "tokenizer.json"
    pattern = {"type": "Split", "pattern": {"Regex": "(?<!a+)("}, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": pattern}))
    assert "its tokenizer cannot be loaded (" in refusal(model)


def test_a_sentencepiece_model_alone_says_what_reads_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "find_spec", lambda name: None)
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    text = refusal(model)
    assert "tokenizer.model alone" in text and "sentencepiece" in text and "tokenizer.json" in text
