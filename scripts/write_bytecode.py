"""Keep the bytecode of all that a study imports.

`make setup` calls it. Each process of a study imports torch, transformers and Ray. Where `PYTHONDONTWRITEBYTECODE` is
set (as containers like to have it), or where processes start side by side for the first time, each of them would
compile thousands of files by itself. What is imported is compiled; all that is installed would take minutes.
"""

from __future__ import annotations

import compileall
import importlib
import pkgutil
import sys
from pathlib import Path

import ray

import seekr_tune

OF_RAY = ("_private", "dashboard")
"""Folders with the programs that Ray starts beside ours."""


def main() -> None:
    sys.dont_write_bytecode = False
    found = pkgutil.walk_packages(seekr_tune.__path__, f"{seekr_tune.__name__}.")
    for name in sorted(module.name for module in found if not module.name.endswith("__main__")):
        importlib.import_module(name)
    for folder in OF_RAY:
        compileall.compile_dir(Path(ray.__file__).parent / folder, quiet=2)


if __name__ == "__main__":
    main()
