"""Sinks over training, and all methods in one plane: what was forgotten, and at what cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memsinks_np._internal.tables import number, table
from memsinks_np.baselines.tradeoff import max_forgetting, tradeoff_curve
from memsinks_np.experiments import fig2, relearn
from memsinks_np.experiments.comparison import SETTINGS, Result, compare, compare_jobs
from memsinks_np.experiments.methods import PLANE, label, methods_of
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, above, below, estimate, minus

METHODS = PLANE
CUTS = ("gates", "integrated_gradients", "output_edit")
UPDATES = ("gradient_ascent", "npo")
Curve = list[tuple[float, float]]  # (cost, forgotten), in nats per token


@dataclass(frozen=True)
class Fig4(Result):
    """The comparison, and the curves of removals from the standard model, seed by seed."""

    cuts: dict[str, list[Curve]]
    updates: dict[str, list[Curve]]


def jobs(context: Context) -> Jobs:
    """Train all methods, and take the cuts of fig2 and the updates of relearn."""
    methods = methods_of(context.preset)
    parts = {
        "methods": compare_jobs(context, context.preset, {name: methods[name] for name in METHODS}),
        "fig2": fig2.jobs(context),
        "relearn": relearn.jobs(context),
    }
    return {(part, key): job for part, jobs in parts.items() for key, job in jobs.items()}


def result(context: Context, outputs: Outputs) -> Fig4:
    """Compare the methods, and read the curves from the results of fig2 and relearn."""
    parts: dict[str, Outputs] = {}
    for (part, key), output in outputs.items():
        parts.setdefault(part, {})[key] = output
    comparison = compare(parts["methods"])
    cut = fig2.result(context, parts["fig2"])
    updated = relearn.result(context, parts["relearn"])
    cuts = {method: cut.cuts["stories"][method].curves for method in CUTS}
    updates = {name: [row.unlearning for row in updated.removals[name]] for name in UPDATES}
    return Fig4(comparison.entropy, comparison.methods, to_curves(cuts), to_curves(updates))


def to_curves(rows: Mapping[str, Any]) -> dict[str, list[Curve]]:
    """Return cost and forgetting of every method and seed."""
    return {
        name: [[(x, y) for x, y in tradeoff_curve(each).tolist()] for each in seeds]
        for name, seeds in rows.items()
    }


def point(result: Fig4, method: str) -> tuple[list[float], list[float]]:
    """Return cost on new stories and forgetting of repeated ones against standard training."""
    cost, forgotten = (
        result.rise(method, f"{split}.{METHODS[method]}", "standard", f"{split}.removed")
        for split in ("heldout", "repeated")
    )
    return cost, forgotten


def claims(result: Fig4) -> list[Claim]:
    """Return what Fig. 4 of the paper says, for the paper's setting and for ours."""
    claims = []
    for method, text in SETTINGS.items():
        removed = result.values(method, "repeated.removed")
        curve = result.curve(method, "repeated.removed")
        lowest = min(curve.values(), key=sum)
        retrained = result.values("retrained", "repeated.removed")
        fraction = [r / g for r, g in zip(removed, retrained, strict=True)]
        over_retrained = result.rise(method, "heldout.removed", "retrained", "heldout.removed")
        cost, forgotten = point(result, method)
        cuts = {
            name: [max_forgetting(c, max(0.0, x)) for c, x in zip(curves, cost, strict=True)]
            for name, curves in result.cuts.items()
        }
        claims += [
            Claim(
                "with the sinks removed, new text is predicted as well as by standard training "
                f"({text})",
                "Fig. 4a: 2.67 against 2.70",
                f"held-out {estimate(cost, sign='+')}",
                sum(cost) / len(cost) <= 0.005,
            ),
            Claim(
                "with the sinks removed, new text is predicted better than by the retrained model "
                f"({text})",
                "Fig. 4a: 2.67 against 2.90",
                f"held-out {estimate(over_retrained, sign='+')} against retrained",
                below(over_retrained),
                "once-seen stories are unlimited here and teach everything; repeats add nothing "
                "(in fig6 they do)",
            ),
            Claim(
                f"removing the sinks restores most of the retrained model's loss ({text})",
                "Fig. 4b: 1.83 of 2.98, 61 %",
                f"{estimate(fraction, 2)} of that loss",
                sum(fraction) / len(fraction) >= 0.6,
            ),
            Claim(
                f"the repeated loss dips, then rises: shared neurons learn, then forget ({text})",
                "Fig. 4b: 1.10, then 1.83",
                f"{estimate(lowest)} at its lowest, {estimate(removed)} at the end",
                above(minus(removed, lowest), 0.01),
                "so few sequences share a sink that the shared neurons hardly memorize at all",
            ),
            Claim(
                f"sinks forget more than any cut in a finished model at no higher cost ({text})",
                "Fig. 4c",
                f"at a cost of {estimate(cost, 2, '+')}: sinks {estimate(forgotten, 2)}; "
                + ", ".join(f"{label(m)} {estimate(b, 2)}" for m, b in cuts.items()),
                all(above(minus(forgotten, b)) for b in cuts.values()),
            ),
        ]
    return claims


def tabulate(result: Fig4) -> str:
    """Return the losses of every method, and what it forgets and costs."""
    rows = []
    for method, sinks in METHODS.items():
        cost, forgotten = (estimate(values, sign="+") for values in point(result, method))
        losses = [number(result.mean(method, f"{s}.{sinks}")) for s in ("repeated", "heldout")]
        penalty = "" if sinks == "all" else f"{result.mean(method, 'compute_penalty'):.0%}"
        rows.append([label(method), *losses, forgotten, cost, penalty])
    for name, curves in result.updates.items():
        cost, forgotten = (estimate([c[-1][i] for c in curves], sign="+") for i in (0, 1))
        rows.append([label(name), "", "", forgotten, cost, ""])
    header = ["method (sinks removed)", "repeated", "new", "forgotten", "cost on new", "penalty"]
    return table(header, rows)


def draw(result: Fig4, folder: Path) -> list[Path]:
    """Draw both losses over training, and the plane of forgetting and cost."""
    panels = [
        ("heldout.removed", "New stories, sinks removed", result.entropy.heldout),
        ("repeated.removed", "Repeated stories, sinks removed", result.entropy.repeated),
    ]
    over_training = ("standard", "retrained", "sinks", "paper_sinks")
    with plots.style():
        grid = {"width_ratios": [1, 1, 1.8]}
        fig, axes = plots.subplots(1, 3, figsize=(17, 4.9), gridspec_kw=grid)
        for ax, (field, title, entropy) in zip(axes, panels, strict=False):
            lines = [(method, field, "-", plots.name(method)) for method in over_training]
            ends = plots.curves(ax, result, lines)
            plots.frame(ax, title, "loss (nats per word)", "training step")
            if field == "heldout.removed":
                plots.zoom(ax, [y for y, *_ in ends] + [entropy or ends[0][0]])
            else:
                ax.set_ylim(0, 2)
            plots.draw_entropy(ax, entropy, 0.5)
            plots.label_ends(ax, ends)
        draw_plane(axes[2], result)
        return plots.save(fig, folder, "fig4")


def draw_plane(ax: Any, result: Fig4) -> None:
    """Draw forgetting against cost: the paper's Fig. 4c, with the cost growing to the right."""
    for method, curves in (result.cuts | result.updates).items():
        for curve in curves:
            cost, forgotten = zip(*curve, strict=True)
            ax.plot(cost, forgotten, color=plots.color_of(method), linewidth=1.3, alpha=0.8)
    for method in METHODS:
        ax.plot(*point(result, method), "o", color=plots.color_of(method), markersize=7, zorder=3)
    ylabel, xlabel = "forgotten (nats per word)", "cost on new stories (nats per word)"
    plots.frame(ax, "What does forgetting cost?", ylabel, xlabel)
    _, target = point(result, "retrained")
    lowest = min(y for method in ("random_sinks", "narrow") for y in point(result, method)[1])
    ax.set_xlim(-0.05, 0.25)
    ax.set_ylim(min(-0.2, lowest) - 0.05, 2.1 * max(sum(target) / len(target), 0.2))
    ax.axvline(0, color="#888888", linewidth=1)
    plots.label_points(ax, labels(result, ax.get_xlim()[1], ax.get_ylim()))


def labels(result: Fig4, right: float, ylim: tuple[float, float]) -> Iterator[plots.Point]:
    """Label every method at its point, or at the edge with its cost; every curve at its end."""
    for method in METHODS:
        cost, forgotten = (sum(values) / len(values) for values in point(result, method))
        outside = f" → cost {cost:+.1f}" if cost > right else ""
        height = min(max(forgotten, ylim[0]), ylim[1])
        yield min(cost, right), height, label(method) + outside, method
    for method, curves in (result.cuts | result.updates).items():
        inside = [(x, y) for curve in curves for x, y in curve if x <= right and y <= ylim[1]]
        x, y = max(inside, key=lambda each: each[1])
        yield x, y, f"{label(method)} (line)", method
