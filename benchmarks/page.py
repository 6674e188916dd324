"""The tables and pictures of docs/benchmarks.md, from what the benchmarks left in runs/bench: the end of `make bench`.

    python -m benchmarks.page

What stands between the two markers in the page is written anew, and so are docs/pictures/benchmarks/*.svg.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.markdown import table, with_part
from benchmarks.pictures import picture_of_chart, picture_of_goals, write_pictures
from benchmarks.results import DIRECTORY, Curve, Figure, Results, read_results

PAGE = Path("docs/benchmarks.md")
PICTURES = Path("docs/pictures/benchmarks")


def measured_part(every: Sequence[Results], pictures: Sequence[str]) -> str:
    """What stands between the markers.

    Args:
        pictures: names of the pictures that there are.
    """
    parts = [heading(every), table_of_figures(every)]
    if "goals" in pictures:
        parts.append(_shown("goals", "Ratios, the spread of single turns, and their goals"))
    for chart, curves in charts_of(every).items():
        parts.append(table_of_curves(curves))
        if chart in pictures:
            parts.append(_shown(chart, f"{curves[0].y} by {', '.join(dict.fromkeys(curve.x for curve in curves))}"))
    return "\n\n".join(parts)


def heading(every: Sequence[Results]) -> str:
    """When, where and with what; a difference between the benchmarks is shown."""
    dates = sorted({results.date[:10] for results in every})
    devices = sorted({results.device for results in every})
    versions = sorted({f"{name} {number}" for results in every for name, number in results.versions.items()})
    minutes = sum(results.seconds for results in every) / 60
    return (
        f"Measured by `make bench` on {' to '.join(dict.fromkeys((dates[0], dates[-1])))} in {minutes:.0f} minutes: "
        f"{'; '.join(devices)}; {', '.join(versions)}. What misses its goal is bold."
    )


def table_of_figures(every: Sequence[Results]) -> str:
    rows = [
        (figure.name, figure.against or "-", measured(figure), goal_of(figure))
        for results in every
        for figure in results.figures
    ]
    return table(("figure", "against", "measured", "goal"), rows)


def measured(figure: Figure) -> str:
    """The value and the spread of single turns."""
    value = number(figure.value, figure.unit)
    spread = "" if figure.spread is None else f" ({'-'.join(number(end, '') for end in figure.spread)})"
    return f"**{value}**{spread}" if figure.misses else f"{value}{spread}"


def goal_of(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return f"at {'least' if figure.at_least else 'most'} {number(figure.goal, figure.unit)}"


def number(value: float, unit: str) -> str:
    """As many digits as say something: ratios have three decimals."""
    if not unit:
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    return f"{value:.{digits}f} {unit}"


def charts_of(every: Sequence[Results]) -> dict[str, list[Curve]]:
    """All curves, by chart."""
    charts: dict[str, list[Curve]] = {}
    for results in every:
        for curve in results.curves:
            charts.setdefault(curve.chart, []).append(curve)
    return charts


def table_of_curves(curves: Sequence[Curve]) -> str:
    """A row for each curve; its points, for no two curves need have the same."""
    rows = [
        (
            curve.x if curve.name == curve.x else f"{curve.x}: {curve.name}",
            ", ".join(f"{x:g}: {number(y, '') if y >= 0.1 else f'{y:.4f}'}" for x, y in curve.points),
        )
        for curve in curves
    ]
    return table(("by", curves[0].y), rows)


def _shown(name: str, text: str) -> str:
    return f"![{text}]({PICTURES.relative_to(PAGE.parent)}/{name}.svg)"


def main() -> None:
    every = read_results(DIRECTORY)
    if not every:
        raise SystemExit(f"error: {DIRECTORY} holds no results; run `make bench`")
    charts = {chart: picture_of_chart(curves) for chart, curves in charts_of(every).items()}
    goals = picture_of_goals([figure for results in every for figure in results.figures])
    write_pictures({"goals": goals, **charts}, PICTURES)
    there = [path.stem for path in PICTURES.glob("*.svg")]
    PAGE.write_text(with_part(PAGE.read_text(encoding="utf-8"), measured_part(every, there)), encoding="utf-8")
    print(f"{PAGE} and {len(there)} pictures in {PICTURES}")


if __name__ == "__main__":
    main()
