"""Style and parts of figures. Each method has one color in every figure (Okabe and Ito 2008)."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colors as mcolors
from matplotlib import pyplot as plt
from matplotlib.text import Text

from memsinks_np._internal.files import write_atomic
from memsinks_np.experiments.comparison import Result
from memsinks_np.experiments.methods import label

End = tuple[float, str, str]  # of a line: height, label, method
Point = tuple[float, float, str, str]  # x, y, label, method
COLORS = {
    "standard": "#E69F00",
    "retrained": "#999999",
    "gradient_masking": "#CC79A7",
    "paper_sinks": "#56B4E9",
    "sinks": "#0072B2",
    "large_pool": "#004166",
    "random_sinks": "#009E73",
    "deduplicated": "#D55E00",
    "capped_2": "#D55E00",
    "capped_4": "#D55E00",
    "capped_8": "#D55E00",
    "disjoint_sinks": "#332288",
    "sgtm": "#000000",
    "sgtm_half": "#777777",
    "sgtm_wrong": "#AAAA00",
    "sgtm_joint": "#EE3377",
    "filter_half": "#BB5566",
    "narrow": "#8C6D31",
    "dropout": "#B59B00",
    "released": "#CC3311",
    "hashed": "#A0410D",  # IDs of near-duplicates; one ID has the color of "sinks"
    "minhash": "#009988",
    "lazy_adamw": "#0072B2",  # the optimizer of "sinks"
    "adamw": "#AA3377",
    "gates": "#882255",
    "integrated_gradients": "#CC6677",
    "contrast": "#44AA99",
    "zero_out": "#AA4499",
    "output_edit": "#EE7733",
    "random": "#BBBBBB",
    "gradient_ascent": "#8C564B",
    "npo": "#117733",
}
STYLE: Any = {
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "lines.linewidth": 2.4,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "svg.fonttype": "none",  # text can be found and copied; Verdana has the widths of DejaVu
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "svg.hashsalt": "memsinks_np",
}


INVERT = "@media(prefers-color-scheme:dark){svg{filter:invert(.9) hue-rotate(180deg)}}"


def style() -> Any:
    """Return a context in which figures have this style, independent of any matplotlibrc."""
    return plt.style.context(["default", STYLE])


def subplots(rows: int = 1, columns: int = 1, **settings: Any) -> Any:
    """Return a figure and its axes, which are as wide as their labels leave room for."""
    fig, axes = plt.subplots(rows, columns, layout="constrained", **settings)
    fig.get_layout_engine().set(wspace=0.03, hspace=0.04)  # between panels
    return fig, axes


def name(method: str) -> str:
    """Return how figures name a method, on two lines if it has several words."""
    return label(method).replace(" ", "\n", 1)


def color_of(method: str) -> str:
    """Return a method's color; dark grey for one that has none in COLORS."""
    return COLORS.get(method, "#444444")


def contrast(color: str) -> float:
    """Return the contrast of a color against white (WCAG 2.2)."""
    rgb = np.array(mcolors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 1.05 / (float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)


def ink_of(method: str) -> str:
    """Return a method's color for text, darkened to a contrast of 4.5 against white."""
    color = color_of(method)
    while contrast(color) < 4.5:
        r, g, b = mcolors.to_rgb(color)
        color = mcolors.to_hex((0.97 * r, 0.97 * g, 0.97 * b))
    return color


def band(ax: Any, x: Sequence[float], seeds: Any, color: str, line: str = "-") -> float:
    """Draw the mean of (points, seeds) values with their range; return the last mean."""
    y = np.asarray(seeds, float)
    ax.plot(x, y.mean(axis=1), line, color=color, marker="o" if len(x) < 8 else None, markersize=5)
    ax.fill_between(x, y.min(axis=1), y.max(axis=1), color=color, alpha=0.2, linewidth=0)
    return float(y[-1].mean())


def curve(ax: Any, result: Result, method: str, field: str, line: str = "-") -> float:
    """Draw a method's number against training steps; return the last mean."""
    points = result.curve(method, field)
    return band(ax, list(points), list(points.values()), color_of(method), line)


def curves(ax: Any, result: Result, lines: Iterable[tuple[str, str, str, str]]) -> list[End]:
    """Draw each line (method, field, line style, label) of training; return the ends to label."""
    return [
        (curve(ax, result, method, field, line), text, method)
        for method, field, line, text in lines
    ]


def labelled_bands(ax: Any, lines: Iterable[tuple[Any, Any, str, str, str]]) -> None:
    """Draw each line (x, values (points, seeds), label, method, style); label its right end."""
    ends = [
        (band(ax, list(x), list(values), color_of(method), line), text, method)
        for x, values, text, method, line in lines
    ]
    label_ends(ax, ends)


def label_ends(ax: Any, ends: Iterable[End]) -> None:
    """Label each line at its right end, moved apart where they overlap."""
    low, high = ax.get_ylim()
    inches = ax.figure.get_size_inches()[1] * ax.get_position().height
    height = plt.rcParams["font.size"] * 1.25 / 72 / inches  # of a text line, of the axis
    ordered = sorted(ends)
    at = np.array([np.clip((y - low) / (high - low), 0, 1) for y, _, _ in ordered])
    needed = np.array([height * (1 + text.count("\n")) for _, text, _ in ordered])
    margin = needed / 2 - height / 4
    for _ in range(500):  # push overlapping neighbours apart, a little at a time
        overlap = np.maximum(0, (needed[1:] + needed[:-1]) / 2 - np.diff(at))
        at[1:] += overlap / 2
        at[:-1] -= overlap / 2
        at = np.clip(at, margin, 1 - margin)
    starts = np.clip([(y - low) / (high - low) for y, _, _ in ordered], 0, 1)
    moved = abs(at - starts) > height / 3
    style = {"xycoords": ax.transAxes, "va": "center", "linespacing": 1.0}
    for start, y, far, (_, text, method) in zip(starts, at, moved, ordered, strict=True):
        line = {"arrowstyle": "-", "color": color_of(method), "relpos": (0, 0.5), "shrinkB": 1}
        more = {"arrowprops": line | {"linewidth": 1}} if far else {}
        right = 1.06 if moved.any() else 1.02
        ax.annotate(text, (1, start), (right, y), color=ink_of(method), **style, **more)


SIDES, LEVELS = {1: "left", 0: "center", -1: "right"}, {1: "bottom", 0: "center", -1: "top"}
NEAR = [(x * r, y * r) for r in (8, 22, 40) for x in (1, -1, 0) for y in (0, 1, -1) if x or y]


def dense(points: Any) -> Any:
    """Return the points of a line, with 20 more between each two."""
    at = np.arange(0, max(1, len(points) - 1) + 1e-9, 1 / 20)
    return np.array(
        [np.interp(at, range(len(points)), column) for column in np.asarray(points).T]
    ).T


def label_points(ax: Any, points: Iterable[Point], size: float = 11) -> None:
    """Label each point beside it, where the fewest lines, points and labels are hidden.

    Call it when everything else is drawn.
    """
    ax.figure.draw_without_rendering()  # so that the axis has its size
    lines = [line.get_transform().transform(dense(line.get_xydata())) for line in ax.lines]
    frame, taken = ax.get_window_extent(), [text.get_window_extent() for text in ax.texts]
    for x, y, text, method in points:
        line = {"arrowstyle": "-", "color": color_of(method), "linewidth": 0.8, "shrinkB": 4}
        style = {"textcoords": "offset points", "color": ink_of(method), "fontsize": size}
        mark = ax.annotate(text, (x, y), (0, 0), arrowprops=line, **style)
        options = []
        for offset in NEAR:
            box = move(mark, offset)
            hidden = sum(box.count_contains(line) for line in lines)
            outside = not (frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1))
            crowd = hidden + 100 * box.count_overlaps(taken) + 1000 * outside
            options.append((crowd, NEAR.index(offset)))
        taken.append(move(mark, NEAR[min(options)[1]]))


def move(mark: Any, offset: tuple[int, int]) -> Any:
    """Move a label to an offset in points from its point; return its box with a small margin."""
    right, up = offset
    mark.set(ha=SIDES[np.sign(right)], va=LEVELS[np.sign(up)])
    mark.xyann = offset
    mark.update_positions(mark.figure.canvas.get_renderer())
    return Text.get_window_extent(mark).padded(2)  # without the line to the point


def labelled_lines(ax: Any, lines: Iterable[tuple[Any, Any, str, str, str]]) -> None:
    """Draw each line (x, y, label, method, line style), and label it at its right end."""
    ends = []
    for x, y, text, method, line in lines:
        ax.plot(x, y, line, color=color_of(method), clip_on="o" not in line)  # do not clip dots
        ends.append((y[-1], text, method))
    label_ends(ax, ends)


def frame(ax: Any, title: str, ylabel: str, xlabel: str) -> None:
    """Set the title (the question that the panel answers), axis labels, and no side margins."""
    ax.set(title=title, ylabel=ylabel, xlabel=xlabel)
    ax.margins(x=0)


def zoom(ax: Any, values: list[float]) -> None:
    """Limit the y axis to where the lines end, with as much room above as their spread."""
    low, high = min(values), max(values)
    ax.set_ylim(low - 0.15 * (high - low), high + 1.0 * (high - low))


def draw_entropy(ax: Any, entropy: float | None, at: float) -> None:
    """Draw the entropy of the sample, the loss of a perfect model, labelled at a fraction of x."""
    if entropy is not None:
        ax.axhline(entropy, color="#444444", linestyle=":", linewidth=1.3)
        place = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
        style = {"va": "top", "ha": "center", "fontsize": 11, "color": "#444444"}
        ax.annotate("entropy floor", (at, entropy), (0, -3), **place, **style)


def entropy_and_ends(ax: Any, entropy: float | None, ends: Sequence[End]) -> None:
    """Start a loss axis at 0, draw the entropy, and label the lines."""
    ax.set_ylim(0, 1.15 * max([y for y, *_ in ends] + [entropy or 0, ax.get_ylim()[1] / 1.15]))
    draw_entropy(ax, entropy, 0.5)
    label_ends(ax, ends)


def dots(ax: Any, rows: Sequence[tuple[str, Sequence[float], str]], hollow: bool = False) -> None:
    """Draw one row per (label, values over seeds, color), the first on top: a dot per seed."""
    for y, (_, values, color) in enumerate(rows):
        fill = "white" if hollow else color
        ax.plot(values, [y] * len(values), "o", color=color, markerfacecolor=fill, markersize=9)
    ax.set_yticks(range(len(rows)), [label for label, *_ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", visible=True)


def save(fig: Any, folder: Path, name: str) -> list[Path]:
    """Write NAME.png (200 dpi) and NAME.svg, with the same bytes for the same figure.

    The SVG is light on dark where the reader prefers that.
    """
    paths = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        file = io.BytesIO()
        fig.savefig(file, format=kind, dpi=200, bbox_inches="tight", metadata=metadata)
        paths.append(folder / f"{name}.{kind}")
        data = file.getvalue().replace(b"<style ", f"<style>{INVERT}</style>\n<style ".encode(), 1)
        write_atomic(paths[-1], data if kind == "svg" else file.getvalue())
    plt.close(fig)
    return paths
