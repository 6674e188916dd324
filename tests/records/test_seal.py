"""What carries a checksum is taken as it was written, or not at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekr_tune.errors import StudyError
from seekr_tune.records.seal import sealed, sealed_line, unsealed, unsealed_line

OBJECTS = st.dictionaries(st.text(), st.integers() | st.text() | st.none(), min_size=1)


@given(OBJECTS)
def test_what_was_sealed_comes_back(values: dict[str, object]) -> None:
    document = json.dumps(values).encode()
    assert unsealed(sealed(document), "x") == document
    assert unsealed_line(sealed_line(document)) == document
    assert json.loads(sealed_line(document)) == {**values, "crc32": json.loads(sealed_line(document))["crc32"]}


def test_what_has_no_checksum_is_taken_as_it_is() -> None:
    assert unsealed(b'{"a":1}', "x") == unsealed_line(b'{"a":1}') == b'{"a":1}'


@pytest.mark.parametrize("content", [json.dumps({"a": 1, "sha256": "0" * 64}, indent=1), '{"a":1,"sha256":"00"}\n'])
def test_a_file_that_another_program_wrote_anew_is_refused_with_the_way_out(content: str) -> None:
    with pytest.raises(StudyError, match=r'result.json: was written anew by another program.*take "sha256" out of it'):
        unsealed(content.encode(), "result.json")
