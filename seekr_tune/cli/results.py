"""Commands that look at experiments and results: `validate`, `ls`, `rank`, `explain`, `importance`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seekr_tune.cli.app import Assignments, app
from seekr_tune.cli.output import Evaluator, Format, print_ranking, print_tasks, say, say_warnings, show, show_table
from seekr_tune.errors import ConfigError
from seekr_tune.foreign_text import in_one_line

if TYPE_CHECKING:
    from seekr_tune.config import Section


@app.command()
def validate(
    experiment: Annotated[Path | None, typer.Argument(help="Experiment file (YAML).", show_default=False)] = None,
    assignments: Assignments = None,
    fields: Annotated[
        bool,
        typer.Option("--fields", help="List every field instead, as Markdown; of an experiment, its methods' too."),
    ] = False,
) -> None:
    """Check an experiment without training.

    Looks at its fields, its search space, its data and its model, as far as they are at hand.
    """
    if fields:
        from seekr_tune.catalogue import fields_as_markdown

        show(fields_as_markdown({} if experiment is None else _own_options(experiment, assignments)))
        return
    if experiment is None:
        raise ConfigError("validate needs an experiment file; `seekr-tune ls` lists the ones at hand")
    from seekr_tune.experiment import load_experiment
    from seekr_tune.validation import validate as check

    findings = check(load_experiment(experiment, assignments or ()), experiment)
    for finding in findings:
        show(in_one_line(f"{'ok  ' if finding.checked else 'note'}  {finding.subject:<7} {finding.text}"))


def _own_options(experiment: Path, assignments: Sequence[str] | None) -> dict[str, type[Section]]:
    from seekr_tune.experiment import load_experiment
    from seekr_tune.methods.registry import require_methods

    config = load_experiment(experiment, assignments or ())
    return {name: cls.Options for name, (cls, _) in require_methods(config).items() if name in config.plugins}


@app.command()
def ls() -> None:
    """List what is in this folder.

    Experiments, search spaces, and the results under runs/.
    """
    from seekr_tune.catalogue import catalogue

    found = catalogue()
    for entry in found.experiments:
        show(in_one_line(f"experiment  {entry.path}  {entry.summary}"))
    for path in found.spaces:
        show(in_one_line(f"space       {path}"))
    for kind, path in found.results:
        show(in_one_line(f"{kind:<10}  {path}"))
    if not (found.experiments or found.spaces or found.results):
        show("nothing here: no experiments/*.yaml, search_spaces/*.yaml or runs/*")


@app.command()
def rank(
    directory: Annotated[Path, typer.Argument(help="Directory of a study or of a run.", show_default=False)],
    by: Annotated[str | None, typer.Option(help="Column that orders. [default: op_per_replayed_sample]")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Compare these only; also != < <= > >=. May be given several times."),
    ] = None,
    tasks: Annotated[bool, typer.Option("--tasks", help="Show the score of each task instead.")] = False,
    format: Annotated[Format, typer.Option(help="Output.")] = Format.table,
) -> None:
    """Rank the trials of a study, the best first.

    `seekr-tune explain` says what the columns are.
    """
    if tasks:
        print_tasks(directory, by, format, where or ())
    else:
        print_ranking(directory, by, format, where or ())


@app.command()
def explain(
    metric: Annotated[str | None, typer.Argument(help="Column of the ranking. [default: list all]")] = None,
) -> None:
    """Say what a column of the ranking is, and how to read it."""
    from seekr_tune.analysis.glossary import METRICS
    from seekr_tune.analysis.glossary import explain as entry

    if metric is None:
        width = max(map(len, METRICS))
        for name, one in METRICS.items():
            show(f"{name:<{width}}  {one.formula}")
        return
    one = entry(metric)
    lines = {
        "formula": one.formula,
        "unit": one.unit,
        "better": one.better or "neither way",
        "from": ", ".join(one.reads),
        "read it": one.reading,
        "beware": one.trap,
    }
    for name, text in lines.items():
        if text:
            show(f"{name:<8} {text}")


@app.command()
def importance(
    directory: Annotated[Path, typer.Argument(help="Directory of a study.", show_default=False)],
    objective: Annotated[str, typer.Option(help="Column that the settings are to explain.")] = "op",
    evaluator: Annotated[
        Evaluator | None,
        typer.Option(help="How importance is measured. [default: ranks below 30 configurations, else fanova]"),
    ] = None,
    format: Annotated[Format, typer.Option(help="Output.")] = Format.table,
) -> None:
    """Say which of the searched settings matter, and which way.

    With a test of each against chance; of 30 configurations or more it takes a while.
    """
    from seekr_tune.analysis.hyperparameters import (
        chosen_evaluator,
        importance_table,
        importances,
        settings_together,
    )
    from seekr_tune.analysis.ledger import read_trials
    from seekr_tune.analysis.ranking import rank as ranked

    rows = ranked(read_trials(directory), objective).rows
    name = chosen_evaluator(rows, objective) if evaluator is None else evaluator.value
    show_table(importance_table(importances(rows, objective, name), objective, name), format)
    for line in settings_together(rows, objective):
        say(f"note: {line}")
    say_warnings(directory)
