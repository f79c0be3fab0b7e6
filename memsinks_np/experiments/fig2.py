"""Can a memory be cut out of a finished model?  Forgetting against degradation (paper, section 3, Fig. 2).

Two data sets: repeated stories (the headline's methods, nothing new to train), and canaries, sequences of uniformly
random words, as many and as often repeated (but for one story: a corpus has at least one).  The paper's canaries are
stories with random tokens attached.  Every method is tried under several settings and told by the one that is best
for it: most forgotten at the allowed cost.

    forgotten  loss on repeated sequences after minus before, nats per word (paper, section 3.1: higher is better)
    cost       loss on new sequences after minus before (the paper's degradation with the other sign)
"""

from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from memsinks_np._internal.tables import number, table
from memsinks_np._internal.typing import Floats
from memsinks_np.baselines.tradeoff import path, within
from memsinks_np.experiments.fig2_run import (
    FIELD,
    LIMIT,
    cuts,
    forgotten,
    gold_gap,
    left,
    run,
    sinks_point,
    tuned,
    while_memorizing,
)
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate

__all__ = ["claims", "draw", "run", "tabulate"]
METHODS = {
    "gates": "gates",
    "integrated_gradients": "integrated\ngradients",
    "contrast": "gradients,\nrepeated − new",
    "zero_out": "zero-out",
    "random": "random",
}

Cells = dict[tuple[str, str], Floats]  # (kind, method) -> a number for every seed


def claims(result: dict[str, Any]) -> list[Claim]:
    """Section 3 of the paper, and our gold reference, at the allowed cost."""
    nats = {(k, m): forgotten(result, k, m) for k in FIELD for m in METHODS}
    closed = {(k, m): nats[k, m] / gold_gap(result, k) for k in FIELD for m in METHODS}
    out = {(k, m): left(result, k, m) for k in FIELD for m in METHODS}
    late = [while_memorizing(seed["stories"]["history"]) for seed in result["seeds"]]
    repeated, heldout, share = (
        np.array([seed[name] for seed in late]) for name in ("repeated", "heldout", "share")
    )
    sinks, gap = sinks_point(result), gold_gap(result, "stories")
    two, cost = ("gates", "integrated_gradients"), f"at a cost of {LIMIT}"

    def tell(of: Cells, *keys: tuple[str, str], digits: int = 2) -> str:
        return " against ".join(
            f"{told(m) if k == 'stories' else k} {estimate(of[k, m], digits)}" for k, m in keys
        )

    def beside(of: Cells) -> str:
        return "; ".join(tell(of, ("stories", m), ("canaries", m)) for m in two)

    def harder(of: Cells) -> bool:
        return all(of["stories", m].mean() < of["canaries", m].mean() for m in two)

    best = max(METHODS, key=lambda m: closed["stories", m].mean())
    found = [
        Claim(
            "the losses on repeated and on new text fall together: memorization has no phase of its own",
            "Fig. 2c: 7.0 to 0.02, 7.05 to 2.72",
            f"with half of the gap there, repeated falls by another {estimate(repeated)}, "
            f"new by {estimate(heldout)}, {share.mean():.1%} of its whole fall",
            share.mean() >= 0.05,
            "this language is learnt in 200 steps, down to near its entropy, and only the repeats are left to learn",
        ),
        *(
            Claim(
                f"{told(m)} find neurons that are a better cut than random ones, for stories",
                "section 3.2: partially",
                f"{tell(nats, ('stories', m))}, random {estimate(nats['stories', 'random'], 2)} nats {cost}",
                nats["stories", m].mean() > nats["stories", "random"].mean(),
                "the neurons that repeated stories need most are those that every story needs",
            )
            for m in two
        ),
        Claim(
            "natural text is harder to cut out than canaries, most clearly by integrated gradients",
            "section 3.2, Fig. 2a, b",
            f"{beside(nats)} nats {cost}",
            harder(nats) and ratio(nats, two[1]) > ratio(nats, two[0]),
        ),
        Claim(
            "it is harder as a share of the gold gap too",
            "ours",
            f"{beside(closed)}, {cost}",
            harder(closed),
            f"one who never saw canaries loses {gold_gap(result, 'canaries').mean():.1f} nats on them, more than the "
            f"{result['guess']:.1f} of a blind guess: most of that gap is grammar, not memory",
        ),
        Claim(
            "at that cost no canary can be extracted any more, but stories can",
            "ours",
            f"{beside(out)}",
            all(out["canaries", m].mean() <= 0.02 < 0.1 < out["stories", m].mean() for m in two),
        ),
        Claim(
            f"at a cost of at most {LIMIT} nats no cut closes half of the gold gap on stories",
            "ours",
            f"best: {told(best)}, {estimate(closed['stories', best], 2)}",
            closed["stories", best].mean() <= 0.5,
            "the method was tuned on the curve that it is judged by",
        ),
        Claim(
            "memorization sinks lie beyond what any of these cuts reaches",
            "Fig. 4c: (-0.002, 1.88)",
            f"gold gap closed {estimate(sinks[:, 1] / gap)}, cost {estimate(sinks[:, 0], sign='+')}",
            sinks[:, 0].mean() <= LIMIT
            and (sinks[:, 1] / gap).mean() > closed["stories", best].mean(),
        ),
    ]
    return [claim._replace(holds=bool(claim.holds)) for claim in found]


def told(method: str) -> str:
    return METHODS[method].replace("\n", " ")


def ratio(nats: Cells, method: str) -> float:
    """Canaries' forgetting over stories'."""
    return float(nats["canaries", method].mean() / max(nats["stories", method].mean(), 1e-9))


def tabulate(result: dict[str, Any]) -> str:
    """Forgotten at three costs, gold gap closed and what can still be extracted, under the best setting."""
    rows = []
    for kind, method in product(FIELD, METHODS):
        nats = [f"{forgotten(result, kind, method, c).mean():.2f}" for c in (0.01, LIMIT, 0.2)]
        closed = number(float((forgotten(result, kind, method) / gold_gap(result, kind)).mean()), 2)
        last = [closed, f"{left(result, kind, method).mean():.0%}", tuned(result, kind, method)]
        rows.append([f"{kind}: {told(method)}", *nats, *last])
    costs = ["forgotten at cost 0.01", str(LIMIT), "0.2"]
    return table(["cut", *costs, f"gold gap closed at {LIMIT}", "extracted", "best setting"], rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """Forgetting against cost for both kinds, and both losses of standard training: fig2.png and fig2.svg."""
    what, unit = ("stories", "word") if result["corpus"] == "stories" else ("windows", "character")
    with plt.rc_context(plots.STYLE):
        fig, axes = plt.subplots(1, 3, figsize=(15.5, 4.4), gridspec_kw={"wspace": 1.0})
        for ax, kind in zip(axes, FIELD, strict=False):
            draw_cuts(ax, result, kind)
            named = what if kind == "stories" else kind
            xlabel, ylabel = f"cost on new {what} (nats per {unit})", f"forgotten (nats per {unit})"
            plots.frame(ax, f"{named.capitalize()}: can they be cut out?", ylabel, xlabel)
        draw_training(axes[2], result, what, unit)
        return plots.save(fig, folder, "fig2")


def draw_cuts(ax: Any, result: dict[str, Any], kind: str) -> None:
    """One line per method, from nothing removed; the allowed cost is shaded, what removed sinks reach a star."""
    goal = float(gold_gap(result, kind).mean()) if kind == "stories" else result["guess"]
    furthest = 0.25
    ax.set(xlim=(-0.05, furthest), ylim=(0, 1.6 * goal))
    ax.axvspan(-0.05, LIMIT, color="#F2F2F2", zorder=0)
    ax.axhline(goal, color=plots.COLORS["retrained"], linestyle=":", linewidth=1.6)
    ends = []
    for method, label in METHODS.items():
        points = np.mean([path(rows, FIELD[kind]) for rows in cuts(result, kind, method)], axis=0)
        ax.plot(points[:, 0], points[:, 1], color=plots.COLORS[method])
        ends.append((within(points, furthest), label, method))
    if kind == "stories":
        ends.append((goal, "never saw them", "retrained"))
        (x, y), color = sinks_point(result).mean(axis=0), plots.COLORS["sinks"]
        ax.plot(x, y, "*", color=color, markersize=17)
        ax.annotate(
            "sinks\nremoved",
            (-0.046, y),
            (0, -12),
            textcoords="offset points",
            va="top",
            color=color,
        )
    else:
        ax.text(
            -0.045, goal, "blind guess", fontsize=11, va="bottom", color=plots.COLORS["retrained"]
        )
    plots.label_ends(ax, ends)


def draw_training(ax: Any, result: dict[str, Any], what: str, unit: str) -> None:
    """Standard training: repeated and new sequences."""
    history = [
        {"method": "standard", **row}
        for seed in result["seeds"]
        for row in seed["stories"]["history"]
    ]
    ends = [
        (plots.curve(ax, history, "standard", field, line), label, "standard")
        for field, line, label in (
            ("heldout.removed", "--", f"new {what}"),
            ("repeated.removed", "-", f"repeated {what}"),
        )
    ]
    plots.frame(ax, "Do both losses fall together?", f"loss (nats per {unit})", "training step")
    ax.set_ylim(0, None)
    plots.draw_floor(ax, result["seeds"][0]["stories"]["floor"], 0.8)
    plots.label_ends(ax, ends)
