"""What a run notes of a user's method, so that whoever has not its code knows its memory and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seekr_tune.analysis.flat import flat_config
from seekr_tune.cli import main
from seekr_tune.config import Config
from seekr_tune.config.plugins import with_plugins
from seekr_tune.experiment import parse_config
from seekr_tune.loop.schedule import replayed_samples
from seekr_tune.methods.registry import with_needs

from ..loop.tiny import SETTINGS, run

METHOD = '''
from seekr_tune.methods import Method, Needs, Section


class Options(Section):
    strength: float | None = 2
    """How much of it."""
    quiet: bool = False
    """Whether it says nothing."""
    kind: str = "plain"
    """Of what kind."""


class Kept(Method):
    """Replays, and nothing else."""

    Options = Options
    needs = Needs(memory=True)
'''


def config_of(folder: Path, percent: float, **sections: Any) -> Config:
    (folder / "kept.py").write_text(METHOD)
    method = {"name": "./kept.py:Kept", "memory": {"percent": percent}, "kept": {"strength": 3}}
    return parse_config(with_plugins({**SETTINGS, "method": method, **sections}, folder, "tiny"), "tiny")


def test_a_method_with_a_memory_of_its_own_replays_as_replay_does(tmp_path: Path) -> None:
    config = config_of(tmp_path, 25.0)
    own = run(config)
    replay = run(config.model_copy(update={"method": config.method.model_copy(update={"name": "replay"})}))
    assert {step.kind for step in own.steps} == {"new", "replay"}
    assert [step.loss for step in own.steps] == [step.loss for step in replay.steps]


def test_what_is_stored_is_known_without_its_code(tmp_path: Path) -> None:
    config = config_of(tmp_path, 25.0)
    assert config.stored_percent == 0.0
    noted = with_needs(config)
    assert noted.stored_percent == 25.0 and replayed_samples(noted, [12, 12, 12]) == 6
    assert parse_config(noted.model_dump(mode="json"), "again") == noted == with_needs(noted)


def test_options_are_columns_of_their_own_kind(tmp_path: Path) -> None:
    flat = flat_config(with_needs(config_of(tmp_path, 25.0)).model_dump(mode="json"))
    assert flat["method.kept.strength"] == 3.0 and isinstance(flat["method.kept.strength"], float)
    assert flat["plugins.kept.origin"] == "./kept.py:Kept" and len(str(flat["plugins.kept.sha256"])) == 64
    assert [path for path in flat if path.startswith("plugins.")] == ["plugins.kept.origin", "plugins.kept.sha256"]


def test_its_options_are_listed_among_the_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept.py").write_text(METHOD)
    (tmp_path / "own.yaml").write_text("stream: {tasks: [star, last]}\nmethod: {name: ./kept.py:Kept}\n")
    assert main(["validate", str(tmp_path / "own.yaml"), "--fields"]) == 0
    out = capsys.readouterr().out
    assert (
        "### `method.kept`" in out
        and "| `method.kept.quiet` | true or false | `false` | Whether it says nothing. |" in out
    )
    assert "| `method.memory.percent` |" in out


@pytest.mark.parametrize("choice", ["first", "random"])
def test_a_memory_takes_the_first_samples_or_draws_them(tmp_path: Path, choice: str) -> None:
    config = config_of(tmp_path, 25.0)
    memory = config.method.memory.model_copy(update={"choice": choice})
    done = run(config.model_copy(update={"method": config.method.model_copy(update={"memory": memory})}))
    kept = [sample.index for sample in done.outcomes[-1].state.memory.samples if sample.task == 0]
    assert (kept == [0, 1, 2]) == (choice == "first") and len(kept) == 3
