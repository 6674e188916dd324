"""Settings are bounded where they enter: no number takes the memory of the machine, or ends a library in disorder."""

from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.config.leaves import leaf_types
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import load_experiment
from seekr_tune.loop.schedule import stage_steps, stages_of
from seekr_tune.methods.draws import draws_of
from seekr_tune.methods.semantics import SEMANTICS

EXPERIMENT = Path(__file__).parent.parent / "experiments" / "demo.yaml"


@pytest.mark.parametrize("number", ["10000000000", "1" + "0" * 400])
def test_every_count_is_bounded(number: str) -> None:
    """Numbers beyond those of the machine end no library in good order."""
    whole = [path for path, types in leaf_types(Config) if int in types]
    assert len(whole) > 30
    for path in whole:
        with pytest.raises(ConfigError) as caught:
            load_experiment(EXPERIMENT, [f"{path}={number}"])
        assert path in str(caught.value) and len(str(caught.value)) < 400


def test_replicates_are_counted_before_they_are_listed() -> None:
    with pytest.raises(ConfigError, match=r"replicates asks for 20000 runs of each configuration"):
        load_experiment(EXPERIMENT, ["study.replicates.memory_draws=10000", "study.replicates.seeds=[1, 2]"])


def test_a_decay_that_makes_weights_grow_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"weight_decay x learning_rate is 1e\+295.*; lower weight_decay"):
        load_experiment(EXPERIMENT, ["recipe.weight_decay=1e300", "recipe.learning_rate=1e-5"])
    load_experiment(EXPERIMENT, ["recipe.weight_decay=1000", "recipe.learning_rate=1e-3"])


@pytest.mark.parametrize("text", ["recipe.learning_rate=1e300", "study.disk_gigabytes=1e300"])
def test_a_number_that_no_float_of_the_machine_holds_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="less than or equal to"):
        load_experiment(EXPERIMENT, [text])


def test_a_stage_whose_order_fits_into_no_memory_is_refused_before_it_is_made() -> None:
    config = load_experiment(EXPERIMENT, ["recipe.epochs=1000000"])
    stage, semantics = stages_of(config)[0], SEMANTICS[config.method.semantics]
    with pytest.raises(ConfigError, match=r"recipe.epochs: stage '\w+' would learn 1000000000 samples .*; lower"):
        stage_steps(config, stage, [1000] * len(config.stream.tasks), 0, semantics, draws_of(semantics, config.seed))
