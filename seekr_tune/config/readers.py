"""Which methods read which settings: where a method does not read one, its value means nothing."""

from __future__ import annotations

READERS: dict[str, tuple[str, ...]] = {
    "method.replay_percent": ("replay", "derpp", "seekr"),
    "method.replay_cycle": ("replay", "derpp", "seekr"),
    "method.logit_weight": ("derpp", "seekr"),
    "method.attention_weight": ("seekr",),
    "method.attention_share": ("seekr",),
    "method.head_budget": ("seekr",),
    "method.layer_ratio": ("seekr",),
    "method.query_budget": ("seekr",),
    "method.selection": ("seekr",),
    "recipe.replay_batch_size": ("replay", "derpp", "seekr"),
}
"""Methods that read a field; the others are equal whatever it says."""

ALTERNATIVES = {
    "method.attention_weight": "method.attention_share",
    "method.attention_share": "method.attention_weight",
}
"""Fields of which one stands for the other: whoever sets one over an experiment unsets the other."""


BUILT_IN = ("seqft", "replay", "derpp", "seekr", "joint")


def is_read(path: str, method: str) -> bool:
    """Whether a method reads a field.

    Args:
        path: of the field.
        method: its name; of several, their names with `+` between them.
    """
    return any(_reads(path, name) for name in method.split("+"))


def _reads(path: str, name: str) -> bool:
    section, _, rest = path.partition(".")
    owner = rest.partition(".")[0] if section == "method" and "." in rest else None
    if owner is not None:
        return owner == name
    return name in READERS.get(path, (name,))
