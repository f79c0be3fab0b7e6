"""Sinks over training, and every rival in one plane: what was forgotten, and what it cost on new text."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from memsinks_np._internal.tables import number, table
from memsinks_np.baselines.tradeoff import path, within
from memsinks_np.experiments import Context, fig2_run, relearn_run
from memsinks_np.experiments.comparison import compare, curve, mean, values
from memsinks_np.experiments.methods import methods_of
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate

# method -> how it is evaluated (dropout with all of its neurons, scaled)
METHODS = {
    "standard": "removed",
    "retrained": "removed",
    "sinks": "removed",
    "paper_sinks": "removed",
    "disjoint": "removed",
    "sgtm": "removed",
    "sgtm_half": "removed",
    "gradient_masking": "removed",
    "random_sinks": "removed",
    "narrow": "removed",
    "dropout": "all",
}
CUTS, UPDATES = ("gates", "integrated_gradients"), ("gradient_ascent", "npo")


def run(plan: Context) -> dict[str, Any]:
    """All ways to isolate while training, beside the cuts of fig2 and the updates of relearn."""
    methods = methods_of(plan.preset)
    result = compare(plan, {"fig4": (plan.preset, {name: methods[name] for name in METHODS})})[
        "fig4"
    ]
    cut, updated = fig2_run.run(plan), relearn_run.run(plan)
    rows = {method: fig2_run.cuts(cut, "stories", method) for method in CUTS}
    result["cuts"] = {
        method: [path(of, "repeated").tolist() for of in seeds] for method, seeds in rows.items()
    }
    ways = {name: [row["unlearning"] for row in updated["methods"][name]] for name in UPDATES}
    fields = ("heldout.removed", "repeated.removed")
    result["updates"] = {
        name: [[[row[f] - way[0][f] for f in fields] for row in way] for way in of]
        for name, of in ways.items()
    }
    history = [
        row for row in result["history"] if row["method"] in ("standard", "retrained", *SHOWN)
    ]
    return result | {"history": history}


SHOWN = {"sinks": "ours", "paper_sinks": "paper's"}


def point(result: dict[str, Any], method: str) -> tuple[list[float], list[float]]:
    """Cost on new stories and forgetting of repeated ones against standard training, seed by seed."""
    change: Callable[[str], list[float]] = lambda kind: [
        after - before
        for after, before in zip(
            values(result, method, f"{kind}_{METHODS[method]}"),
            values(result, "standard", f"{kind}_removed"),
            strict=True,
        )
    ]
    return change("heldout"), change("repeated")


def claims(result: dict[str, Any]) -> list[Claim]:
    found = []
    for method, who in (("paper_sinks", "the paper's setting"), ("sinks", "ours")):
        dip = min(curve(result, method, "repeated.removed").values())
        removed, gold = (values(result, a, "repeated.removed") for a in (method, "retrained"))
        share = [r / g for r, g in zip(removed, gold, strict=True)]
        without = [
            a - b
            for a, b in zip(
                *(values(result, x, "heldout.removed") for x in (method, "retrained")), strict=True
            )
        ]
        cost, forgotten = point(result, method)
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
    for method, how in METHODS.items():
        cost, forgotten = point(result, method)
        numbers = [mean(result, method, f"{kind}_{how}") for kind in ("repeated", "heldout")]
        rows.append(
            [
                method.replace("_", " "),
                *map(number, numbers),
                estimate(forgotten, sign="+"),
                estimate(cost, sign="+"),
            ]
        )
    for name, seeds in result["updates"].items():
        ends = [way[-1] for way in seeds]
        rows.append(
            [
                relearn_name(name),
                "",
                "",
                *(estimate([end[i] for end in ends], sign="+") for i in (1, 0)),
            ]
        )
    header = ["method (sinks removed)", "repeated", "new", "forgotten", "cost on new"]
    return table(header, rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    with plt.rc_context(plots.STYLE):
        fig, (a, b, c) = plt.subplots(
            1, 3, figsize=(17, 4.9), gridspec_kw={"wspace": 1.05, "width_ratios": [1, 1, 1.35]}
        )
        for ax, field, title in (
            (a, "heldout.removed", "New stories, sinks removed"),
            (b, "repeated.removed", "Repeated stories, sinks removed"),
        ):
            lines = (("standard", "standard"), ("retrained", "never saw"), *SHOWN.items())
            ends = [
                (plots.curve(ax, result["history"], method, field), label, method)
                for method, label in lines
            ]
            plots.frame(ax, title, "loss (nats per word)", "training step")
            if field == "heldout.removed":
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
            ax.plot(
                [x for x, _ in way],
                [y for _, y in way],
                color=plots.COLORS[method],
                linewidth=1.3,
                alpha=0.8,
            )
    for method in METHODS:
        ax.plot(*point(result, method), "o", color=plots.COLORS[method], markersize=7, zorder=3)
    plots.frame(
        ax,
        "Forgetting, and its price",
        "forgotten (nats per word)",
        "cost on new stories (nats per word)",
    )
    ax.set_xlim(-0.05, 0.25)
    gold = mean(result, "retrained", "repeated.removed") - mean(
        result, "standard", "repeated.removed"
    )
    ax.set_ylim(
        min(-0.2, *(y for method in ("random_sinks", "narrow") for y in point(result, method)[1]))
        - 0.05,
        2.1 * max(gold, 0.2),
    )
    ax.axvline(0, color="#888888", linewidth=1)
    plots.label_ends(ax, list(labels(result, ax.get_xlim()[1], ax.get_ylim())))


def labels(
    result: dict[str, Any], right: float, ylim: tuple[float, float]
) -> Iterator[tuple[float, str, str]]:
    """A label for all_scaled at its height; an arrow where it lies beyond the right edge."""
    for method in METHODS:
        cost, forgotten = (sum(of) / len(of) for of in point(result, method))
        beyond = f" → cost {cost:+.1f}" if cost > right else ""
        yield min(max(forgotten, ylim[0]), ylim[1]), method.replace("_", " ") + beyond, method
    for method, seeds in (result["cuts"] | result["updates"]).items():
        inside = [y for way in seeds for x, y in way if x <= right and y <= ylim[1]]
        yield max(inside), f"{relearn_name(method)} (line)", method
