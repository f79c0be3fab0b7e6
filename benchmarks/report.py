"""The benchmark's table and figure."""

from pathlib import Path
from typing import Any

from memsinks_np._internal.tables import number, table
from memsinks_np.experiments.report import plots

Row = dict[str, Any]  # shape, n_sink, implementation, threads, median_ms
OURS, MASKED = "ours gathered", "ours masked"
COLORS = {  # ours as in every figure of this project, Okabe and Ito's palette, and brown
    OURS: "#0072B2",
    MASKED: "#56B4E9",
    "torch gathered": "#D55E00",
    "torch compiled": "#8C564B",
    "torch masked": "#E69F00",
    "jax gathered": "#009E73",
    "jax masked": "#CC79A7",
    "autograd": "#999999",
    "floor": "#444444",
}
LABEL_POINTS = 13  # height of a label


def median_of(rows: list[Row], shape: str, implementation: str, threads: int) -> float | None:
    """Return a median in milliseconds, or None if it was not measured."""
    key = (shape, implementation, threads)
    matching = (r for r in rows if (r["shape"], r["implementation"], r["threads"]) == key)
    return next((r["median_ms"] for r in matching), None)


def tabulate(rows: list[Row], threads: int) -> str:
    """Return our time per step, and its ratio to every other time (below 1: ours is faster).

    With two threads, also the speed-up from one: ours, and the floor's, which is the most that a
    second thread can bring on this machine at this time.
    """
    others = ["floor", *(name for name in COLORS if name not in (OURS, MASKED, "floor")), MASKED]

    def ratio(shape: str, a: tuple[str, int], b: tuple[str, int]) -> str:
        x, y = median_of(rows, shape, *a), median_of(rows, shape, *b)
        return number(x / y if x and y else None, 2)

    lines = []
    for shape in dict.fromkeys(r["shape"] for r in rows):
        speedups = [ratio(shape, (name, 1), (name, threads)) for name in (OURS, "floor")]
        speedups = speedups if threads > 1 else []
        ratios = [ratio(shape, (OURS, threads), (other, threads)) for other in others]
        lines.append([shape, number(median_of(rows, shape, OURS, threads), 1), *speedups, *ratios])
    header = ["shape", "ours, ms"]
    if threads > 1:
        header += ["speed-up from 1", "the floor's"]
    return table([*header, *(f"/ {other}" for other in others)], lines)


def draw(rows: list[Row], threads: int, folder: Path) -> None:
    """Draw the median time per step against the size of the pool, one line per implementation."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for r in sorted(rows, key=lambda r: r["n_sink"]):
        pool = r["shape"] == "default" or r["shape"].startswith("pool-")
        if pool and r["threads"] == threads:
            lines.setdefault(r["implementation"], []).append((r["n_sink"], r["median_ms"]))
    with plots.style():
        fig, ax = plots.subplots(figsize=(7.5, 4.8))
        for name, points in lines.items():
            line = ":" if name == "floor" else "-"
            ax.plot(*zip(*points, strict=True), line, marker="o", color=COLORS[name])
        ax.set(xscale="log", yscale="log")
        title = "Does an inactive sink cost anything?"
        plots.frame(ax, title, "one training step (ms)", "sinks in the pool")
        ax.margins(x=0.03)
        top: dict[int, float] = {}  # height of the highest label so far at each end, in points
        for name, points in sorted(lines.items(), key=lambda line: line[1][-1][1]):
            x, y = points[-1]
            height = ax.transData.transform((x, y))[1] * 72 / fig.dpi
            shift = max(0.0, top.get(x, 0.0) + LABEL_POINTS - height)
            top[x] = height + shift
            style: Any = {"color": COLORS[name], "va": "center", "fontsize": 11}
            ax.annotate(name, (x, y), (9, shift), textcoords="offset points", **style)
        plots.save(fig, folder, "step")
