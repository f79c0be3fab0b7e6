"""Off, but not at rest: what momentum and weight decay do to sinks that sleep, and what that costs."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from memsinks_np._internal.tables import table
from memsinks_np.experiments.optimizer_run import METHODS, NAMES, OFF, SLEEPS, run
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate

__all__ = ["claims", "draw", "run", "tabulate"]


def numbers(result: dict[str, Any], often: str, optimizer: str, field: str) -> list[Any]:
    """One for every seed."""
    return [row[field] for row in result["methods"][often][optimizer]]


def claims(result: dict[str, Any]) -> list[Claim]:
    """What moves while it is off, and what that does to memories."""
    moved, lazy = result["traces"]["AdamW, no decay"][-1], result["traces"]["lazy AdamW"]

    def show(often: str, optimizer: str, field: str) -> str:
        return estimate(numbers(result, often, optimizer, field))

    def mean(often: str, optimizer: str, field: str) -> float:
        return float(np.mean(numbers(result, often, optimizer, field)))

    def both(often: str, field: str) -> str:
        return f"{show(often, 'adamw', field)} against {show(often, 'lazy_adamw', field)}"

    gone = [
        mean(often, "adamw", "repeated.removed") - mean(often, "lazy_adamw", "repeated.removed")
        for often in METHODS
    ]
    at = SLEEPS.index(3000)
    slept, fresh = (
        [x[i] for x in numbers(result, "often", "lazy_adamw", "slept")] for i in (at, 0)
    )
    return [
        Claim(
            "a sink that is off is left exactly as it is, by lazy AdamW and by SGD on the rows that were on",
            "section 5: sinks are shielded while they are off",
            f"moved by {max(lazy)} and {max(result['traces']['SGD'])} in {OFF} steps",
            max(lazy) == max(result["traces"]["SGD"]) == 0,
        ),
        Claim(
            "so it is by ordinary AdamW",
            "section 5: sinks are shielded while they are off",
            f"momentum moves each weight by {moved:.1f} learning rates more; decay halves it in "
            f"{result['half_life']:,.0f} steps at the largest rate",
            moved == 0,
            "a gradient of zero is not an update of zero",
        ),
        Claim(
            "in the paper's setting it does not matter: hardly a sink is off for a whole batch",
            "ours",
            f"(1 - p)^B = {result['asleep_paper']:.0e}; in our sparse pool a sink sleeps in "
            f"{mean('often', 'lazy_adamw', 'asleep'):.0%} of the steps",
            result["asleep_paper"] < 0.01,
        ),
        Claim(
            "the tail disturbs memories",
            "ours, as we expected",
            f"repeated, own sinks: {both('often', 'repeated.own')} where they return every "
            f"{result['returns']['often']:.0f} steps; {both('rarely', 'repeated.own')} every "
            f"{result['returns']['rarely']:.0f}",
            mean("rarely", "adamw", "repeated.own") > mean("rarely", "lazy_adamw", "repeated.own"),
            "the tail goes on in the direction of what was just learnt: one activation is worth several steps",
        ),
        Claim(
            "either way the memory is in the sinks",
            "ours",
            "sinks removed: " + "; ".join(both(often, "repeated.removed") for often in METHODS),
            max(map(abs, gone)) < 0.02,
        ),
        Claim(
            "decay erases a memory whose sinks nobody uses any more",
            "ours",
            f"own sinks: {estimate(fresh)}, after {SLEEPS[at]:,} steps asleep at the largest rate {estimate(slept)}",
            float(np.mean(slept)) > float(np.mean(fresh)) + 0.1,
            "the sinks are strong enough to stand so much shrinking",
        ),
    ]


COLUMNS = {
    "repeated.own": "repeated, own sinks",
    "repeated.removed": "sinks removed",
    "heldout.removed": "new, sinks removed",
    "extraction.own": "extracted, own",
    "asleep": "a sink sleeps",
}


def tabulate(result: dict[str, Any]) -> str:
    """The trace in learning rates; the methods in nats per word; the long sleeps."""
    steps = (1, 5, 10, 20, 50, 100, 200, 400)
    moved = [
        [name, *(f"{trace[i]:.2f}" for i in steps)] for name, trace in result["traces"].items()
    ]
    methods = [
        [f"every {result['returns'][often]:.0f} steps, {NAMES[o]}"]
        + [estimate(numbers(result, often, o, field)) for field in COLUMNS]
        for often in METHODS
        for o in METHODS[often]
    ]
    sleeps = [
        [
            f"{steps:,}",
            *(
                estimate([x[i] for x in numbers(result, often, "lazy_adamw", "slept")])
                for often in METHODS
            ),
        ]
        for i, steps in enumerate(SLEEPS)
    ]
    return "\n\n".join(
        (
            table(["moved (learning rates) after steps off", *map(str, steps)], moved),
            table(["method", *COLUMNS.values()], methods),
            table(["steps asleep under decay", "own sinks, learnt often", "rarely"], sleeps),
        )
    )


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """One sink asleep; two optimizers awake; a long sleep (seed 0)."""
    with plt.rc_context(plots.STYLE):
        fig, axes = plt.subplots(1, 3, figsize=(16.5, 4.2), gridspec_kw={"wspace": 0.75})
        draw_traces(axes[0], result["traces"])
        draw_history(axes[1], result)
        draw_sleep(axes[2], result)
        return plots.save(fig, folder, "optimizer")


def draw_traces(ax: Any, traces: dict[str, Any]) -> None:
    ends = []
    for name, label, method, line in (
        ("AdamW, no decay", "its momentum", "adamw", "--"),
        ("AdamW, no momentum", "its decay", "adamw", ":"),
        ("AdamW", "AdamW, both", "adamw", "-"),
        ("lazy AdamW", "lazy AdamW,\nSGD", "sinks", "-"),
    ):
        ax.plot(traces[name], line, color=plots.COLORS[method])
        ends.append((traces[name][-1], label, method))
    plots.frame(
        ax, "Off: does the sink rest?", "distance moved (learning rates)", "steps since it was on"
    )
    plots.label_ends(ax, ends)


def draw_history(ax: Any, result: dict[str, Any]) -> None:
    ends = []
    for often, line in (("often", "-"), ("rarely", "--")):
        for (optimizer, label), method in zip(NAMES.items(), ("sinks", "adamw"), strict=True):
            rows = result["methods"][often][optimizer][0]["history"]
            ax.plot(
                [r["step"] for r in rows],
                [r["repeated.own"] for r in rows],
                line,
                color=plots.COLORS[method],
            )
            if often == "rarely":
                ends.append((rows[-1]["repeated.own"], label, method))
    plots.frame(ax, "Who learns it faster?", "repeated, own sinks (nats per word)", "training step")
    ax.set_ylim(0, 1)
    every = (f"{often} (every {result['returns'][often]:.0f} steps)" for often in METHODS)
    note = "full: {}\ndashed: {}".format(*every)
    ax.text(1.1, 0.99, note, transform=ax.transAxes, ha="right", va="top", fontsize=11)
    plots.label_ends(ax, ends)


def draw_sleep(ax: Any, result: dict[str, Any]) -> None:
    steps = np.array(SLEEPS[1:])
    ends = []
    for often, line in (("often", "-"), ("rarely", "--")):
        row = result["methods"][often]["lazy_adamw"][0]
        ax.plot(steps, row["slept"][1:], line, color=plots.COLORS["adamw"])
        ends.append((row["slept"][-1], f"learnt {often}", "adamw"))
    plots.frame(
        ax,
        "How long does it last asleep?",
        "own sinks (nats per word)",
        "steps asleep under AdamW's decay",
    )
    ax.set_xscale("log")
    ax.set_ylim(0, None)
    plots.label_ends(ax, ends)
