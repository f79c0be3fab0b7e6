"""Pool size, sinks on, shared width: what does overlap do to the memory that sinks hold, and to deletion?"""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from memsinks_np._internal.tables import number, table
from memsinks_np.config import Method, SinkConfig, require, require_sinks
from memsinks_np.experiments import Context
from memsinks_np.experiments.delete import FEW, measure
from memsinks_np.experiments.methods import Preset, seeded
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim

SHORT = 0.4  # of the preset's steps: it is many trainings
DRAWS = 4  # how often other sequences are chosen for deletion
LINES = {0.25: ":", 1: "--", 4: "-"}  # sinks on, as multiples of the preset's


def plane(preset: Preset, quick: bool) -> list[Method]:
    """Shared width G x sinks on A x pool size S, around the preset's; two IDs share A/S of their sinks on average."""
    A, G = preset.sinks.n_active, preset.n_shared
    require(
        quick or A % 4 == 0,
        f"--n-active {A} is no multiple of 4; a quarter of it is on in some pools here",
    )
    require(
        quick or G > 1, f"--n-shared {G} has no half, the width of some models here; use at least 2"
    )
    return [
        Method(name="sinks", n_shared=g, sinks=SinkConfig(n_sink=n, n_active=a))
        for g in ((G,) if quick else (G // 2, G))
        for a in ((A,) if quick else (A // 4, A, 4 * A))
        for n in ((8 * A, 32 * A) if quick else (8 * A, 32 * A, 128 * A))
    ]


def run(plan: Context) -> dict[str, Any]:
    """Train every cell of the plane, shortly, under every seed; delete some."""
    s = plan.preset.settings
    few = max(1, min(FEW, s.data.n_repeated // 4))
    short = replace(s, train=replace(s.train, steps=max(1, round(SHORT * s.train.steps))))
    methods = plane(plan.preset, plan.quick)
    jobs = [
        seeded(plan.preset._replace(settings=short), method, seed)
        for seed in range(plan.seeds)
        for method in methods
    ]
    found = plan.grid(jobs, partial(measure, sizes=[few], draws=2 if plan.quick else DRAWS))
    cells = [
        {
            "S": require_sinks(method).n_sink,
            "A": require_sinks(method).n_active,
            "G": method.n_shared,
            "others_up": one["after"][str(few)]["others_up"],
        }
        | {
            "seed": settings.train.seed,
            **{k: one[k] for k in ("content", "repeated.removed", "heldout.removed")},
        }
        for (method, settings), one in zip(jobs, found, strict=True)
    ]
    return {"few": few, "steps": short.train.steps, "A": plan.preset.sinks.n_active, "cells": cells}


def lines(result: dict[str, Any], field: str) -> dict[tuple[int, int], dict[int, float]]:
    """(G, A) -> {S: mean over seeds}."""
    found: dict[tuple[int, int], dict[int, list[float]]] = {}
    for cell in result["cells"]:
        found.setdefault((cell["G"], cell["A"]), {}).setdefault(cell["S"], []).append(cell[field])
    return {
        line: {S: float(np.mean(v)) for S, v in sorted(points.items())}
        for line, points in found.items()
    }


def claims(result: dict[str, Any]) -> list[Claim]:
    """What NULLs (2606.13873), a follow-up of the same authors, says of overlap; we know it from reviews of it."""

    def along(field: str, title: str, paper: str, sign: int = 1) -> Claim:
        """Along every line of the plane a number grows (or falls, sign -1) with the pool."""
        of = [list(line.values()) for line in lines(result, field).values()]
        ok = all(sign * a < sign * b for line in of for a, b in pairwise(line))
        small, large = (float(np.mean([line[i] for line in of])) for i in (0, -1))
        return Claim(
            title, paper, f"{small:.3f} in the smallest pool, {large:.3f} in the largest", ok
        )

    held = lines(result, "content")
    widths = sorted({A for _, A in held})
    equal = [
        float(np.mean([line[32 * a] for (_, a), line in held.items() if a == A])) for A in widths
    ]
    same = [line[32 * A] for (_, A), line in lines(result, "others_up").items()]
    less = along(
        "others_up", f"less overlap, less collateral ({result['few']} deleted)", "ours", -1
    )
    return [
        along("content", "less overlap, more memory in the sinks", "NULLs, overlap sweep"),
        along(
            "repeated.removed",
            "more overlap leaks: less is forgotten without the sinks",
            "NULLs: mildly",
        ),
        Claim(
            "at equal overlap, more sinks on hold more",
            "NULLs, N_source sweep",
            ", ".join(f"{y:.3f} in {A}" for A, y in zip(widths, equal, strict=True)),
            equal == sorted(equal),
        ),
        less._replace(
            here=f"{less.here}; at overlap 1/32 {min(same):.3f} to {max(same):.3f}, however many are on"
        ),
    ]


COLUMNS = {
    "content": "held by the sinks",
    "others_up": "collateral",
    "heldout.removed": "new, sinks removed",
}


def tabulate(result: dict[str, Any]) -> str:
    """One row per cell, nats per word, means over seeds."""
    of = [lines(result, field) for field in COLUMNS]
    rows = [
        [f"{G} shared, {A} of {S} on", number(A / S), *(number(line[G, A][S]) for line in of)]
        for (G, A), points in of[0].items()
        for S in points
    ]
    return table([f"pool ({result['steps']} steps)", "overlap", *COLUMNS.values()], rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """Memory against pool size, collateral against overlap: overlap.png and overlap.svg in `folder`."""
    held, up, ends = lines(result, "content"), lines(result, "others_up"), []
    with plt.rc_context(plots.STYLE):
        fig, (left, right) = plt.subplots(1, 2, figsize=(13.5, 4.8), gridspec_kw={"wspace": 0.7})
        for G, A in held:
            method = (
                "sinks" if G == max(g for g, _ in held) else "paper_sinks"
            )  # dark: all shared neurons
            style = {
                "linestyle": LINES[A / result["A"]],
                "color": plots.COLORS[method],
                "marker": "o",
                "clip_on": False,
            }
            S, y = list(held[G, A]), list(held[G, A].values())
            left.plot(S, y, **style)
            right.plot([A / n for n in S], list(up[G, A].values()), **style)
            ends.append((y[-1], f"{A} on, {G} shared", method))
        plots.frame(
            left,
            "Larger pool, more memory in it?",
            "held by the sinks (nats per word)",
            "pool size S (sinks)",
        )
        collateral = f"rise of the others' loss\n({result['few']} deleted, nats per word)"
        plots.frame(
            right,
            "Less overlap, less collateral?",
            collateral,
            "overlap A/S (lines as on the left)",
        )
        sizes = sorted({cell["S"] for cell in result["cells"]})
        overlaps = sorted({cell["A"] / cell["S"] for cell in result["cells"]})
        left.set(xscale="log", xticks=sizes, xticklabels=sizes)
        right.set(xscale="log", xticks=overlaps, xticklabels=[f"1/{1 / o:.0f}" for o in overlaps])
        right.set_ylim(0, None)
        for ax in (left, right):
            ax.minorticks_off()
        plots.label_ends(left, ends)
        return plots.save(fig, folder, "overlap")
