"""Printed tables, against tables written by hand; nothing that a user may name breaks them."""

from __future__ import annotations

import csv
import io
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from seekr_tune.analysis.table import (
    Column,
    Estimate,
    Table,
    as_csv,
    as_json,
    as_latex,
    as_lines,
    as_markdown,
    escape_latex,
    escape_markdown,
)
from seekr_tune.foreign_text import printable

TABLE = Table(
    label="mine-ranking",
    caption="50% of task_a & task_b",
    columns=(
        Column("order"),
        Column("name", "a|b", is_text=True),
        Column("op", "OP", ".2f"),
        Column("bwt", "BWT", "+.1f"),
        Column("n", "n"),
        Column("front", "*", is_text=True),
    ),
    rows=(
        {"order": "x", "name": "joint", "op": Estimate(80.0, None), "bwt": None, "n": 1, "front": False},
        {"order": "x", "name": "[a]_1", "op": Estimate(60.254, 1.5), "bwt": -3.25, "n": 2, "front": True},
        {"order": "y", "name": "b", "op": Estimate(None, None), "bwt": Estimate(-2.0, 0.25), "n": 0},
    ),
    num_references=1,
    notes=("op_se < 5",),
)


def test_latex_is_the_table_that_was_written_by_hand() -> None:
    assert as_latex([TABLE]) == (
        "% \\usepackage{booktabs}\n"
        "\\begin{table}\n"
        "  \\centering\n"
        "  \\caption{50\\% of task\\_a \\& task\\_b}\n"
        "  \\label{tab:mine-ranking}\n"
        "  \\begin{tabular}{lrrrl}\n"
        "    \\toprule\n"
        "    a\\textbar{}b & OP & BWT & n & {*} \\\\\n"
        "    \\midrule\n"
        "    joint & $80.00$ & -- & $1$ &  \\\\\n"
        "    \\midrule\n"
        "    {[}a]\\_1 & $60.25 \\pm 1.50$ & $-3.2$ & $2$ & {*} \\\\\n"
        "    b & -- & $-2.0 \\pm 0.2$ & $0$ & -- \\\\\n"
        "    \\bottomrule\n"
        "  \\end{tabular}\n"
        "  \\par\\footnotesize\n"
        "  Op\\_se \\textless{} 5.\n"
        "\\end{table}\n"
    )


def test_markdown_is_the_table_that_was_written_by_hand() -> None:
    assert as_markdown([TABLE]) == (
        "**50% of task\\_a \\& task\\_b**\n"
        "\n"
        "| a\\|b | OP | BWT | n | \\* |\n"
        "| --- | ---: | ---: | ---: | --- |\n"
        "| joint | 80.00 | - | 1 |  |\n"
        "| \\[a\\]\\_1 | 60.25 ± 1.50 | -3.2 | 2 | \\* |\n"
        "| b | - | -2.0 ± 0.2 | 0 | - |\n"
        "\n"
        "- op\\_se \\< 5\n"
    )


def test_csv_and_json_hold_the_numbers_as_they_are_with_their_errors_and_what_is_not_printed() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv([TABLE, TABLE]))))
    assert len(rows) == 6 and rows[:3] == rows[3:]
    assert (rows[1]["order"], rows[1]["name"], rows[1]["front"]) == ("x", "[a]_1", "True")
    assert (float(rows[1]["op"]), float(rows[1]["op_se"]), rows[0]["op_se"], rows[2]["op"]) == (60.254, 1.5, "", "")
    (read,) = json.loads(as_json([TABLE]))
    assert read["caption"] == TABLE.caption and read["notes"] == ["op_se < 5"]
    assert read["rows"][1] == {
        "order": "x",
        "name": "[a]_1",
        "op": 60.254,
        "op_se": 1.5,
        "bwt": -3.25,
        "n": 2,
        "front": True,
    }
    assert read["rows"][2]["bwt_se"] == 0.25 and read["rows"][2]["op"] is None


def test_csv_of_tables_with_other_columns_has_the_columns_of_all() -> None:
    other = Table("o", (Column("name", "name"), Column("extra", "extra")), ({"name": "c", "extra": 1},))
    rows = list(csv.DictReader(io.StringIO(as_csv([TABLE, other]))))
    assert rows[3]["extra"] == "1" and rows[0]["extra"] == "" and rows[3]["op"] == ""


def test_lines_and_cells_of_a_page_are_the_table_that_was_written_by_hand() -> None:
    assert list(as_lines(TABLE)) == [
        "a|b              OP         BWT  n  *",
        "joint         80.00           -  1",
        "[a]_1  60.25 ± 1.50        -3.2  2  *",
        "b                 -  -2.0 ± 0.2  0  -",
        "op_se < 5",
    ]
    cells = [(column.name, text, key) for column, text, key in TABLE.html({"name": "x", "op": 12345.678, "n": None})]
    assert cells == [
        ("name", "x", "x"),
        ("op", "12,345.68", "12345.678"),
        *((one, "–", "") for one in ("bwt", "n", "front")),
    ]
    assert list(as_lines(Table("", TABLE.columns, (), notes=("x",)))) == []


@given(st.text())
def test_no_text_gets_out_of_its_latex_cell(text: str) -> None:
    escaped = escape_latex(text)
    commands = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}|\$\\pm\$|\{[\[*]\}"
    bare = re.sub(r"\\[&%$#_{}]", "", re.sub(commands, "", escaped))
    assert not set(bare) & set("\\&%$#_{}~^<>|[*\n\r")
    assert len(text.split()) == len(escaped.split())


@given(st.text())
def test_no_text_gets_out_of_its_markdown_cell(text: str) -> None:
    """A cell ends at a pipe that has an even number of backslashes before it."""
    escaped = escape_markdown(text)
    assert not re.search(r"(?<!\\)(\\\\)*\|", escaped) and "\n" not in escaped
    assert re.sub(r"\\([\\|*_`<>\[\]#~&])", r"\1", escaped) == printable(" ".join(text.split()))
