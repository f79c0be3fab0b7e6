"""Delete one sequence, five, half of them: what do the others lose, and when is it deletion of all?"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from memsinks_np import metrics, sinks
from memsinks_np._internal.ids import permutation
from memsinks_np._internal.tables import number, table
from memsinks_np._internal.typing import Floats
from memsinks_np.config import Method, SinkConfig, require_sinks
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import Context
from memsinks_np.experiments.methods import Preset, methods_of, seeded
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate, over_seeds
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.train import Model

CHOICE = 201  # salt: which sequences are deleted
SIZES, DRAWS = (
    (1, 2, 5, 10, 20),
    8,
)  # how many are deleted, and half of all; how often others are chosen
FEW = 5  # "some", in claims and in the table


# pool -> colour of which method (one for each scheme), line (one for each density), label with the share that is on
POOLS = {
    "sinks": ("sinks", "-", "stratified, 1/64"),
    "disjoint": ("disjoint", "-", "disjoint, 1/64"),
    "small": ("sinks", "--", "stratified, 1/8"),
    "small_bernoulli": ("paper_sinks", "--", "Bernoulli, 1/8"),
    "small_disjoint": ("disjoint", "--", "disjoint, 1/8"),
    "paper_sinks": ("paper_sinks", "-", "paper's, 0.3"),
}


def pools(preset: Preset) -> dict[str, Method]:
    """The headline's pools, a disjoint one, and a small one (an eighth of it on) under all three schemes."""
    methods, A = methods_of(preset), preset.sinks.n_active
    small = SinkConfig(n_sink=8 * A, n_active=A, p=1 / 8)
    methods["small"] = replace(methods["sinks"], name="small", sinks=small)
    for scheme in ("bernoulli", "disjoint"):
        name = f"small_{scheme}"
        methods[name] = replace(methods["small"], name=name, sinks=replace(small, scheme=scheme))
    return {name: methods[name] for name in POOLS}


def measure(job: Job, trained: Model, sizes: list[int], draws: int) -> dict[str, Any]:
    """In a worker: the method's numbers, and those after deletions of each size, the mean over `draws` choices."""
    corpus = load_corpus(job.settings.data)
    cfg, ids, R = (
        job.settings.model(job.method, len(corpus.vocab)),
        corpus.repeated_ids,
        len(corpus.repeated),
    )
    pool = require_sinks(cfg)
    own, off = sinks.own(pool, ids), sinks.NO_SINKS

    def losses(params: sinks.Params, selection: sinks.Selection) -> Floats:  # (R,)
        of: Floats = metrics.predict(params, cfg, corpus.repeated, selection)[0].mean(
            axis=1, dtype=np.float64
        )
        return of

    held, alone = losses(trained.params, own), losses(trained.params, off)

    def delete(gone: NDArray[np.bool_]) -> dict[str, float]:
        left = losses(sinks.delete(trained.params, pool, ids[gone]), own)
        rise = (left - held)[~gone]
        return {
            "pool_gone": float(sinks.sink_mask(pool, ids[gone]).any(axis=0).mean()),
            "sinks_gone": float(
                metrics.fraction_deleted(pool, ids[~gone], ids[gone], cfg.n_layers).mean()
            ),
            "others_up": float(rise.mean()),
            "memory_lost": float(rise.mean() / (alone - held)[~gone].mean()),
            "not_erased": float(
                abs(left - alone)[gone].max()
            ),  # deleted, own sinks on, against no sinks at all
        }

    orders = [permutation(R, job.settings.data.seed, CHOICE, draw) for draw in range(draws)]
    after = {str(m): over_seeds([delete(order < m) for order in orders])["mean"] for m in sizes}
    content = float(
        (alone - held).mean()
    )  # what the sinks hold: shared neurons alone against shared + own sinks
    return {**metrics.measure(trained.params, cfg, corpus), "content": content, "after": after}


def run(plan: Context) -> dict[str, Any]:
    """Train every pool under every seed; delete."""
    data = plan.preset.settings.data
    half = (data.n_repeated + data.n_canaries) // 2
    few = max(1, min(FEW, half // 2))
    sizes = sorted({m for m in SIZES if m < half} | {few, half})
    jobs = [
        seeded(plan.preset, method, seed)
        for seed in range(plan.seeds)
        for method in pools(plan.preset).values()
    ]
    found = plan.grid(jobs, partial(measure, sizes=sizes, draws=2 if plan.quick else DRAWS))
    rows = [
        {
            "pool": method.name,
            "p": require_sinks(method).density,
            "scheme": require_sinks(method).scheme,
            "seed": settings.train.seed,
            **one,
        }
        for (method, settings), one in zip(jobs, found, strict=True)
    ]
    return {"few": few, "half": half, "sizes": sizes, "pools": rows}


def of(result: dict[str, Any], pool: str, field: str, m: int | None = None) -> list[float]:
    """A number of one pool (after m deletions), seed by seed."""
    return [
        one["after"][str(m)][field] if m else one[field]
        for one in result["pools"]
        if one["pool"] == pool
    ]


def mean(result: dict[str, Any], pool: str, field: str, m: int | None = None) -> float:
    return float(np.mean(of(result, pool, field, m)))


def half_lost(result: dict[str, Any], pool: str) -> float | None:
    """After how many deletions the others have lost half of their memory; None: not after half of all."""
    lost = [mean(result, pool, "memory_lost", m) for m in result["sizes"]]
    return float(np.interp(0.5, lost, result["sizes"])) if lost[-1] >= 0.5 else None


def claims(result: dict[str, Any]) -> list[Claim]:
    """What deletion of some does to the others; all ours."""
    few, half = result["few"], result["half"]
    random = [one for one in result["pools"] if one["scheme"] != "disjoint"]
    off = [
        abs(a["pool_gone"] - (1 - (1 - one["p"]) ** int(m)))
        for one in random
        for m, a in one["after"].items()
    ]
    erased = max(a["not_erased"] for one in result["pools"] for a in one["after"].values())
    here: Callable[..., str] = lambda pool, field, m=None: estimate(of(result, pool, field, m))
    lost, gone = (of(result, "sinks", field, half) for field in ("memory_lost", "sinks_gone"))
    return [
        Claim(
            "m deletions erase 1-(1-p)^m of the pool",
            "ours",
            f"within {max(off):.3f} for every random pool and m",
            max(off) <= 0.05,
        ),
        Claim(
            f"in the paper's pool, deleting {few} is deleting all",
            "ours",
            f"the others lose {here('paper_sinks', 'memory_lost', few)} of their memory; "
            f"in our sparse pool {here('sinks', 'memory_lost', few)}",
            mean(result, "paper_sinks", "memory_lost", few) >= 0.8,
        ),
        Claim(
            "memory goes faster than the sinks that hold it, once many are gone",
            "ours",
            f"half deleted: {estimate(gone)} of the others' sinks gone, {estimate(lost)} of their memory",
            bool(np.mean(lost) > np.mean(gone)),
        ),
        Claim(
            "disjoint slices make deletion exact",
            "ours",
            f"half deleted: the others {here('disjoint', 'others_up', half)}",
            max(of(result, "disjoint", "others_up", half)) == 0,
            "there are fewer slices than sequences",
        ),
        Claim(
            "until there are more sequences than slices",
            "ours",
            f"eight on a slice, {few} deleted: {here('small_disjoint', 'memory_lost', few)} of the others' memory lost",
            mean(result, "small_disjoint", "memory_lost", few) > 0.1,
        ),
        Claim(
            "off is not erased: switched off, the memory is one ID away; deleted, the ID gives nothing",
            "ours",
            f"{here('sinks', 'repeated.removed')} off, {here('sinks', 'repeated.own')} with the ID again; "
            f"deleted, the ID differs from no sinks by {erased:g}",
            erased == 0,
        ),
    ]


def tabulate(result: dict[str, Any]) -> str:
    """One row per pool, means over seeds: nats per word held by the sinks, then shares."""
    few, half, rows = result["few"], result["half"], []
    for pool, (_, _, label) in POOLS.items():
        p, until = mean(result, pool, "p"), half_lost(result, pool)
        cells = [
            mean(result, pool, "content"),
            mean(result, pool, "pool_gone", few),
            1 - (1 - p) ** few,
        ]
        cells += [mean(result, pool, "memory_lost", m) for m in (1, few, half)]
        rows.append(
            [label, *map(number, cells), f"> {half}" if until is None else number(until, 1)]
        )
    header = ["pool", "held by sinks", f"{few} deleted: pool gone", "predicted"]
    header += [f"others lose ({m} deleted)" for m in (1, few, half)]
    return table([*header, "half lost after"], rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """What the others lose, by deletions and by sinks: delete.png and delete.svg in `folder`."""
    sizes = result["sizes"]
    with plt.rc_context(plots.STYLE):
        fig, (left, right) = plt.subplots(1, 2, figsize=(14.5, 4.8), gridspec_kw={"wspace": 0.75})
        plots.frame(
            left,
            "Delete some: what do others lose?",
            "share of the others' memory",
            "sequences deleted",
        )
        plots.frame(
            right,
            "How much of a memory is in a sink?",
            "share of the memory lost",
            "share of its sinks gone (lines as on the left)",
        )
        ends = []
        for pool, (method, line, label) in POOLS.items():
            lost, gone = (
                [mean(result, pool, f, m) for m in sizes] for f in ("memory_lost", "sinks_gone")
            )
            left.plot(sizes, lost, line, color=plots.COLORS[method], marker="o", clip_on=False)
            right.plot(gone, lost, line, color=plots.COLORS[method], marker="o", clip_on=False)
            ends.append((lost[-1], label, method))
        left.set(
            xscale="log",
            xticks=sizes,
            xticklabels=sizes,
            ylim=(0, 1.12),
            yticks=np.linspace(0, 1, 6),
        )
        left.minorticks_off()
        right.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6))
        right.plot([0, 1], [0, 1], ":", color="#444444", linewidth=1.3)
        right.text(
            0.6,
            0.52,
            "all or nothing",
            color="#444444",
            fontsize=11,
            rotation=42,
            ha="center",
            va="center",
        )
        plots.label_ends(left, ends)
        return plots.save(fig, folder, "delete")
