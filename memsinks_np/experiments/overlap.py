"""Pool size, active sinks, shared width: what does overlap do to memory and to deletion?

And how to choose a pool for N documents: a smaller model with many pools, then a pool by
`SinkConfig.for_documents` for more documents than the rule was found on.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.tables import number, table
from memsinks_np.config import DOCUMENTS_PER_SINK, Method, SinkConfig, require, require_sinks
from memsinks_np.experiments.comparison import compare
from memsinks_np.experiments.delete import SOME, Effect, measure
from memsinks_np.experiments.methods import Preset, job, with_settings
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, above, below, estimate, minus
from memsinks_np.experiments.runner.cache import Job
from memsinks_np.metrics import extracted, mean_loss, mean_of, predict
from memsinks_np.sinks import NO_SINKS, own
from memsinks_np.trained import Model

SHORT = 0.4  # fraction of the preset's steps, since many models are trained
DRAWS = 4  # choices of the sequences to delete
LINES = {0.25: ":", 1: "--", 4: "-"}  # active sinks, as multiples of the preset's
SMALL = {"d_model": 32, "n_layers": 1}  # the model in which a pool is chosen, on short stories
FEW, MANY = 64, 256  # documents, to find the rule on and to test it
SHOWINGS = 64  # of each document
LOADS, LOAD = (0.5, 2.0, 8.0, 32.0), float(DOCUMENTS_PER_SINK)  # A N / S; that of the rule
N_ACTIVE, WIDTHS = (4, 16, 64), (32, 64, 128)  # A, G; the middle ones if another size varies


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


class Kept(NamedTuple):
    """What one model knows of its documents."""

    own: float  # loss with own sinks, nats per token
    recited: float  # fraction whose second half is extracted from the first, own sinks
    leak: float  # how far the loss without sinks is below that of new documents


class Pool(NamedTuple):
    """A pool for some documents, and what it keeps, by seed."""

    n_documents: int  # N
    n_active: int
    n_sink: int
    n_shared: int
    kept: list[Kept]

    @property
    def load(self) -> float:
        """How many documents have a sink, on average: A N / S."""
        return self.n_active * self.n_documents / self.n_sink

    def values(self, field: str) -> list[float]:
        """Return a number, seed by seed."""
        return [getattr(row, field) for row in self.kept]

    def mean(self, field: str) -> float:
        """Return a number, mean over seeds."""
        return fmean(self.values(field))


@dataclass(frozen=True)
class Overlap:
    """The grid of models, and the pools of a smaller one."""

    some: int  # sequences deleted
    steps: int
    n_active: int  # of the preset
    cells: list[Cell]
    pools: list[Pool]

    def pool(self, load: float = LOAD, A: int = N_ACTIVE[1], G: int = WIDTHS[1]) -> Pool:
        """Return the pool for few documents with this load, A and G."""
        few = min(pool.n_documents for pool in self.pools)
        S = max(A, round(A * few / load))
        return next(pool for pool in self.pools if pool[:4] == (few, A, S, G))

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


def pools(quick: bool) -> list[tuple[int, Method]]:
    """Return pools to choose from: documents, method.

    For few documents the load varies, then A, then G. For many there is a pool by the rule, and the
    one that is right for few.
    """
    A, G = N_ACTIVE[1], WIDTHS[1]
    few, many = (8, 16) if quick else (FEW, MANY)

    def pool(n: int, S: float, A: int = A, G: int = G) -> tuple[int, Method]:
        sinks = SinkConfig(n_sink=max(A, round(S)), n_active=A)
        return n, Method(name="sinks", n_shared=G, sinks=sinks)

    found = [pool(few, A * few / load) for load in LOADS]
    found += [pool(few, a * few / LOAD, A=a) for a in N_ACTIVE if a != A]
    found += [pool(few, A * few / LOAD, G=g) for g in WIDTHS if g != G]
    return [*found, (many, by_rule(many)), pool(many, A * few / LOAD)]


def by_rule(n: int) -> Method:
    """Return sinks with the pool size that the rule gives for n documents."""
    sinks = SinkConfig.for_documents(n, n_active=N_ACTIVE[1])
    return Method(name="sinks", n_shared=WIDTHS[1], sinks=sinks)


def pool_job(preset: Preset, n: int, method: Method, seed: int, showings: int = SHOWINGS) -> Job:
    """Return the job that trains a small model on n documents with a pool, and measures it."""
    steps = n * showings // preset.settings.data.n_repeated_per_batch
    train = {"steps": steps, "eval_every": steps, "warmup": min(100, steps // 10)}
    data = {"n_ctx": 16, "n_repeated": n}
    small = with_settings(preset, data=data, train=train, **SMALL)
    return job(small, method, seed, measure_pool)


def pool_jobs(context: Context) -> Jobs:
    """Train a small model with every pool under every seed."""
    showings = 10 if context.quick else SHOWINGS
    return {
        ("pool", n, method, seed): pool_job(context.preset, n, method, seed, showings)
        for n, method in pools(context.quick)
        for seed in range(context.seeds)
    }


def measure_pool(model: Model) -> Kept:
    """Measure in a worker what a model keeps of its documents.

    New documents are easier or harder by chance; where the language is known, their loss is
    corrected by the difference of the entropies.
    """
    params, cfg, corpus = model.params, model.cfg, model.corpus
    assert corpus
    n = corpus.n_evaluated
    tokens, ids = corpus.repeated[:n], corpus.repeated_ids[:n]
    nll, likeliest = predict(params, cfg, tokens, own(cfg.sinks, ids))
    never = mean_loss(params, cfg, corpus.heldout, NO_SINKS)
    if corpus.entropy:
        never += corpus.entropy(tokens) - corpus.entropy(corpus.heldout)
    recited = float(extracted(tokens, likeliest).mean())
    return Kept(mean_of(nll), recited, never - mean_loss(params, cfg, tokens, NO_SINKS))


def jobs(context: Context) -> Jobs:
    """Train every model of the grid, with fewer steps, under every seed; delete some sequences.

    And train the small models.
    """
    some, preset = shortened(context)
    delete = partial(measure, sizes=[some], draws=2 if context.quick else DRAWS)
    jobs = {
        (method, seed): job(preset, method, seed, delete)
        for method in grid(preset, context.quick)
        for seed in range(context.seeds)
    }
    return jobs | pool_jobs(context)


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
    chosen = []
    for n, method in pools(context.quick):
        sinks = require_sinks(method)
        kept = [Kept(*outputs["pool", n, method, seed]) for seed in seeds]
        chosen.append(Pool(n, sinks.n_active, sinks.n_sink, method.n_shared, kept))
    return Overlap(some, preset.settings.train.steps, preset.sinks.n_active, cells, chosen)


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
        *claims_of_pools(result),
    ]


def claims_of_pools(result: Overlap) -> list[Claim]:
    """Return what decides whether a pool holds its documents, and whether the rule carries over."""
    pool, A = result.pool, N_ACTIVE[1]
    *_, large, fixed = result.pools
    by_load, by_active = [pool(x) for x in LOADS], [pool(A=a) for a in N_ACTIVE]
    by_width = [pool(G=g) for g in WIDTHS]
    recited = [p.mean("recited") for p in by_load]
    recited_by_active = [p.mean("recited") for p in by_active]
    spread, spread_by_load = (
        np.ptp([p.values("leak") for p in each], axis=0) for each in (by_width, by_load)
    )
    few = pool()
    return [
        Claim(
            "the more documents have a sink, the fewer are recited",
            "ours",
            "; ".join(f"A N/S = {p.load:g}: {estimate(p.values('recited'), 2)}" for p in by_load)
            + f" ({A} active)",
            recited == sorted(recited, reverse=True)
            and above(minus(by_load[0].values("recited"), by_load[-1].values("recited"))),
        ),
        Claim(
            "at an equal load, more active sinks recite more documents",
            "ours",
            "; ".join(f"{p.n_active}: {estimate(p.values('recited'), 2)}" for p in by_active),
            recited_by_active == sorted(recited_by_active)
            and above(minus(by_active[-1].values("recited"), by_active[0].values("recited"))),
        ),
        Claim(
            "what leaks after removal depends on the shared neurons more than on the load",
            "ours",
            "; ".join(f"G = {p.n_shared}: {estimate(p.values('leak'))}" for p in by_width)
            + "; "
            + "; ".join(f"A N/S = {p.load:g}: {estimate(p.values('leak'))}" for p in by_load),
            above(spread - spread_by_load),
            "what the sinks do not hold, attention and embeddings learn as well",
        ),
        Claim(
            f"a pool sized by the rule A N/S = {LOAD:g} holds {large.n_documents} documents as "
            f"well as {few.n_documents}",
            "ours",
            f"recited {estimate(large.values('recited'), 2)} with {large.n_sink} sinks; "
            f"{few.n_documents} documents {estimate(few.values('recited'), 2)} with {few.n_sink}",
            above(minus(large.values("recited"), few.values("recited")), -0.05),
        ),
        Claim(
            "with as many sinks as for few documents, at most half as many are recited",
            "ours",
            f"recited {estimate(fixed.values('recited'), 2)} of {fixed.n_documents} documents with "
            f"{fixed.n_sink} sinks",
            below(np.array(fixed.values("recited")) - 0.5 * np.array(large.values("recited"))),
            "with more documents training is longer, which makes up for some of the overlap",
        ),
    ]


def tabulate(result: Overlap) -> str:
    """Return one row per model, nats per token, mean over seeds; then one row per pool."""
    rows = [
        [
            f"{c.n_shared} shared, {c.n_active} of {c.n_sink} active",
            *map(number, (c.n_active / c.n_sink, c.held, c.others_up, c.heldout)),
        ]
        for c in result.cells
    ]
    header = ["overlap", "held by the sinks", "collateral", "new, sinks removed"]
    cells = table([f"pool ({result.steps} steps)", *header], rows)
    rows = [
        [
            f"{p.n_documents} documents: {p.n_shared} shared, {p.n_active} of {p.n_sink} active",
            *map(number, (p.load, p.mean("own"), p.mean("recited"), p.mean("leak"))),
        ]
        for p in result.pools
    ]
    header = ["pool (small model)", "A N/S", "own", "recited", "leak"]
    return f"{cells}\n\n{table(header, rows)}"


def draw(result: Overlap, folder: Path) -> list[Path]:
    """Draw memory against pool size, collateral against overlap; then how to choose a pool."""
    with plots.style():
        fig, axes = plots.subplots(2, 2, figsize=(13.5, 9.6))
        first, second, third, fourth = axes.ravel()
        draw_grid(first, second, result)
        draw_pools(third, fourth, result)
        return plots.save(fig, folder, "overlap")


def draw_grid(left: Any, right: Any, result: Overlap) -> None:
    """Draw memory against pool size, and collateral against overlap."""
    widest, memory = max(c.n_shared for c in result.cells), []
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


def draw_pools(left: Any, right: Any, result: Overlap) -> None:
    """Draw recital and leakage against the load, for each number of active sinks."""
    few, *_, large, fixed = result.pools
    xlabel = "documents that have a sink, A N/S"
    title = f"{few.n_documents} documents: how large a pool?"
    plots.frame(left, title, "recited with own sinks", xlabel)
    title, ylabel = "What leaks after removal?", "loss below never seen\n(nats per token)"
    plots.frame(right, title, ylabel, xlabel)
    label = f"{few.n_active} active,\n{few.n_shared} shared"
    others = [(result.pool(A=a), f"{a} active") for a in N_ACTIVE if a != few.n_active]
    others += [(result.pool(G=g), f"{g} shared") for g in WIDTHS if g != few.n_shared]
    others += [(p, f"{p.n_documents} documents,\n{p.n_sink} sinks") for p in (large, fixed)]
    for ax, field in ((left, "recited"), (right, "leak")):
        y = [result.pool(x).mean(field) for x in LOADS]
        marks = [(p.load, p.mean(field), t, "paper_sinks") for p, t in others]
        ax.set(xscale="log", xticks=LOADS, xticklabels=[f"{x:g}" for x in LOADS])
        ax.minorticks_off()
        plots.labelled_lines(ax, [(LOADS, y, label, "sinks", "-o")])
        for x, height, *_ in marks:
            ax.plot(x, height, "s", color=plots.color_of("paper_sinks"), markersize=7)
        plots.label_points(ax, marks)
