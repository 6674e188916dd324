"""What keeps the old tasks alive: the methods, their options, and the replay memory that they share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, NonNegativeFloat, model_validator

from seekr_tune.config.section import (
    Count,
    Fact,
    Fraction,
    MethodName,
    PluginName,
    Section,
    SelectionName,
    SemanticsName,
    SignalForm,
)

WITH_MEMORY = ("replay", "derpp", "seekr")
"""Methods of the package that replay."""
_MEMORY = Fact(read_by=WITH_MEMORY)
_OF_BUDGET = Fact(formerly="method.head_budget", unless=("method.seekr.selection", "all"), resolved=True)
_OF_RATIO = Fact(formerly="method.layer_ratio", unless=("method.seekr.selection", "all"), resolved=True)
_OF_WEIGHT = Fact(formerly="method.attention_weight", in_place_of="attention_share")
_OF_SHARE = Fact(formerly="method.attention_share", in_place_of="attention_weight")
_Share = Annotated[float, Field(gt=0.0, lt=1.0)]
_Logits = Annotated[float, Field(ge=0.0, le=1.0), Fact(formerly="method.logit_weight")]
_Form = Annotated[SignalForm | None, Fact(formerly="method.signals")]


class MemoryConfig(Section):
    """The samples of earlier tasks that are kept, and how they are learned again; of every method that replays."""

    percent: Annotated[float, Field(ge=0.0, le=100.0), Fact(formerly="method.replay_percent", resolved=True)] = 1.0
    """Share of each task's train split that is kept, in percent."""
    choice: Literal["random", "first"] | None = None
    """Which samples are kept: drawn at random, or the first ones; null: as the semantics say (`corrected` draws,
    `official` takes the first and knows no other)."""
    cycle: Annotated[Count | None, Fact(formerly="method.replay_cycle")] = None
    """`official` only: one replay step every so many new steps; null: new batches / replay batches, rounded down."""


class DerppOptions(Section):
    """DER++: the model's own logits on stored samples are distilled besides."""

    logit_weight: _Logits = 0.5
    """Weight of logit distillation; cross-entropy on replayed samples weighs 1 minus this (paper: 1 - lambda1)."""
    signals: _Form = None
    """How teacher signals are kept: `exact` as computed, `half` in 16 bits, `compact` as the largest entries of a row
    and their mass (docs/scaling.md); null: `half` where the model computes in bfloat16, else `exact`."""

    def form(self, computed_dtype: Literal["float32", "bfloat16"]) -> SignalForm:
        """How teacher signals are kept; where nothing is said, no finer than the model computes them."""
        return self.signals or ("half" if computed_dtype == "bfloat16" else "exact")


class SeekrOptions(DerppOptions):
    """SEEKR: DER++, and the attention of the heads that matter."""

    head_budget: Annotated[Count | Fraction, _OF_BUDGET] = 0.125
    """Heads distilled, in total: a count (integer) or a fraction (0.125) of all heads."""
    layer_ratio: Annotated[float, Field(gt=0.0, le=1.0), _OF_RATIO] = 0.75
    """Share of the layers that may hold selected heads."""
    query_budget: Annotated[Count | None, Fact(formerly="method.query_budget")] = 100
    """Query rows distilled per sample; null takes all."""
    selection: Annotated[SelectionName, Fact(formerly="method.selection")] = "importance"
    """What ranks the heads; `all` ignores the budgets."""
    attention_weight: Annotated[NonNegativeFloat | None, _OF_WEIGHT] = 1000.0
    """Weight of attention distillation (paper: lambda2); null: `attention_share` finds it. What a weight amounts to
    depends on the model: a run says which share of the replay gradient each term has (docs/method.md)."""
    attention_share: Annotated[_Share | None, _OF_SHARE] = None
    """Share of the replay gradient that attention distillation is to have, in place of a fixed weight: the weight is
    found again at replay steps 1, 2, 4, 8, ... of a task, and holds between them (docs/method.md). Null: the weight."""

    @property
    def distils_attention(self) -> bool:
        """Whether attention is distilled, by whichever of the two settings."""
        return self.attention_share is not None or (self.attention_weight or 0.0) > 0

    @model_validator(mode="before")
    @classmethod
    def _a_share_stands_for_the_weight(cls, values: Any) -> Any:
        """Where a share alone is given, the weight's default does not hold."""
        if isinstance(values, dict) and values.get("attention_share") is not None:
            return {"attention_weight": None, **values}
        return values

    @model_validator(mode="after")
    def _one_setting_of_attention(self) -> Self:
        if self.attention_weight is not None and self.attention_share is not None:
            raise ValueError("attention_weight and attention_share exclude each other; drop one of them")
        if self.attention_weight is None and self.attention_share is None:
            raise ValueError("attention_weight is null, and there is no attention_share either; give one of them")
        return self


class MethodConfig(Section):
    """What keeps the old tasks alive."""

    model_config = ConfigDict(extra="allow")  # `method.<name>.<field>`: options of a method of the user's own

    name: MethodName | PluginName | Annotated[tuple[MethodName | PluginName, ...], Field(min_length=1)] = "seekr"
    """`seqft` no replay, `replay` samples only, `derpp` also logits, `seekr` also attention, `joint` all at once; a
    method of your own (`./mine.py:Mine`, docs/how-to/own-method.md); or a list of methods, whose terms add up."""
    semantics: SemanticsName = "corrected"
    """`official` reproduces the authors' release number for number; `corrected` mends its quirks (docs/method.md)."""
    memory: Annotated[MemoryConfig, _MEMORY] = MemoryConfig()
    derpp: Annotated[DerppOptions, Fact(read_by=("derpp",))] = DerppOptions()
    seekr: Annotated[SeekrOptions, Fact(read_by=("seekr",))] = SeekrOptions()

    @property
    def names(self) -> tuple[str, ...]:
        """The methods, one or several."""
        return (self.name,) if isinstance(self.name, str) else self.name

    @property
    def label(self) -> str:
        """What the results call it: `seekr`, `seekr+ewc`."""
        return "+".join(self.names)

    @property
    def learns_at_once(self) -> bool:
        """Whether all tasks are learned in one stage."""
        return self.names == ("joint",)

    def options_of(self, name: str) -> dict[str, Any]:
        """What stands at `method.<name>`."""
        held = getattr(self, name, {})
        return held.model_dump() if isinstance(held, Section) else dict(held)

    @model_validator(mode="after")
    def _official_takes_the_first(self) -> Self:
        if self.memory.choice == "random" and self.semantics == "official":
            raise ValueError("memory.choice 'random' is not known to semantics official; drop it, or choose corrected")
        return self

    @model_validator(mode="after")
    def _cycle_needs_official_schedule(self) -> Self:
        if self.memory.cycle is not None and self.semantics != "official":
            raise ValueError(
                "memory.cycle is read by the official schedule only; drop it, or set method.semantics to official"
            )
        return self
