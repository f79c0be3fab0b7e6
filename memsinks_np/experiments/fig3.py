"""Gradient masking: what forced isolation costs with everything kept, and what breaks when its sinks are dropped."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from memsinks_np._internal.tables import number, spread, table
from memsinks_np.experiments import Context
from memsinks_np.experiments.comparison import compare, curve, mean, values
from memsinks_np.experiments.methods import methods_of
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate

METHODS = ("standard", "retrained", "gradient_masking")


def run(plan: Context) -> dict[str, Any]:
    """Standard training and gradient masking (paper, section 4), and the gold reference."""
    methods = methods_of(plan.preset)
    return compare(plan, {"fig3": (plan.preset, {name: methods[name] for name in METHODS})})["fig3"]


def claims(result: dict[str, Any]) -> list[Claim]:
    cut = curve(result, "gradient_masking", "heldout.removed")
    low = min(cut, key=lambda step: cut[step])
    standard = values(result, "standard", "heldout.removed")
    kept, dropped = (
        values(result, "gradient_masking", f"heldout_{which}") for which in ("own", "removed")
    )
    worse, broken = ([a - b for a, b in zip(of, standard, strict=True)] for of in (kept, dropped))
    return [
        Claim(
            "forced localization generalizes worse than standard training, even with everything kept",
            "Fig. 3: 3.5 against 2.72",
            f"held-out {estimate(worse, sign='+')}",
            sum(worse) > 0,
        ),
        Claim(
            "dropping the reserved neurons hurts what the model can do",
            "Fig. 3: 4.13 against 2.72",
            f"held-out {estimate(broken, sign='+')}",
            sum(broken) > sum(worse) and min(broken) > 0.1,
        ),
        Claim(
            "and more so as training goes on: after a minimum, the loss without them rises",
            "Fig. 3: 3.74, then 4.13",
            f"{number(cut[low])} at step {low}, {number(list(cut.values())[-1])} at the end",
            low < list(cut)[-1] and list(cut.values())[-1] > cut[low] + 0.05,
        ),
    ]


def tabulate(result: dict[str, Any]) -> str:
    fields = {
        "heldout.own": "new, everything kept",
        "heldout.removed": "new, sinks dropped",
        "repeated.own": "repeated, kept",
    }
    fields["repeated.removed"] = "repeated, dropped"
    rows = [
        [
            method.replace("_", " "),
            *(
                spread(result["methods"][method]["mean"][f], result["methods"][method]["std"][f])
                for f in fields
            ),
        ]
        for method in METHODS
    ]
    return table(["method", *fields.values()], rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    with plt.rc_context(plots.STYLE):
        fig, ax = plt.subplots(figsize=(6.4, 4.4))
        history = result["history"]
        ends = [
            (plots.curve(ax, history, method, field, line), label, method)
            for method, field, line, label in (
                (
                    "gradient_masking",
                    "heldout.removed",
                    "--",
                    "gradient masking,\nits neurons dropped",
                ),
                ("gradient_masking", "heldout.own", "-", "gradient masking,\neverything kept"),
                ("standard", "heldout.own", "-", "standard"),
            )
        ]
        plots.frame(
            ax,
            "Forced apart: what does the skill lose?",
            "loss on new stories (nats per word)",
            "training step",
        )
        ax.set_ylim(0, 1.25 * max(5 / 1.25, mean(result, "gradient_masking", "heldout.removed")))
        plots.draw_floor(ax, result["floor"]["heldout"], 0.5)
        plots.label_ends(ax, ends)
        return plots.save(fig, folder, "fig3")
