"""What a removal costs, and what the relearning attack gets back, in three panels."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from memsinks_np.experiments.relearn_run import BUDGET
from memsinks_np.experiments.report import plots

LABELS = {
    "standard": "standard",
    "retrained": "retrained without",
    "sinks": "sinks removed",
    "paper_sinks": "paper's, removed",
    "integrated_gradients": "neurons cut out",
    "gradient_ascent": "gradient ascent",
    "gradient_ascent_toughest": "ascent, holds best",
    "npo": "NPO",
    "npo_toughest": "NPO, holds best",
}


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """What unlearning costs, how fast what it forgot is relearnt, and whether the half that is not shown returns."""
    unit = "word" if result["corpus"] == "stories" else "character"
    with plt.rc_context(plots.STYLE):
        grid = {"wspace": 0.65, "width_ratios": [1.15, 0.9, 1]}
        fig, axes = plt.subplots(1, 3, figsize=(15.5, 4.6), gridspec_kw=grid)
        draw_cost(axes[0], result, unit)
        draw_steps(axes[1], result)
        draw_return(axes[2], result, unit)
        return plots.save(fig, folder, "relearn")


def color(name: str) -> str:
    return plots.COLORS[name.removesuffix("_toughest")]


def draw_cost(ax: Any, result: dict[str, Any], unit: str) -> None:
    """Seed 0: the way of every setting through the plane of repeated and held-out loss, and where the methods lie."""
    budget = result["methods"]["standard"][0]["heldout.removed"] + BUDGET
    for name, of in result["tried"].items():
        for row in of:
            x, y = (
                [point[f] for point in row["unlearning"]]
                for f in ("heldout.removed", "repeated.removed")
            )
            ax.plot(x, y, color=color(name), linewidth=1.2, alpha=0.8)
            ax.plot(x[-1], y[-1], "o", color=color(name), markersize=4)
    for name, shape, size in (("standard", "D", 8), ("retrained", "D", 13), ("sinks", "D", 8)):
        row = result["methods"][name][0]
        ax.plot(
            row["heldout.removed"],
            row["repeated.removed"],
            shape,
            color=color(name),
            markersize=size,
            zorder=3,
        )
    plots.frame(
        ax, "What does unlearning cost?", f"repeated (nats per {unit})", f"new (nats per {unit})"
    )
    ax.margins(x=0.08)
    ax.autoscale_view()
    low, high = ax.get_xlim()
    ax.axvspan(budget, high, color="#F0F0F0", zorder=0)
    ax.set_xlim(low, high)
    place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    ax.annotate(
        f"cost over {BUDGET}", (budget, 0.93), (4, 0), fontsize=11, color="#888888", **place
    )
    for height, name in (
        (0.44, "retrained"),
        (0.34, "sinks"),
        (0.24, "gradient_ascent"),
        (0.14, "npo"),
    ):
        ax.text(0.97, height, LABELS[name], transform=ax.transAxes, color=color(name), ha="right")
    ax.text(
        0.97,
        0.04,
        "standard: the start",
        transform=ax.transAxes,
        color=color("standard"),
        ha="right",
    )


def draw_steps(ax: Any, result: dict[str, Any]) -> None:
    """A line from the steps to relearn (full) to those for new sequences (open): its length is what is left."""
    names = [name for name in LABELS if name in result["methods"]][::-1]
    for y, name in enumerate(names):
        old, new = (
            float(np.mean([row[f] for row in result["methods"][name]]))
            for f in ("steps", "steps_new")
        )
        ax.plot([old, new], [y, y], color=color(name))
        ax.plot(
            new, y, "o", color=color(name), markerfacecolor="white", markersize=9, markeredgewidth=2
        )
        ax.plot(old, y, "o", color=color(name), markersize=9)
    ax.set_yticks(range(len(names)), [LABELS[name] for name in names])
    ax.tick_params(axis="y", length=0)
    for tick, name in zip(ax.get_yticklabels(), names, strict=True):
        tick.set_color(color(name))
    ax.set(title="Is it relearnt faster?", xlabel="steps: ● forgotten, ○ new sequences")
    ax.set_xlim(-5, None)


def draw_return(ax: Any, result: dict[str, Any], unit: str) -> None:
    """The half that is never shown, while the other is relearnt."""
    ends = []
    for name, of in result["methods"].items():
        method = name.removesuffix("_toughest")
        history = [
            {**point, "method": method, "seed": row["seed"]}
            for row in of
            for point in row["attack"]
        ]
        ends.append(
            (
                plots.curve(ax, history, method, "other", "-" if name == method else "--"),
                LABELS[name],
                method,
            )
        )
    ax.set_ylim(0, 2)
    plots.frame(ax, "Does the other half return?", f"loss (nats per {unit})", "step of the attack")
    plots.label_ends(ax, ends)
