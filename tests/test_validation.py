from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from seekr_tune.errors import ConfigError
from seekr_tune.experiment import load_experiment
from seekr_tune.loop.footprint import ModelSize, footprint
from seekr_tune.methods.sizes import SampleSize
from seekr_tune.models.loading import read_model_config
from seekr_tune.validation import Finding, require_ready, validate

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A model directory that says a shape and has no weights."""
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4}
    LlamaConfig(**sizes, num_attention_heads=8, vocab_size=1000, max_position_embeddings=2048).save_pretrained(tmp_path)
    return tmp_path


def memory(name: str, *assignments: str) -> list[Finding]:
    path = EXPERIMENTS / f"{name}.yaml"
    findings = validate(load_experiment(path, assignments), path)
    return [finding for finding in findings if finding.subject == "memory"]


def test_memory_is_told_before_anything_is_trained() -> None:
    config = load_experiment(EXPERIMENTS / "demo.yaml")
    model = read_model_config(config.model)
    assert model is not None and config.method.memory.percent == 1 and config.stream.limits.train is None
    prompt, answer = config.recipe.max_prompt_tokens, config.recipe.max_answer_tokens
    longest = SampleSize(prompt + answer, answer)
    expected = footprint(ModelSize.of(config.model, model), config, [[longest] * 4] * 5)  # 1 % of 400 samples, 5 tasks
    worker, disk = memory("demo")
    assert worker.text.startswith(f"a worker takes at most {expected.together / 1e6:.3g} MB (weights ")
    assert f"teacher signals {expected.signals / 1e3:.3g} kB" in worker.text
    assert disk.text == f"the last checkpoint takes {expected.checkpoint / 1e3:.3g} kB on disk at most"


def test_without_the_data_it_is_told_what_each_stored_sample_takes(llama: Path) -> None:
    worker, sample = memory("trace_llama2_7b", f"model.path={llama}", "method.seekr.head_budget=4")
    assert "on its GPU (weights " in worker.text and "teacher signals" not in worker.text
    visible = 100 * 1537 // 2  # keys that 100 random rows of 1536 see on average; 2 bytes each, for bfloat16 computes
    signals = 4 * visible * 2 + 512 * 1000 * 2
    assert not sample.checked
    assert f"about {signals / 1e6:.3g} MB of teacher signals" in sample.text
    assert f"takes {32 * visible * 2 / 1e6:.3g} MB until its task ends" in sample.text


def test_without_replay_no_sample_is_stored(llama: Path) -> None:
    worker, disk = memory("trace_llama2_7b", f"model.path={llama}", "method.name=seqft")
    assert worker.checked and "attention rows" not in worker.text and "on disk" in disk.text


def test_a_model_that_is_not_at_hand_says_nothing_of_memory() -> None:
    assert memory("trace_llama2_7b") == []


def protocol(*assignments: str, name: str = "demo") -> list[Finding]:
    path = EXPERIMENTS / f"{name}.yaml"
    findings = validate(load_experiment(path, assignments), path)
    return [finding for finding in findings if finding.subject == "protocol"]


def test_what_is_tuned_on_and_what_is_reported_is_told() -> None:
    (found,) = protocol()
    assert "full: tunes on one run of each configuration, star, last, paren, second, first;" in found.text
    (found,) = protocol(
        "study.protocol=prefix", "study.prefix_tasks=3", "study.replicates={seeds: [1, 2], memory_draws: 3}"
    )
    assert "tunes on 6 runs (2 seeds, 3 memory draws) of each configuration, star, last, paren;" in found.text
    assert "`finalize` scores test in 2 runs (2 seeds) of each finalist, second, first" in found.text


def test_a_study_that_would_see_the_test_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="evaluation.splits lists test"):
        protocol("evaluation.splits=[eval, test]")
    path = EXPERIMENTS / "demo.yaml"
    config = load_experiment(path, ("evaluation.splits=[eval, test]",))
    with pytest.raises(ConfigError, match="evaluation.splits lists test"):
        require_ready(config, path, search=True)
    assert require_ready(config, path, search=False)[0].evaluation.splits == ("eval", "test")  # a run may


def test_without_the_data_the_protocol_is_not_checked() -> None:
    (found,) = protocol(name="trace")
    assert not found.checked


def test_an_experiment_without_a_space_has_no_protocol() -> None:
    assert protocol("study.space=null", "evaluation.splits=[test]") == []


def test_the_constraints_of_a_space_are_told() -> None:
    path = EXPERIMENTS / "methods.yaml"
    (space,) = [finding for finding in validate(load_experiment(path), path) if finding.subject == "space"]
    assert space.text.endswith("; keeps heads >= layers")


RANGES = "method.memory.percent: {type: float, low: 1, high: 5}\n"


@pytest.mark.parametrize(
    ("assignments", "space", "message"),
    [
        (["study.sampler=grid"], RANGES, "method.memory.percent has infinitely many values; give it a step"),
        (["study.sampler=cmaes", "study.objectives={op: maximize, bwt: maximize}"], RANGES, "several objectives"),
        (["study.sampler=grid"], "method.seekr.head_budget: {type: int, low: 1, high: 3}\n", "the grid has 3 points"),
        (["study.sampler_options={n_startup: 3}"], RANGES, "did you mean 'n_startup_trials'?"),
        (["study.sampler_options={n_ei_candidates: 0}"], RANGES, "tpe refuses"),
        (["study.objectives={accuracy: maximize}"], RANGES, "study.objectives: there is no column 'accuracy'"),
        (["study.pruning.rule=median", "evaluation.matrix=diagonal_and_last"], RANGES, "study.pruning compares scores"),
        (["evaluation.splits=[test]"], RANGES, "evaluation.splits lists test"),
        (["study.replicates.orders=[[star]]"], RANGES, "study.replicates.orders: [star] is no order of the tasks"),
        ([], "constraints: [heads > 100]\n" + RANGES, "keeps the constraints heads > 100"),
        (
            [],
            "constraints: [heads > 100]\nmethod.replay_percent: {type: float, low: 1, high: 5, published: 2}\n",
            "the published settings cannot be tried: breaks the constraint heads > 100",
        ),
    ],
)
def test_what_sweep_refuses_of_settings_and_space_validate_refuses_with_the_same_line(
    tmp_path: Path, assignments: list[str], space: str, message: str
) -> None:
    (tmp_path / "space.yaml").write_text(space)
    path = tmp_path / "mine.yaml"
    path.write_text((EXPERIMENTS / "demo.yaml").read_text().replace("../search_spaces/seekr.yaml", "space.yaml"))
    config, said = load_experiment(path, assignments), []
    for ask in (lambda: validate(config, path), lambda: require_ready(config, path, search=True)):
        with pytest.raises(ConfigError) as refused:
            ask()
        said.append(str(refused.value))
    assert message in said[0] and said[0] == said[1] and "\n" not in said[0]


def test_settings_of_a_study_are_checked_without_the_data(tmp_path: Path) -> None:
    path = EXPERIMENTS / "trace.yaml"
    with pytest.raises(ConfigError, match="evaluation.splits lists test"):
        validate(load_experiment(path, ["evaluation.splits=[test]"]), path)
