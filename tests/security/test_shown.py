"""Text of others is shown and not obeyed: by a terminal, a spreadsheet, a shell; and nobody goes around that."""

from __future__ import annotations

import ast
import csv
import dataclasses
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich.table

from seekr_tune.analysis.final import FinalTable, final_table
from seekr_tune.analysis.ledger import write_ledger
from seekr_tune.analysis.report.page import report_page
from seekr_tune.analysis.table import Column, Table, as_csv, as_json, as_latex, as_markdown, markdown_code
from seekr_tune.cli import main
from seekr_tune.cli.output import console, say, say_traceback, show, show_table
from seekr_tune.foreign_text import command, csv_text, in_one_line, ours, printable
from seekr_tune.records import read_record, write_record
from seekr_tune.study.directory.report_source import report_source
from seekr_tune.study.runs.console import ProgressConsole

from .small import finished_run, study_of

KIND = "text that is obeyed"
PACKAGE = Path(__file__).parent.parent.parent / "seekr_tune"
HOSTILE = {
    "a colour": "\x1b[31mred",
    "a title of the window": "\x1b]0;owned\x07",
    "the clipboard": "\x1b]52;c;cm0gLXJmIH4=\x1b\\",
    "one byte that begins a sequence": "\x9b31mred",
    "another one": "\x9d0;owned\x9c",
    "back to the line's begin": "failed\rfinished",
    "over what stands there": "x\b\b\bfinished",
    "a turned line": "\u202egpj.exe",
    "an isolate": "\u2066abc\u2069",
    "a delete": "\x7f",
    "a line end of its own kind": "one\u2028two",
    "no text at all": "\udcff",
}
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")
FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", '=HYPERLINK("http://x")', "\uff1d1", "-", "+a"]
NAMES = [
    "a b",
    "$(touch x)",
    "`touch x`",
    "it's",
    'a"b',
    "a;touch x",
    "a&b",
    "-rf",
    "~root",
    "*",
    "a\\b",
    "a\tb",
    "a  b",
]
NAMES += ["a\nb", "\x1b[31mred", "\u202eabc", "ünï", "a|b", "!x", "#x", "", "$HOME", "\udcff", "{a,b}", "x=y"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    return study_of(finished, tmp_path / "study")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_gate_lets_nothing_through(capsys: pytest.CaptureFixture[str], text: str) -> None:
    say(text)
    show(text)
    table = Table(text, (Column("a", text),), ({"a": text},), notes=(text,))
    for form in ("table", "json", "csv"):
        show_table(table, form)
    shown = rich.table.Table(title=text)
    shown.add_column(text)
    shown.add_row(text)
    console().print(shown)
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        say_traceback(RuntimeError, error, error.__traceback__)
    ProgressConsole(console(stderr=True), total=1).say(text)
    out, err = capsys.readouterr()
    assert not OBEYED.search(out + err)
    assert f"\\u{ord(OBEYED.search(text)[0]):04x}" in out and len(err.splitlines()) > 3  # type: ignore[index]


def test_what_people_write_stays_as_it_is() -> None:
    text = "naïve – 任務 עברית 🙂 a\u200db\tc\nd"
    assert printable(text) == text and in_one_line("a\nb") == "a b"
    assert json.loads(printable(json.dumps("\x9b\u202e é", ensure_ascii=False))) == "\x9b\u202e é"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_files_of_a_study_that_hold_it(study: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    place = study / "trials" / "trial-0000" / "result.json"
    record = read_record(place).model_copy(update={"status": "failed", "error": text, "code_version": text})
    write_record(place, record)
    write_ledger(study, [record], {})
    (study / "study").mkdir(exist_ok=True)
    holder = {"pid": 1, "host": f"elsewhere {text}", "since": text, "slots": 1}
    (study / "study" / "driver.json").write_text(json.dumps(holder))
    line = {"time": text, "level": text, "logger": text, "message": text, "error": text, text: text}
    (study / "log.jsonl").write_text(json.dumps(line) + "\n" + f'{{"no": "{text}"\n')
    capsys.readouterr()
    for words in (
        ["status"],
        ["show", "trial-0000"],
        ["log"],
        ["resume"],
        *(["rank", "--format", form] for form in ("table", "json", "csv")),
        *(["export", "--table", "ranking", "--format", form] for form in ("csv", "json", "markdown", "latex")),
        ["show", text],
        ["rank", "--by", text],
        ["rank", "--where", text],
    ):
        name, *more = words
        assert main([name, str(study), *more]) in (0, 2)
        out, err = capsys.readouterr()
        assert not OBEYED.search(out + err), words
        assert name not in ("status", "log") or out.count("\\u") >= text.count("\x1b") + text.count("\x9b")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_tables_and_pages_for_people(study: Path, text: str) -> None:
    shown = Table(text, (Column("a", text, is_text=True),), ({"a": text},), notes=(text,))
    final = final_table(dataclasses.asdict(FinalTable("op", text, text, ((text,),), (1,), (1,), ())))
    forms = [form([table]) for form in (as_markdown, as_latex, as_csv, as_json) for table in (shown, final)]
    for page in (*forms, markdown_code(text)):
        assert not OBEYED.search(page)
    told = {"experiment": text, "protocol": text, "openings": (text,), "provenance": {text: {text: text}}}
    source = dataclasses.replace(report_source(study), **told)
    page = re.sub(r"<script.*?</script>", "", report_page(source), flags=re.DOTALL)
    assert not OBEYED.search(page)


def test_code_in_markdown_does_not_end_before_its_end() -> None:
    for text in ("a", "`", "a`b", "``", "a ``` [x](javascript:y)", "# x\n- y", "`a"):
        code = markdown_code(text)
        fence = re.match("`+", code)
        assert fence is not None and code.endswith(fence[0]) and "\n" not in code
        inside = code[len(fence[0]) : -len(fence[0])]
        assert fence[0] not in re.findall("`+", inside) and inside.strip() == " ".join(text.split())


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_that_begins_like_a_formula_is_text(text: str) -> None:
    (heading, row) = csv.reader(io.StringIO(csv_text([text, "b"], [[text, 1]])))
    for cell in (heading[0], row[0]):
        assert cell.startswith("'") and cell == printable(f"'{text}")


def test_numbers_stay_numbers() -> None:
    values = [-3.2, -1, float("-inf"), True, None, "-3.2", "+5", "1e-5", "-.5", "a-b", "a=b"]
    (row,) = csv.reader(io.StringIO(csv_text([], [values]).lstrip("\n")))
    assert row == ["-3.2", "-1", "-inf", "True", "", "-3.2", "+5", "1e-5", "-.5", "a-b", "a=b"]


def test_csv_of_a_study_holds_no_formula(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = study / "trials" / "trial-0000" / "result.json"
    text = place.read_text().replace('"star"', '"=cmd|x"')
    assert text != place.read_text()
    record = type(read_record(place)).model_validate(
        {**json.loads(read_record(place).model_dump_json().replace('"star"', '"=cmd|x"')), "error": "@x"}
    )
    write_ledger(study, [record], {})
    capsys.readouterr()
    seen: set[str] = set()
    for words in (["rank"], ["rank", "--tasks"], ["export", "--table", "tasks"], ["export", "--table", "matrix"]):
        name, *more = words
        assert main([name, str(study), *more, "--format", "csv"]) == 0
        cells = [cell for row in csv.reader(io.StringIO(capsys.readouterr().out)) for cell in row]
        seen |= {*cells}
        for cell in cells:
            assert not re.match(r"[=+@\t\r]|-(?![\d.])", cell), cell
    assert {"'=cmd|x", "'@x"} <= seen


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_gets_the_words_of_a_command_and_nothing_else(tmp_path: Path, name: str) -> None:
    program = f"{sys.executable} -c 'import os, sys; print([os.fsencode(w) for w in sys.argv[1:]])'"
    words = (Path(name), name) if name else (name,)
    line = in_one_line(ours("resume", *words))
    assert not OBEYED.search(line) and " ".join(line.split()) == line
    pasted = line.replace("seekr-tune", program, 1)
    done = subprocess.run(["bash", "-c", pasted], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = [
        b"resume",
        *(
            (f"./{name}" if name.startswith("-") and isinstance(word, Path) else str(word)).encode(
                "utf-8", "surrogateescape"
            )
            for word in words
        ),
    ]
    assert ast.literal_eval(done.stdout) == expected and not list(tmp_path.iterdir())


def test_plain_commands_have_no_quotes() -> None:
    assert ours("log", Path("/runs/demo"), "trial-0003") == "seekr-tune log /runs/demo trial-0003"
    assert command("tensorboard", "--logdir", Path("runs/demo/events")) == "tensorboard --logdir runs/demo/events"


def test_commands_that_are_said_about_a_study_can_be_pasted(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(finished, tmp_path / "$(touch x) it's  mine")
    assert main(["resume", str(study)]) == 0
    assert main(["sweep", str(study / "experiment.yaml"), "--out", str(study)]) == 2
    assert main(["show", str(study), "trial-0000"]) == 0
    out, err = capsys.readouterr()
    said = re.findall(r"`(seekr-tune [^`]*)`", out + err) + re.findall(r": +((?:seekr-tune|tensorboard) .*)", err)
    assert len(said) >= 4  # one that learned nothing has nothing to finalize
    for line in said:
        words = (
            subprocess.run(
                ["bash", "-c", f"printf '%s\\0' {line.removesuffix(' --trials N')}"],
                capture_output=True,
                check=True,
                cwd=tmp_path,
            )
            .stdout.decode()
            .split("\0")
        )
        assert any(word.startswith(str(study)) for word in words), line
    assert not (tmp_path / "x").exists()


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8"))


def docstrings(tree: ast.Module) -> set[int]:
    """Texts that stand alone are read by people only."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def test_nobody_prints_around_the_gate() -> None:
    gate = {"cli/output.py"}
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                quiet = called == "Console" and ast.unparse(node).endswith("(quiet=True)")
                prints = called in {"print", "typer.echo", "typer.secho", "click.echo", "Console", "echo", "pprint"}
                assert name in gate or quiet or not prints, f"{name}:{node.lineno}: {called}; use say() or show()"
            if isinstance(node, ast.Attribute):
                written = ast.unparse(node) in {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
                assert not written, f"{name}:{node.lineno}: {ast.unparse(node)}; use say() or show()"


def test_nobody_writes_csv_around_its_function() -> None:
    for name, tree in trees():
        for node in ast.walk(tree):
            imported = isinstance(node, ast.ImportFrom) and node.module in ("csv", "pyarrow.csv")
            called = isinstance(node, ast.Attribute) and (
                node.attr in ("to_csv", "write_csv") or ast.unparse(node) in ("csv.writer", "csv.DictWriter")
            )
            assert name == "foreign_text.py" or not (imported or called), f"{name}: use shown.csv_text"


def test_nobody_makes_a_table_around_its_module() -> None:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                made = {f"{node.module}.{one.name}" for one in node.names} & {"rich.table", "rich.table.Table"}
                assert name == "analysis/table.py" or not made, f"{name}:{node.lineno}: use analysis.table"


COMMAND_WITH_A_HOLE = re.compile(r"(seekr-tune |tensorboard -|make [a-z-]+ [A-Z]+=)[^`\n]*\0")


def test_nobody_makes_a_command_of_a_text_and_a_path() -> None:
    for name, tree in trees():
        skipped = docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)  # type: ignore[misc]
                assert not COMMAND_WITH_A_HOLE.search(text), f"{name}:{node.lineno}: use shown.ours or shown.command"
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
                begun = re.fullmatch(r"(seekr-tune|tensorboard)( [a-z-]+)? ?", node.value)
                if begun and name not in ("foreign_text.py", "cli/app.py"):
                    assert node.value in ("seekr-tune", "tensorboard"), f"{name}:{node.lineno}: use shown.ours"
