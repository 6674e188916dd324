"""Whether a metric can read the script of a task's answers."""

from __future__ import annotations

from seekr_tune.stream.rouge import share_without_blanks
from seekr_tune.stream.task import Task

_READ_ROWS = 200
_MOSTLY = 0.5
_INSTEAD: dict[str, str] = {
    "first_word": "first_character",
    "rouge_l": "rouge_l_unicode",
    "sari": "rouge_l_unicode",
}
"""Metrics of words between blanks, and what to take where a script writes none."""


def unread_script(task: Task) -> str | None:
    """Why the metric of a task takes a whole answer for one word, and which metric does not; None where it can read it.

    Looks at the first train answers: letters of Chinese, Japanese, Thai, Lao, Khmer, Burmese and their like.
    """
    instead = _INSTEAD.get(task.scorer.name)
    if instead is None or share_without_blanks([row.answer for row in task.train[:_READ_ROWS]]) <= _MOSTLY:
        return None
    return (
        f"{task.name}: its answers are in a script without blanks between words, so {task.scorer.name} takes a whole "
        f"answer for one word; set stream.metrics.{task.name}={instead}"
    )
