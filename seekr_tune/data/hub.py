"""Data sets of the Hugging Face hub -> rows: what alone needs the `datasets` library, its cache and a network."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from seekr_tune.config import Split
from seekr_tune.data.columns import one_line
from seekr_tune.data.folders import DATASET_SPLITS
from seekr_tune.errors import DataError
from seekr_tune.quiet_libraries import hear_libraries

_CACHE_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST}


def hub_rows(root: str, task: str, split: Split) -> Iterator[Any]:
    """Rows of one split of a configuration.

    Args:
        root: name of the data set.
        task: name of the configuration.
        split: as this project calls it.
    """
    import datasets

    with _hub_errors(root, task):
        found = hub_split(root, task, split)
        if found is None:
            present = ", ".join(datasets.get_dataset_split_names(root, task))
            raise DataError(f"{root} [{task}]: no split {split!r}, only {present}; choose another data set")
        # streaming: otherwise every split is downloaded and prepared, the sealed one too
        yield from datasets.load_dataset(root, name=task, split=found, streaming=True)


def hub_split(root: str, task: str, split: Split) -> str | None:
    """What the hub calls a split.

    Raises:
        DataError: the data set cannot be reached.
    """
    import datasets

    with _hub_errors(root, task):
        present = datasets.get_dataset_split_names(root, task)
    return next((name for name in DATASET_SPLITS[split] if name in present), None)


@contextmanager
def _hub_errors(root: str, task: str) -> Iterator[None]:
    """Turn what the `datasets` library raises into one line."""
    import datasets.exceptions
    import pyarrow

    hear_libraries()
    try:
        yield
    except DataError:
        raise
    except (datasets.exceptions.DatasetsError, pyarrow.ArrowException, OSError, ValueError) as error:
        mend = f"give a directory, or a data set and configuration that can be reached from here, not {root!r}"
        if isinstance(error, OSError) and error.errno in _CACHE_ERRORS:
            mend = "set HF_HOME to a directory that can be written and has room: the hub's files are kept there"
        reason = f"cannot be read by the datasets library ({one_line(error)})"
        raise DataError(f"{root} [{task}]: {reason}; {mend}") from None
