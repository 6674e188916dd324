"""What `seekr-tune doctor` looks at: is everything here that a study needs, and what a bug report should say.

Each check is a function that returns findings; one that raises is a finding, too. Values of environment variables are
shown only where they cannot be secrets.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from filelock import FileLock
from packaging.requirements import Requirement

from seekr_tune.documents import read_text
from seekr_tune.errors import UserError
from seekr_tune.study.directory.units import bytes_text

State = Literal["ok", "note", "problem"]
_LITTLE_DISK, _LITTLE_SHARED_MEMORY, _FEW_FILES = 5e9, 1e9, 4096
_SHOWN = re.compile(r"RAY_|CUDA_|NCCL_|GLOO_|OMP_|HF_|TRANSFORMERS_|SLURM_|SEEKR_|TMPDIR$|XDG_CACHE_HOME$")
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSW|CREDENTIAL|AUTH(?!_MODE)", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        state: `problem`: a study would fail; `note`: it works, but perhaps not as somebody thinks.
        what: was looked at.
        text: what was found, and how to mend it.
    """

    state: State
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<8} {self.what:<12} {self.text}"


Check = Callable[[], Iterator[Finding]]


def examine(directory: Path, *, quick: bool = False) -> Iterator[Finding]:
    """Everything, one finding after the other.

    Args:
        directory: where studies would be written; must exist.
        quick: without what takes more than a second: the model and Ray.
    """
    checks: dict[str, Check] = {
        "system": _system,
        "packages": _packages,
        "GPUs": _gpus,
        "disk": lambda: _disk(directory),
        "limits": _limits,
        "environment": _environment,
        "Ray's files": _files_of_ray,
    }
    if not quick:
        checks |= {"model": _model, "Ray": _ray}
    for what, check in checks.items():
        try:
            yield from check()
        except UserError as error:
            yield Finding("problem", what, str(error))
        except Exception as error:  # whatever is broken here is what is asked for
            yield Finding("problem", what, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _system() -> Iterator[Finding]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding("ok", "Python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("ok", "machine", f"{os.cpu_count()} cores, {bytes_text(memory)} of memory")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := read_text(limit).strip()).isdigit() and int(text) < memory:
        yield Finding("note", "machine", f"this container may use {bytes_text(int(text))} of the memory")


def _packages() -> Iterator[Finding]:
    """Installed versions beside those that are tested; what an extra asks for counts where it is installed."""
    yield Finding("ok", "seekr-tune", metadata.version("seekr-tune"))
    same, others = [], []
    for requirement in map(Requirement, metadata.requires("seekr-tune") or ()):
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if requirement.marker is None:
                yield Finding("problem", "packages", f"{requirement.name} is missing; install {requirement}")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            same.append(f"{requirement.name} {version}")
        else:
            others.append(f"{requirement.name} {version} (tested: {requirement.specifier})")
    yield Finding("ok", "packages", f"as tested: {', '.join(same)}")
    if others:
        yield Finding("note", "packages", f"not as tested: {', '.join(others)}; `make setup` installs the tested ones")


def _gpus() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            text = f"{number}: {about.name}, {bytes_text(about.total_memory)}, CUDA {torch.version.cuda}"
            yield Finding("ok", "GPU", text)
    elif shutil.which("nvidia-smi") and torch.version.cuda is None:
        yield Finding("note", "GPU", f"PyTorch {torch.__version__} is a build for CPUs; the GPU needs one for CUDA")
    elif shutil.which("nvidia-smi"):
        yield Finding("problem", "GPU", f"PyTorch (CUDA {torch.version.cuda}) sees none; compare with `nvidia-smi`")
    else:
        yield Finding("ok", "GPU", f"none; PyTorch {torch.__version__} computes on the CPU")


def _disk(directory: Path) -> Iterator[Finding]:
    for what, place in (("disk", directory), ("temporary", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(place).free
        state: State = "ok" if free > _LITTLE_DISK else "note"
        yield Finding(state, what, f"{bytes_text(free)} free for {place.resolve()}")
    with tempfile.TemporaryDirectory(prefix=".seekr-tune-doctor-", dir=directory) as made:
        lock = FileLock(Path(made) / "lock", timeout=0)
        lock.acquire()
        lock.release()
        (Path(made) / "a").write_bytes(b"a")
        os.replace(Path(made) / "a", Path(made) / "b")
        Path(made).chmod(0o700)
        private = Path(made).stat().st_mode & 0o077 == 0
    yield Finding("ok", "disk", "files can be locked and replaced")
    if not private:
        yield Finding("note", "disk", "this file system keeps no permissions, so others may read stored samples")


def _limits() -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"{soft} open files"
    yield (
        Finding("ok", "limits", text)
        if soft >= _FEW_FILES
        else Finding("note", "limits", f"{text}; Ray may need more: `ulimit -n 65536`")
    )
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        mend = "" if size >= _LITTLE_SHARED_MEMORY else "; little for Ray: give the container more (--shm-size=2g)"
        yield Finding("note" if mend else "ok", "limits", f"{bytes_text(size)} of shared memory{mend}")


def _environment() -> Iterator[Finding]:
    """Variables that change what libraries do; of those that can be secrets, only that they are set."""
    shown = [
        name if _SECRET.search(name) else f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if _SHOWN.match(name)
    ]
    yield Finding("ok", "environment", ", ".join(shown) or "nothing that changes what libraries do")
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        yield Finding(
            "note", "environment", "RAY_AUTH_MODE turns Ray's tokens off: whoever reaches its ports can run code here"
        )


def _model() -> Iterator[Finding]:
    from seekr_tune.config import ModelConfig
    from seekr_tune.models.loading import load_model

    layers, heads = load_model(ModelConfig()).shape
    yield Finding("ok", "model", f"the built-in one loads and is tapped ({layers} layers of {heads} heads)")


def _files_of_ray() -> Iterator[Finding]:
    from seekr_tune.cluster.private_directory import find_place

    place = find_place()
    for reason in place.passed_over:
        yield Finding("note", "Ray's files", f"{reason}; another place is taken")
    yield Finding("ok", "Ray's files", f"in a directory with mode 0700 in {place.path}, for as long as a session lasts")


def _ray() -> Iterator[Finding]:
    from seekr_tune.cluster.probe import ray_works

    yield Finding("ok", "Ray", ray_works())
