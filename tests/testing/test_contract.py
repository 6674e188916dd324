"""The contract of methods: those of the package keep it, and a method that breaks a part of it is told which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.testing import check_method, contract_tests
from seekr_tune.testing.contract import Contract

EWC = Path(__file__).parents[2] / "examples" / "plugins" / "ewc"

test_seqft = pytest.mark.slow(contract_tests("seqft"))
test_joint = pytest.mark.slow(contract_tests("joint"))
test_replay = pytest.mark.slow(contract_tests("replay", refused=[{"replay_percent": -1}]))
test_derpp = pytest.mark.slow(
    contract_tests("derpp", neutral={"logit_weight": 0.0}, equals="replay", refused=[{"logit_weight": 2}])
)
test_seekr = contract_tests(
    "seekr",
    neutral={"logit_weight": 0.0, "attention_weight": 0.0},
    equals="replay",
    refused=[{"attention_weight": -1}, {"selection": "best"}],
)
test_ewc = contract_tests(
    "./ewc.py:EWC",
    {"strength": 1000.0},
    beside=EWC,
    neutral={"strength": 0.0},
    refused=[{"strength": -1}, {"samples": 0}],
)

HEAD = """
import torch
from seekr_tune.methods import Method, MethodState, Needs, Section

class Options(Section):
    strength: float = 1000.0

class Own(Method):
    Options = Options
"""
SOUND = """
    needs = Needs(weight_copies=1)
    mends = {"far": "lower method.own.strength"}
    old = {}

    def after_task(self, task):
        self.old = {name: weight.clone() for name, weight in task.weights().items()}
        return task.stored

    def penalties(self, weights):
        moved = [(weight - self.old[name]).square().sum() for name, weight in weights.items() if name in self.old]
        return {"far": (torch.stack(moved).sum(), self.options.strength)} if moved else {}

    def state(self):
        return MethodState({"old": self.old} if self.old else {})

    def restore(self, state):
        self.old = dict(state.weights.get("old", {}))
"""
QUICK = ("names its terms", "goes on where it was killed", "says what it keeps", "refuses what it cannot serve")


def failures(tmp_path: Path, body: str, checks: tuple[str, ...] = QUICK, **given: Any) -> list[str]:
    """What the checks say of a method whose class has this body."""
    (tmp_path / "own.py").write_text(HEAD + body)
    values: Mapping[str, Any] = {"options": {}, "neutral": None, "equals": "seqft", "refused": (), **given}
    contract = Contract("./own.py:Own", beside=tmp_path, **values)
    return [line for check in checks for line in contract.failures(check)]


def test_a_sound_method_passes(tmp_path: Path) -> None:
    assert failures(tmp_path, SOUND, (*QUICK, "does nothing where it is off"), neutral={"strength": 0.0}) == []


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ('{"old": self.old} if self.old else {}', "{}", "goes on where it was killed: killed before step 0"),
        (
            'dict(state.weights.get("old", {}))',
            '{n: w + 1e-3 for n, w in state.weights.get("old", {}).items()}',
            "goes on where it was killed: killed before step 0 (new) of task 2 and resumed, loss is",
        ),
        ("weight_copies=1", "weight_copies=0", "says what it keeps: state() holds the weights 1 times over"),
        (
            '{"old": self.old}',
            '{"old": dict([*self.old.items()][:3])}',
            "says what it keeps: is not one tensor for each",
        ),
        ('mends = {"far"', 'mends = {"near"', "names its terms: `mends` does not say what to do where 'far' is no"),
        ('mends = {"far"', 'mends = {"near": "", "far"', "names its terms: `mends` names 'near', which no step has"),
        ("self.options.strength)", "0.0)", "does nothing where it is off: the same weights: give options that"),
    ],
)
def test_what_is_not_as_it_must_be_is_said(tmp_path: Path, good: str, bad: str, said: str) -> None:
    assert good in SOUND
    check, _, line = said.partition(": ")
    given = {"neutral": {"strength": 0.0}, "options": {"strength": 10.0}}
    found = failures(tmp_path, SOUND.replace(good, bad), (check,), **given)
    assert any(one.startswith(f"own: {check}: ") and line in one for one in found), found


def test_a_method_that_is_not_off_where_it_says_so(tmp_path: Path) -> None:
    (line,) = failures(tmp_path, SOUND, ("does nothing where it is off",), neutral={"strength": 1.0})[:1]
    assert line.startswith("own: does nothing where it is off: with {'strength': 1.0}, step 1 (new) of task 2 is not")


def test_what_a_step_changes_in_a_method_is_lost_when_it_is_killed(tmp_path: Path) -> None:
    body = """
    steps = 0

    def before_update(self, update):
        self.steps += 1
        for gradient in update.gradients.values():
            gradient.mul_(self.steps)
"""
    (line, *_) = failures(tmp_path, body, ("goes on where it was killed",))
    assert "killed before step 1 (new) of task 1 and resumed" in line


def test_options_that_should_be_refused_and_are_not(tmp_path: Path) -> None:
    found = failures(tmp_path, SOUND, ("refuses what it cannot serve",), refused=[{"strength": -1.0}])
    assert found == ["own: refuses what it cannot serve: {'strength': -1.0} is not refused"]


def test_numbers_that_depend_on_the_number_of_workers_are_found(tmp_path: Path) -> None:
    body = """
    mends = {"more": "drop it"}
    unsupported = {"lora": "two strategies are enough"}

    def penalties(self, weights):
        workers = self.setting.workers
        return {"more": (sum(weight.sum() for weight in weights.values()), 1.0 + workers.world_size)}
"""
    contract_checks = ("same numbers with ddp", "same numbers with fsdp", "goes on with other workers")
    lines = failures(tmp_path, body, contract_checks)
    assert [line.split(": ")[1] for line in lines if "weight of more" in line or "loss" in line] == [*contract_checks]


def test_what_a_method_does_not_serve_is_refused_with_its_reason_and_not_run(tmp_path: Path) -> None:
    body = '    unsupported = {"ddp": "it counts steps", "fsdp": "it wants whole weights", "lora": "it turns heads"}\n'
    (tmp_path / "own.py").write_text(HEAD + body)
    check_method("./own.py:Own", beside=tmp_path)


def test_a_way_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    (line, *_) = failures(tmp_path, '    unsupported = {"tpu": "never tried"}\n', ("names its terms",))
    assert line.endswith("method own: its `unsupported` names 'tpu', which is none of ddp, fsdp, lora")


def test_all_failures_are_raised_at_once(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("no python at all")
    with pytest.raises(AssertionError, match="(?s)names its terms.*goes on where it was killed.*cannot be imported"):
        check_method("./own.py:Own", beside=tmp_path)
