"""That a model is compared with what transformers computes before it learns: what is found, said and remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from seekr_tune.config import ModelConfig
from seekr_tune.errors import ModelError
from seekr_tune.methods.seekr.attention import TAP_ATTENTION
from seekr_tune.models import agreement, compared, loading
from seekr_tune.models.agreement import Agreement, measure_agreement, require_agreement
from seekr_tune.models.loading import check_model, load_model
from seekr_tune.study.runs.trial import _load_model

from ..loop.tiny import VOCABULARY, saved_model, tiny_config, tiny_loaded
from .test_loading import FAMILIES, one_line

GEMMA4 = {
    "head_dim": 4,
    "global_head_dim": 8,
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": 6,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": len(VOCABULARY),
}
UNEVEN: dict[str, tuple[str, dict[str, Any]]] = {
    "heads as wide as their layer says": ("gemma4_text", GEMMA4),
    "layers that share keys": ("gemma4_text", GEMMA4 | {"num_kv_shared_layers": 2}),
    "a mask of each head": ("doge", {"keep_window_size": 64}),
    "scores that could be capped, and are not": ("gemma2", {"head_dim": 4, "attn_logit_softcapping": None}),
}
"""Served since shapes may differ by layer and masks by head."""
DIFFERENT: dict[str, tuple[str, dict[str, Any], str]] = {
    "positions that start behind the padding": (
        "roberta",
        {"is_decoder": True, "num_key_value_heads": 4, "max_position_embeddings": 66},
        r"differs in logits by \d+\.\d+% \(rounding: 0.1%\), ",
    ),
    "attention in two parts": ("diffllama", {}, r"differs in .*energies by \d+\.\d+% \(rounding: 1.0%\)"),
    "attention both ways": ("gemma", {"head_dim": 4, "use_bidirectional_attention": True}, "looks ahead|differs in"),
}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "sinks": ("gpt_oss", {"head_dim": 4, "num_local_experts": 2}, "pass s_aux, which the tap does not know"),
    "capped scores": ("gemma2", {"head_dim": 4}, "pass softcap, which the tap does not know"),
    "blocks of keys": (
        "minimax_m3_vl_text",
        {"head_dim": 4, "num_local_experts": 2, "layer_types": ["minimax_m3_sparse"] * 2},
        "block_indices, which the tap does not know",
    ),
}
FINE = Agreement(logits=1e-6, generated=1e-6, rows=1e-6, energies=1e-5)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What other tests have compared is not known in these."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Agreement]:
    """Whatever is measured from now on."""
    found: list[Agreement] = []

    def measure(*arguments: Any) -> Agreement:
        found.append(measure_agreement(*arguments))
        return found[-1]

    monkeypatch.setattr(loading, "measure_agreement", measure)
    return found


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_served_family_computes_what_transformers_computes(tmp_path: Path, family: str) -> None:
    found = check_model(ModelConfig(path=str(saved_model(tmp_path / "model", family, **FAMILIES[family]))))
    assert max(asdict(found).values()) < 1e-5


@pytest.mark.parametrize("case", UNEVEN)
def test_layers_and_heads_that_are_not_alike_are_served(tmp_path: Path, case: str) -> None:
    family, sizes = UNEVEN[case]
    found = check_model(ModelConfig(path=str(saved_model(tmp_path / "model", family, **sizes))))
    assert max(asdict(found).values()) < 1e-3


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_model_that_computes_something_else_is_refused_with_what_was_measured(tmp_path: Path, case: str) -> None:
    family, sizes, reason = DIFFERENT[case]
    path = saved_model(tmp_path / "model", family, **sizes)
    for look in (load_model, check_model):
        with pytest.raises(ModelError, match=f"model type '{family}'.*{reason}") as error:
            look(ModelConfig(path=str(path)))
        one_line(error)


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_kernel_would_leave_out_is_refused(tmp_path: Path, case: str) -> None:
    family, sizes, reason = REFUSED[case]
    path = saved_model(tmp_path / "model", family, **sizes)
    with pytest.raises(ModelError, match=f"cannot serve model type '{family}'.*{reason}") as error:
        load_model(ModelConfig(path=str(path)))
    one_line(error)


def test_a_model_with_other_parts_than_language_is_refused_in_one_line(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "model")
    (path / "config.json").write_text('{"model_type": "gemma3"}')
    with pytest.raises(ModelError, match="'gemma3' is a language model among other parts") as error:
        load_model(ModelConfig(path=str(path)))
    one_line(error)


def test_a_layer_that_is_wrong_in_the_tap_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_loaded()
    rows = agreement.observe

    def twice_as_sharp(*arguments: Any) -> Any:
        observed = rows(*arguments)()
        return lambda: replace(observed, energy=observed.energy * 1.02)

    monkeypatch.setattr(agreement, "observe", twice_as_sharp)
    found = measure_agreement(loaded.model, loaded.shape, 64, loaded.pad_token_id)
    assert found.energies == pytest.approx(0.02, rel=1e-3)
    with pytest.raises(ModelError, match=r"mine: does not compute .*; differs in energies by 2.00% \(rounding: 1.0%\)"):
        require_agreement(found, "mine")


@pytest.mark.parametrize("name", asdict(FINE))
@pytest.mark.parametrize("value", [0.02, float("nan"), float("inf")])
def test_each_number_is_held_to_its_bound(name: str, value: float) -> None:
    require_agreement(FINE, "mine")
    with pytest.raises(ModelError, match=f"differs in {name} by"):
        require_agreement(replace(FINE, **{name: value}), "mine")


def test_a_tie_is_not_a_fault_but_a_fault_is_met_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, fault = tiny_loaded(), replace(FINE, logits=0.5)
    for answers in ([fault, FINE, FINE, FINE], [fault, fault], [fault, FINE, FINE, fault]):
        drawn: list[torch.Tensor] = []

        def measure(model: Any, whole: torch.Tensor, *rest: Any, answers: list[Agreement] = answers) -> Agreement:
            drawn.append(whole)  # noqa: B023
            return answers[len(drawn) - 1]  # noqa: B023

        monkeypatch.setattr(agreement, "_measure", measure)
        assert measure_agreement(loaded.model, loaded.shape, 64, loaded.pad_token_id) == answers[-1]
        assert not torch.equal(drawn[0], drawn[1])


# --- nothing is left behind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_is_as_it_was(dtype: torch.dtype) -> None:
    loaded = tiny_loaded()
    model = torch.nn.Module.to(loaded.model, dtype).train()
    before, random = {name: t.clone() for name, t in model.state_dict().items()}, torch.random.get_rng_state()
    buffers = {name: t.dtype for name, t in model.named_buffers()}
    found = measure_agreement(model, loaded.shape, 64, loaded.pad_token_id)
    assert max(asdict(found).values()) < 1e-5  # in float32, so 16 bits make no difference
    assert all(torch.equal(t, before[name]) and t.dtype == dtype for name, t in model.state_dict().items())
    assert {name: t.dtype for name, t in model.named_buffers()} == buffers
    assert model.config._attn_implementation == TAP_ATTENTION
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)


def test_weights_of_16_bits_are_as_they_are_on_disk(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "model")
    stored = load_file(path / "model.safetensors")
    loaded = load_model(ModelConfig(path=str(path), dtype="bfloat16"))
    for name, weight in loaded.model.named_parameters():
        assert torch.equal(weight, stored[name].bfloat16())


def test_a_model_that_is_too_large_in_float32_is_compared_in_main_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def measure(model: Any, *rest: Any) -> Agreement:
        tries.append(model.device.type)
        if len(tries) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return FINE

    monkeypatch.setattr(loading, "measure_agreement", measure)
    load_model(ModelConfig(path=str(saved_model(tmp_path / "model"))))
    assert tries == ["cpu", "cpu"]


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_a_model_is_compared_once(tmp_path: Path, measured: list[Agreement], monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(path=str(saved_model(tmp_path / "model")))
    load_model(config)
    assert len(measured) == 1
    monkeypatch.setattr(loading, "_load_base", None)  # nor are its weights read again
    assert check_model(config) == measured[0]


def other_weights(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def other_settings(path: Path) -> None:
    text = (path / "config.json").read_text()
    (path / "config.json").write_text(text.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))


@pytest.mark.parametrize("change", [other_weights, other_settings])
def test_another_model_at_the_same_place_is_compared_anew(
    tmp_path: Path, measured: list[Agreement], change: Callable[[Path], None]
) -> None:
    path = saved_model(tmp_path / "model")
    load_model(ModelConfig(path=str(path)))
    change(path)
    load_model(ModelConfig(path=str(path)))
    assert len(measured) == 2 and measured[0] != measured[1]


@pytest.mark.parametrize("other", ["transformers", "torch", "source", "dtype"])
def test_so_it_is_with_other_libraries_and_another_version_of_ours(
    tmp_path: Path, measured: list[Agreement], monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    config = ModelConfig(path=str(saved_model(tmp_path / "model")))
    load_model(config)
    if other == "source":
        monkeypatch.setattr(compared, "digest_of_sources", lambda *parts: "edited")
    elif other == "dtype":
        config = config.model_copy(update={"dtype": "bfloat16"})
    else:
        library = getattr(compared, other)
        monkeypatch.setattr(library, "__version__", f"{library.__version__}.post1")
    load_model(config)
    assert len(measured) == 2


def test_a_refusal_is_remembered_too(tmp_path: Path, measured: list[Agreement]) -> None:
    family, sizes, _ = DIFFERENT["attention in two parts"]
    config = ModelConfig(path=str(saved_model(tmp_path / "model", family, **sizes)))
    said = []
    for _ in range(2):
        with pytest.raises(ModelError) as error:
            load_model(config)
        said.append(str(error.value))
    assert len(measured) == 1 and said[0] == said[1]


@pytest.mark.parametrize("text", ["", "{", '{"logits": 0}', "[]"])
def test_a_damaged_note_is_measured_again(
    tmp_path: Path, measured: list[Agreement], fresh_cache: Path, text: str
) -> None:
    config = ModelConfig(path=str(saved_model(tmp_path / "model")))
    load_model(config)
    (note,) = (fresh_cache / "seekr-tune" / "compared").iterdir()
    note.write_text(text)
    load_model(config)
    assert len(measured) == 2


@pytest.mark.parametrize("home", ["a file in its place", "none"])
def test_without_a_place_to_remember_it_every_load_compares(
    tmp_path: Path, measured: list[Agreement], monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    (tmp_path / "cache").touch()
    if home == "none":
        monkeypatch.setattr(compared, "_folder", lambda: None)
    config = ModelConfig(path=str(saved_model(tmp_path / "model")))
    load_model(config)
    load_model(config)
    assert len(measured) == 2


def test_one_rank_compares_for_all(tmp_path: Path, measured: list[Agreement]) -> None:
    """Its refusal reaches the others as every refusal does."""

    class Rank:
        device, world_size = torch.device("cpu"), 2

        def __init__(self, rank: int) -> None:
            self.rank = rank

    config = tiny_config(**{"model.path": str(saved_model(tmp_path / "model"))})
    for rank, comparisons in ((1, 0), (0, 1)):
        workers: Any = Rank(rank)
        _load_model(config, workers)
        assert len(measured) == comparisons
