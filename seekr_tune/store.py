"""A folder at any place that `pyarrow.fs` reaches: a directory, or a URI such as `s3://bucket/folder`."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, copy_files

from seekr_tune.documents import MAX_BYTES, read_bytes
from seekr_tune.errors import ConfigError, DocumentError, NoDocument
from seekr_tune.leftovers import new_file, unfinished

T = TypeVar("T")

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds: another one means another content."""

_PAUSES = (1.0, 3.0, 9.0, 27.0)
"""Seconds before an operation is tried again. Networks fail for a moment; a training must not end with them."""

_WITH_FOLDERS = ("local", "hdfs")
"""File systems where a folder must be made, and where a file that is being written can be seen. Object stores have no
folders, and show an object when all of it is there."""


@dataclass(frozen=True)
class Store:
    """A folder, and what can be done with the files in it. It can be pickled, and need not exist yet.

    A file appears whole or not at all. A name may lead into a folder (`events/one`); names that begin with a dot are
    not listed.

    Attributes:
        filesystem: where it is.
        path: of the folder in it.
        label: the folder as messages call it.
        pauses: before each new attempt of what the network has refused, in seconds.
    """

    filesystem: FileSystem
    path: str
    label: str
    pauses: tuple[float, ...] = _PAUSES

    @classmethod
    def open(cls, place: str) -> Store:
        """The folder at a path, or at a URI.

        Raises:
            ConfigError: the URI is not one that pyarrow knows.
        """
        if "://" not in place:
            path = str(Path(place).absolute())
            return cls(LocalFileSystem(), path, path, pauses=())
        label = place.partition("?")[0]
        try:
            filesystem, path = FileSystem.from_uri(place)
        except (ArrowException, OSError, ValueError, ImportError) as error:
            raise ConfigError(
                f"training.storage_path {label}: cannot be used ({_line(error)}); give a directory, or a URI such as "
                "s3://bucket/folder"
            ) from None
        if not path:
            raise ConfigError(f"training.storage_path {label}: names no folder; add one")
        return cls(filesystem, path, label, () if isinstance(filesystem, LocalFileSystem) else _PAUSES)

    def __str__(self) -> str:
        return self.label

    @property
    def is_local(self) -> bool:
        """Whether it is a directory of this machine, or one that it mounts."""
        return isinstance(self.filesystem, LocalFileSystem)

    def at(self, *parts: str) -> Store:
        """A folder in this one."""
        path, label = ("/".join([place.rstrip("/"), *parts]) for place in (self.path, self.label))
        return replace(self, path=path, label=label)

    def stamps(self) -> dict[str, Stamp]:
        """Files and folders that are here, by name."""
        selector = FileSelector(self.path, allow_not_found=True)
        found = self._patiently(lambda: self.filesystem.get_file_info(selector))
        return {i.base_name: (i.size or 0, i.mtime_ns or 0) for i in found if not i.base_name.startswith(".")}

    def names(self) -> list[str]:
        """Names of the files and folders that are here."""
        return sorted(self.stamps())

    def upload(self, local: Path, name: str) -> None:
        """Make a file here a copy of a local one."""
        self._put(name, lambda path: copy_files(str(local), path, LocalFileSystem(), self.filesystem))

    def download(self, name: str, local: Path) -> None:
        """Make a local file a copy of one here; its directory is made if need be.

        Raises:
            FileNotFoundError: it is not here.
        """
        local.parent.mkdir(parents=True, exist_ok=True)
        temporary = new_file(unfinished(local), 0o600)
        try:
            self._patiently(lambda: copy_files(self._path(name), str(temporary), self.filesystem, LocalFileSystem()))
            os.replace(temporary, local)
        finally:
            temporary.unlink(missing_ok=True)

    def copy_from(self, other: Store, name: str) -> None:
        """Make a file here a copy of the one of the same name in another folder of the same file system."""
        self._put(name, lambda path: self.filesystem.copy_file(other._path(name), path))

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None where it is not here."""

        def get() -> bytes:
            if self.is_local:
                return read_bytes(self._path(name))
            with self.filesystem.open_input_stream(self._path(name)) as stream:
                content: bytes = stream.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise DocumentError("is too large", "it is not what belongs there", path=f"{self.label}/{name}")
            return content

        try:
            return self._patiently(get)
        except (FileNotFoundError, NoDocument):
            return None

    def write(self, name: str, content: bytes) -> None:
        """Make a file here have this content."""

        def put(path: str) -> None:
            with self.filesystem.open_output_stream(path) as stream:
                stream.write(content)

        self._put(name, put)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it; it need not be here."""
        path = self._path(name)

        def delete() -> None:
            if self.is_local and os.path.islink(path):  # and not what it leads to
                os.unlink(path)
                return
            (info,) = self.filesystem.get_file_info([path])
            if info.type == FileType.Directory:
                self.filesystem.delete_dir(path)
            elif info.type != FileType.NotFound:
                self.filesystem.delete_file(path)

        with suppress(FileNotFoundError):
            self._patiently(delete)

    def require_writable(self) -> None:
        """Write, read and remove a file.

        Raises:
            ConfigError: that does not work.
        """
        at_once = replace(self, pauses=())
        name, content = f"probe-{secrets.token_hex(4)}", secrets.token_bytes(8)
        try:
            at_once.write(name, content)
            found = at_once.read(name)
            at_once.remove(name)
        except (ArrowException, OSError) as error:
            raise ConfigError(
                f"training.storage_path {self.label}: cannot be written ({_line(error)}); check the path and the "
                "rights of this machine's user there"
            ) from None
        if found != content:
            raise ConfigError(f"training.storage_path {self.label}: does not give back what is written there")

    def _path(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _patiently(self, action: Callable[[], T]) -> T:
        for pause in self.pauses:
            try:
                return action()
            except FileNotFoundError:
                raise
            except OSError:
                time.sleep(pause)
        return action()

    def _put(self, name: str, put: Callable[[str], None]) -> None:
        self._patiently(lambda: self._put_once(name, put))

    def _put_once(self, name: str, put: Callable[[str], None]) -> None:
        final = self._path(name)
        if self.filesystem.type_name not in _WITH_FOLDERS:
            put(final)
            return
        folder, _, base = final.rpartition("/")
        self.filesystem.create_dir(folder, recursive=True)
        temporary = f"{folder}/.{base}.{secrets.token_hex(4)}.partial"
        try:
            if self.is_local:
                new_file(Path(temporary), 0o600)
            put(temporary)
            self._settle(temporary, final)
        except BaseException:
            with suppress(FileNotFoundError):
                self.filesystem.delete_file(temporary)
            raise

    def _settle(self, temporary: str, final: str) -> None:
        """Let a written file take its place, and that of an earlier one."""
        if isinstance(self.filesystem, LocalFileSystem):
            os.chmod(temporary, 0o600)  # memories pass through here
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
        else:  # HDFS renames to free names only
            with suppress(FileNotFoundError):
                self.filesystem.delete_file(final)
        self.filesystem.move(temporary, final)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
