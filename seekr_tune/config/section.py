"""What all sections of the experiment file share: their base, and the types of their values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_MOST = 10**9  # more of anything is a slip, and numbers beyond those of the machine end no library in good order
Count = Annotated[int, Field(strict=True, ge=1, le=_MOST)]
Positive = Annotated[int, Field(gt=0, le=_MOST)]
Natural = Annotated[int, Field(ge=0, le=_MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every generator of random numbers takes
Fraction = Annotated[float, Field(strict=True, gt=0.0, le=1.0)]
Split = Literal["train", "eval", "test"]
MethodName = Literal["seqft", "replay", "derpp", "seekr", "joint"]
PluginName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
SemanticsName = Literal["corrected", "official"]
SelectionName = Literal["importance", "sensitivity", "forgettability", "random", "all"]
SignalForm = Literal["exact", "half", "compact"]
MetricName = Literal[
    "exact_match", "first_character", "first_word", "rouge_l", "rouge_l_unicode", "edit_similarity", "sari"
]
Direction = Literal["maximize", "minimize"]


class Section(BaseModel):
    """A part of the experiment file: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
