"""Experience replay: stored samples are learned again."""

from __future__ import annotations

from typing import ClassVar

from seekr_tune.methods.protocol import Method, Needs


class Replay(Method):
    """Cross-entropy on the samples of the memory, in steps of their own."""

    needs: ClassVar[Needs] = Needs(memory=True)
