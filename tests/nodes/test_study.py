"""A study on a cluster that was started without anything special for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from seekr_tune.experiment import parse_config
from seekr_tune.study.life.status import read_records
from seekr_tune.study.life.study import start_study
from seekr_tune.study.search.space import load_space
from tests.nodes.nodes import Nodes

pytestmark = [pytest.mark.ray, pytest.mark.cluster]


def test_the_driver_of_a_trial_needs_nothing_but_the_head(nodes: Nodes, tmp_path: Path) -> None:
    nodes.have(2)
    (tmp_path / "space.yaml").write_text("method.memory.percent: {type: float, low: 5, high: 20, published: 10}\n")
    config = parse_config(
        {
            "stream": {"tasks": ["star", "last"], "limits": {"train": 24, "eval": 8}},
            "recipe": {"batch_size": 8, "max_prompt_tokens": 40, "max_answer_tokens": 4},
            "training": {"workers": 2, "placement": "spread"},
            "study": {"trials": 1, "bounds": []},
        },
        "test",
    )
    console = Console(record=True, width=200)
    space = load_space(tmp_path / "space.yaml")
    start_study(config, space, tmp_path / "study", address=nodes.address, console=console)
    assert [record.status for record in read_records(tmp_path / "study")] == ["finished"]
    assert "1 of 1 runs to go, 1 at a time" in console.export_text()
