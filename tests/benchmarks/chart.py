"""The chart: seconds for export, load and table by number of rows, for everybody who ran."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import Results
from benchmarks.targets import ENGINE, WHOLE

_WIDTH, _HEIGHT = 560, 320


def write_chart(results: Results, path: Path) -> None:
    """Write the chart as SVG, or nothing where there is nothing to show."""
    points = [
        {"rows": one.rows, "contender": name, "seconds": seconds}
        for part in ("peers", "sides")
        for one in results.of(part)
        for name in one.contenders()
        if (seconds := one.median(name, *WHOLE)) and not (part == "peers" and name == ENGINE)
    ]
    if not points:
        return
    import altair as alt

    chart = (
        alt.Chart(alt.InlineData(values=points), width=_WIDTH, height=_HEIGHT)
        .mark_line(point=alt.OverlayMarkDef(size=50))
        .encode(
            x=alt.X("rows:Q", title="Rows").scale(type="log").axis(format="~s", grid=False),
            y=alt.Y("seconds:Q", title="Seconds, export, load and table").scale(type="log"),
            color=alt.Color("contender:N", title=None).sort(_by_speed(points)),
        )
    )
    chart.save(str(path), format="svg")


def _by_speed(points: list[dict[str, object]]) -> list[str]:
    """Return the contenders, the slowest for a row first, as their lines lie."""
    slowest: dict[str, float] = {}
    for point in points:
        a_row = float(str(point["seconds"])) / int(str(point["rows"]))
        slowest[str(point["contender"])] = a_row
    return sorted(slowest, key=lambda name: -slowest[name])
