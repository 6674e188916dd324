"""What is installed is named to the byte, under known licences, and runs no code while it is installed."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = [ROOT / f"requirements.{name}" for name in ("lock", "torch.lock")]
LOCK = "".join(path.read_text(encoding="utf-8") for path in LOCKS)
OLDEST = "".join((ROOT / f"requirements.{name}").read_text(encoding="utf-8") for name in ("oldest.lock", "torch.lock"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def inventory() -> ModuleType:
    return script("inventory")


@pytest.fixture(scope="module")
def lock_hashes() -> ModuleType:
    return script("lock_hashes")


@pytest.fixture(scope="module")
def admitted(lock_hashes: ModuleType) -> list[Requirement]:
    """What `pyproject.toml` asks for."""
    found: list[Requirement] = lock_hashes.asked_for((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("lock", [LOCK, OLDEST], ids=["lock", "oldest"])
def test_every_package_of_the_lock_has_a_hash(inventory: ModuleType, lock: str) -> None:
    pins = inventory.locked(lock)
    assert len(pins) > 100
    assert [name for name, (_, hashes) in pins.items() if not hashes] == []
    entries = [line for line in lock.splitlines() if line and not line.startswith(("#", " "))]
    assert all(re.match(r"[A-Za-z0-9._-]+==\S+ \\$", line) for line in entries), "no range, no link, no other index"


def test_nothing_is_installed_that_the_lock_does_not_name(inventory: ModuleType) -> None:
    pins = {canonicalize_name(name) for name in inventory.locked(LOCK)}
    waiting, seen = [Requirement("seekr-tune[dev]")], set()
    while waiting:
        one = waiting.pop()
        for need in map(Requirement, metadata.requires(one.name) or ()):
            extras = {"", *one.extras}
            if (need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)) and (
                str(need) not in seen
            ):
                seen.add(str(need))
                waiting.append(need)
                assert canonicalize_name(need.name) in pins, f"{one.name} needs {need}"


def test_the_locked_versions_are_ones_that_the_project_admits(
    inventory: ModuleType, admitted: list[Requirement]
) -> None:
    pins = {canonicalize_name(name): version for name, (version, _) in inventory.locked(LOCK).items()}
    outside = [str(one) for one in admitted if not one.specifier.contains(pins[canonicalize_name(one.name)])]
    assert outside == []


def test_every_range_begins_with_the_oldest_lock_and_has_an_end(
    inventory: ModuleType, admitted: list[Requirement]
) -> None:
    pins = {canonicalize_name(name): version for name, (version, _) in inventory.locked(OLDEST).items()}
    exact = set()
    for one in admitted:
        bounds = {bound.operator: bound.version for bound in one.specifier}
        begin = bounds.get("==") or bounds[">="]
        assert begin == pins[canonicalize_name(one.name)] and one.specifier.contains(begin), one
        assert bounds.keys() in ({"=="}, {">=", "<"}), one
        if "==" in bounds:
            exact.add(one.name)
    assert exact == {"torch", "hypothesis", "mypy", "pytest", "pytest-xdist", "ruff"}


def test_a_wrong_hash_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "wrong.lock"
    lock.write_text("packaging==26.3 --hash=sha256:" + "0" * 64 + "\n")
    wheel = tmp_path / "packaging-26.3-py3-none-any.whl"
    wheel.write_bytes(b"PK\x05\x06" + b"\0" * 18)
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", f"--find-links={tmp_path}"]
    command += ["--ignore-installed", "--no-deps", "--require-hashes", "-r", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr


def test_setup_installs_by_hash_and_runs_no_code(repository: Path) -> None:
    setup = (repository / "Makefile").read_text(encoding="utf-8")
    assert "LOCK := requirements.lock\n" in setup and "--no-deps --require-hashes -r $(LOCK)\n" in setup
    assert not (repository / "setup.py").exists() and not (repository / "setup.cfg").exists()
    assert "cmdclass" not in PROJECT.get("tool", {}).get("setuptools", {})


def test_the_table_of_licences_is_that_of_the_lock(inventory: ModuleType) -> None:
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| (\S+) \| (\S+) \|", page, re.MULTILINE))
    shown.pop("package")
    assert shown == {name: version for name, (version, _) in inventory.locked(LOCK).items()}


def test_no_licence_forbids_what_users_do(inventory: ModuleType) -> None:
    for package in inventory.packages():
        assert not re.search(r"\b(A?GPL|General Public|SSPL|Commercial|Non-?commercial)\b", package.licence), package


def test_the_bill_of_materials_names_every_package_and_what_it_needs(inventory: ModuleType) -> None:
    found = inventory.packages()
    bill = json.loads(json.dumps(inventory.sbom(found)))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    refs = {component["bom-ref"] for component in bill["components"]}
    assert len(refs) == len(found) == len(inventory.locked(LOCK))
    needed = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert {one for many in needed.values() for one in many} <= refs
    assert any(ref.startswith("pkg:pypi/torch@") for ref in needed["seekr-tune"])
    assert any(ref.startswith("pkg:pypi/tokenizers@") for ref in needed["pkg:pypi/transformers@5.23.0"])


def test_the_oldest_version_of_a_range_is_its_lower_bound(lock_hashes: ModuleType) -> None:
    wanted = ("ray[train,tune]<2.61,>=2.58.0", "torch==2.13.0")
    lowest = [str(lock_hashes.lowest(Requirement(text))) for text in wanted]
    assert lowest == ["ray[train,tune]==2.58.0", "torch==2.13.0"]
    with pytest.raises(ValueError):
        lock_hashes.lowest(Requirement("optuna<6"))


def test_reports_of_pip_become_hashes(lock_hashes: ModuleType) -> None:
    item = {"metadata": {"name": "A_b"}, "download_info": {"archive_info": {"hashes": {"sha256": "0f"}}}}
    assert list(lock_hashes.of_report(json.dumps({"install": [item]}))) == [("A_b", "0f")]
    text = lock_hashes.lock_text("# head\n", {"a-b": "1.0"}, {"a-b": {"0f", "00"}})
    assert text == ("# head\na-b==1.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:0f\n")
    assert lock_hashes.pins(text) == {"a-b": "1.0"}
    with pytest.raises(AssertionError, match="no file of a-b"):
        lock_hashes.lock_text("", {"a-b": "1.0"}, {})


def test_the_cpu_build_is_of_the_same_version() -> None:
    (line,) = re.findall(r"^torch==.*$", (ROOT / "requirements.cpu.lock").read_text(encoding="utf-8"), re.MULTILINE)
    assert "torch==2.13.0 " in LOCK and line == "torch==2.13.0+cpu \\"
