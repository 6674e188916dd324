"""The direction of imports, read from the source: who may import whom, and who may import Ray and Optuna."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "seekr_tune"

# Rooms by name, each with the rooms below it. A room may import itself and what stands here, nothing else.
_FOOT = ("errors", "access", "documents", "config", "atomic_files", "leftovers")
BELOW: dict[str, set[str]] = {
    "code_path": set(),
    "errors": set(),
    "access": {"errors"},
    "documents": {"errors", "access"},
    "config": {"errors", "access", "documents"},
    "leftovers": set(),
    "atomic_files": {"errors", "access", "documents", "leftovers"},
    "quiet_libraries": set(),
    "foreign_text": set(),
    "store": {"errors", "access", "documents", "leftovers"},
    "experiment": {"errors", "config"},
    "plugins": {"errors", "config"},
    "data": {"errors", "access", "documents", "config", "quiet_libraries", "plugins"},
    "methods": {"errors", "config", "plugins"},
    "models": {*_FOOT, "quiet_libraries", "plugins", "data", "methods"},
    "checkpoint": {*_FOOT, "store", "data", "methods", "models"},
    "loop": {*_FOOT, "experiment", "plugins", "data", "methods", "models", "checkpoint"},
    "cluster": {"code_path", "errors", "documents", "config", "quiet_libraries", "store", "methods"},
    "records": {*_FOOT},
    "analysis": {*_FOOT, "quiet_libraries", "foreign_text", "experiment", "records"},
    "study": {
        *(*_FOOT, "quiet_libraries", "foreign_text", "store", "experiment", "plugins"),
        *("data", "methods", "models", "checkpoint", "loop", "cluster", "records", "analysis"),
    },
    "testing": {
        *("errors", "config", "experiment", "plugins"),
        *("data", "methods", "models", "checkpoint", "loop", "cluster.strategy"),
    },
    "catalogue": {"errors", "config", "experiment", "study.directory.layout"},
    "doctor": {"errors", "documents", "config", "models", "cluster", "study.directory"},
    "validation": {
        *("errors", "config", "store", "experiment"),
        *("data", "methods", "models", "loop", "analysis", "study"),
    },
}
INSIDE_STUDY: dict[str, set[str]] = {
    "directory": set(),
    "runs": {"directory"},
    "search": {"directory", "runs"},
    "plan": {"directory", "runs", "search"},
    "life": {"directory", "runs", "search"},
    "final": {"directory", "runs", "search", "life"},
}
MAY_IMPORT = {"ray": {"cluster", "study", "cli"}, "optuna": {"study", "analysis"}}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """`seekr_tune/methods/losses.py` is in room `methods`; `seekr_tune/cli.py` is room `cli`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> Iterator[str]:
    """Every module that the file imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(target: str, allowed: set[str]) -> bool:
    return any(target == room or target.startswith(f"{room}.") for room in allowed)


def test_imports_run_one_way() -> None:
    upward = []
    for path in FILES:
        room = room_of(path)
        if room in {"cli", "__init__"}:  # the top of the house: they may see everything
            continue
        for name in imports_of(path):
            _, _, target = name.partition("seekr_tune.")
            # `from seekr_tune.study.directory import f` also yields `study.directory.f`, below `study.directory`
            if name.startswith("seekr_tune.") and (target in BELOW or "." in target):
                if not is_below(target, BELOW[room] | {room}):
                    upward.append(f"{path.relative_to(ROOT)} must not import {name}")
    assert not upward, "\n".join(upward)
    assert not is_below("loop.learner", BELOW["methods"])  # else the test looks past everything


@pytest.mark.parametrize("room", INSIDE_STUDY)
def test_the_rooms_of_the_study_stand_on_one_another(room: str) -> None:
    for path in (PACKAGE / "study" / room).glob("*.py"):
        for name in imports_of(path):
            target = name.removeprefix("seekr_tune.study.")
            if target != name:
                assert is_below(target, INSIDE_STUDY[room] | {room}), f"{path.relative_to(ROOT)} must not import {name}"


def test_every_room_has_its_place() -> None:
    assert {room_of(path) for path in FILES} - {"cli", "__init__"} <= set(BELOW)
    assert {path.parent.name for path in FILES if path.parent.parent == PACKAGE / "study"} == set(INSIDE_STUDY)


def test_only_the_named_rooms_import_ray_and_optuna() -> None:
    used = {(name.partition(".")[0], room_of(path)) for path in FILES for name in imports_of(path)}
    found = {library: {room for other, room in used if other == library} for library in MAY_IMPORT}
    assert all(found[library] <= rooms for library, rooms in MAY_IMPORT.items()), found
    assert all(found.values())  # both are imported somewhere


READ_ELSEWHERE = {
    "load",
    "loads",
    "JSONDecoder",
    "read_text",
    "read_bytes",
    "validate_json",
    "model_validate_json",
    "from_json",
}
"""Ways to read a file whole, or JSON, that know no bounds."""


def test_files_and_json_are_read_in_one_place() -> None:
    found = []
    for path in FILES:
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in READ_ELSEWHERE:
                owner = ast.unparse(node.value)
                if owner not in {"documents", "yaml", "pickle", "TrialRecord"}:
                    found.append(f"{name}: {owner}.{node.attr}")
            elif isinstance(node, ast.ImportFrom) and node.module == "json":
                found.append(f"{name}: from json import")
    bounded = "records/trial.py: cls.model_validate_json"  # a thousand records at once, each with its checksum
    elsewhere = [one for one in found if one.partition(":")[0] != "documents.py" and one != bounded]
    assert not elsewhere, elsewhere
    assert any(one.startswith("documents.py: json.JSONDecoder") for one in found)  # else the test looks past everything


def test_no_import_cycle_between_modules() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    edges = {name: {other for other in imports_of(path) if other in modules} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import cycle: {' -> '.join((*trail, name))}"
        if name not in done:
            for other in edges[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_the_method_works_where_ray_and_optuna_are_absent() -> None:
    done = run_python(
        """
        import importlib, pkgutil, sys
        for name in ("ray", "optuna"):
            sys.modules[name] = None          # importing it raises ImportError
        import seekr_tune, seekr_tune.methods
        for module in pkgutil.iter_modules(seekr_tune.methods.__path__):
            importlib.import_module(f"seekr_tune.methods.{module.name}")
        """
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_no_heavy_library() -> None:
    done = run_python(
        """
        import sys
        import seekr_tune, seekr_tune.methods
        heavy = {"torch", "transformers", "ray", "optuna", "pandas", "pyarrow", "datasets"} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    assert done.returncode == 0, done.stderr


def test_help_loads_no_heavy_library() -> None:
    done = run_python(
        """
        import sys
        from seekr_tune.cli import main
        assert main(["--help"]) == 0
        heavy = {"torch", "transformers", "ray", "optuna", "pyarrow", "datasets"} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    assert done.returncode == 0, done.stderr


def test_the_public_names_exist() -> None:
    import seekr_tune

    assert sorted(dir(seekr_tune)) == sorted(seekr_tune.__all__)
    for name in seekr_tune.__all__:
        assert getattr(seekr_tune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = seekr_tune.nothing
