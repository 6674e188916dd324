"""The script that made the base model: what it trains on, and what the shipped file has learned."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForCausalLM

from seekr_tune.config import Limits
from seekr_tune.data.builtin import QUESTIONS, builtin_examples, builtin_model_directory, verify_checksums

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_base_model.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_base_model", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_stream_is_never_trained_on(script: ModuleType) -> None:
    asked = {question for wordings in script.WORDINGS.values() for question in wordings}
    assert not asked & set(QUESTIONS.values())
    telling = {"star", "last", "brackets", "runner", "up", "starts", "list"}
    assert not telling & {word for question in asked for word in question.split()}
    rng, words = random.Random(0), list(script.vocabulary())[4:]
    trained = {script.training_pair(rng, words)[0] for _ in range(2000)}
    stream = {row.prompt for task in QUESTIONS for row in builtin_examples(task, 0, "eval", Limits())}
    assert not trained & stream


def test_the_shipped_model_has_learned_every_skill(script: ModuleType) -> None:
    model = AutoModelForCausalLM.from_pretrained(builtin_model_directory(), dtype=torch.float32)
    found = script.accuracies(model, script.vocabulary(), num=100)
    assert found.pop("copy") >= 80.0
    assert all(percent >= 95.0 for percent in found.values()), found


def test_the_shipped_tokenizer_and_configuration_are_what_the_script_writes(script: ModuleType, tmp_path: Path) -> None:
    script.write(script.make_model(), script.vocabulary(), tmp_path)
    verify_checksums(tmp_path)
    shipped = builtin_model_directory()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in shipped.iterdir())
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        written, expected = (json.loads((folder / name).read_text()) for folder in (tmp_path, shipped))
        stamp = "transformers_version"  # of the version that is installed; others of the range write the same else
        assert written | {stamp: None} == expected | {stamp: None}


def test_the_same_seed_gives_the_same_weights(script: ModuleType) -> None:
    ids = script.vocabulary()
    one, two = (script.pretrain(2, ids).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
