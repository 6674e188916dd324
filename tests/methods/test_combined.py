"""Several methods as one: what adds up, what is kept apart, what is refused."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from seekr_tune.config.section import Section
from seekr_tune.errors import CheckpointError, ConfigError
from seekr_tune.methods.combined import Combined
from seekr_tune.methods.protocol import Method, MethodState, Setting, StepView, Update


class Pull(Method):
    """Has a term in replay steps, a penalty, and a state of all three kinds."""

    def __init__(self, term: str, factor: float) -> None:
        super().__init__(Section(), cast(Setting, None))
        self.term, self.factor = term, factor
        self.known = MethodState()

    def weights(self, kind: str) -> dict[str, float]:
        return {"cross_entropy": self.factor, self.term: 2.0} if kind == "replay" else {}

    def terms(self, step: StepView, logits: Tensor) -> dict[str, Tensor]:
        return {self.term: logits.sum()}

    def penalties(self, weights: Any) -> dict[str, tuple[Tensor, float]]:
        return {f"{self.term} of weights": (weights["w"].sum(), self.factor)}

    def state(self) -> MethodState:
        return MethodState({"old": {"w": torch.ones(2)}}, {"total": torch.zeros(1)}, {"seen": self.term})

    def restore(self, state: MethodState) -> None:
        self.known = state


class Turn(Method):
    """Changes gradients."""

    def before_update(self, update: Update) -> None:
        update.gradients["w"].neg_()


class Keep(Method):
    """Keeps signals beside samples."""

    @property
    def keeps_signals(self) -> bool:
        return True


def made(cls: type[Method]) -> Method:
    return cls(Section(), cast(Setting, None))


def test_terms_and_penalties_add_up_and_factors_of_cross_entropy_are_multiplied() -> None:
    both = Combined({"a": Pull("near", 0.5), "b": Pull("far", 0.25)})
    assert both.weights("new") == {"cross_entropy": 1.0}
    assert both.weights("replay") == {"cross_entropy": 0.125, "near": 2.0, "far": 2.0}
    assert set(both.terms(cast(StepView, None), torch.ones(2))) == {"near", "far"}
    found = both.penalties({"w": torch.ones(3)})
    assert {name: (float(value), factor) for name, (value, factor) in found.items()} == {
        "near of weights": (3.0, 0.5),
        "far of weights": (3.0, 0.25),
    }


def test_each_method_gets_its_own_state_back() -> None:
    one, other = Pull("near", 0.5), Pull("far", 0.25)
    state = Combined({"a": one, "a2": other}).state()
    assert set(state.weights) == {"a/old", "a2/old"} and set(state.tensors) == {"a/total", "a2/total"}
    again = Combined({"a": Pull("near", 0.5), "a2": other})
    again.restore(state)
    assert other.known.facts == {"seen": "far"}
    assert set(other.known.weights) == {"old"} and set(other.known.tensors) == {"total"}


@pytest.mark.parametrize(("cls", "what"), [(Turn, "changes gradients"), (Keep, "keeps signals beside samples")])
def test_two_methods_that_want_the_same_for_themselves_are_refused(cls: type[Method], what: str) -> None:
    Combined({"a": made(cls), "b": made(Method)})
    with pytest.raises(ConfigError, match=rf"method.name: a and b cannot work together: each {what}; drop one"):
        Combined({"a": made(cls), "b": made(cls)})


def test_two_terms_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two of the methods have a loss term named 'near'"):
        Combined({"a": Pull("near", 1.0), "b": Pull("near", 1.0)}).weights("replay")


def test_a_term_without_a_weight_is_refused_by_its_name_and_its_method() -> None:
    both = Combined({"a": Pull("near", 1.0), "b": made(Method)})
    both.weights("new")
    with pytest.raises(ConfigError, match=r"method a: terms\(\) returned 'near', but its weights\(\) has no such name"):
        both.terms(cast(StepView, None), torch.ones(2))


def test_cross_entropy_is_the_loop_s_own() -> None:
    one = Combined({"a": Pull("cross_entropy", 1.0)})
    one.weights("replay")
    with pytest.raises(ConfigError, match="method a: terms.. returned 'cross_entropy', but the loop computes that one"):
        one.terms(cast(StepView, None), torch.ones(2))


def test_a_penalty_that_has_the_name_of_a_term_is_refused() -> None:
    one = Combined({"a": Pull("near", 1.0), "b": Pull("near of weights", 1.0)})
    one.weights("replay")
    with pytest.raises(ConfigError, match="method a: penalties.. returned 'near of weights', which is a loss term al"):
        one.penalties({"w": torch.ones(3)})


@pytest.mark.parametrize(("value", "said"), [(torch.ones(2), r"of shape \(2,\)"), (1.0, "float")])
def test_a_term_that_is_no_number_with_a_graph_is_refused(value: Any, said: str) -> None:
    pull = Pull("near", 1.0)
    pull.terms = lambda step, logits: {"near": value}  # type: ignore[method-assign]
    one = Combined({"a": pull})
    one.weights("replay")
    with pytest.raises(ConfigError, match=f"method a: 'near' must be a tensor with one number, not {said}"):
        one.terms(cast(StepView, None), torch.ones(2))


def test_bytes_of_a_state_count_parts_of_all_ranks_and_what_all_of_them_know_once() -> None:
    state = MethodState({"old": {"w": torch.ones(2)}}, {"total": torch.zeros(3)})
    assert state.num_bytes() == 4 * (2 + 3)
    assert state.num_bytes(lambda own: 4 * own) == 4 * (4 * 2 + 3)


def test_a_state_that_a_method_cannot_take_up_is_called_that() -> None:
    class Forgets(Method):
        def restore(self, state: MethodState) -> None:
            raise KeyError("totals")

    with pytest.raises(CheckpointError, match="what method a has saved cannot be taken up again .KeyError: 'totals'"):
        Combined({"a": made(Forgets)}).restore(MethodState())
