"""What all sections of the experiment file share: their base, and the types of their values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

_MOST = 10**9  # more of anything is a slip, and numbers beyond those of the machine end no library in good order
Count = Annotated[int, Field(strict=True, ge=1, le=_MOST)]
Positive = Annotated[int, Field(gt=0, le=_MOST)]
Natural = Annotated[int, Field(ge=0, le=_MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every generator of random numbers takes
Fraction = Annotated[float, Field(strict=True, gt=0.0, le=1.0)]
Split = Literal["train", "eval", "test"]
MethodName = Literal["seqft", "replay", "derpp", "seekr", "joint"]
BUILT_IN: tuple[str, ...] = get_args(MethodName)
PluginName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
SemanticsName = Literal["corrected", "official"]
SelectionName = Literal["importance", "sensitivity", "forgettability", "random", "all"]
SignalForm = Literal["exact", "half", "compact"]
MetricName = Literal[
    "exact_match",
    "first_character",
    "first_word",
    "rouge_l",
    "rouge_l_unicode",
    "edit_similarity",
    "sari",
    "official_accuracy",
    "official_choice",
    "official_rouge_l",
    "official_similarity",
    "official_sari",
]
OptionValue = bool | int | float | str | None
FormatName = Literal["builtin", "trace_json", "datasets", "jsonl", "parquet"]
Direction = Literal["maximize", "minimize"]


class Section(BaseModel):
    """A part of the experiment file: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Fact:
    """What the rest of the package must know of a setting, said at its field (`config.facts` has it by path).

    Attributes:
        read_by: methods for which its value matters; None: all. What a section says holds for what is in it.
        searchable: whether trials of one study may differ in it; likewise.
        learned: whether what a run learns and scores may depend on it; likewise.
        resumable: whether it may change between two launches of a study; likewise.
        resolved: trials are told apart by the number of heads, layers or samples that it comes to, not by its value.
        unless: field and value with which it does not matter.
        in_place_of: field of the same section that it takes the place of.
        formerly: its path in earlier versions, which is understood still.
    """

    read_by: tuple[str, ...] | None = None
    searchable: bool | None = None
    learned: bool | None = None
    resumable: bool | None = None
    resolved: bool = False
    unless: tuple[str, Any] | None = None
    in_place_of: str | None = None
    formerly: str | None = None

    def within(self, section: Fact) -> Fact:
        """The same, with what the section says where this says nothing."""
        inherited = {
            name: getattr(section, name)
            for name in ("read_by", "searchable", "learned", "resumable")
            if getattr(self, name) is None
        }
        return replace(self, **inherited)


NO_FACT = Fact()
