"""A run, and a study, goes on with the special tokens that it began with: its models and scores know no others."""

from __future__ import annotations

from seekr_tune.data.collate import Encoder
from seekr_tune.data.special_tokens import SpecialTokens
from seekr_tune.data.task import TaskStream
from seekr_tune.errors import StudyError


def require_same_tokens(begun: SpecialTokens | None, encoder: Encoder, stream: TaskStream, place: object) -> None:
    """Refuse to go on where prompts would begin, or answers end, with other tokens than before.

    Args:
        begun: with what it began; None: with what earlier versions had, which did not say so.
        encoder: as it would go on.
        stream: its tasks.
        place: its directory, for the message.

    Raises:
        StudyError: naming both.
    """
    now = encoder.special_tokens
    if begun is None:
        begun = encoder.earlier_special_tokens([example.prompt for task in stream for example in task.train])
    if begun != now:
        raise StudyError(
            f"{place}: began with special tokens {_shown(begun)}, but would go on with {_shown(now)}; go on with the "
            "version of seekr_tune and the tokenizer that it began with, or begin anew in another directory"
        )


def _shown(tokens: SpecialTokens) -> str:
    return f"{list(tokens.prefix)} before prompts and {list(tokens.ends)} behind answers"
