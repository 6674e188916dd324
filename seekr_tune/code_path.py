"""Where code comes from: what is installed, never the directory that somebody happens to work in.

A study's directory may come from anybody. Whoever works in it must not run a `numpy/` that lies there, so the working
directory is taken off the path of this process, where the command line is all that it does, and off those of its
children.

Until that is done nothing may be imported that Python has not loaded by itself, not even `__future__`.
"""

import os
import sys

_LISTS = ("PYTHONPATH", "PATH", "LD_LIBRARY_PATH")
"""Variables that list directories with code in them. An empty entry means the working directory in each of them, and
comes about by accident: `export PYTHONPATH=$PYTHONPATH:/somewhere`."""

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def guard_command() -> None:
    """Take the working directory off the path of this process, if it is the command line; comes before any library.

    Python has put it there for `python -m seekr_tune.cli`, and for relative entries of PYTHONPATH. A script or a
    notebook that imports the package decides by itself.
    """
    # `-m` stands there as long as Python is looking for the module that it was told to run.
    by_module = sys.argv[:1] == ["-m"] and "m seekr_tune." in " ".join(sys.orig_argv)
    if by_module or (sys.argv and os.path.basename(sys.argv[0]) == "seekr-tune"):
        _leave_out(by_module)
        for name, value in child_variables().items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def child_variables() -> dict[str, str | None]:
    """The environment of a process that looks for code in directories that were named, and nowhere else; a variable
    that is None is not to be there."""
    kept = {name: _absolute_entries(os.environ[name]) for name in _LISTS if name in os.environ}
    return {**{name: value or None for name, value in kept.items()}, "PYTHONSAFEPATH": "1"}


def package_root() -> str | None:
    """The directory that this package was found in by the path of this process; None where it is installed in a way
    that every process of this Python finds by itself."""
    installed = os.path.basename(_ROOT) in ("site-packages", "dist-packages")
    return _ROOT if not installed and _ROOT in map(os.path.abspath, sys.path) else None


def _leave_out(by_module: bool) -> None:
    entries = os.environ["PYTHONPATH"].split(os.pathsep) if os.environ.get("PYTHONPATH") else []
    try:
        unwanted = {os.path.abspath(entry) for entry in entries if not os.path.isabs(entry)}
        if by_module and not sys.flags.safe_path:
            unwanted.add(os.getcwd())
    except FileNotFoundError:  # the working directory was removed, so nothing can be found in it
        unwanted = set()
    unwanted.discard(_ROOT)  # a checkout that is run from where it lies
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry) and entry not in unwanted]


def _absolute_entries(paths: str) -> str:
    return os.pathsep.join(entry for entry in paths.split(os.pathsep) if os.path.isabs(entry))
