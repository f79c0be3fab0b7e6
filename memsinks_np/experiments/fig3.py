"""Gradient masking: what forced isolation costs, with its sinks kept and with them removed."""

from pathlib import Path

from memsinks_np._internal.tables import number, table
from memsinks_np.experiments.comparison import Result, compare, compare_jobs
from memsinks_np.experiments.methods import label, methods_of
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate

METHODS = ("standard", "retrained", "gradient_masking")


def jobs(context: Context) -> Jobs:
    """Train gradient masking (paper, section 4) and its two references."""
    methods = methods_of(context.preset)
    return compare_jobs(context, context.preset, {name: methods[name] for name in METHODS})


def result(context: Context, outputs: Outputs) -> Result:
    """Compare the methods."""
    return compare(outputs)


def claims(result: Result) -> list[Claim]:
    """Return what the paper says about gradient masking."""
    removed = result.mean_curve("gradient_masking", "heldout.removed")
    best, last = min(removed, key=lambda step: removed[step]), max(removed)
    worse, broken = (
        result.rise("gradient_masking", field, "standard", "heldout.removed")
        for field in ("heldout.own", "heldout.removed")
    )
    return [
        Claim(
            "forced isolation generalizes worse than standard training, even with everything kept",
            "Fig. 3: 3.5 against 2.72",
            f"held-out {estimate(worse, sign='+')}",
            sum(worse) > 0,
        ),
        Claim(
            "removing its sinks raises the loss on new text",
            "Fig. 3: 4.13 against 2.72",
            f"held-out {estimate(broken, sign='+')}",
            sum(broken) > sum(worse) and min(broken) > 0.1,
        ),
        Claim(
            "with its sinks removed, the loss on new text rises again after a minimum",
            "Fig. 3: 3.74, then 4.13",
            f"{number(removed[best])} at step {best}, {number(removed[last])} at the end",
            best < last and removed[last] > removed[best] + 0.05,
        ),
    ]


COLUMNS = {
    "heldout.own": "new, everything kept",
    "heldout.removed": "new, sinks removed",
    "repeated.own": "repeated, kept",
    "repeated.removed": "repeated, removed",
}


def tabulate(result: Result) -> str:
    """Return one row per method: mean ± standard deviation, in nats per token."""
    rows = [[label(name), *(result.spread(name, c) for c in COLUMNS)] for name in METHODS]
    return table(["method", *COLUMNS.values()], rows)


LINES = [
    ("gradient_masking", "heldout.removed", "--", "gradient\nmasking,\nremoved"),
    ("gradient_masking", "heldout.own", "-", "gradient\nmasking,\nall kept"),
    ("standard", "heldout.own", "-", "standard"),
]


def draw(result: Result, folder: Path) -> list[Path]:
    """Draw the loss on new stories over training."""
    with plots.style():
        fig, ax = plots.subplots(figsize=(6.4, 4.4))
        ends = plots.curves(ax, result, LINES)
        title = "Forced isolation: what skill is lost?"
        plots.frame(ax, title, "loss on new stories (nats per word)", "training step")
        ax.set_ylim(0, max(5, 1.25 * result.mean("gradient_masking", "heldout.removed")))
        plots.draw_entropy(ax, result.entropy.heldout, 0.5)
        plots.label_ends(ax, ends)
        return plots.save(fig, folder, "fig3")
