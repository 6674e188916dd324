"""Write the SHA-256 of every file that pip may install into the lock files; `make lock` calls it.

pip is asked, for each Python and processor, which file of each pinned version it would take (a dry run: nothing is
installed, and nothing but metadata is fetched where the index offers it). `requirements.cpu.lock`, PyTorch's CPU build,
is not on that index and is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK, TORCH_LOCK = ROOT / "requirements.lock", ROOT / "requirements.torch.lock"
PYTHONS = ("3.11", "3.12", "3.13")
PROCESSORS = ("x86_64", "aarch64")
GLIBC = ("_2_28", "_2_27", "_2_26", "_2_24", "_2_17", "_2_12", "_2_5", "2014", "2010", "1")
HEAD = """\
# What is installed, to the byte: `pip install --no-deps --require-hashes -r requirements.lock`. `make lock` writes it.
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
    (scratch / "pins.txt").write_text("".join(f"{name}=={version}\n" for name, version in wanted.items()))
    platforms = [f"--platform=manylinux{glibc}_{processor}" for glibc in GLIBC]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    command += ["--only-binary=:all:", f"--target={scratch / 'none'}", f"--report={scratch / 'report.json'}"]
    command += [f"--python-version={python}", *platforms, f"--requirement={scratch / 'pins.txt'}"]
    subprocess.run(command, check=True)
    yield from of_report((scratch / "report.json").read_text(encoding="utf-8"))


def of_report(text: str) -> Iterator[tuple[str, str]]:
    """The same, of one report of pip."""
    for item in json.loads(text)["install"]:
        yield item["metadata"]["name"], item["download_info"]["archive_info"]["hashes"]["sha256"]


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
    """Ask pip, and write the lock file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="append", default=[], type=Path, help="of pip, instead of asking it")
    arguments = parser.parse_args()
    wanted, torch = (pins(path.read_text(encoding="utf-8")) for path in (LOCK, TORCH_LOCK))
    canonical = {_canonical(name): name for name in wanted | torch}
    reports = [pair for path in arguments.report for pair in of_report(path.read_text(encoding="utf-8"))]
    hashes: dict[str, set[str]] = {}
    for name, digest in reports or taken(wanted | torch):
        hashes.setdefault(canonical[_canonical(name)], set()).add(digest)
    LOCK.write_text(lock_text(HEAD, wanted, hashes), encoding="utf-8")
    TORCH_LOCK.write_text(lock_text(TORCH_HEAD, torch, hashes), encoding="utf-8")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
