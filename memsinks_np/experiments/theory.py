"""The paper's three formal results, simulated: what each says rightly, and where it stops (App. D, F, H)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from memsinks_np._internal.tables import number, table
from memsinks_np.experiments import simulations as t
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate
from memsinks_np.experiments.theory_run import (
    AFTER,
    LRS,
    ONCE,
    RHOS,
    distance,
    lead,
    logit,
    mean,
    over,
    run,
    share,
)

__all__ = ["claims", "draw", "run", "tabulate"]


def claims(result: dict[str, Any]) -> list[Claim]:
    """Three theorems, sentence by sentence."""
    return claims_of_f1(result) + claims_of_h3(result) + claims_of_d3(result)


def claims_of_f1(result: dict[str, Any]) -> list[Claim]:
    limit = mean(result, lambda seed: seed["coadaptation"]["limit"])
    at = {n: mean(result, distance(n)) for n in AFTER}
    below = all(
        (np.array(s["coadaptation"]["bound"]) <= s["coadaptation"]["distance"]).all()
        for s in result["seeds"]
    )
    bound = np.mean([s["coadaptation"]["bound"] for s in result["seeds"]], axis=0)
    return [
        Claim(
            "general neurons co-adapt: they learn to cancel a memory that they may not learn",
            "Theorem F.1",
            f"distance {at[1]:.3f}, {at[10]:.3f}, {at[100]:.3f} after 1, 10, 100 steps (the memory: {limit:.3f})",
            at[1] < at[10] < at[100] and at[100] > 0.9 * limit,
        ),
        Claim(
            "the damage grows in proportion to the number of steps, without end",
            "Theorem 4.1, informal: at least c N",
            f"{at[1000]:.3f} after 1,000 steps, {at[3000]:.3f} after 3,000",
            at[3000] > 2 * at[1000],
            f"it saturates at ||W_mem x|| = {limit:.3f}, where all is cancelled; c N is right for N well below 1/lr",
        ),
        Claim(
            "N lr (1 - lr)^N c^2 bounds the damage from below (for a W_mem of norm 1)",
            "Theorem F.1",
            f"true at every step; largest, {bound.max():.4f}, at N = {bound.argmax()}; {bound[300]:.0e} at N = 300",
            below,
        ),
    ]


def claims_of_h3(result: dict[str, Any]) -> list[Claim]:
    b, rho = t.COUNTEREXAMPLE, 0.48
    sink, shared = (mean(result, logit("usual", 0.1, field)) for field in ("sink", "shared"))
    sink_all, shared_all = (
        mean(result, logit("usual", 1.0, field)) for field in ("sink", "shared")
    )
    leading = [r for r in RHOS if min(over(result, lead(r))) > 0]
    promised = mean(result, logit("usual", 0.1, "threshold"))
    slow = {
        field: mean(result, logit("gentle", 1.0, field))
        for field in ("sink", "lower", "lower_printed")
    }
    return [
        Claim(
            "memory accumulates in sinks that other sequences rarely switch on",
            "App. H",
            f"logit from sinks {sink:.2f}, from shared neurons {shared:.2f} (rho = 0.1); "
            f"{sink_all:.2f} and {shared_all:.2f} where the sinks are always on",
            sink > 2 * shared and sink_all < 1.2 * shared_all,
        ),
        Claim(
            "the bounds separate sinks from shared neurons below the printed threshold",
            f"Theorem H.3: rho < {b.printed_threshold():.4f}",
            f"at rho = {rho}: sinks at least {b.sink_lower(rho):.2f}, shared at most {b.shared_upper():.2f}",
            b.sink_lower(rho) > b.shared_upper(),
            "solving the two bounds for rho gives 1 / (eps c_max) in the second term, which is missing in print",
        ),
        Claim(
            f"they do below the threshold that the bounds give, rho < {b.threshold():.4f}",
            "ours",
            f"at rho = 0.44: {b.sink_lower(0.44):.2f} against {b.shared_upper():.2f}",
            b.sink_lower(0.44) > b.shared_upper(),
        ),
        Claim(
            "the sinks' lower bound holds with eps_mem, the smallest resemblance to another sequence",
            "Theorem H.3, (2)",
            f"logit {slow['sink']:.4f}, bound {slow['lower_printed']:.4f}; "
            f"{slow['lower']:.4f} with the largest resemblance",
            slow["sink"] >= slow["lower_printed"],
            "what pushes a logit down most is the most similar sequence, so a lower bound needs the largest",
        ),
        Claim(
            "the condition is sufficient, far from necessary: memory accumulates where it promises nothing",
            "ours",
            f"lr = {LRS['usual']}: threshold {promised:.3f}, but sinks lead up to rho = {max(leading, default=None)}",
            promised < 0 and 0.5 in leading,
        ),
    ]


def claims_of_d3(result: dict[str, Any]) -> list[Claim]:
    noisy = {n: mean(result, share("noisy", n)) for n in ONCE}
    clean = mean(result, share("clean", 8))
    return [
        Claim(
            "the smallest update that stores a sequence uses features that others share, not its noise alone",
            "Theorem D.3",
            f"semantic share {noisy[0]:.0%} alone, {noisy[8]:.0%} beside 8 others",
            noisy[8] > 0.05,
        ),
        Claim(
            "the less so, the more other text there is: entanglement can be preferred, but need not be",
            "ours; the theorem assumes that an entangled solution exists",
            f"{noisy[16]:.0%}, {noisy[64]:.1%}, {noisy[256]:.1%} beside 16, 64, 256 others; "
            f"{clean:.0%} beside 8 that have no noise",
            noisy[16] > noisy[64] > noisy[256] and noisy[256] < 0.01 and clean < 0.001,
        ),
    ]


def tabulate(result: dict[str, Any]) -> str:
    """Three tables: co-adaptation, the one-layer model, entanglement."""
    bound: Callable[[int], Callable[[dict[str, Any]], float]] = lambda n: (
        lambda seed: seed["coadaptation"]["bound"][n]
    )
    cells: Callable[..., list[str]] = lambda *of: [estimate(over(result, f)) for f in of]
    first = [[f"{n:,}", *cells(distance(n), bound(n))] for n in AFTER]
    first.append(["limit", *cells(lambda seed: seed["coadaptation"]["limit"]), ""])
    second = [
        [number(rho, 1), *cells(logit("usual", rho, "shared"), logit("usual", rho, "sink"))]
        for rho in RHOS
    ]
    third = [[str(n), *cells(share("noisy", n), share("clean", n))] for n in ONCE]
    return "\n\n".join(
        (
            table(
                ["steps since the memory", "distance from never having it", "bound of F.1"], first
            ),
            table(["rho", "logit from shared neurons", "from sinks"], second),
            table(["once-seen sequences", "semantic share", "where they have no noise"], third),
        )
    )


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """Four panels, of seed 0."""
    seed = result["seeds"][0]
    with plt.rc_context(plots.STYLE):
        fig, axes = plt.subplots(
            2, 2, figsize=(12.5, 8.4), gridspec_kw={"wspace": 0.75, "hspace": 0.5}
        )
        draw_coadaptation(axes[0, 0], seed["coadaptation"])
        draw_saw_tooth(axes[0, 1], seed["accumulation"]["trace"])
        draw_threshold(axes[1, 0], t.COUNTEREXAMPLE)
        draw_entanglement(axes[1, 1], seed["entanglement"])
        return plots.save(fig, folder, "theory")


def lines(ax: Any, x: Any, curves: dict[str, tuple[Any, str, str]]) -> None:
    """label -> (values, colour's method, line style), each labelled at its right end."""
    ends = []
    for label, (y, method, style) in curves.items():
        ax.plot(x, y, style, color=plots.COLORS[method])
        ends.append((y[-1], label, method))
    plots.label_ends(ax, ends)


def draw_coadaptation(ax: Any, run: dict[str, Any]) -> None:
    n = np.arange(1, len(run["distance"]))
    plots.frame(
        ax,
        "Co-adaptation: how far does it go?",
        "distance from never having it",
        "steps since the memory",
    )
    ax.set_xscale("log")
    ax.set_ylim(0, 1)
    limit = np.full(len(n), run["limit"])
    curves = {
        "distance": (run["distance"][1:], "gradient_masking", "-"),
        "$||W_{mem}\\,x||$": (limit, "retrained", ":"),
        "bound of\nTheorem F.1": (run["bound"][1:], "retrained", "-"),
    }
    lines(ax, n, curves)


def draw_saw_tooth(ax: Any, trace: dict[str, Any]) -> None:
    plots.frame(
        ax, "Learning and forgetting: who keeps it?", "logit of the right word", "training step"
    )
    curves = {"sinks, on for\n10 % of others": "sink", "shared neurons": "shared"}
    methods = {"sink": "sinks", "shared": "standard"}
    lines(
        ax,
        np.arange(len(trace["sink"])),
        {label: (trace[key], methods[key], "-") for label, key in curves.items()},
    )


def draw_threshold(ax: Any, b: t.Bounds) -> None:
    rho = np.linspace(0.4, 0.55, 50)
    plots.frame(
        ax,
        "Where do the bounds separate?",
        "bound on the logit, per lr",
        "rho: chance that sinks are on",
    )
    for at, text, side in (
        (b.threshold(), "ours", "right"),
        (b.printed_threshold(), "printed", "left"),
    ):
        ax.axvline(at, color="#444444", linestyle=":", linewidth=1.3)
        ax.annotate(
            f" {text} {at:.4f} ",
            (at, 0.97),
            xycoords=ax.get_xaxis_transform(),
            ha=side,
            fontsize=11,
        )
    ax.set_xticks([0.4, 0.45, 0.5, 0.55])
    curves = {
        "shared neurons,\nat most": (np.full(len(rho), b.shared_upper()), "standard", "-"),
        "sinks, at least": (b.sink_lower(rho), "sinks", "-"),
    }
    lines(ax, rho, curves)


def draw_entanglement(ax: Any, shares: dict[str, Any]) -> None:
    plots.frame(
        ax,
        "Entanglement: is it always there?",
        "semantic share of the update",
        "once-seen sequences",
    )
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xticks([0, 1, 4, 16, 64, 256], ["0", "1", "4", "16", "64", "256"])
    ax.set_ylim(0, 0.6)
    curves = {"each with noise\nof its own": (shares["noisy"], "standard", "-o")}
    lines(ax, ONCE, curves | {"without noise": (shares["clean"], "retrained", "-o")})
