"""Code of a user that is not what it should be is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from seekr_tune.cli import main
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import load_experiment
from seekr_tune.methods.registry import require_methods
from seekr_tune.study.search.space import Space, space_of

OWN = "from seekr_tune.methods import Method, Section\nclass Options(Section):\n    strength: float = 1.0\n"
SOUND = f"{OWN}class Mine(Method):\n    Options = Options\n"
EXPERIMENT = "name: own\nstream: {tasks: [star, last]}\nmethod: {name: ./mine.py:Mine}\n"


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        (None, (), "there is no file"),
        (SOUND, ("method.name=./other.py:Mine",), "there is no file"),
        (SOUND, ("method.name=mine.py",), "method.name"),
        (SOUND, ("method.name=no_such_package.x:Mine",), "no installed package has a module no_such_package.x"),
        ("class Mine(\n", (), "cannot be imported (SyntaxError"),
        ("import no_such_module\n", (), "cannot be imported (ModuleNotFoundError"),
        ("raise ValueError('two\\nlines')\n", (), "cannot be imported (ValueError: two lines)"),
        ("import sys\nsys.exit(3)\n", (), "cannot be imported (SystemExit: 3)"),
        ("class Mine:\n    pass\n", (), "Mine is no class derived from seekr_tune.methods.Method"),
        ("Mine = 3\n", (), "Mine is no class derived from seekr_tune.methods.Method"),
        (OWN, (), "mine.py has no Mine; check its name"),
        (SOUND, ("method.mine.strenght=3",), "method.mine.strength"),
        (SOUND, ("method.mine.strength=high",), "method.mine.strength"),
        (SOUND, ("method.nosuch.x=1",), "there is no method 'nosuch' of your own"),
        (SOUND, ("method.mine.strength=[1, 2]",), "method.mine.strength"),
        (f"{SOUND}    unsupported = {{'lora': 'it wants all weights'}}\n", ("model.lora={}",), "it wants all weights"),
        (
            f"{SOUND}    unsupported = {{'fsdp': 'it wants whole weights'}}\n",
            ("training.workers=2", "training.strategy=fsdp"),
            "method mine cannot run with training.strategy=fsdp: it wants whole weights",
        ),
    ],
)
def test_a_fault_is_refused_in_one_line(
    tmp_path: Path, text: str | None, overrides: tuple[str, ...], said: str
) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    (tmp_path / "own.yaml").write_text(EXPERIMENT)
    with pytest.raises(ConfigError) as refused:
        require_methods(load_experiment(tmp_path / "own.yaml", overrides))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_way_that_a_method_does_not_serve_is_free_to_others(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"{SOUND}    unsupported = {{'fsdp': 'it wants whole weights'}}\n")
    (tmp_path / "own.yaml").write_text(EXPERIMENT)
    for overrides in ((), ("training.workers=2",), ("model.lora={}",)):
        assert list(require_methods(load_experiment(tmp_path / "own.yaml", overrides))) == ["mine"]


def test_the_command_line_says_it_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("class Mine(\n")
    (tmp_path / "own.yaml").write_text(EXPERIMENT)
    for command in ("run", "validate"):
        assert main([command, str(tmp_path / "own.yaml")]) == 2
        err = capsys.readouterr().err
        assert "method mine (./mine.py:Mine): cannot be imported (SyntaxError" in err and "Traceback" not in err


def test_a_space_searches_over_methods_of_ones_own_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOUND)
    (tmp_path / "own.yaml").write_text("stream: {tasks: [star, last]}\nplugins: {mine: ./mine.py:Mine}\n")
    config = load_experiment(tmp_path / "own.yaml", ["study.space=space.yaml"])

    def searched(choices: str) -> Space:
        (tmp_path / "space.yaml").write_text(f"method.name: {{type: categorical, choices: {choices}}}\n")
        return space_of(config, tmp_path / "own.yaml")

    assert list(searched("[seekr, mine]").dimensions) == ["method.name"]
    for choices, said in (
        ("[seekr, nosuch]", "method.name='nosuch' is refused: choose from seqft, replay, derpp, seekr, joint, mine"),
        ("[seekr, './mine.py:Mine']", r"must be named in the experiment, plugins: \{mine: ./mine.py:Mine\}; list mine"),
    ):
        with pytest.raises(ConfigError, match=said):
            searched(choices)
