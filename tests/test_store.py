"""A folder at a store: the same on a disk and where pyarrow sees no disk at all."""

from __future__ import annotations

import os
import pickle
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import parse_config
from seekr_tune.store import Store
from seekr_tune.validation import require_ready, validate


def on_mock(tmp_path: Path) -> Store:
    filesystem, path = FileSystem.from_uri("mock:///bucket")
    filesystem.create_dir(path)
    return Store(filesystem, path, "mock://bucket")


OPEN: dict[str, Callable[[Path], Store]] = {
    "path": lambda tmp_path: Store.open(str(tmp_path / "a b")),
    "file": lambda tmp_path: Store.open(f"file://{tmp_path}/ab"),
    "memory": lambda tmp_path: Store.open(f"fsspec+memory://{secrets.token_hex(4)}"),
    "mock": on_mock,
}


@pytest.fixture(params=OPEN)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return OPEN[request.param](tmp_path)


def test_what_is_written_can_be_read_and_listed(store: Store) -> None:
    assert store.names() == [] and store.read("one") is None
    store.write("one", b"first")
    store.write("two", b"")
    assert store.names() == ["one", "two"]
    assert store.read("one") == b"first" and store.read("two") == b""


def test_a_file_is_replaced_and_its_stamp_changes(store: Store) -> None:
    store.write("one", b"first")
    before = store.stamps()
    store.write("one", b"the second")
    assert store.read("one") == b"the second"
    assert store.stamps().keys() == before.keys() and store.stamps() != before
    assert store.stamps()["one"][0] == len("the second")


def test_files_go_there_and_back(store: Store, tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "local").write_bytes(content)
    store.upload(tmp_path / "local", "big")
    assert store.read("big") == content
    store.download("big", tmp_path / "new" / "back")
    assert (tmp_path / "new" / "back").read_bytes() == content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["back"]


def test_a_download_of_what_is_not_there_leaves_the_local_file_as_it_was(store: Store, tmp_path: Path) -> None:
    local = tmp_path / "new" / "local"
    local.parent.mkdir()
    local.write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        store.download("nothing", local)
    assert local.read_bytes() == b"old" and list(local.parent.iterdir()) == [local]


def test_a_folder_inside_is_another_store(store: Store) -> None:
    if store.filesystem.type_name == "mock":  # unlike an object store it wants folders to be made
        store.filesystem.create_dir(f"{store.path}/sub/deep")
    store.at("sub", "deep").write("one", b"1")
    assert store.read("sub/deep/one") == b"1"
    assert store.at("sub").names() == ["deep"]
    assert str(store.at("sub", "deep")) == f"{store}/sub/deep"


def test_files_and_folders_are_removed_and_need_not_be_there(store: Store) -> None:
    if store.filesystem.type_name == "mock":
        store.filesystem.create_dir(f"{store.path}/sub")
    for name in ("one", "two", "sub/three"):
        store.write(name, b"1")
    for name in ("one", "sub", "nothing"):
        store.remove(name)
    assert store.names() == ["two"]


def test_a_probe_leaves_nothing(store: Store) -> None:
    store.require_writable()
    assert store.names() == []


@pytest.mark.parametrize("kind", ["path", "file", "memory"])
def test_it_travels_to_other_processes(kind: str, tmp_path: Path) -> None:
    store = OPEN[kind](tmp_path)
    copy = pickle.loads(pickle.dumps(store))
    store.write("one", b"1")
    assert copy.read("one") == b"1" and str(copy) == str(store)


def test_a_relative_path_means_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store.open("here")
    monkeypatch.chdir("/")
    store.write("one", b"1")
    assert (tmp_path / "here" / "one").read_bytes() == b"1"


def test_a_write_that_fails_half_way_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path / "store"))
    store.write("one", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write("one", b"new")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["one"]
    assert store.read("one") == b"old"


class FlakyFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Refuses the first calls."""

    cachable = False
    refusals = 0

    def _open(self, *arguments: Any, **settings: Any) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise OSError("AWS Error NETWORK_CONNECTION")
        return super()._open(*arguments, **settings)


@pytest.mark.parametrize("refusals, arrives", [(2, True), (3, False)])
def test_what_a_network_refuses_is_tried_again_for_a_while(refusals: int, arrives: bool, tmp_path: Path) -> None:
    network = FlakyFileSystem()
    store = Store(PyFileSystem(FSSpecHandler(network)), secrets.token_hex(4), "flaky", pauses=(0.0, 0.0))
    (tmp_path / "local").write_bytes(b"1")
    network.refusals = refusals
    if arrives:
        store.upload(tmp_path / "local", "one")
        network.refusals = refusals
        assert store.read("one") == b"1"
    else:
        with pytest.raises(OSError, match="NETWORK"):
            store.upload(tmp_path / "local", "one")


def test_a_probe_does_not_try_again() -> None:
    network = FlakyFileSystem()
    network.refusals = 1
    store = Store(PyFileSystem(FSSpecHandler(network)), "bucket", "flaky", pauses=(3600.0,))
    with pytest.raises(ConfigError, match="training.storage_path flaky: cannot be written .*NETWORK"):
        store.require_writable()


@pytest.mark.parametrize(
    "place", ["nope://bucket/x", "file://host/x", "file:///with space", "s3://bucket/x?regio=secret", "s3://"]
)
def test_a_place_that_pyarrow_does_not_know_is_refused_in_one_line(place: str) -> None:
    with pytest.raises(ConfigError, match="training.storage_path") as caught:
        Store.open(place)
    assert place.partition("?")[0] in str(caught.value)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="training.storage_path .*file/x: cannot be written") as caught:
        Store.open(str(tmp_path / "file" / "x")).require_writable()
    assert "\n" not in str(caught.value)


def with_storage(place: str, workers: int = 1) -> Config:
    values = {
        "stream": {"tasks": ["star"], "limits": {"train": 8, "eval": 8, "test": 8}},
        "recipe": {"max_prompt_tokens": 40, "max_answer_tokens": 4},
        "method": {"head_budget": 4},
        "training": {"workers": workers, "storage_path": place},
    }
    return parse_config(values, "e")


@pytest.mark.parametrize(
    "place",
    [
        "runs/store",
        "/a:b@c",
        "file:///store",
        "s3://bucket/x?region=eu-central-1&endpoint_override=localhost:9000",
        "gs://anonymous@bucket/x",
        "hdfs://user@host:9000/x",
        "abfs://container@account.dfs.core.windows.net/x",
    ],
)
def test_paths_and_uris_are_settings(place: str) -> None:
    assert with_storage(place).training.storage_path == place


def test_a_store_without_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="workers is 0; set workers to 1 or more, or drop storage_path"):
        with_storage("file:///store", workers=0)


@pytest.mark.parametrize(
    "place",
    [
        "s3://AKIA:hidden@bucket/x",
        "s3://AKIA:hid/den@bucket/x",
        "s3://bucket/x?region=eu&secret_key=hidden",
        "abfs://:hidden@account/x",
        "abfs://account/x?client_secret=hidden",
    ],
)
def test_a_secret_does_not_get_into_an_experiment(place: str) -> None:
    with pytest.raises(ConfigError, match="has a password or a key in it") as caught:
        with_storage(place)
    assert "hid" not in str(caught.value)


def test_a_store_is_tried_before_anything_runs_and_named_so_that_all_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ready, _ = require_ready(with_storage("store"), Path("e.yaml"), search=False)
    assert ready.training.storage_path == str(tmp_path / "store") and list((tmp_path / "store").iterdir()) == []
    assert "storage" in {finding.subject for finding in validate(with_storage("store"), Path("e.yaml"))}
    (tmp_path / "file").touch()
    for check in (partial(require_ready, search=False), validate):
        with pytest.raises(ConfigError, match="training.storage_path .* cannot be written"):
            check(with_storage("file/store"), Path("e.yaml"))


def test_a_uri_stays_as_it_is(tmp_path: Path) -> None:
    place = f"file://{tmp_path}/store"
    assert require_ready(with_storage(place), Path("e.yaml"), search=False)[0].training.storage_path == place
