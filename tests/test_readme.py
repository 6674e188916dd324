"""What the README and the docs tell the user to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import seekr_tune
from seekr_tune.catalogue import fields_as_markdown
from seekr_tune.cli import app, one_flag_per_assignment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}


def shown(pattern: str) -> list[str]:
    """Lines of code blocks in all pages that begin with `pattern`, without comments."""
    lines = [line.strip() for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    return sorted({line.partition("  #")[0].strip() for line in lines if re.match(pattern, line)})


@pytest.mark.parametrize("line", shown(r"make [a-z]"))
def test_every_make_command_has_a_target(line: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \?=", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    target, *settings = shlex.split(line)[1:]
    assert target in targets
    assert {setting.partition("=")[0] for setting in settings} <= variables


def test_the_targets_are_complete() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("setup", "sweep", "resume", "rank", "tensorboard", "run", "test", "lint", "clean"):
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("line", shown(r"seekr-tune [a-z]"))
def test_every_command_line_parses(line: str) -> None:
    command, *arguments = shlex.split(line.partition(" > ")[0])[1:]
    assert command in COMMANDS
    import typer.main

    parser = typer.main.get_command(app)
    context = parser.make_context("seekr-tune", [command], resilient_parsing=True)
    subcommand = parser.get_command(context, command)  # type: ignore[attr-defined]
    subcommand.make_context(command, one_flag_per_assignment(arguments), parent=context)  # refuses unknown options


def test_every_command_is_in_the_readme() -> None:
    assert {name for name in COMMANDS if f"seekr-tune {name}" not in README} <= {"run"}  # there as `make run`


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_paths_in_the_file_tree_exist() -> None:
    tree = re.search(r"    seekr_tune/\n(.*?)\n\n", README, re.DOTALL)
    assert tree is not None
    for line in tree.group(1).splitlines():
        names = [name for name in line.split("   ")[0].split() if re.fullmatch(r"[a-z_./]+", name)] or [line.split()[0]]
        for name in names:
            base = ROOT / "seekr_tune" if line.startswith("      ") else ROOT
            assert (base / name).exists(), name


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    names: dict[str, object] = {}
    exec(code.group(1).replace('"experiments/', f'"{ROOT}/experiments/'), names)
    assert isinstance(names["config"], seekr_tune.Config)


def test_the_field_reference_is_the_schema() -> None:
    page = (ROOT / "docs" / "experiment-file.md").read_text(encoding="utf-8")
    _, _, reference = page.partition("--fields` -->\n")
    assert reference.strip() == fields_as_markdown().strip(), "run `make docs` and commit docs/experiment-file.md"


def test_nothing_names_the_place_where_it_was_made() -> None:
    for path in [
        *PAGES,
        ROOT / "CHANGELOG.md",
        *(ROOT / "experiments").rglob("*.yaml"),
        *(ROOT / "search_spaces").glob("*"),
    ]:
        assert not re.search(r"/work/|/tmp/|/home/|/root/", path.read_text(encoding="utf-8")), path
