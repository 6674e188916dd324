"""A data format of one's own: the example, what is asked of it and when, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.cli import main
from seekr_tune.config import Config
from seekr_tune.data.sources import has_split, load_stream
from seekr_tune.errors import UserError
from seekr_tune.experiment import load_experiment
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.study.runs.cache_keys import shared_directories

FOLDER = Path(__file__).parents[2] / "examples" / "plugins" / "chat"
NOTED = """
from pathlib import Path

class Mine:
    def __init__(self, root, seed):
        self.notes = Path(root) / "notes"

    def splits(self, task):
        return {"star": ["train", "eval", "test"], "last": ["train", "eval"]}.get(task, [])

    def rows(self, task, split):
        for number in range(10):
            with self.notes.open("a") as file:
                file.write(f"{task} {split} {number}\\n")
            yield {"prompt": f"{task} {split} {number}", "answer": "a word"}
"""


def chats(folder: Path, task: str, split: str, words: Iterable[str]) -> None:
    """Conversations of one split, behind those that are there."""
    with (folder / "chats.jsonl").open("a") as file:
        for word in words:
            asked = [{"role": "system", "content": "be brief"}, {"role": "user", "content": f"{task} {split} {word}"}]
            messages = [*asked, {"role": "assistant", "content": word}]
            file.write(json.dumps({"task": task, "split": split, "messages": messages}) + "\n")


def written(folder: Path, text: str = NOTED, source: str = "./mine.py:Mine", stream: str = "") -> Config:
    (folder / "mine.py").write_text(text)
    lines = f"stream: {{source: '{source}', root: {folder}, tasks: [star, last], limits: {{train: 3}}{stream}}}\n"
    lines += "recipe: {max_prompt_tokens: 60, max_answer_tokens: 4}\n"
    (folder / "own.yaml").write_text(lines)
    return load_experiment(folder / "own.yaml")


def test_the_example_reads_conversations(tmp_path: Path) -> None:
    for task in ("star", "last"):
        chats(tmp_path, task, "train", ("one", "two"))
        chats(tmp_path, task, "eval", ("three",))
    star, last = load_stream(written(tmp_path, (FOLDER / "chat.py").read_text(), "./mine.py:Chat"), ("train", "eval"))
    assert [example.answer for example in star.train] == [" one", " two"]
    assert last.splits["eval"][0].prompt == "system: be brief\nuser: last eval three\nassistant:"


def test_the_page_shows_the_example() -> None:
    page = (FOLDER.parents[2] / "docs" / "how-to" / "own-format.md").read_text()
    assert (FOLDER / "chat.py").read_text() in page and len(page.splitlines()) <= 60


def test_only_what_is_wanted_is_asked_for(tmp_path: Path) -> None:
    config = written(tmp_path)
    assert [has_split(config, task, "test") for task in ("star", "last")] == [True, False]
    assert not (tmp_path / "notes").exists()  # whether there is a test split is known without its rows
    load_stream(config, ("train",))
    asked = (tmp_path / "notes").read_text().splitlines()
    assert asked == [f"{task} train {number}" for task in ("star", "last") for number in range(3)]


def test_a_run_learns_from_it_without_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task, words in (("star", ("lamp", "boat", "rope")), ("last", ("lamp", "rope", "boat"))):
        chats(tmp_path, task, "train", words)
        chats(tmp_path, task, "eval", words[:1])
    written(tmp_path, (FOLDER / "chat.py").read_text(), "./mine.py:Chat")
    command = ["run", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert "imports ./mine.py:Chat as format chat (sha256 " in "".join(capsys.readouterr())
    chats(tmp_path, "star", "train", ("bell",))
    capsys.readouterr()
    assert main(command) == 0  # one more row, behind the limit
    (tmp_path / "chats.jsonl").write_text((tmp_path / "chats.jsonl").read_text().replace("lamp", "bell"))
    capsys.readouterr()
    assert main(command) == 2
    assert "star" in (err := capsys.readouterr().err) and len(err.splitlines()) == 1


def test_its_rows_name_what_is_shared(tmp_path: Path) -> None:
    def stage(config: Config) -> Path:
        found = shared_directories(tmp_path / "cache", config, load_stream(config, ("train",)), SingleProcess())
        assert found is not None
        return found.stage

    one, same = written(tmp_path), written(tmp_path, NOTED + "\n# a remark\n")
    assert stage(one) == stage(same) != stage(written(tmp_path, NOTED.replace("a word", "a bird")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Mine = 3\n", "cannot be made (TypeError: 'int' object is not callable)"),
        ("1 / 0\n", "cannot be imported (ZeroDivisionError: division by zero)"),
        (NOTED.replace("def splits", "def parts"), "splits('star') fails (AttributeError"),
        (NOTED.replace('["train", "eval", "test"]', '["eval"]'), "'star', train: there is no such split, only eval"),
        (NOTED.replace('"star":', '"moon":'), "task 'star', train: there is no such split, and no other"),
        (NOTED.replace('"answer": "a word"', '"answer": 7'), "'star', train, row 1: field 'answer' must be text"),
        (NOTED.replace("yield {", "yield 3, {"), "task 'star', train, row 1: must be a mapping of fields"),
        (NOTED.replace("yield", "1 / (2 - number)\n            yield"), "train: fails behind row 2 (ZeroDivision"),
        (NOTED.replace("range(10)", "range(0)"), "split 'train' of task 'star' has no rows"),
        (NOTED.replace("{task} {split} {number}", "same"), "prompts of split 'eval' also occur in another split"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as refused:
        load_stream(written(tmp_path, text), ("train", "eval"))
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert main(["validate", str(tmp_path / "own.yaml")]) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err and len(err.splitlines()) == 1


def test_names_of_tasks_that_are_none_are_refused(tmp_path: Path) -> None:
    load_stream(
        written(
            tmp_path, NOTED.replace('"last":', '"paren": ["train"], "last":'), stream=", metrics: {paren: rouge_l}"
        ),
        ("train",),
    )
    with pytest.raises(UserError, match="stream.metrics: there is no task 'lost'"):
        load_stream(written(tmp_path, stream=", metrics: {lost: rouge_l}"), ("train",))


def test_a_root_is_asked_of_the_packages_formats_alone(tmp_path: Path) -> None:
    values: dict[str, Any] = {"text": NOTED.replace("Path(root)", f"Path({str(tmp_path)!r})")}
    config = written(tmp_path, **values)
    without = config.model_copy(update={"stream": config.stream.model_copy(update={"root": None})})
    assert not without.stream.lacks_root and len(load_stream(without, ("train",))) == 2
