"""SEEKR itself, and the seam that methods stand behind: tensors in, tensors out.

What a method of your own is made of is imported from here; names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seekr_tune.config.section import Section
    from seekr_tune.methods.memory import ReplaySample
    from seekr_tune.methods.protocol import (
        Method,
        MethodState,
        Needs,
        Setting,
        StepView,
        TaskView,
        Update,
    )

__all__ = ["Method", "MethodState", "Needs", "ReplaySample", "Section", "Setting", "StepView", "TaskView", "Update"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("seekr_tune.methods.protocol"), name)


def __dir__() -> list[str]:
    return list(__all__)
