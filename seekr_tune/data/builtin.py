"""The built-in stream and its tiny model: the embedded default, with nothing to download.

Every prompt is a note of seven words that carries ALL decorations (a star, brackets, two names), followed by a
question. Only the question tells which word is wanted, so tasks learned one after the other overwrite each other:

    note : brick cake * rice ivo = lamp ( coin ) ana = milk kite . question : say which one has a star ? answer :

The answer is one word, and a token is a blank-separated word. The model was trained once by
`scripts/make_base_model.py` on notes with OTHER questions and is kept as a file; checksums guard it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seekr_tune.config import Limits, Split
from seekr_tune.config.messages import hint
from seekr_tune.data.task import Example
from seekr_tune.documents import read_bytes, read_text
from seekr_tune.errors import DataError, ModelError, UserError

NOUNS = tuple(
    "apple bell bird boat book brick cake chair clock coin cup door drum fish hat horse kite knife lamp leaf milk nail"
    " pen pipe plate rice ring rope shoe stone tree wheel".split()
)
NAMES = ("ana", "ben", "cleo", "dov", "eva", "finn", "gus", "hal", "ivo", "jan", "kim", "lea")

QUESTIONS = {
    "star": "say which one has a star ?",
    "last": "say which one is last in it ?",
    "paren": "say which one stands in brackets ?",
    "second": "say who is runner up ?",
    "first": "say how the list starts ?",
}
"""The tasks of the stream. The telling words (star, last, brackets, runner up, starts) occur in no question that the
base model was trained on, so no task is solved before it is learned."""

ROWS: dict[Split, int] = {"train": 400, "eval": 100, "test": 100}
_SHARES: tuple[Split, ...] = ("train", "train", "train", "train", "eval", "test")
_NUM_WORDS = 7


@dataclass(frozen=True)
class Note:
    """A decorated list of words.

    Attributes:
        text: the note as it stands in a prompt.
        words: the words in order, without decorations.
        starred, bracketed: positions in `words`.
    """

    text: str
    words: tuple[str, ...]
    starred: int
    bracketed: int


def draw_note(rng: random.Random, num_words: int = _NUM_WORDS) -> Note:
    """Draw different words and decorate four of the inner places: `* word`, `( word )` and twice `name = word`."""
    words = rng.sample(NOUNS, num_words)
    star, bracket, one, other = rng.sample(range(1, num_words - 1), 4)
    names = rng.sample(NAMES, 2)
    pieces = list(words)
    pieces[star] = f"* {words[star]}"
    pieces[bracket] = f"( {words[bracket]} )"
    pieces[one] = f"{names[0]} = {words[one]}"
    pieces[other] = f"{names[1]} = {words[other]}"
    return Note(" ".join(pieces), tuple(words), star, bracket)


def prompt_of(note: Note, question: str) -> str:
    """The prompt that asks `question` about `note`."""
    return f"note : {note.text} . question : {question} answer :"


def builtin_examples(task: str, seed: int, split: Split, limits: Limits) -> tuple[Example, ...]:
    """The examples of one split of one built-in task; a smaller limit gives a prefix of a larger one.

    The rows depend on (seed, task, split) only. A note belongs to exactly one split, chosen by a hash of its text,
    and is drawn at most once: prompts are different within a split and between splits, for every seed, and a split
    can be made without looking at another one.

    Raises:
        DataError: no such task.
    """
    check_builtin_names((task,))
    question = QUESTIONS[task]
    cap = limits.of(split)
    wanted = ROWS[split] if cap is None else min(cap, ROWS[split])
    rng = random.Random(f"{task}/{seed}/{split}")  # seeded by a string: the same rows on every machine
    notes: dict[str, Note] = {}
    while len(notes) < wanted:
        note = draw_note(rng)
        if _split_of(note) == split:
            notes[note.text] = note
    return tuple(Example(prompt_of(note, question), _answer(task, note)) for note in notes.values())


def check_builtin_names(names: Sequence[str]) -> None:
    """Refuse a task that the built-in stream does not have.

    Raises:
        DataError: with the nearest name.
    """
    for name in names:
        if name not in QUESTIONS:
            raise DataError(f"stream.tasks: the built-in stream has no task {name!r}; {hint(name, QUESTIONS)}")


def builtin_model_directory() -> Path:
    """The directory of the base model (132,544 parameters, a Llama), after its files were checked.

    Load it with `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`.

    Raises:
        ModelError: a file is missing or differs from its checksum.
    """
    directory = Path(__file__).parent / "base_model"
    verify_checksums(directory)
    return directory


def verify_checksums(directory: Path) -> None:
    """Compare the files of a base model with its `SHA256SUMS`.

    Raises:
        ModelError: a file is missing or damaged.
    """
    mend = "install the package again, or rebuild the model with `make base-model`"
    try:
        lines = read_text(directory / "SHA256SUMS").splitlines()
    except (OSError, UserError):
        raise ModelError(f"{directory}: the built-in model has no readable SHA256SUMS; {mend}") from None
    for line in lines:
        expected, _, name = line.partition("  ")
        try:
            found = hashlib.sha256(read_bytes(directory / name)).hexdigest()
        except (OSError, UserError):
            raise ModelError(f"{directory / name}: a file of the built-in model is missing; {mend}") from None
        if found != expected:
            raise ModelError(f"{directory / name}: damaged (its SHA-256 does not match SHA256SUMS); {mend}")


def _split_of(note: Note) -> Split:
    digest = hashlib.sha256(note.text.encode()).digest()
    return _SHARES[int.from_bytes(digest[:8], "big") % len(_SHARES)]


def _answer(task: str, note: Note) -> str:
    position = {"star": note.starred, "last": -1, "paren": note.bracketed, "second": 1, "first": 0}[task]
    return note.words[position]
