"""No model is served wrongly, and none that can be served is refused: every causal type of the installed transformers.

The measure is `oracle`, which is independent of what `load_model` itself checks.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from seekr_tune.config import ModelConfig
from seekr_tune.models.loading import load_model

from .build import save_model
from .census import Case, Outcome, all_cases, examine
from .oracle import differences, reference_model
from .served import SERVED, UNBUILT
from .shrink import tiny_config

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "models.md"
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gpt2", "gpt_neox")
DOUBTFUL = {
    "sinks": Case("gpt_oss"),
    "an index of keys": Case("deepseek_v32"),
    "keys shared between layers": Case("gemma4_text", "shared keys"),
    "head widths that differ by layer": Case("gemma4_text"),
    "key heads that differ by layer": Case("gemma4_text", "key heads by layer"),
    "heads that differ by layer": Case("laguna", "heads by layer"),
    "masks that differ by head": Case("doge"),
    "attention in two parts": Case("diffllama"),
    "positions that start behind padding": Case("roberta", "decoder"),
    "capped scores": Case("gemma2"),
    "layers without attention": Case("minimax"),
    "attention that cannot be reached": Case("bloom"),
    "attention that looks ahead": Case("bert"),
    "attention both ways": Case("gemma", "attention both ways"),
    "text beside pictures": Case("gemma3"),
}
"""By what is special about it, one type of each kind that goes wrong unless it is looked at."""

outcome_of = functools.cache(examine)


def assert_sound(case: Case) -> Outcome:
    """It is served and right, or refused in one line."""
    outcome = outcome_of(case)
    assert outcome.sound, f"{case}: {outcome.refusal or outcome.differs}"
    return outcome


# --- quick -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_usual_families_are_served_and_right(family: str) -> None:
    outcome = assert_sound(Case(family))
    assert outcome.served, outcome.refusal
    assert {"rows", "energies", "answers", "logits padded"} <= outcome.differs.keys()


@pytest.mark.parametrize("case", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_what_goes_wrong_unless_it_is_looked_at_is_right_or_refused(case: Case) -> None:
    assert_sound(case)


def test_the_oracle_sees_a_model_of_other_weights(tmp_path: Path) -> None:
    """All of its measures are far outside of their bounds."""
    for seed, name in enumerate(("one", "other")):
        save_model(tiny_config("llama"), tmp_path / name, seed)
    found = differences(load_model(ModelConfig(path=str(tmp_path / "one"))), reference_model(tmp_path / "other"))
    assert all(value > 0.1 for name, value in found.items() if name != "ahead"), found
    assert found["ahead"] == 0.0


def test_every_weight_of_a_tiny_model_shows(tmp_path: Path) -> None:
    """Sinks, biases and norms have values of their own, none the value that it starts with."""
    config = tiny_config("gpt_oss")
    fresh = AutoModelForCausalLM.from_config(config).state_dict()
    save_model(config, tmp_path)
    for name, weight in reference_model(tmp_path).state_dict().items():
        assert weight.std() > 0.05, name
        assert not torch.equal(weight, fresh[name]), name


# --- slow ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("case", list(all_cases()), ids=str)
def test_every_type_is_served_right_or_refused(case: Case) -> None:
    outcome = assert_sound(case)
    if str(case) in SERVED:
        assert outcome.served, f"{case} was served before: {outcome.refusal}"
    if outcome.unbuilt:
        assert str(case) in UNBUILT, outcome.unbuilt


@pytest.mark.slow
def test_the_page_says_what_was_found(models_page: ModuleType) -> None:
    if f"transformers {transformers.__version__} " not in PAGE.read_text(encoding="utf-8"):
        pytest.skip(f"docs/models.md was written with another version than transformers {transformers.__version__}")
    outcomes = {case: outcome_of(case) for case in all_cases()}
    assert PAGE.read_text(encoding="utf-8") == models_page.page(outcomes, transformers.__version__)


@pytest.fixture
def models_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("models_page", ROOT / "scripts" / "models_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
