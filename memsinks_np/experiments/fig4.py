"""Sinks over training, and every rival in one plane: what was forgotten, and what it cost on new text."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from memsinks_np import plots
from memsinks_np.arms import rivals
from memsinks_np.experiments import Plan, fig2_run, relearn_run
from memsinks_np.experiments.comparison import compare, curve, mean, values
from memsinks_np.posthoc.tradeoff import path, within
from memsinks_np.report import Claim, estimate, number, table

# arm -> how it is evaluated (dropout with all of its neurons, scaled)
ARMS = {
    "standard": "removed",
    "retrained_without": "removed",
    "memsinks": "removed",
    "memsinks_paper": "removed",
    "disjoint": "removed",
    "sgtm": "removed",
    "sgtm_half": "removed",
    "gradient_masking": "removed",
    "untied": "removed",
    "narrow": "removed",
    "dropout": "all",
}
CUTS, UPDATES = ("gates", "integrated_gradients"), ("gradient_ascent", "npo")


def run(plan: Plan) -> dict[str, Any]:
    """All ways to isolate while training, beside the cuts of fig2 and the updates of relearn."""
    arms = rivals(plan.preset)
    result = compare(plan, {"fig4": (plan.preset, {name: arms[name] for name in ARMS})})["fig4"]
    cut, updated = fig2_run.run(plan), relearn_run.run(plan)
    rows = {method: fig2_run.cuts(cut, "stories", method) for method in CUTS}
    result["cuts"] = {method: [path(of, "repeated").tolist() for of in seeds] for method, seeds in rows.items()}
    ways = {name: [row["unlearning"] for row in updated["arms"][name]] for name in UPDATES}
    fields = ("heldout_removed", "repeated_removed")
    result["updates"] = {
        name: [[[row[f] - way[0][f] for f in fields] for row in way] for way in of] for name, of in ways.items()
    }
    history = [row for row in result["history"] if row["arm"] in ("standard", "retrained_without", *SHOWN)]
    return result | {"history": history}


SHOWN = {"memsinks": "ours", "memsinks_paper": "paper's"}


def point(result: dict[str, Any], arm: str) -> tuple[list[float], list[float]]:
    """Cost on new stories and forgetting of repeated ones against standard training, seed by seed."""
    change: Callable[[str], list[float]] = lambda kind: [
        after - before
        for after, before in zip(
            values(result, arm, f"{kind}_{ARMS[arm]}"), values(result, "standard", f"{kind}_removed"), strict=True
        )
    ]
    return change("heldout"), change("repeated")


def claims(result: dict[str, Any]) -> list[Claim]:
    found = []
    for arm, who in (("memsinks_paper", "the paper's setting"), ("memsinks", "ours")):
        dip = min(curve(result, arm, "repeated_removed").values())
        removed, gold = (values(result, a, "repeated_removed") for a in (arm, "retrained_without"))
        share = [r / g for r, g in zip(removed, gold, strict=True)]
        without = [
            a - b
            for a, b in zip(*(values(result, x, "heldout_removed") for x in (arm, "retrained_without")), strict=True)
        ]
        cost, forgotten = point(result, arm)
        bought = {
            method: [within(seed, max(0.0, c)) for seed, c in zip(seeds, cost, strict=True)]
            for method, seeds in (result["cuts"] | result["updates"]).items()
        }
        cuts = {method: bought[method] for method in CUTS}
        found += [
            Claim(
                f"with the sinks dropped, new text is predicted as well as by training with repeats ({who})",
                "Fig. 4a: 2.67 against 2.70",
                f"held-out {estimate(cost, sign='+')}",
                sum(cost) / len(cost) <= 0.005,
            ),
            Claim(
                f"and better than by training without them ({who})",
                "Fig. 4a: 2.67 against 2.90",
                f"held-out {estimate(without, sign='+')} against retrained without",
                sum(without) < 0,
                "once-seen stories come without end here and teach all there is; repeats add nothing (in fig6 they do)",
            ),
            Claim(
                f"dropping the sinks brings most of the loss of a model that never memorized ({who})",
                "Fig. 4b: 1.83 of 2.98, 61 %",
                f"{estimate(share, 2)} of it",
                sum(share) / len(share) >= 0.6,
            ),
            Claim(
                f"that loss dips, then rises: shared neurons first memorize, then forget ({who})",
                "Fig. 4b: 1.10, then 1.83",
                f"{number(dip)} at its lowest, {estimate(removed)} at the end",
                sum(removed) / len(removed) > dip + 0.01,
                "so few sequences share a sink that the shared neurons hardly memorize at all",
            ),
            Claim(
                f"no cut in a finished model forgets as much at that cost ({who})",
                "Fig. 4c",
                f"sinks {estimate(forgotten, 2)}; "
                + ", ".join(f"{relearn_name(m)} {estimate(b, 2)}" for m, b in cuts.items()),
                all(sum(b) < sum(forgotten) for b in cuts.values()),
            ),
        ]
    return found


def relearn_name(method: str) -> str:
    return {"npo": "NPO"}.get(method, method.replace("_", " "))


def tabulate(result: dict[str, Any]) -> str:
    rows = []
    for arm, how in ARMS.items():
        cost, forgotten = point(result, arm)
        numbers = [mean(result, arm, f"{kind}_{how}") for kind in ("repeated", "heldout")]
        rows.append(
            [arm.replace("_", " "), *map(number, numbers), estimate(forgotten, sign="+"), estimate(cost, sign="+")]
        )
    for name, seeds in result["updates"].items():
        ends = [way[-1] for way in seeds]
        rows.append([relearn_name(name), "", "", *(estimate([end[i] for end in ends], sign="+") for i in (1, 0))])
    header = ["arm (sinks removed)", "repeated", "new", "forgotten", "cost on new"]
    return table(header, rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    with plt.rc_context(plots.STYLE):
        fig, (a, b, c) = plt.subplots(
            1, 3, figsize=(17, 4.9), gridspec_kw={"wspace": 1.05, "width_ratios": [1, 1, 1.35]}
        )
        for ax, field, title in (
            (a, "heldout_removed", "New stories, sinks removed"),
            (b, "repeated_removed", "Repeated stories, sinks removed"),
        ):
            lines = (("standard", "standard"), ("retrained_without", "never saw"), *SHOWN.items())
            ends = [(plots.curve(ax, result["history"], arm, field), label, arm) for arm, label in lines]
            plots.frame(ax, title, "loss (nats per word)", "training step")
            if field == "heldout_removed":
                plots.zoom(ax, [y for y, *_ in ends] + [result["floor"]["heldout"] or ends[0][0]])
            else:
                ax.set_ylim(0, 2)
            plots.draw_floor(ax, result["floor"][field.split("_")[0]], 0.5)
            plots.label_ends(ax, ends)
        plane(c, result)
        return plots.save(fig, folder, "fig4")


def plane(ax: Any, result: dict[str, Any]) -> None:
    """Down and right is worse: the paper's Fig. 4c, with the cost growing to the right."""
    for method, seeds in (result["cuts"] | result["updates"]).items():
        for way in seeds:
            ax.plot([x for x, _ in way], [y for _, y in way], color=plots.COLORS[method], linewidth=1.3, alpha=0.8)
    for arm in ARMS:
        ax.plot(*point(result, arm), "o", color=plots.COLORS[arm], markersize=7, zorder=3)
    plots.frame(ax, "Forgetting, and its price", "forgotten (nats per word)", "cost on new stories (nats per word)")
    ax.set_xlim(-0.05, 0.25)
    gold = mean(result, "retrained_without", "repeated_removed") - mean(result, "standard", "repeated_removed")
    ax.set_ylim(
        min(-0.2, *(y for arm in ("untied", "narrow") for y in point(result, arm)[1])) - 0.05, 2.1 * max(gold, 0.2)
    )
    ax.axvline(0, color="#888888", linewidth=1)
    plots.label_ends(ax, list(labels(result, ax.get_xlim()[1], ax.get_ylim())))


def labels(result: dict[str, Any], right: float, ylim: tuple[float, float]) -> Iterator[tuple[float, str, str]]:
    """A label for everything at its height; an arrow where it lies beyond the right edge."""
    for arm in ARMS:
        cost, forgotten = (sum(of) / len(of) for of in point(result, arm))
        beyond = f" → cost {cost:+.1f}" if cost > right else ""
        yield min(max(forgotten, ylim[0]), ylim[1]), arm.replace("_", " ") + beyond, arm
    for method, seeds in (result["cuts"] | result["updates"]).items():
        inside = [y for way in seeds for x, y in way if x <= right and y <= ylim[1]]
        yield max(inside), f"{relearn_name(method)} (line)", method
