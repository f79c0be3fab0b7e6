"""The figure: how long a step takes as the pool of sinks grows."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from memsinks_np.experiments.report import plots

COLORS = {  # ours as in every figure of this project, then the rest of Okabe and Ito's palette
    "ours gathered": "#0072B2",
    "ours masked": "#56B4E9",
    "torch gathered": "#D55E00",
    "torch masked": "#E69F00",
    "jax gathered": "#009E73",
    "jax masked": "#CC79A7",
    "autograd": "#999999",
    "floor": "#444444",
}


def require_sinks(shape: str) -> int:
    """The size of the pool where the shape differs from the default in nothing else, or 0."""
    return (
        2048
        if shape == "default"
        else int(shape.removeprefix("pool-"))
        if shape.startswith("pool-")
        else 0
    )


def draw(rows: list[dict[str, Any]], threads: int, folder: Path) -> None:
    """Median milliseconds a step against the size of the pool, one line per implementation, both axes logarithmic."""
    with plt.rc_context(plots.STYLE):
        fig, ax = plt.subplots(figsize=(7.5, 4.8))
        lines = {}
        for name in COLORS:
            mine = [r for r in rows if r["implementation"] == name and r["threads"] == threads]
            points = sorted(
                (require_sinks(r["shape"]), r["median_ms"])
                for r in mine
                if require_sinks(r["shape"])
            )
            if points:
                lines[name] = points
                line = ":" if name == "floor" else "-"
                ax.plot(*zip(*points, strict=True), marker="o", color=COLORS[name], linestyle=line)
        ax.set(xscale="log", yscale="log")
        plots.frame(
            ax, "Does a sleeping sink cost anything?", "one training step (ms)", "sinks in the pool"
        )
        ax.margins(x=0.03)
        above: dict[
            int, float
        ] = {}  # where the last label stands, in points, for each place that lines end at
        for name, (x, y) in sorted(
            ((n, points[-1]) for n, points in lines.items()), key=lambda end: end[1][1]
        ):
            at = ax.transData.transform((x, y))[1] * 72 / fig.dpi
            shift = max(0.0, above.get(x, 0.0) + 13 - at)
            above[x] = at + shift
            style = {"color": COLORS[name], "va": "center", "fontsize": 11}
            ax.annotate(name, (x, y), (9, shift), textcoords="offset points", **style)
        plots.save(fig, folder, "step")
