"""Where code of a user is found, and how it is imported."""

from __future__ import annotations

import sys
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.config.plugins import Plugin, digest_of, imports, with_plugins
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import load_experiment
from seekr_tune.plugins import imported


def found(values: dict[str, Any], beside: Path) -> dict[str, Plugin]:
    read = with_plugins(values, beside, "own.yaml")
    return {name: Plugin.model_validate(one) for name, one in read["plugins"].items()}


def of_file(folder: Path, spec: str = "./mine.py:Mine") -> Plugin:
    return found({"method": {"name": spec}}, folder)["mine"]


def test_what_a_file_imports_from_its_folder_is_carried_and_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from .parts import value\nfrom . import more\nMine = value + more.value\n")
    (tmp_path / "parts.py").write_text("from .more import value\n")
    (tmp_path / "more.py").write_text("value = 21\n")
    (tmp_path / "other.py").write_text("1 / 0\n")
    plugin = of_file(tmp_path)
    assert set(plugin.siblings) == {"parts", "more"}
    for file in tmp_path.glob("*.py"):
        file.unlink()
    path = list(sys.path)
    assert imported("method", "mine", plugin) == 42
    assert sys.path == path and "parts" not in sys.modules and "more" not in sys.modules


def test_a_change_of_what_a_file_imports_is_another_plugin_and_both_can_be_there(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from .parts import value as Mine\n")
    plugins = []
    for value in (1, 2):
        (tmp_path / "parts.py").write_text(f"value = {value}\n")
        plugins.append(of_file(tmp_path))
    assert plugins[0].sha256 != plugins[1].sha256
    assert [imported("method", "mine", plugin) for plugin in (*plugins, plugins[0])] == [1, 2, 1]


def test_a_file_that_imports_nothing_has_its_own_digest_and_no_siblings(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import json\nMine = json\n")
    plugin = of_file(tmp_path)
    assert plugin.siblings == {} and "siblings" not in plugin.model_dump()


def test_a_traceback_shows_the_line_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def Mine():\n    return 1 / 0  # here\n")
    call = imported("method", "mine", of_file(tmp_path))
    try:
        call()
    except ZeroDivisionError:
        shown = traceback.format_exc()
    assert "# here" in shown and "./mine.py" in shown


def test_a_missing_sibling_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from .parts import value as Mine\n")
    with pytest.raises(ConfigError, match=r"own.yaml: method.name: there is no file .*parts.py; .*mine.py imports it"):
        of_file(tmp_path)


def test_texts_are_bounded_together(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from .parts import value as Mine\n")
    (tmp_path / "parts.py").write_text("#" * 255_990)
    with pytest.raises(ConfigError, match="over 256000 bytes; install a package"):
        of_file(tmp_path)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a module that must not be imported by who only looks for it."""
    package = tmp_path / "installed" / "my_lab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "ewc.py").write_text("Mine = 3\n")
    monkeypatch.syspath_prepend(str(package.parent))
    return package


def test_a_module_of_a_package_is_found_without_an_import(lab: Path, tmp_path: Path) -> None:
    plugin = of_file(tmp_path, "my_lab.ewc:Mine")
    assert plugin.source is None and plugin.sha256 == digest_of("my_lab.ewc") and "my_lab" not in sys.modules
    assert digest_of("my_lab.nosuch") is digest_of("no_such_lab") is digest_of("no_such_lab.ewc") is None


def test_a_module_that_has_changed_is_refused(lab: Path, tmp_path: Path) -> None:
    plugin = of_file(tmp_path, "my_lab.ewc:Mine")
    (lab / "ewc.py").write_text("Mine = 4\n")
    with pytest.raises(ConfigError, match="the installed my_lab.ewc is another than this experiment began with"):
        imported("method", "mine", plugin)


def test_a_name_that_a_package_gives_is_found(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = lab.parent / "my_lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[seekr_tune.methods]\nlab_ewc = my_lab.ewc:Mine\nseekr = my_lab.ewc:Mine\n")
    assert metadata.entry_points(group="seekr_tune.methods", name="lab_ewc")
    plugins = found({"method": {"name": ["seekr", "lab_ewc"]}}, tmp_path)
    assert list(plugins) == ["lab_ewc"] and plugins["lab_ewc"].origin == "my_lab.ewc:Mine"


def test_what_will_be_imported_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("Mine = 1\n")
    values = with_plugins({"method": {"name": ["replay", "./mine.py:Mine"]}}, tmp_path, "own.yaml")
    assert values["method"]["name"] == ["replay", "mine"]
    digest = values["plugins"]["mine"]["sha256"]
    assert imports(values) == [f"imports ./mine.py:Mine as method mine (sha256 {digest[:16]})"]
    searched = imports({**values, "method": {"name": "replay"}})
    assert searched == [f"imports ./mine.py:Mine as mine where a trial takes it (sha256 {digest[:16]})"]
    assert imports({"method": {"name": "replay"}}) == []


def test_what_is_not_in_the_file_is_said_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Method:\n    pass\n")
    values = with_plugins({"method": {"name": "./mine.py:Methd"}}, tmp_path, "own")
    plugin = Plugin.model_validate(values["plugins"]["methd"])
    with pytest.raises(ConfigError, match=r"method methd .*: ./mine.py has no Methd; did you mean 'Method'"):
        imported("method", "methd", plugin)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("method: {name: ./mine.py:Seekr}", "./mine.py:Seekr has the name of the package's own seekr; rename it"),
        ("method: {name: ./mine.py:Mine}\nplugins: {mine: ./other.py:Mine}", "plugins.mine have one name; rename one"),
        ("method: {name: './mine.py:Mine:more'}", "must read ./file.py:Name or package.module:Name"),
        ("method: {name: 'my-lab/ewc:Mine'}", "'my-lab/ewc' is neither a file (./mine.py) nor a module"),
        ("method: {name: ./binary.py:Mine}", "give a file of Python, in UTF-8"),
        ("method: {name: ./large.py:Mine}", "give a file of Python, in UTF-8"),
        ("plugins: {memory: ./mine.py:Mine}", "method.memory is a field of its own; rename the class, or give a name"),
        ("plugins: [mine]", "plugins"),
        ("method: {name: [replay, replay]}", "replay+replay: a list names methods that differ, not seqft or joint"),
        ("method: {name: [replay, joint]}", "a list names methods that differ, not seqft or joint"),
        ("method: {name: replay, ewc: {strength: 1}}", "method.ewc: there is no method 'ewc' of your own"),
        ("method: {name: replay, semantics: official}\nmemory_draw: 1", "stores the first samples of each task"),
    ],
)
def test_a_name_that_cannot_be_taken_is_refused_in_one_line(lines: str, said: str, tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / f"{name}.py").write_text("class Mine:\n    pass\nclass Seekr:\n    pass\n")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.py").write_text("#" * 300_000)
    (tmp_path / "own.yaml").write_text(f"stream: {{tasks: [star, last]}}\n{lines}\n")
    with pytest.raises(ConfigError) as refused:
        load_experiment(tmp_path / "own.yaml")
    assert said in str(refused.value) and "\n" not in str(refused.value)
