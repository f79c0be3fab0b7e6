"""What figures share: style, bands, labels, whole files.  One colour per method in every figure (Okabe and Ito 2008)."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from memsinks_np._internal.files import write_atomic

COLORS = {
    "standard": "#E69F00",
    "retrained": "#999999",
    "gradient_masking": "#CC79A7",
    "paper_sinks": "#56B4E9",
    "sinks": "#0072B2",
    "random_sinks": "#009E73",
    "disjoint": "#332288",
    "sgtm": "#D55E00",
    "sgtm_half": "#E8915B",
    "narrow": "#000000",
    "dropout": "#B59B00",
    "released": "#CC3311",
    "adamw": "#AA3377",
    "gates": "#882255",
    "integrated_gradients": "#CC6677",
    "contrast": "#44AA99",
    "zero_out": "#AA4499",
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
    "svg.fonttype": "path",
    "svg.hashsalt": "memsinks_np",
}


def color_of(method: str) -> str:
    """The method's colour in every figure; dark grey for one that has none in COLORS yet."""
    return COLORS.get(method, "#444444")


def band(ax: Any, x: Sequence[float], seeds: Any, color: str, line: str = "-") -> float:
    """Mean over seeds of (points, seeds) values, with a band from the lowest to the highest; returns the last mean."""
    y = np.asarray(seeds, float)
    ax.plot(x, y.mean(axis=1), line, color=color, marker="o" if len(x) < 8 else None, markersize=5)
    ax.fill_between(x, y.min(axis=1), y.max(axis=1), color=color, alpha=0.2, linewidth=0)
    return float(y[-1].mean())


def curve(ax: Any, history: list[dict[str, Any]], method: str, field: str, line: str = "-") -> float:
    """An method's number against training steps, over seeds; returns the last mean."""
    steps = sorted({row["step"] for row in history})
    seeds = [[row[field] for row in history if row["method"] == method and row["step"] == step] for step in steps]
    return band(ax, steps, seeds, color_of(method), line)


def label_ends(ax: Any, ends: Iterable[tuple[float, str, str]]) -> None:
    """Write each (y, text, method) at the right end of its line, in its colour, moved apart where they would overlap."""
    low, high = ax.get_ylim()
    inches = ax.figure.get_size_inches()[1] * ax.get_position().height
    height = plt.rcParams["font.size"] * 1.25 / 72 / inches  # of one line of text, as a share of the axis
    ordered = sorted(ends)
    share = np.array([np.clip((y - low) / (high - low), 0, 1) for y, _, _ in ordered])
    room = np.array([height * (1 + text.count("\n")) for _, text, _ in ordered])
    for _ in range(500):  # push overlapping neighbours apart, a little at a time
        overlap = np.maximum(0, (room[1:] + room[:-1]) / 2 - np.diff(share))
        share[1:] += overlap / 2
        share[:-1] -= overlap / 2
        share = np.clip(share, height / 4, 1 - height / 4)
    for y, (_, text, method) in zip(share, ordered, strict=True):
        ax.text(1.02, y, text, transform=ax.transAxes, color=color_of(method), va="center", linespacing=1.0)


def frame(ax: Any, title: str, ylabel: str, xlabel: str) -> None:
    """Title (the question that the panel answers), axes with units, no room left of the first step."""
    ax.set(title=title, ylabel=ylabel, xlabel=xlabel)
    ax.margins(x=0)


def zoom(ax: Any, values: list[float]) -> None:
    """Show where the lines end, and as much above as they lie apart."""
    low, high = min(values), max(values)
    ax.set_ylim(low - 0.15 * (high - low), high + 1.0 * (high - low))


def draw_floor(ax: Any, floor: float | None, at: float) -> None:
    """A dotted line at the entropy of the sample: no model that is independent of it can be expected below.

    `at` is where its name stands, as a share of the axis.
    """
    if floor is not None:
        ax.axhline(floor, color="#444444", linestyle=":", linewidth=1.3)
        place = {
            "xycoords": ax.get_yaxis_transform(),
            "textcoords": "offset points",
            "va": "top",
            "ha": "center",
        }
        ax.annotate("entropy floor", (at, floor), (0, -3), fontsize=11, color="#444444", **place)


def floor_and_ends(ax: Any, floor: float | None, ends: Iterable[tuple[float, str, str]]) -> None:
    """A loss axis from 0, the entropy floor on it, labels at the lines."""
    ends = list(ends)
    ax.set_ylim(0, 1.15 * max([y for y, *_ in ends] + [floor or 0, ax.get_ylim()[1] / 1.15]))
    draw_floor(ax, floor, 0.5)
    label_ends(ax, ends)


def dots(ax: Any, rows: Sequence[tuple[str, Sequence[float], str]], hollow: bool = False) -> None:
    """One line per (label, values over seeds, colour): a dot per seed, the first row on top."""
    for y, (_, values, color) in enumerate(rows):
        ax.plot(values, [y] * len(values), "o", color=color, markerfacecolor="white" if hollow else color, markersize=9)
    ax.set_yticks(range(len(rows)), [label for label, *_ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", visible=True)


def save(fig: Any, folder: Path, name: str) -> list[Path]:
    """Write NAME.png (200 dpi) and NAME.svg, whole or not at all, the same bytes for the same figure."""
    paths = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        file = io.BytesIO()
        fig.savefig(file, format=kind, dpi=200, bbox_inches="tight", metadata=metadata)
        paths.append(folder / f"{name}.{kind}")
        write_atomic(paths[-1], file.getvalue())
    plt.close(fig)
    return paths
