"""Joint training: all tasks at once."""

from __future__ import annotations

from typing import ClassVar

from seekr_tune.methods.protocol import Method, Needs


class Joint(Method):
    """The upper reference: what the model learns where nothing has to be remembered."""

    needs: ClassVar[Needs] = Needs(all_at_once=True)
