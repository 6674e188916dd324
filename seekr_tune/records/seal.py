"""Checksums inside JSON, so that a flipped bit is not taken for a result: SHA-256 of a file, CRC-32 of a line.

Both are the last entry of an object, over its bytes without that entry. What has none, as earlier versions wrote it, is
taken as it is.
"""

from __future__ import annotations

import hashlib
import re
import zlib

from seekr_tune.errors import StudyError

_FILE = re.compile(rb'(.*),"sha256":"([0-9a-f]{64})"}', re.DOTALL)
_LINE = re.compile(rb'(.*),"crc32":(\d{1,10})}')


def sealed(document: bytes) -> bytes:
    """A JSON object with the SHA-256 of the rest as its last entry."""
    return document.removesuffix(b"}") + b',"sha256":"' + hashlib.sha256(document).hexdigest().encode() + b'"}'


def unsealed(content: bytes, origin: str) -> bytes:
    """The object that `sealed` was given.

    Raises:
        StudyError: it is not as it was written; `origin` names it.
    """
    found = _FILE.fullmatch(content)
    if found is None:
        if re.search(rb'"sha256"\s*:', content):
            raise StudyError(
                f"{origin}: was written anew by another program (an editor?), or is damaged: its checksum is not "
                'where this package puts it; restore the file, or take "sha256" out of it to have it read unchecked'
            )
        return content
    document = found[1] + b"}"
    if hashlib.sha256(document).hexdigest().encode() != found[2]:
        raise StudyError(f"{origin}: does not match its checksum; restore the file or run the trial again")
    return document


def sealed_line(line: bytes) -> bytes:
    """A JSON object on one line with the CRC-32 of the rest as its last entry."""
    return line.removesuffix(b"}") + b',"crc32":%d}' % zlib.crc32(line)


def unsealed_line(line: bytes) -> bytes:
    """The object that `sealed_line` was given.

    Raises:
        ValueError: it is not as it was written.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        return line
    document = found[1] + b"}"
    if zlib.crc32(document) != int(found[2]):
        raise ValueError("does not match its checksum")
    return document
