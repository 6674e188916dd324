"""Plain sequential fine-tuning: one task after the other, and nothing against forgetting."""

from __future__ import annotations

from seekr_tune.methods.protocol import Method


class SeqFT(Method):
    """The lower reference: whatever is kept above it, a method has kept."""
