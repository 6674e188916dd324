"""The page: what it shows, in which order, as one text of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from seekr_tune.analysis.configurations import TrialRow
from seekr_tune.analysis.final import final_table
from seekr_tune.analysis.gradients import dominated
from seekr_tune.analysis.ledger import read_table, read_trials
from seekr_tune.analysis.ranking import rank
from seekr_tune.analysis.ranking_tables import void_lines
from seekr_tune.analysis.report import sections
from seekr_tune.analysis.report.columns import GROUPS, SHOWN_GROUPS, ranking_table
from seekr_tune.analysis.report.embed import asset, plotly_script, template_json
from seekr_tune.analysis.report.runs import MOST_CONFIGURATIONS, MOST_REPLICATES, read_runs, shown_runs
from seekr_tune.analysis.report.source import Source
from seekr_tune.analysis.report.summary import caveats, findings
from seekr_tune.analysis.report.texts import count, share
from seekr_tune.analysis.worth import study_worths
from seekr_tune.analysis.worth_lines import warnings, worth_table
from seekr_tune.config.reading import parse_yaml
from seekr_tune.foreign_text import duration, printable


def report_page(source: Source) -> str:
    """The report of a study, finished or not.

    Raises:
        StudyError: there is no ledger yet, or it is damaged.
    """
    trials = read_trials(source.directory)
    runs: list[TrialRow] = trials.to_pylist()
    ranking = rank(trials, next(iter(source.config.study.objectives)))
    shown = shown_runs(ranking, runs)
    tables = read_runs(source.directory, shown)
    timing = read_table(source.directory, "timing")
    worths = study_worths(source.directory)
    space = parse_yaml(source.space) or {}
    return _template().render(
        source=source,
        by=ranking.by,
        findings=findings(ranking, runs, source.config),
        caveats=caveats(ranking, source.protocol, dominated(runs, read_table(source.directory, "replay"))),
        warnings=[*source.changes, *void_lines(ranking), *warnings(worths)],
        worths=worth_table(worths),
        final_table=final_table,
        table=ranking_table(ranking),
        groups=GROUPS,
        shown_groups=SHOWN_GROUPS,
        methods=sorted({row["method"] for row in ranking.rows}),
        statuses=sorted({row["status"] for row in ranking.rows}),
        front=sections.front_plot(ranking),
        scores=sections.score_panels(tables, shown),
        settings=list(sections.setting_plots(ranking, space)),
        heads=sections.head_panels(tables, shown),
        losses=sections.loss_panels(tables, shown),
        costs=list(sections.cost_plots(ranking, runs, timing)),
        totals=_totals(runs, timing),
        most_configurations=MOST_CONFIGURATIONS,
        most_replicates=MOST_REPLICATES,
        most_bars=sections.MOST_BARS,
        protocol=_protocol(source),
        code_versions=sorted({row["code_version"] for row in runs}),
        style=asset("report.css"),
        script=asset("report.js"),
        plotly=plotly_script(),
        template=template_json(),
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_without_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _without_controls(value: Any) -> Any:
    """What would turn or end a line of the page is written as `\\u202e`; scripts and figures are as they are."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _totals(runs: Sequence[TrialRow], timing: Any) -> Mapping[str, str]:
    """What the whole study took."""
    spent = sum(row["wall_seconds"] for row in runs)
    spared = sum(row["shared_seconds"] for row in runs)
    memory = max((row["memory_bytes"] for row in runs), default=0)
    peak = max((row["peak_memory_bytes"] or 0 for row in runs), default=0)  # 0: no run knows
    tokens = sum(timing.column("tokens").to_pylist())
    return {
        "time of all runs": duration(spent),
        "spared, because another run had done the same": f"{duration(spared)} "
        f"({share(spared / (spent + spared or 1.0))} of what it would have taken)",
        "tokens trained, new and replayed": count(tokens),
        "replayed tokens among them": count(sum(row["replay_tokens"] for row in runs)),
        "largest replay memory of a run": f"{count(memory)} bytes",
        "largest peak memory of a worker": f"{count(peak)} bytes" if peak else "not known",
    }


def _protocol(source: Source) -> Mapping[str, str]:
    """What was tuned on what, and what is reported."""
    study, stream = source.config.study, source.config.stream
    orders = study.replicates.orders or (stream.tasks[: study.prefix_tasks],)
    drawn = f"{study.replicates.pairs} drawn, one a run" if study.replicates.pairs else ""
    final_orders = study.final.orders or ("as tuned on",)
    return {
        "protocol": study.protocol,
        "tasks": ", ".join(stream.tasks),
        "tuned on": f"{', '.join(source.config.evaluation.splits)}; orders {drawn or _orders(orders)}",
        "seeds": drawn or ", ".join(map(str, study.replicates.seeds or (source.config.seed,))),
        "memory draws": str(study.replicates.memory_draws),
        "sampler": study.sampler,
        "objectives": ", ".join(f"{name} ({direction})" for name, direction in study.objectives.items()),
        "bounds": ", ".join(study.bounds) or "none",
        "racing, pruning": f"{study.racing.rule}, {study.pruning.rule}",
        "reported on": f"test; orders {_orders(final_orders)}",
        "test": source.protocol,
    }


def _orders(orders: Sequence[Any]) -> str:
    return "; ".join(order if isinstance(order, str) else " → ".join(order) for order in orders)
