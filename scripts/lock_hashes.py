"""Write the SHA-256 of every file that pip may install into the lock files; `make lock` calls it.

pip is asked, for each Python and processor, which file of each pinned version it would take (a dry run: nothing is
installed, and nothing but metadata is fetched where the index offers it). `requirements.cpu.lock`, PyTorch's CPU build,
is not on that index and is written by hand.

The versions of `requirements.lock` are kept. Those of `requirements.oldest.lock` (`--oldest`) are the oldest that
`pyproject.toml` admits, and of what these need, the newest that fits them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
LOCK, TORCH_LOCK, CPU_LOCK, OLDEST_LOCK = (
    ROOT / f"requirements.{name}" for name in ("lock", "torch.lock", "cpu.lock", "oldest.lock")
)
PYTHONS = ("3.11", "3.12", "3.13")
PROCESSORS = ("x86_64", "aarch64")
GLIBC = ("_2_28", "_2_27", "_2_26", "_2_24", "_2_17", "_2_12", "_2_5", "2014", "2010", "1")
HEAD = """\
# What is installed, to the byte: `pip install --no-deps --require-hashes -r requirements.lock`. `make lock` writes it.
# Files for Linux on x86-64 and ARM, Python 3.11 to 3.13. PyTorch is in requirements.torch.lock.
"""
OLDEST_HEAD = """\
# The oldest versions that pyproject.toml admits, with which `make test-oldest` tests. `make lock` writes it.
# Files for Linux on x86-64 and ARM, Python 3.11 to 3.13. PyTorch is in requirements.torch.lock.
"""
TORCH_HEAD = """\
# The published wheels of PyTorch (CUDA on x86-64). requirements.cpu.lock has the CPU build, which `make setup` prefers.
"""


def pins(text: str) -> dict[str, str]:
    """Versions by name."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", text, re.MULTILINE))


def taken(wanted: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Name of a package and SHA-256 of a file that pip would take, for every Python and processor."""
    for python in PYTHONS:
        for processor in PROCESSORS:
            with tempfile.TemporaryDirectory() as scratch:
                yield from _taken(wanted, python, processor, Path(scratch))


def _taken(wanted: dict[str, str], python: str, processor: str, scratch: Path) -> Iterator[tuple[str, str]]:
    platforms = [f"--platform=manylinux{glibc}_{processor}" for glibc in GLIBC]
    pinned = [f"{name}=={version}" for name, version in wanted.items()]
    options = ["--no-deps", f"--target={scratch / 'none'}", f"--python-version={python}", *platforms]
    yield from of_report(_report(pinned, scratch, *options))


def _report(pinned: Iterable[str], scratch: Path, *options: str) -> str:
    """What pip would install of wheels, were nothing installed yet."""
    (scratch / "pins.txt").write_text("".join(f"{pin}\n" for pin in pinned))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--only-binary=:all:", f"--report={scratch / 'report.json'}", f"--requirement={scratch / 'pins.txt'}"]
    subprocess.run([*command, *options], check=True)
    return (scratch / "report.json").read_text(encoding="utf-8")


def of_report(text: str) -> Iterator[tuple[str, str]]:
    """The same, of one report of pip."""
    for item in json.loads(text)["install"]:
        yield item["metadata"]["name"], item["download_info"]["archive_info"]["hashes"]["sha256"]


def asked_for(project: str) -> list[Requirement]:
    """What `pyproject.toml` asks for: to run, to test and to be built."""
    table = tomllib.loads(project)
    wanted = [*table["project"]["dependencies"], *table["project"]["optional-dependencies"]["dev"]]
    return [Requirement(line) for line in [*wanted, *table["build-system"]["requires"]]]


def lowest(requirement: Requirement) -> Requirement:
    """The same, with nothing but the oldest version that it admits; it has a single `>=` or `==`."""
    (version,) = (bound.version for bound in requirement.specifier if bound.operator in (">=", "=="))
    pinned = Requirement(str(requirement))
    pinned.specifier = SpecifierSet(f"=={version}")
    return pinned


def oldest(project: str) -> dict[str, str]:
    """Versions by name: of what `pyproject.toml` asks for the oldest, of what these need the newest that fits.

    PyTorch is left out; its CPU build is taken meanwhile, so that NVIDIA's libraries stay out, too.
    """
    bounds = {one.name: str(lowest(one)) for one in asked_for(project)}
    bounds |= {name: f"{name}=={version}" for name, version in pins(CPU_LOCK.read_text(encoding="utf-8")).items()}
    with tempfile.TemporaryDirectory() as scratch:
        report = json.loads(_report(bounds.values(), Path(scratch)))
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    return {name: found[name] for name in sorted(found, key=str.lower) if name != "torch"}


def lock_text(head: str, wanted: dict[str, str], hashes: dict[str, set[str]]) -> str:
    """A lock file. A package without a hash would be an error of pip's, so it is one here."""
    missing = sorted(wanted.keys() - hashes.keys())
    assert not missing, f"no file of {', '.join(missing)}"
    entries = [
        f"{name}=={version}" + "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(hashes[name]))
        for name, version in wanted.items()
    ]
    return head + "\n".join(entries) + "\n"


def main() -> None:
    """Ask pip, and write the lock files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oldest", action="store_true", help="write requirements.oldest.lock, and nothing else")
    parser.add_argument("--report", action="append", default=[], type=Path, help="of pip, instead of asking it")
    arguments = parser.parse_args()
    if arguments.oldest:
        files = {OLDEST_LOCK: (OLDEST_HEAD, oldest((ROOT / "pyproject.toml").read_text(encoding="utf-8")))}
    else:
        heads = {LOCK: HEAD, TORCH_LOCK: TORCH_HEAD}
        files = {path: (head, pins(path.read_text(encoding="utf-8"))) for path, head in heads.items()}
    wanted = {name: version for _, some in files.values() for name, version in some.items()}
    canonical = {_canonical(name): name for name in wanted}
    reports = [pair for path in arguments.report for pair in of_report(path.read_text(encoding="utf-8"))]
    hashes: dict[str, set[str]] = {}
    for name, digest in reports or taken(wanted):
        hashes.setdefault(canonical[_canonical(name)], set()).add(digest)
    for path, (head, some) in files.items():
        path.write_text(lock_text(head, some, hashes), encoding="utf-8")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
