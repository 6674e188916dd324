"""ROUGE-L of two readings of a text: that of the package `rouge` 1.0.1, and one that knows the words of every script.

The package keeps a table of all pairs of words in a dictionary and walks back through it by recursion: a text of a
thousand words takes seconds, then fails. Here a row of that table is one whole number, with a bit where the common
subsequence grows by a word, and the walk back takes the same turns.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache, lru_cache
from math import isqrt

from rapidfuzz.distance import LCSseq

_EPSILON = 1e-8
"""The package's, against a division by zero; a perfect score is a little less than 1 by it."""

_WITHOUT_BLANKS = frozenset(
    "BALINESE BOPOMOFO CJK HIRAGANA IDEOGRAPHIC JAVANESE KATAKANA KHMER LAO MYANMAR TAI THAI YI".split()
)
"""First words of the Unicode names of letters whose scripts write no blanks between words."""
_JOINERS = "\u200c\u200d"


def rouge_l(prediction: str, answer: str) -> float:
    """F of ROUGE-L on summaries, bit for bit as `rouge` 1.0.1 computes it; in [0, 1).

    Words are what blanks separate, sentences end at full stops, case counts. The score counts the different words of
    all longest common subsequences of a sentence of one text and a sentence of the other. Which of several equally long
    ones is taken decides what is counted, so it is the package's; and the answer is given as the hypothesis, as in the
    release (official `utils/metrics.py`, `score_rouge`).

    Returns:
        0 where a text has no sentence, on which the package fails.
    """
    evaluated, expected = _sentences(answer), _sentences(prediction)
    if not evaluated or not expected:
        return 0.0
    holders: dict[str, list[tuple[str, ...]]] = {}
    for sentence in dict.fromkeys(evaluated):
        for word in set(sentence):
            holders.setdefault(word, []).append(sentence)
    common: set[str] = set()
    for sentence in dict.fromkeys(expected):
        common.update(_words_shared(sentence, holders, common))
    precision = len(common) / len(set().union(*evaluated))
    recall = len(common) / len(set().union(*expected))
    return 2.0 * ((precision * recall) / (precision + recall + _EPSILON))


def rouge_l_unicode(prediction: str, answer: str) -> float:
    """F of ROUGE-L of two texts as sequences of `words_of`, repeated words counted; in [0, 1], 0 without words.

    With n and m words and a longest common subsequence of l: 2 l / (n + m). Source: Lin 2004, equations 2 to 4, beta 1.
    """
    own, other = words_of(prediction), words_of(answer)
    return 2.0 * LCSseq.similarity(own, other) / (len(own) + len(other)) if own and other else 0.0


@lru_cache(maxsize=256)  # the answers of a split meet one text after the other
def words_of(text: str) -> tuple[str, ...]:
    """Runs of letters and digits in small letters; in scripts without blanks each letter, with its marks, is a word."""
    words: list[str] = []
    inside = False  # whether the next letter continues the last word
    adjacent = False  # whether the next mark belongs to it
    for character in text.lower():
        kind = unicodedata.category(character)[0]
        if adjacent and (kind == "M" or character in _JOINERS):
            words[-1] += character
        elif kind not in "LN":
            inside = adjacent = False
        elif _is_word(character):
            words.append(character)
            inside, adjacent = False, True
        elif inside:
            words[-1] += character
        else:
            words.append(character)
            inside = adjacent = True
    return tuple(words)


def share_without_blanks(texts: Sequence[str]) -> float:
    """Which part of the letters of some texts belongs to scripts that write no blanks between words; in [0, 1]."""
    letters = [character for text in texts for character in text if unicodedata.category(character)[0] == "L"]
    return sum(map(_is_word, letters)) / len(letters) if letters else 0.0


@cache
def _is_word(letter: str) -> bool:
    """Whether a letter stands for a word of its own: Unicode names letters by their script."""
    name = unicodedata.name(letter, "").removeprefix("HALFWIDTH ").removeprefix("NEW ")
    return name.replace("-", " ").partition(" ")[0] in _WITHOUT_BLANKS


def _sentences(text: str) -> list[tuple[str, ...]]:
    """The words of each; one of blanks only has one empty word, as in the package."""
    return [tuple(" ".join(sentence.split()).split(" ")) for sentence in text.split(".") if sentence]


def _words_shared(sentence: Sequence[str], holders: Mapping[str, list[tuple[str, ...]]], known: Set[str]) -> set[str]:
    """Words of the subsequences of one sentence and all of the other text; pairs that share only known ones are spared.

    Args:
        holders: the sentences of the other text, by their words.
        known: words that count already.
    """
    found: set[str] = set()
    done: set[tuple[str, ...]] = set()
    for word in set(sentence) - known:
        for other in holders.get(word, ()):
            if word in found:
                break
            if other not in done:
                done.add(other)
                found.update(_common_words(sentence, other))
    return found


def _common_words(own: Sequence[str], other: Sequence[str]) -> Iterator[str]:
    """The words of the longest common subsequence that the package's table and walk back give, last word first.

    Rows of the table are made again from every so manyth one: memory for the square root of their number.
    """
    step = isqrt(len(own)) + 1
    places, width = _places(other), len(other)
    kept = [(1 << width) - 1]
    for start in range(0, len(own) - step, step):
        kept.append(_rows(own[start : start + step], places, width, kept[-1])[-1])
    column = width
    for block in reversed(range(len(kept))):
        start = block * step
        rows = _rows(own[start : start + step], places, width, kept[block])
        row = len(rows) - 1
        while row > 0 and column > 0:
            word = own[start + row - 1]
            if word == other[column - 1]:
                yield word
                row, column = row - 1, column - 1
            elif rows[row] >> (column - 1) & 1:  # no longer than without the last word of `other`
                column -= 1
            else:
                row -= 1


def _places(words: Sequence[str]) -> dict[str, int]:
    """For each word, a number with a bit at each of its places."""
    found: dict[str, int] = {}
    for place, word in enumerate(words):
        found[word] = found.get(word, 0) | 1 << place
    return found


def _rows(words: Sequence[str], places: dict[str, int], width: int, first: int) -> list[int]:
    """The row that is given, and one for each word: bit j is 0 where the subsequence grows at word j of the other text.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited".
    """
    rows = [first]
    everything = (1 << width) - 1
    for word in words:
        last = rows[-1]
        matches = last & places.get(word, 0)
        rows.append(((last + matches) | (last - matches)) & everything)
    return rows
