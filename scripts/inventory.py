"""What is installed with seekr_tune: a bill of materials (CycloneDX 1.6), and a table of licences.

    python scripts/inventory.py --sbom sbom.cdx.json --licences docs/licences.md

Read from the metadata of the installed packages, for those that the lock files name, with the hashes that stand
there. Neither output holds a date, so the same locks give the same files.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements.torch.lock")
TOOLS = ("hypothesis", "mypy", "playwright", "pytest", "pytest-xdist", "ruff")
"""Packages that only the tests need, besides what they bring along."""


@dataclass(frozen=True)
class Package:
    """A package of the lock file.

    Attributes:
        name, version: as the lock file says.
        hashes: SHA-256 of its files.
        licence: SPDX expression or the words of its metadata.
        home: address of the project; empty where its metadata has none.
        needs: names of the packages that it depends on here.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    licence: str
    home: str
    needs: tuple[str, ...]

    @property
    def url(self) -> str:
        """The package as a package URL."""
        return f"pkg:pypi/{canonicalize_name(self.name)}@{self.version}"


def locked(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """By name, the version and the hashes that lock files have."""
    joined = text.replace("\\\n", " ")
    found = {}
    for line in joined.splitlines():
        pin = re.match(r"([A-Za-z0-9._-]+)==(\S+)", line)
        if pin:
            found[pin[1]] = (pin[2], tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", line)))
    return found


def packages() -> list[Package]:
    """Every package of the lock file, by name."""
    pins = locked("".join(path.read_text(encoding="utf-8") for path in LOCKS))
    known = {canonicalize_name(name) for name in pins}
    found = []
    for name, (version, hashes) in sorted(pins.items(), key=lambda pin: pin[0].lower()):
        about = metadata.metadata(name)
        assert metadata.version(name).partition("+")[0] == version, f"{name} is installed in another version"
        needs = tuple(sorted(known & {canonicalize_name(need) for need in needs_of(name)}))
        found.append(Package(name, version, hashes, licence_of(about), home_of(about), needs))
    return found


def needs_of(name: str) -> Iterator[str]:
    """What a package depends on, on this machine and without its extras."""
    for requirement in map(Requirement, metadata.requires(name) or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name


def licence_of(about: metadata.PackageMetadata) -> str:
    """The SPDX expression, else the classifiers, else the first line of the field."""
    expression = about.get("License-Expression")
    if expression:
        return expression
    classifiers = [text.rpartition(" :: ")[2] for text in about.get_all("Classifier") or () if "License ::" in text]
    stated = [text for text in classifiers if text != "OSI Approved"]
    if stated:
        return ", ".join(sorted(set(stated)))
    first = (about.get("License") or "").strip().splitlines()
    return first[0] if first and not re.search(r"\.(txt|md)$", first[0]) else "not stated in its metadata"


def home_of(about: metadata.PackageMetadata) -> str:
    """The address of a project."""
    links = [entry.partition(", ") for entry in about.get_all("Project-URL") or ()]
    named = {label.lower(): url for label, _, url in links}
    return named.get("homepage") or named.get("source") or about.get("Home-page") or next(iter(named.values()), "")


def sbom(found: Sequence[Package]) -> dict[str, Any]:
    """A bill of materials in CycloneDX 1.6."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "seekr_tune" / "__init__.py").read_text(encoding="utf-8"))
    assert version is not None
    root = {"type": "application", "bom-ref": "seekr-tune", "name": "seekr-tune", "version": version[1]}
    urls = {canonicalize_name(package.name): package.url for package in found}
    own = sorted(urls[need] for need in {canonicalize_name(need) for need in needs_of("seekr-tune")} & urls.keys())
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": [_component(package) for package in found],
        "dependencies": [
            {"ref": "seekr-tune", "dependsOn": own},
            *({"ref": one.url, "dependsOn": [urls[canonicalize_name(need)] for need in one.needs]} for one in found),
        ],
    }


def _component(package: Package) -> Mapping[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": package.url,
        "name": package.name,
        "version": package.version,
        "purl": package.url,
        "scope": "excluded" if package.name in TOOLS else "required",
        "licenses": [{"license": {"name": package.licence}}],
    }
    if len(package.hashes) == 1:  # of several files, the bill cannot say which one is installed
        component["hashes"] = [{"alg": "SHA-256", "content": package.hashes[0]}]
    if package.home:
        component["externalReferences"] = [{"type": "website", "url": package.home}]
    return component


PAGE = """\
# Licences of the dependencies

Every package of `requirements.lock`, with the licence that its own metadata states. Written by `make sbom`, which also
writes a bill of materials (CycloneDX). A CUDA build of PyTorch brings NVIDIA's libraries along, under their own terms.

| package | version | licence |
|---|---|---|
"""


def licence_table(found: Sequence[Package]) -> str:
    """The page `docs/licences.md`."""
    return PAGE + "".join(f"| {one.name} | {one.version} | {one.licence} |\n" for one in found)


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sbom", type=Path)
    parser.add_argument("--licences", type=Path)
    arguments = parser.parse_args()
    found = packages()
    if arguments.sbom:
        arguments.sbom.write_text(json.dumps(sbom(found), indent=1) + "\n", encoding="utf-8")
    if arguments.licences:
        arguments.licences.write_text(licence_table(found), encoding="utf-8")


if __name__ == "__main__":
    main()
