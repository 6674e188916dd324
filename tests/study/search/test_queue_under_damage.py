"""A study of replicates, races and stopped trials, killed and damaged anywhere, ends like an undisturbed one."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.experiment import dump_config, with_values
from seekr_tune.study.directory.layout import experiment_path, journal_path, result_path
from seekr_tune.study.life.status import study_status
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.journal import open_study
from seekr_tune.study.search.queue import revive
from seekr_tune.study.search.space import Space
from seekr_tune.study.search.warm_start import enqueue, warm_start
from tests.study.searching import drain, is_complete, open_queue, outcomes, pretend, trials_of


@pytest.fixture
def racing(config: Config) -> Config:
    """Eight configurations of up to two seeds; a race and pruning with few to compare with."""
    values = {
        "study.trials": 8,
        "seed": 3,
        "study.bounds": ["seqft"],
        "study.replicates.seeds": [0, 1],
        "study.racing.startup_trials": 2,
        "study.pruning": {"rule": "median", "startup_trials": 3},
        "evaluation.matrix": "full",
    }
    return with_values(config, values)


class Killed(BaseException):
    """The driver is gone."""


def test_replicates_come_depth_first_and_the_told_value_is_their_mean(
    racing: Config, space: Space, tmp_path: Path
) -> None:
    requests = drain(tmp_path, racing, space, judged=True)
    assert [request.key for request in requests[:4]] == ["bound-seqft", "bound-seqft-r1", "trial-0000", "trial-0000-r1"]
    trials = trials_of(tmp_path, racing, space)
    states = [trial.state.name for trial in trials]
    assert "PRUNED" in states and "COMPLETE" in states
    first = trials[0]
    runs = [request for request in requests if request.number == 0]
    finals = [pretend(tmp_path / "copy", racing, run, _score).scores[-1].score for run in runs]
    assert first.value == pytest.approx(sum(finals) / 2)
    begun = {trial.number: [run for run in requests if run.number == trial.number] for trial in trials}
    for trial in trials:
        last = trial.user_attrs["intermediate"][-1][:2]
        assert last == [1, 3] if is_complete(trial) else last[0] == len(begun[trial.number]) - 1


def _score(request: TrialRequest, done: int) -> float:
    from tests.study.searching import by_params

    return by_params(request, done)


def test_a_study_that_is_killed_at_any_write_ends_the_same(
    racing: Config, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain(tmp_path / "whole", racing, space, judged=True)
    expected = outcomes(tmp_path / "whole", racing, space)
    append = JournalFileBackend.append_logs
    left = 0

    def append_and_die(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        nonlocal left
        append(self, logs)
        left -= 1
        if left == 0:
            raise Killed

    lines = len(journal_path(tmp_path / "whole").read_bytes().splitlines())
    monkeypatch.setattr(JournalFileBackend, "append_logs", append_and_die)
    directory = tmp_path / "killed"
    kills = 0
    for gap in range(4, lines, 4):  # each launch dies a little later than the one before
        left = gap
        try:
            drain(directory, racing, space, judged=True)
            break
        except Killed:
            kills += 1
    left = 0
    assert kills > 5
    drain(directory, racing, space, judged=True)
    assert outcomes(directory, racing, space) == expected


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty", "missing", "middle"])
def test_a_damaged_journal_is_built_anew_and_said(
    damage: str, racing: Config, space: Space, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drain(tmp_path / "whole", racing, space, judged=True)
    directory = tmp_path / "damaged"
    drain(directory, with_values(racing, {"study.trials": 5}), space, judged=True)
    path = journal_path(directory)
    content = path.read_bytes()
    damaged = {
        "truncate": content[: len(content) // 2],
        "garbage": b"\x00\xffgarbage" * 16,
        "empty": b"",
        "missing": b"",
        "middle": content.replace(b"op_code", b"op\x00code", 40),
    }[damage]
    path.write_bytes(damaged)
    if damage == "missing":
        path.unlink()
    with caplog.at_level(logging.WARNING):
        drain(directory, racing, space, judged=True)
    assert "built anew from the records of 5 trials" in caplog.text
    whole, rebuilt = (outcomes(tmp_path / name, racing, space) for name in ("whole", "damaged"))
    assert [one[:4] for one in rebuilt] == [one[:4] for one in whole]


def test_a_damaged_record_is_set_aside_and_its_run_done_again(
    config: Config, space: Space, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue = open_queue(tmp_path, config, space)
    request = queue.next()
    assert request is not None
    pretend(tmp_path, config, request, _score)
    result_path(tmp_path, request.key).write_bytes(b"\x00garbage")
    with caplog.at_level(logging.WARNING):
        assert open_queue(tmp_path, config, space).next() == request
    assert "result.damaged-1" in caplog.text
    assert (tmp_path / "trials" / request.key / "result.damaged-1").read_bytes() == b"\x00garbage"


def test_a_revived_trial_ends_as_a_trial_of_its_own_and_does_not_count(
    racing: Config, space: Space, tmp_path: Path
) -> None:
    drain(tmp_path, racing, space, judged=True)
    experiment_path(tmp_path).write_text(dump_config(racing))
    before = trials_of(tmp_path, racing, space)
    stopped = next(trial for trial in before if trial.state.name == "PRUNED")
    finished = next(trial for trial in before if is_complete(trial))
    key = stopped.user_attrs["trial"]
    revive(tmp_path, key)
    again = drain(tmp_path, racing, space, judged=True)
    assert {request.configuration for request in again} == {key}
    trials = trials_of(tmp_path, racing, space)
    assert len(trials) == len(before) + 1 and trials[-1].params == stopped.params
    assert trials[-1].user_attrs == {"trial": key, "revives": stopped.number} and is_complete(trials[-1])
    assert trials[stopped.number].state.name == "PRUNED"
    assert drain(tmp_path, racing, space) == []
    assert len(trials_of(tmp_path, racing, space)) == len(trials)
    with pytest.raises(StudyError, match="only a trial that was stopped can be revived"):
        revive(tmp_path, finished.user_attrs["trial"])
    with pytest.raises(StudyError, match="has no trial 'trial-0099'"):
        revive(tmp_path, "trial-0099")


def test_enqueued_configurations_come_first_once_and_what_they_leave_out_is_proposed(
    config: Config, space: Space, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("- {method.memory.percent: 7}\n- {method.memory.percent: 7, method.seekr.attention_weight: 3}\n")
    directory = tmp_path / "study"
    for _ in range(2):
        enqueue(open_study(directory, config, space), space, config, file)
    requests = drain(directory, config, space)
    assert [request.values["method.memory.percent"] for request in requests[:2]] == [7.0, 7.0]
    assert requests[1].values["method.seekr.attention_weight"] == 3.0
    assert requests[2].values == space.published()
    assert len(requests) == config.study.trials


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {method.replay_precent: 7}", "did you mean 'method.memory.percent'"),
        ("- {method.memory.percent: 700}", "configuration 1: method.memory.percent=700 is outside the range"),
        ("- {method.memory.percent: true}", "method.memory.percent=True is no finite number"),
        ("method.memory.percent: 7", "must hold a list"),
        ("- [", "not valid YAML"),
    ],
)
def test_a_wrong_enqueue_file_is_refused(text: str, message: str, config: Config, space: Space, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        enqueue(open_study(tmp_path / "study", config, space), space, config, file)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_warm_start_tells_the_sampler_and_does_not_count(
    config: Config, space: Space, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier, directory = tmp_path / "earlier", tmp_path / "study"
    drain(earlier, config, space)
    experiment_path(earlier).write_text(dump_config(config))
    warm_start(open_study(directory, config, space), space, config, [earlier])
    requests = drain(directory, config, space)
    trials = trials_of(directory, config, space)
    assert trials[6].user_attrs["same_as"] == f"{earlier}/trial-0000"  # the published settings are known already
    assert [request.number for request in requests] == list(range(7, 12))
    experiment_path(directory).write_text(dump_config(config))
    assert study_status(directory).twins == {"trial-0006": f"{earlier}/trial-0000"}
    assert [trial.values for trial in trials[:6]] == [trial.values for trial in trials_of(earlier, config, space)]
    params = [json.dumps(trial.params) for trial in trials]
    assert len(set(params[6:])) == 6

    journal_path(directory).write_bytes(b"garbage\n")
    assert drain(directory, config, space) == []
    assert [trial.values for trial in trials_of(directory, config, space)] == [trial.values for trial in trials]

    differs = with_values(config, {"recipe.learning_rate": 1e-3})
    with pytest.raises(StudyError, match=r"differs from this study in recipe\.learning_rate"):
        warm_start(open_study(tmp_path / "third", differs, space), space, differs, [earlier])
