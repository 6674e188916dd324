"""Checkpoints over a store: they come back bit for bit to ranks that share nothing else, or not at all."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from seekr_tune.checkpoint import remote
from seekr_tune.checkpoint.directories import MANIFEST, newest_intact
from seekr_tune.checkpoint.keeper import CheckpointKeeper
from seekr_tune.checkpoint.remote import Claim, RemoteRoom, newest_at, saved_at, send
from seekr_tune.cluster.strategy import DDPWorkers
from seekr_tune.errors import CheckpointError
from seekr_tune.methods.workers import SingleProcess, Workers
from seekr_tune.store import Store

from ..cluster.ranks import run_ranks
from .saved import (
    Net,
    assert_same_state,
    assert_same_tensors,
    gradients,
    held_by,
    keeper_of,
    learner_of,
    parameters_of,
    progress_of,
    stream_state,
)
from .test_keeper import assert_same_learner, save_stage, save_steps


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """The place of a run: on a disk, and where there is none."""
    if request.param == "file":
        return Store.open(f"file://{tmp_path}/store/run")
    return Store.open(f"fsspec+memory://{secrets.token_hex(4)}")


class Launch:
    """One rank of a launch, in a scratch directory of its own node."""

    def __init__(
        self,
        place: Store,
        node: Path,
        workers: Workers | None = None,
        kept: int = 2,
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        workers = workers or SingleProcess()
        self.claim = Claim(place, workers.broadcast(lambda: Claim.take(place).token))
        shared = node / self.claim.token
        own = shared / f"rank-{workers.rank:02d}"
        own.mkdir(parents=True)
        self.scratch = shared
        room = RemoteRoom(self.claim, shared, own, workers, before_commit)
        self.keeper = CheckpointKeeper(own / "checkpoints", workers, kept, room)


def names_at(place: Store) -> list[str]:
    """Whole checkpoints, without the tokens of their launches."""
    return sorted(saved.name.partition(".")[0] for saved in saved_at(place))


def folder_of(place: Store, name: str) -> Store:
    (saved,) = [saved for saved in saved_at(place) if saved.position.name == name]
    return saved.folder


def damage(folder: Store, name: str) -> None:
    content = bytearray(folder.read(name) or b"")
    content[len(content) // 2] ^= 1
    folder.write(name, bytes(content))


def test_what_a_launch_saved_another_node_takes_up_bit_for_bit(place: Store, tmp_path: Path) -> None:
    stage, later, net = Net(1), Net(2), Net(3)
    first = Launch(place, tmp_path / "node-0")
    assert first.keeper.restore_stage(parameters_of(Net(9))) is None
    save_stage(first.keeper, 2, stage)
    save_steps(first.keeper, 2, 3, later)
    first.keeper.close()

    second = Launch(place, tmp_path / "node-1")
    found = second.keeper.restore_stage(parameters_of(net))
    assert found is not None
    assert_same_tensors(parameters_of(net), parameters_of(stage))
    assert_same_state(found.state, stream_state(2))
    assert_same_learner(found.learner, learner_of(stage))
    progress = second.keeper.restore_steps(parameters_of(net))
    assert progress is not None
    assert_same_tensors(parameters_of(net), parameters_of(later))
    assert progress.steps == found.unfinished == progress_of(later, 3).steps
    assert_same_learner(progress.learner, learner_of(later))

    save_steps(second.keeper, 2, 5, stage)  # on the stage of the first launch
    second.keeper.close()
    third = Launch(place, tmp_path / "node-0")
    found = third.keeper.restore_stage(parameters_of(net))
    assert found is not None and len(found.unfinished) == 5


def test_a_node_keeps_neither_what_was_sent_nor_what_was_read(place: Store, tmp_path: Path) -> None:
    launch = Launch(place, tmp_path)
    save_stage(launch.keeper, 1, Net(1))
    save_steps(launch.keeper, 1, 2, Net(1))
    launch.keeper.close()
    again = Launch(place, tmp_path)
    again.keeper.restore_stage(parameters_of(Net(1)))
    assert list(again.scratch.rglob("weights-*"))
    again.keeper.restore_steps(parameters_of(Net(1)))
    save_steps(again.keeper, 1, 4, Net(1))
    again.keeper.close()
    for scratch in (launch.scratch, again.scratch):
        assert {path.name for path in scratch.rglob("*") if path.is_file()} - {".lock"} == {MANIFEST}


def test_the_same_checkpoints_stay_as_on_a_disk(place: Store, tmp_path: Path) -> None:
    remote_keeper, local_keeper = Launch(place, tmp_path / "node").keeper, keeper_of(tmp_path / "disk")
    for keeper in (remote_keeper, local_keeper):
        for tasks_done in (0, 1, 2):
            save_stage(keeper, tasks_done, Net(1))
            for steps in (2, 4, 6):
                save_steps(keeper, tasks_done, steps, Net(1))
        keeper.close()
    on_disk = sorted(path.name for path in (tmp_path / "disk").iterdir())
    assert names_at(place) == on_disk == ["task-0001", "task-0002", "task-0002-step-000004", "task-0002-step-000006"]
    for name in on_disk:
        assert set(folder_of(place, name).names()) == {path.name for path in (tmp_path / "disk" / name).iterdir()}
    assert len(place.at("checkpoints").names()) == 4


@pytest.mark.parametrize("file", ["weights-00-of-01.safetensors", "state.json", MANIFEST])
@pytest.mark.parametrize("harm", [damage, Store.remove])
def test_past_a_damaged_file_at_the_store_the_one_before_is_taken(
    file: str, harm: Callable[[Store, str], None], place: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    launch = Launch(place, tmp_path / "node-0")
    for tasks_done in (1, 2):
        save_stage(launch.keeper, tasks_done, Net(tasks_done))
    launch.keeper.close()
    harm(folder_of(place, "task-0002"), file)
    again, net = Launch(place, tmp_path / "node-1"), Net(9)
    with caplog.at_level(logging.WARNING):
        found = again.keeper.restore_stage(parameters_of(net))
    assert found is not None and found.state.tasks_done == 1
    assert_same_tensors(parameters_of(net), parameters_of(Net(1)))
    if (harm, file) != (Store.remove, MANIFEST):  # without one it was never finished
        (warning,) = caplog.messages
        assert warning.startswith(f"{place}/checkpoints/task-0002.") and "damaged (" in warning
        assert f"; task-0001.{launch.claim.token} is used instead" in warning

    save_stage(again.keeper, 2, Net(7))  # takes the place of the damaged one
    again.keeper.close()
    assert [saved.name for saved in saved_at(place)] == [
        f"task-0001.{launch.claim.token}",
        f"task-0002.{again.claim.token}",
    ]


def test_damaged_steps_are_left_out_and_their_stage_is_taken(
    place: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    launch = Launch(place, tmp_path)
    save_stage(launch.keeper, 2, Net(1))
    save_steps(launch.keeper, 2, 3, Net(2))
    launch.keeper.close()
    damage(folder_of(place, "task-0002-step-000003"), "weights-00-of-01.safetensors")
    again = Launch(place, tmp_path)
    with caplog.at_level(logging.WARNING):
        found = again.keeper.restore_stage(parameters_of(Net(9)))
    assert found is not None and found.unfinished == ()
    assert f"task-0002.{launch.claim.token} is used instead" in caplog.text
    assert again.keeper.restore_steps(parameters_of(Net(9))) is None


def test_a_store_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Store.open(str(tmp_path / "store"))
    launch = Launch(place, tmp_path)
    save_stage(launch.keeper, 2, Net(1))
    launch.keeper.close()
    again = Launch(place, tmp_path)

    def refused(store: Store, name: str, local: Path) -> None:
        raise OSError("AWS Error ACCESS_DENIED")

    monkeypatch.setattr(Store, "download", refused)
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        again.keeper.restore_stage(parameters_of(Net(1)))


def test_what_was_never_finished_is_not_taken_and_goes_with_the_next_save(place: Store, tmp_path: Path) -> None:
    launch = Launch(place, tmp_path)
    save_stage(launch.keeper, 1, Net(1))
    launch.keeper.close()
    place.at("checkpoints", f"task-0002.{launch.claim.token}").write("rank-00.json", b"{}")
    again = Launch(place, tmp_path)
    found = again.keeper.restore_stage(parameters_of(Net(9)))
    assert found is not None and found.state.tasks_done == 1
    save_steps(again.keeper, 1, 2, Net(1))
    again.keeper.close()
    assert names_at(place) == ["task-0001", "task-0001-step-000002"]
    assert len(place.at("checkpoints").names()) == 2


def test_an_old_launch_neither_saves_nor_removes_anything(place: Store, tmp_path: Path) -> None:
    old = Launch(place, tmp_path / "node-0", kept=1)
    save_stage(old.keeper, 1, Net(1))
    new = Launch(place, tmp_path / "node-1", kept=1)
    with pytest.raises(CheckpointError, match="another launch took over"):
        save_stage(old.keeper, 2, Net(2))
    assert names_at(place) == ["task-0001"]
    found = new.keeper.restore_stage(parameters_of(Net(9)))
    assert found is not None and found.state.tasks_done == 1
    save_stage(new.keeper, 2, Net(3))
    assert [saved.name for saved in saved_at(place)] == [f"task-0002.{new.claim.token}"]


def test_an_old_launch_that_is_overtaken_while_it_commits_removes_nothing(
    place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Launch(place, tmp_path / "node-0", kept=1)
    save_stage(old.keeper, 1, Net(1))
    write = Store.write

    def overtaken(store: Store, name: str, content: bytes) -> None:
        write(store, name, content)
        if name == MANIFEST:
            monkeypatch.setattr(Store, "write", write)
            Claim.take(place)

    monkeypatch.setattr(Store, "write", overtaken)
    with pytest.raises(CheckpointError, match="another launch took over"):
        save_stage(old.keeper, 2, Net(2))
    assert names_at(place) == ["task-0001", "task-0002"]  # the new launch may have begun with the first


def test_results_are_sent_before_a_checkpoint_appears(place: Store, tmp_path: Path) -> None:
    there: list[list[str]] = []
    launch = Launch(place, tmp_path, before_commit=lambda: there.append(names_at(place)))
    for tasks_done in (1, 2):
        save_stage(launch.keeper, tasks_done, Net(1))
    assert there == [[], ["task-0001"]]


def test_a_checkpoint_goes_from_the_disk_to_the_store_and_back(place: Store, tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path / "disk")
    save_stage(keeper, 2, Net(1))
    save_steps(keeper, 2, 3, Net(2))
    keeper.close()
    for path in newest_intact(tmp_path / "disk"):
        assert path is not None
        send(path, place, "5eed5eed")
    (tmp_path / "back").mkdir()
    assert [saved and saved.name for saved in newest_at(place, tmp_path / "back")] == [
        "task-0002.5eed5eed",
        "task-0002-step-000003.5eed5eed",
    ]
    for path in (tmp_path / "disk").rglob("*-*/*"):
        assert (tmp_path / "back" / path.relative_to(tmp_path / "disk")).read_bytes() == path.read_bytes()


# Two ranks on two nodes, which share the store and nothing else.


def on_node(directory: Path) -> tuple[DDPWorkers, Store, Path]:
    workers = DDPWorkers(torch.device("cpu"))
    return workers, Store.open(f"file://{directory}/store"), directory / f"node-{workers.rank}"


def learner_at(net: Net, rank: int) -> Any:
    shapes = {name: parameter.shape for name, parameter in net.named_parameters()}
    learner = learner_of(net)
    return type(learner)({**learner.tensors, **gradients(shapes, rank)}, learner.pending_steps, learner.updates)


def save_at(launch: Launch, workers: Workers, tasks_done: int, net: Net) -> None:
    state = stream_state(tasks_done)
    own = type(state)(**{**vars(state), "memory": held_by(state.memory, workers.rank, workers.world_size)})
    launch.keeper.save_stage(own, parameters_of(net), learner_at(net, workers.rank))


def killed_and_restored(directory: Path) -> list[Any]:
    """Both ranks save, are gone without a word, and come back on fresh nodes."""
    workers, place, node = on_node(directory)
    first = Launch(place, node, workers)
    for tasks_done in (1, 2):
        save_at(first, workers, tasks_done, Net(tasks_done))
    first.keeper.save_steps(2, progress_of(Net(4), 3), parameters_of(Net(4)))
    first.keeper.settle()

    second, net = Launch(place, node / "fresh", workers), Net(9)
    found = second.keeper.restore_stage(parameters_of(net))
    assert found is not None
    assert_same_tensors(parameters_of(net), parameters_of(Net(2)))
    expected = stream_state(2)
    own = held_by(expected.memory, workers.rank, workers.world_size)
    assert_same_state(found.state, type(expected)(**{**vars(expected), "memory": own}))
    assert_same_learner(found.learner, learner_at(Net(2), workers.rank))
    progress = second.keeper.restore_steps(parameters_of(net))
    assert progress is not None and progress.steps == progress_of(Net(4), 3).steps
    assert_same_tensors(parameters_of(net), parameters_of(Net(4)))
    return names_at(place)


def damaged_and_restored(directory: Path) -> list[Any]:
    """A file of the second rank is damaged at the store."""
    workers, place, node = on_node(directory)
    first = Launch(place, node, workers)
    for tasks_done in (1, 2):
        save_at(first, workers, tasks_done, Net(tasks_done))
    if workers.rank == 0:
        damage(folder_of(place, "task-0002"), "memory-01-of-02.safetensors")
    second, net = Launch(place, node / "fresh", workers), Net(9)
    found = second.keeper.restore_stage(parameters_of(net))
    assert found is not None
    assert_same_tensors(parameters_of(net), parameters_of(Net(1)))
    return [found.state.tasks_done]


def old_launch_on_both_nodes(directory: Path) -> list[Any]:
    """Both ranks of a killed launch still save."""
    workers, place, node = on_node(directory)
    old = Launch(place, node, workers)
    save_at(old, workers, 1, Net(1))
    new = Launch(place, node, workers)
    with pytest.raises(CheckpointError, match="another launch took over") as caught:
        save_at(old, workers, 2, Net(2))
    before = names_at(place)
    assert new.keeper.restore_stage(parameters_of(Net(9))) is not None
    save_at(new, workers, 2, Net(3))
    return [str(caught.value).count("took over"), before, names_at(place)]


def second_node_cannot_send(directory: Path) -> list[Any]:
    """Rank 1 fails while it sends; both ranks are told, and nothing appears."""
    workers, place, node = on_node(directory)
    launch = Launch(place, node, workers)
    save_at(launch, workers, 1, Net(1))
    with pytest.MonkeyPatch.context() as patch:
        if workers.rank == 1:

            def refused(store: Store, local: Path, name: str) -> None:
                raise OSError("AWS Error SLOW_DOWN")

            patch.setattr(Store, "upload", refused)
        with pytest.raises(CheckpointError, match="rank 1: AWS Error SLOW_DOWN"):
            save_at(launch, workers, 2, Net(2))
    return names_at(place)


def second_node_never_sends(directory: Path) -> list[Any]:
    """Rank 1 hangs; rank 0 gives up."""
    workers, place, node = on_node(directory)
    launch = Launch(place, node, workers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "PATIENCE_SECONDS", 0.3)
        if workers.rank == 1:
            patch.setattr(RemoteRoom, "write", lambda *_: None)
        with pytest.raises(CheckpointError, match="no rank-01.json after 0.3 seconds"):
            save_at(launch, workers, 1, Net(1))
    return names_at(place)


def second_node_cannot_fetch(directory: Path) -> list[Any]:
    """Rank 0 has the checkpoint, rank 1 cannot get it: no rank goes on alone, and it is not taken for damaged."""
    workers, place, node = on_node(directory)
    save_at(Launch(place, node, workers), workers, 1, Net(1))
    launch = Launch(place, node, workers)
    if workers.rank == 1:

        def refused(store: Store, name: str, local: Path) -> None:
            raise OSError("AWS Error SLOW_DOWN")

        patch = pytest.MonkeyPatch()
        patch.setattr(Store, "download", refused)
    with pytest.raises(OSError, match="task-0001.* cannot be fetched .AWS Error SLOW_DOWN"):
        launch.keeper.restore_stage(parameters_of(Net(1)))
    return []


def two_ranks_of_one_node(directory: Path) -> list[Any]:
    """Ranks of a node fetch a checkpoint once."""
    workers, place, _ = on_node(directory)
    node = directory / "node"
    save_at(Launch(place, node, workers), workers, 1, Net(1))
    fetched, fetch = [], remote.Saved.fetch

    def counted(saved: remote.Saved, into: Path) -> Path:
        fetched.append(saved.name)
        return fetch(saved, into)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote.Saved, "fetch", counted)
        net = Net(9)
        assert Launch(place, node, workers).keeper.restore_stage(parameters_of(net)) is not None
    assert_same_tensors(parameters_of(net), parameters_of(Net(1)))
    return [len(fetched)]


SCENES = {
    scene.__name__: scene
    for scene in (
        killed_and_restored,
        damaged_and_restored,
        old_launch_on_both_nodes,
        second_node_cannot_send,
        second_node_never_sends,
        second_node_cannot_fetch,
        two_ranks_of_one_node,
    )
}


def play_all(base: Path) -> dict[str, list[Any]]:
    return {name: scene(base / name) for name, scene in SCENES.items()}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Any]]]:
    """What both ranks saw."""
    base = tmp_path_factory.mktemp("scenes")
    return run_ranks(partial(play_all, base), 2, base)


def test_two_nodes_that_share_nothing_but_the_store_take_up_what_they_saved(scenes: list[Any]) -> None:
    for seen in scenes:
        assert seen["killed_and_restored"] == ["task-0001", "task-0002", "task-0002-step-000003"]


def test_two_nodes_go_back_past_a_damaged_file_together(scenes: list[Any]) -> None:
    assert [seen["damaged_and_restored"] for seen in scenes] == [[1], [1]]


def test_an_old_launch_of_two_nodes_lets_nothing_appear(scenes: list[Any]) -> None:
    assert [seen["old_launch_on_both_nodes"] for seen in scenes] == [[1, ["task-0001"], ["task-0001", "task-0002"]]] * 2


def test_a_node_that_cannot_send_is_told_to_all(scenes: list[Any]) -> None:
    assert [seen["second_node_cannot_send"] for seen in scenes] == [["task-0001"]] * 2


def test_a_node_that_never_sends_is_given_up(scenes: list[Any]) -> None:
    assert [seen["second_node_never_sends"] for seen in scenes] == [[]] * 2


def test_a_node_that_cannot_fetch_stops_all(scenes: list[Any]) -> None:
    assert [seen["second_node_cannot_fetch"] for seen in scenes] == [[]] * 2


def test_ranks_of_one_node_fetch_once(scenes: list[Any]) -> None:
    assert [seen["two_ranks_of_one_node"] for seen in scenes] == [[1], [0]]
