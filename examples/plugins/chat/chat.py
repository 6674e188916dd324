"""Conversations of all tasks and splits in one file: a line is `{"task": .., "split": .., "messages": [..]}`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any


class Chat:
    """The last message of a conversation is learned, those before it are its prompt, each behind its role."""

    def __init__(self, root: Path, seed: int) -> None:
        self._file = root / "chats.jsonl"

    def splits(self, task: str) -> Set[str]:
        return {chat["split"] for chat in self._chats() if chat["task"] == task}

    def rows(self, task: str, split: str) -> Iterator[dict[str, str]]:
        for chat in self._chats():
            if (chat["task"], chat["split"]) == (task, split):
                *before, last = chat["messages"]
                turns = [f"{message['role']}: {message['content']}\n" for message in before]
                yield {"prompt": "".join(turns) + "assistant:", "answer": f" {last['content']}"}

    def _chats(self) -> Iterator[dict[str, Any]]:
        with self._file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
