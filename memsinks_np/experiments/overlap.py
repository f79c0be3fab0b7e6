"""Pool size, active sinks, shared width: what does overlap do to memory and to deletion?"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np

from memsinks_np._internal.tables import number, table
from memsinks_np.config import Method, SinkConfig, require, require_sinks
from memsinks_np.experiments.comparison import compare
from memsinks_np.experiments.delete import SOME, Effect, measure
from memsinks_np.experiments.methods import Preset, job, with_settings
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim

SHORT = 0.4  # fraction of the preset's steps, since many models are trained
DRAWS = 4  # choices of the sequences to delete
LINES = {0.25: ":", 1: "--", 4: "-"}  # active sinks, as multiples of the preset's


@dataclass(frozen=True)
class Cell:
    """One model of the grid. Losses are means over seeds, in nats per token."""

    n_shared: int  # G
    n_active: int  # A
    n_sink: int  # S
    held: float  # by the sinks: rise of the repeated loss when they are removed
    repeated: float  # loss with the sinks removed
    heldout: float
    others_up: float  # rise of the others' loss after the deletion of some


@dataclass(frozen=True)
class Overlap:
    """The grid of models."""

    some: int  # sequences deleted
    steps: int
    n_active: int  # of the preset
    cells: list[Cell]

    def lines(self, field: str) -> dict[tuple[int, int], dict[int, float]]:
        """Return {(G, A): {S: number}}."""
        lines: dict[tuple[int, int], dict[int, float]] = {}
        for c in self.cells:
            lines.setdefault((c.n_shared, c.n_active), {})[c.n_sink] = getattr(c, field)
        return lines


def grid(preset: Preset, quick: bool) -> list[Method]:
    """Return models of several G, A and S. Two IDs share A/S of their sinks on average."""
    A, G = preset.sinks.n_active, preset.n_shared
    reason = f"--n-active {A} is not a multiple of 4; some pools here activate a quarter of it"
    require(quick or A % 4 == 0, reason)
    reason = f"--n-shared {G} cannot be halved, as some models here need; use at least 2"
    require(quick or G > 1, reason)
    return [
        Method(name="sinks", n_shared=g, sinks=SinkConfig(n_sink=n, n_active=a))
        for g in ((G,) if quick else (G // 2, G))
        for a in ((A,) if quick else (A // 4, A, 4 * A))
        for n in ((8 * A, 32 * A) if quick else (8 * A, 32 * A, 128 * A))
    ]


def shortened(context: Context) -> tuple[int, Preset]:
    """Return how many sequences to delete, and the preset with fewer steps."""
    s = context.preset.settings
    steps = max(1, round(SHORT * s.train.steps))
    some = max(1, min(SOME, s.data.n_repeated // 4))
    return some, with_settings(context.preset, train={"steps": steps})


def jobs(context: Context) -> Jobs:
    """Train every model of the grid, with fewer steps, under every seed; delete some sequences."""
    some, preset = shortened(context)
    delete = partial(measure, sizes=[some], draws=2 if context.quick else DRAWS)
    return {
        (method, seed): job(preset, method, seed, delete)
        for method in grid(preset, context.quick)
        for seed in range(context.seeds)
    }


def result(context: Context, outputs: Outputs) -> Overlap:
    """Average over seeds."""
    some, preset = shortened(context)
    seeds, cells = range(context.seeds), []
    for method in grid(preset, context.quick):
        pool = require_sinks(method)
        r = compare({("sinks", seed): outputs[method, seed][0] for seed in seeds})
        held = r.rise("sinks", "repeated.removed", "sinks", "repeated.own")
        up = [Effect(*outputs[method, seed][1][0]).others_up for seed in seeds]
        cell = Cell(
            method.n_shared,
            pool.n_active,
            pool.n_sink,
            float(np.mean(held)),
            r.mean("sinks", "repeated.removed"),
            r.mean("sinks", "heldout.removed"),
            float(np.mean(up)),
        )
        cells.append(cell)
    return Overlap(some, preset.settings.train.steps, preset.sinks.n_active, cells)


def claims(result: Overlap) -> list[Claim]:
    """Return what NULLs (arXiv 2606.13873), by the same authors, says about overlap.

    We know that work only from reviews of it.
    """

    def along(field: str, title: str, paper: str, sign: int = 1, more: str = "") -> Claim:
        """Return the claim that a number rises (falls, if sign is -1) with the pool size."""
        lines = [list(line.values()) for line in result.lines(field).values()]
        holds = all(sign * a < sign * b for line in lines for a, b in pairwise(line))
        small, large = (fmean(line[i] for line in lines) for i in (0, -1))
        here = f"{small:.3f} in the smallest pool, {large:.3f} in the largest{more}"
        return Claim(title, paper, here, holds)

    equal = [c for c in result.cells if c.n_sink == 32 * c.n_active]  # overlap 1/32
    held = {
        A: fmean(c.held for c in equal if c.n_active == A)
        for A in sorted({c.n_active for c in equal})
    }
    up = [c.others_up for c in equal]
    less = f"less overlap, less collateral ({result.some} deleted)"
    same = f"; at overlap 1/32 {min(up):.3f} to {max(up):.3f}, however many are active"
    return [
        along("held", "less overlap, more memory in the sinks", "NULLs, overlap sweep"),
        along(
            "repeated",
            "more overlap leaks: less is forgotten when the sinks are removed",
            "NULLs: mildly",
        ),
        Claim(
            "at equal overlap, more active sinks hold more",
            "NULLs, N_source sweep",
            ", ".join(f"{value:.3f} in {A}" for A, value in held.items()),
            list(held.values()) == sorted(held.values()),
        ),
        along("others_up", less, "ours", -1, same),
    ]


def tabulate(result: Overlap) -> str:
    """Return one row per model, nats per token, mean over seeds."""
    rows = [
        [
            f"{c.n_shared} shared, {c.n_active} of {c.n_sink} active",
            *map(number, (c.n_active / c.n_sink, c.held, c.others_up, c.heldout)),
        ]
        for c in result.cells
    ]
    header = ["overlap", "held by the sinks", "collateral", "new, sinks removed"]
    return table([f"pool ({result.steps} steps)", *header], rows)


def draw(result: Overlap, folder: Path) -> list[Path]:
    """Draw memory against pool size, and collateral against overlap."""
    widest, memory = max(c.n_shared for c in result.cells), []
    with plots.style():
        fig, (left, right) = plots.subplots(1, 2, figsize=(13.5, 4.8))
        ylabel = "held by the sinks (nats per token)"
        plots.frame(left, "Larger pool, more memory in it?", ylabel, "pool size S (sinks)")
        ylabel = f"rise of the others' loss\n({result.some} deleted, nats per token)"
        xlabel = "overlap A/S (lines as on the left)"
        plots.frame(right, "Less overlap, less collateral?", ylabel, xlabel)
        for (G, A), held in result.lines("held").items():
            up = result.lines("others_up")[G, A]
            method = "sinks" if G == widest else "paper_sinks"  # for the color: dark is wide
            line, label = LINES[A / result.n_active] + "o", f"{A} active, {G} shared"
            memory.append((list(held), list(held.values()), label, method, line))
            color, overlap = plots.color_of(method), [A / S for S in up]
            right.plot(overlap, list(up.values()), line, color=color, clip_on=False)
        sizes = sorted({c.n_sink for c in result.cells})
        overlaps = sorted({c.n_active / c.n_sink for c in result.cells})
        left.set(xscale="log", xticks=sizes, xticklabels=sizes)
        right.set(xscale="log", xticks=overlaps, xticklabels=[f"1/{1 / o:.0f}" for o in overlaps])
        right.set_ylim(0)
        left.minorticks_off()
        right.minorticks_off()
        plots.labelled_lines(left, memory)
        return plots.save(fig, folder, "overlap")
