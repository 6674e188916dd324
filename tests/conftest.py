"""Fixtures that every part of the tests uses."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that would download must fail at once
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # as the command line does; read when it is imported

CACHE = tempfile.mkdtemp(prefix="seekr-tune-tests-")  # what one run of the tests finds out, the next finds out anew
os.environ["XDG_CACHE_HOME"] = CACHE
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from tests import threads  # noqa: E402

torch.set_num_threads(1)  # the models are tiny: a second thread costs more than it gives

settings.register_profile("untimed", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("untimed")

REPOSITORY = Path(__file__).parent.parent


def pytest_collection_finish() -> None:
    """What was imported stays: a run collects garbage before it loads a model, and need not look through all that."""
    import peft  # noqa: F401
    from transformers.models.llama import modeling_llama  # noqa: F401  (what the built-in model is)

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """A test ends what it begins; what serves a whole module begins before, for its fixtures come first."""
    with threads.none_left():
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """Real tasks and tiny models for the tests that need them: the directory in `SEEKR_DATA_DIR`."""
    directory = os.environ.get("SEEKR_DATA_DIR")
    if not directory:
        pytest.skip("needs real data: set SEEKR_DATA_DIR to a folder with superni/, trace/ and models/")
    return Path(directory)
