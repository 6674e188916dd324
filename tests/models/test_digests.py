"""Digests of files, and for how long they are believed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from seekr_tune.models.digests import digest_of_file, digest_of_sources


def test_a_digest_is_kept_for_the_same_untouched_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seekr_tune.models.digests._KEPT", 1)
    cache, path = tmp_path / "cache", tmp_path / "weights"
    path.write_bytes(b"one")
    first, stat = digest_of_file(cache, path), path.stat()
    (kept,) = (cache / "digests").iterdir()
    kept.write_text("0" * 64)
    assert digest_of_file(cache, path) == "0" * 64  # it is not read again
    other = tmp_path / "other"
    other.write_bytes(b"two")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)  # of the same size and time
    assert digest_of_file(cache, path) == hashlib.sha256(b"two").hexdigest() != first
    path.write_bytes(b"six")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the same inode as well
    assert digest_of_file(cache, path) == hashlib.sha256(b"six").hexdigest()


def test_sources_of_this_package_are_named_by_what_they_hold() -> None:
    assert digest_of_sources("methods") != digest_of_sources("methods", "models.agreement")
    with pytest.raises(LookupError, match="seekr_tune.method is no part"):
        digest_of_sources("method")
