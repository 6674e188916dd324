"""Which models are taken, which are refused, and what is trained of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from seekr_tune.config import Config, LoraConfig, ModelConfig
from seekr_tune.errors import ConfigError, ModelError
from seekr_tune.loop.evaluate import generate
from seekr_tune.loop.loop import run_stream
from seekr_tune.models.loading import LoadedModel, check_fit, load_model, model_shape, read_model_config

from ..loop.test_loop import assert_resumes_bit_for_bit
from ..loop.tiny import VOCABULARY, run, same_weights, saved_model, tiny_config, tiny_stream, tiny_tokenizer

GPT2 = {"n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 24}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 6},
    "gpt2": GPT2,
    "gpt_neox": {},
}
UNSERVED: dict[str, dict[str, Any]] = {
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 4},
    "codegen": {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_ctx": 64, "rotary_dim": 4},
    "gptj": {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
}


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def adapted(directory: Path, **settings: Any) -> LoadedModel:
    """A tiny model with adapters; their first weights are the same in every call."""
    torch.manual_seed(1)
    return load_model(ModelConfig(path=str(directory), lora=LoraConfig(rank=2, alpha=4, **settings)))


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_path_that_is_not_set_is_refused_with_a_way_out() -> None:
    with pytest.raises(ModelError, match="model.path is not set.*--set model.path=") as error:
        load_model(ModelConfig(path=None))
    one_line(error)


@pytest.mark.parametrize("path", ["/no/such/directory", "./missing", "a/b/c", "missing"])
def test_a_directory_that_is_not_there_is_named(path: str) -> None:
    for look in (load_model, read_model_config):
        with pytest.raises(ModelError, match=f"model.path={path}: no such directory") as error:
            look(ModelConfig(path=path))
        one_line(error)


def test_a_hub_name_that_is_not_on_this_machine_is_an_error_of_the_user() -> None:
    assert read_model_config(ModelConfig(path="nobody/nothing")) is None
    with pytest.raises(ModelError, match="model.path=nobody/nothing: cannot be loaded") as error:
        load_model(ModelConfig(path="nobody/nothing"))
    one_line(error)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", Path.unlink),
        ("model.safetensors", cut_short),
        ("config.json", Path.unlink),
        ("config.json", lambda path: path.write_text("{")),
        ("tokenizer.json", lambda path: path.write_text("{")),
    ],
    ids=["no weights", "weights cut short", "no config", "broken config", "broken tokenizer"],
)
def test_a_damaged_model_directory_is_refused(tmp_path: Path, name: str, damage: Callable[[Path], Any]) -> None:
    damage(saved_model(tmp_path) / name)
    with pytest.raises(ModelError, match="cannot be loaded") as error:
        load_model(ModelConfig(path=str(tmp_path)))
    assert str(tmp_path) in one_line(error)


def test_an_empty_directory_holds_no_model(tmp_path: Path) -> None:
    for look in (load_model, read_model_config):
        with pytest.raises(ModelError, match="cannot be loaded|holds no model") as error:
            look(ModelConfig(path=str(tmp_path)))
        assert str(tmp_path) in one_line(error)


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path) -> None:
    saved_model(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no EOS token.*set eos_token") as error:
        load_model(ModelConfig(path=str(tmp_path)))
    one_line(error)


@pytest.mark.parametrize("family", UNSERVED)
def test_a_model_whose_attention_does_not_reach_the_tap_is_refused(tmp_path: Path, family: str) -> None:
    ids = {"bos_token_id": 2, "eos_token_id": 3}
    config = AutoConfig.for_model(family, vocab_size=len(VOCABULARY), **ids, **UNSERVED[family])
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="model.path.*the attention tap cannot serve .*; choose llama, ") as error:
        load_model(ModelConfig(path=str(tmp_path)))
    one_line(error)


def test_lengths_above_the_model_s_positions_are_refused() -> None:
    model = AutoConfig.for_model("llama", num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64)
    fits = tiny_config(**{"recipe.max_prompt_tokens": 60, "recipe.max_answer_tokens": 4})
    check_fit(fits, model)
    too_long = tiny_config(**{"recipe.max_prompt_tokens": 60, "recipe.max_answer_tokens": 5})
    with pytest.raises(ConfigError, match=r"max_answer_tokens = 65 exceeds the 64 positions") as error:
        check_fit(too_long, model)
    one_line(error)


def test_a_head_budget_above_the_kept_layers_is_refused() -> None:
    model = AutoConfig.for_model("gpt2", **GPT2)
    assert model_shape(model) == (2, 4)
    values = {"method.seekr.layer_ratio": 0.5, "recipe.max_prompt_tokens": 20}
    check_fit(tiny_config(**{"method.seekr.head_budget": 4}, **values), model)
    with pytest.raises(ConfigError, match="method.seekr.head_budget=5 exceeds the 4 heads of the 1 layers") as error:
        check_fit(tiny_config(**{"method.seekr.head_budget": 5}, **values), model)
    one_line(error)


def test_a_budget_that_nothing_reads_is_not_checked() -> None:
    model = AutoConfig.for_model("gpt2", **GPT2)
    too_many = {"method.seekr.head_budget": 500, "recipe.max_prompt_tokens": 20}
    for unread in ({"method.name": "seqft"}, {"method.name": "replay"}, {"method.seekr.selection": "all"}):
        check_fit(tiny_config(**too_many, **unread), model)
    with pytest.raises(ConfigError, match="method.seekr.head_budget=500 exceeds"):
        check_fit(tiny_config(**too_many), model)


def test_weights_that_lack_a_layer_are_refused_rather_than_filled_at_random(tmp_path: Path) -> None:
    saved_model(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lack model.layers.1.mlp.up_proj.weight") as error:
        load_model(ModelConfig(path=str(tmp_path)))
    one_line(error)


# --- served ----------------------------------------------------------------------------------------------------------


def test_the_built_in_model_loads_by_its_name() -> None:
    loaded = load_model(ModelConfig())
    assert loaded.shape == model_shape(loaded.model.config)
    assert loaded.tokenizer.padding_side == "left"
    assert sum(parameter.numel() for parameter in loaded.trainable().values()) == 132_544
    shape = read_model_config(ModelConfig())
    assert shape is not None and model_shape(shape) == loaded.shape


def test_weights_are_those_on_disk_in_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    saved_model(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    for dtype in ("float32", "bfloat16"):
        loaded = load_model(ModelConfig(path=str(tmp_path), dtype=dtype))
        for name, weight in loaded.model.state_dict().items():
            assert weight.dtype == getattr(torch, dtype)
            assert torch.equal(weight, plain[name].to(weight.dtype))


def two_tasks(**values: Any) -> Config:
    return tiny_config(**{"stream.tasks": ("first", "second"), "recipe.epochs": 1, **values})


@pytest.mark.parametrize("semantics", ["corrected", "official"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_served_family_learns_a_stream_with_seekr(tmp_path: Path, family: str, semantics: str) -> None:
    loaded = load_model(ModelConfig(path=str(saved_model(tmp_path, family, **FAMILIES[family]))))
    assert loaded.shape == (2, 4)
    before = {name: parameter.detach().clone() for name, parameter in loaded.trainable().items()}
    config = two_tasks(**{"method.semantics": semantics})
    outcomes = list(run_stream(config, tiny_stream(config.stream.tasks), loaded))
    replayed = [step.terms["attention_distillation"] for step in outcomes[1].steps if step.kind == "replay"]
    assert replayed[-1] > 1e-6  # the very first may be rounding noise (official)
    assert [sum(map(len, entry.selected.values())) for entry in outcomes[-1].state.history] == [3, 3]
    assert not torch.isnan(torch.tensor(outcomes[-1].state.scores["eval"][1])).any()
    assert not [name for name, parameter in loaded.trainable().items() if torch.equal(parameter, before[name])]


def test_a_model_whose_layers_share_keys_and_differ_in_width_learns_a_stream_with_seekr(tmp_path: Path) -> None:
    sizes = {"head_dim": 4, "global_head_dim": 8, "num_hidden_layers": 4, "num_kv_shared_layers": 2}
    layers = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 6}
    inputs = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": len(VOCABULARY)}
    loaded = load_model(ModelConfig(path=str(saved_model(tmp_path, "gemma4_text", **sizes, **layers, **inputs))))
    assert loaded.shape == (4, 4)
    outcomes = list(run_stream(two_tasks(), tiny_stream(("first", "second")), loaded))
    replayed = [step.terms.get("attention_distillation") for step in outcomes[1].steps if step.kind == "replay"]
    assert replayed and all(value is not None and value > 1e-6 for value in replayed)
    heads = outcomes[-1].state.history[-1].heads
    assert heads is not None and bool((heads.scores["sensitivity"] > 0).all())


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_do_not_depend_on_padding(tmp_path: Path, family: str) -> None:
    """GPT-2 counts positions from the first column unless it is told better."""
    loaded = load_model(ModelConfig(path=str(saved_model(tmp_path, family, **FAMILIES[family]))))
    prompts = [tuple(range(5, 5 + length)) for length in (2, 3, 5, 9, 14, 20)]
    together = generate(loaded, prompts, 5)
    assert together == [generate(loaded, [prompt], 5)[0] for prompt in prompts]
    assert len(set(together)) > 1


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral"])
def test_what_is_learned_does_not_depend_on_padding(tmp_path: Path, family: str) -> None:
    path = saved_model(tmp_path, family, **FAMILIES[family])
    losses = []
    for multiple in (1, 32):
        config = two_tasks(**{"recipe.pad_to_multiple_of": multiple, "evaluation.splits": ()})
        loaded = load_model(ModelConfig(path=str(path)))
        for dropout in (module for module in loaded.model.modules() if isinstance(module, torch.nn.Dropout)):
            dropout.p = 0.0  # GPT-2 drops by default, at positions that depend on the width of the batch
        for module in loaded.model.modules():
            if hasattr(module, "attn_dropout") and isinstance(module.attn_dropout, torch.nn.Dropout):
                module.attn_dropout.p = 0.0
        outcomes = run_stream(config, tiny_stream(config.stream.tasks), loaded)
        losses.append([step.loss for outcome in outcomes for step in outcome.steps])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# --- adapters --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("semantics", ["corrected", "official"])
def test_adapters_learn_and_the_base_stays_as_it_was(llama: Path, semantics: str) -> None:
    loaded = adapted(llama)
    before = {name: parameter.detach().clone() for name, parameter in loaded.model.named_parameters()}
    assert loaded.shape == (2, 4)
    assert loaded.trainable() and all("lora_" in name for name in loaded.trainable())
    run(tiny_config(**{"method.semantics": semantics, "evaluation.splits": ()}), loaded)
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in loaded.trainable()), name


def test_a_checkpoint_of_adapters_holds_the_adapters_only(llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    loaded = adapted(llama, target_modules=("q_proj", "v_proj"))
    run(tiny_config(**{"evaluation.splits": ()}), loaded, tmp_path)
    weights = load_file(tmp_path / "checkpoints" / "task-0003" / "weights-00-of-01.safetensors")
    assert weights.keys() == loaded.trainable().keys()
    assert len(weights) == 2 * 2 * 2  # A and B of q and v in each layer


@pytest.mark.parametrize("semantics", ["corrected", "official"])
def test_a_killed_run_with_adapters_and_dropout_equals_an_uninterrupted_one(
    llama: Path, tmp_path: Path, semantics: str
) -> None:
    config = tiny_config(**{"method.semantics": semantics, "evaluation.splits": ()})
    assert_resumes_bit_for_bit(config, tmp_path, lambda: adapted(llama, dropout=0.2))


def test_adapter_dropout_drops(llama: Path) -> None:
    config = tiny_config(**{"method.name": "seqft", "evaluation.splits": ()})
    assert not same_weights(run(config, adapted(llama, dropout=0.2)), run(config, adapted(llama)))


def test_adapters_in_late_layers_alone_are_enough(llama: Path) -> None:
    """Nothing below them has a gradient; the sensitivity of the first layer is defined all the same."""
    loaded = adapted(llama, target_modules=("layers.1.self_attn.q_proj",))
    state = run(tiny_config(**{"evaluation.splits": ()}), loaded).outcomes[-1].state
    for entry in state.history:
        assert entry.heads is not None
        assert torch.allclose(entry.heads.scores["sensitivity"].sum(dim=1), torch.ones(2))


def test_adapters_on_modules_that_are_not_there_are_refused(llama: Path) -> None:
    with pytest.raises(ConfigError, match="model.lora.target_modules") as error:
        adapted(llama, target_modules=("query_key_value",))
    one_line(error)
