"""Delete one sequence, five, half of all: what do the others lose?"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np import sinks
from memsinks_np._internal.ids import Purpose, permutation
from memsinks_np._internal.tables import number, table
from memsinks_np.config import Method, SinkConfig, require_sinks
from memsinks_np.experiments import comparison
from memsinks_np.experiments.comparison import Result
from memsinks_np.experiments.methods import Preset, job, methods_of
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate
from memsinks_np.metrics import fraction_deleted, sequence_losses
from memsinks_np.trained import Model

SIZES, DRAWS = (1, 2, 5, 10, 20), 8  # sequences to delete, besides half of all; choices of them
SOME = 5  # "some", in claims and in the table

# pool -> method whose color it has (one per scheme), line style (one per density), label
POOLS = {
    "sinks": ("sinks", "-", "stratified"),
    "disjoint_sinks": ("disjoint_sinks", "-", "disjoint"),
    "small": ("sinks", "--", "stratified"),
    "small_bernoulli": ("paper_sinks", "--", "Bernoulli"),
    "small_disjoint": ("disjoint_sinks", "--", "disjoint"),
    "paper_sinks": ("paper_sinks", "-", "paper's setting"),
}


class Effect(NamedTuple):
    """What the deletion of some sequences does; mean over choices of the sequences."""

    pool_erased: float  # fraction of the pool
    sinks_erased: float  # fraction of the other sequences' sinks
    others_up: float  # rise of the other sequences' loss, nats per token
    memory_lost: float  # the same, as a fraction of what their sinks hold
    residue: float  # largest difference of a deleted sequence's loss to that without sinks


@dataclass(frozen=True)
class Deletions(Result):
    """The comparison of the pools, and the effects of deletions."""

    some: int
    half: int
    sizes: list[int]
    pools: dict[str, SinkConfig]
    effects: dict[str, list[list[Effect]]]  # pool -> for each seed, for each size

    def after(self, pool: str, field: str, m: int) -> list[float]:
        """Return a field of the effect of m deletions, seed by seed."""
        return [getattr(row[self.sizes.index(m)], field) for row in self.effects[pool]]

    def means(self, pool: str, field: str) -> list[float]:
        """Return a field for each size, mean over seeds."""
        return [float(np.mean(self.after(pool, field, m))) for m in self.sizes]


def pools(preset: Preset) -> dict[str, Method]:
    """Return the methods: two headline pools, a disjoint one, and a small one in three schemes."""
    methods, A = methods_of(preset), preset.sinks.n_active
    small = SinkConfig(n_sink=8 * A, n_active=A, p=1 / 8)
    bernoulli, disjoint = replace(small, scheme="bernoulli"), replace(small, scheme="disjoint")
    methods["small"] = replace(methods["sinks"], name="small", sinks=small)
    methods["small_bernoulli"] = replace(methods["small"], name="small_bernoulli", sinks=bernoulli)
    methods["small_disjoint"] = replace(methods["small"], name="small_disjoint", sinks=disjoint)
    return {name: methods[name] for name in POOLS}


def sizes_of(context: Context) -> tuple[int, int, list[int]]:
    """Return how many sequences are some, how many are half, and all numbers to delete."""
    data = context.preset.settings.data
    half = (data.n_repeated + data.n_canaries) // 2
    some = max(1, min(SOME, half // 2))
    return some, half, sorted({m for m in SIZES if m < half} | {some, half})


def jobs(context: Context) -> Jobs:
    """Train every pool under every seed; delete."""
    *_, sizes = sizes_of(context)
    delete = partial(measure, sizes=sizes, draws=2 if context.quick else DRAWS)
    return {
        (name, seed): job(context.preset, method, seed, delete)
        for name, method in pools(context.preset).items()
        for seed in range(context.seeds)
    }


def measure(model: Model, sizes: list[int], draws: int) -> tuple[Any, list[Effect]]:
    """Evaluate a model in a worker, and delete sequences: an effect for each size."""
    corpus = model.corpus
    assert corpus
    pool, ids = require_sinks(model.cfg), corpus.repeated_ids
    own = sinks.own(pool, ids)
    before = sequence_losses(model.params, model.cfg, corpus.repeated, own)
    removed = sequence_losses(model.params, model.cfg, corpus.repeated, sinks.NO_SINKS)

    def delete(deleted: NDArray[np.bool_]) -> Effect:
        params = sinks.delete(model.params, pool, ids[deleted])
        after = sequence_losses(params, model.cfg, corpus.repeated, own)
        rise = (after - before)[~deleted].mean()
        return Effect(
            float(sinks.sink_mask(pool, ids[deleted]).any(axis=0).mean()),
            float(fraction_deleted(pool, ids[~deleted], ids[deleted]).mean()),
            float(rise),
            float(rise / (removed - before)[~deleted].mean()),
            float(abs(after - removed)[deleted].max()),
        )

    seed = corpus.cfg.seed
    orders = [permutation(len(ids), seed, Purpose.DELETED, draw) for draw in range(draws)]
    choices = [[delete(order < m) for order in orders] for m in sizes]
    effects = [Effect(*np.mean(each, axis=0).tolist()) for each in choices]
    return comparison.measure(model, deletions=False), effects


def result(context: Context, outputs: Outputs) -> Deletions:
    """Compare the pools, and collect the effects."""
    compared = comparison.compare({key: base for key, (base, _) in outputs.items()})
    methods, seeds = pools(context.preset), range(context.seeds)
    return Deletions(
        compared.entropy,
        compared.methods,
        *sizes_of(context),
        {name: require_sinks(method) for name, method in methods.items()},
        {name: [[Effect(*row) for row in outputs[name, s][1]] for s in seeds] for name in methods},
    )


def claims(result: Deletions) -> list[Claim]:
    """Return what deletion erases, what disjoint slices change, and whether it is permanent."""
    some, half = result.some, result.half
    off = [
        abs(effect.pool_erased - (1 - (1 - pool.density) ** m))
        for name, pool in result.pools.items()
        for effects in result.effects[name]
        for m, effect in zip(result.sizes, effects, strict=True)
        if pool.scheme != "disjoint"
    ]
    paper, sparse = (result.after(p, "memory_lost", some) for p in ("paper_sinks", "sinks"))
    lost, erased = (result.after("sinks", f, half) for f in ("memory_lost", "sinks_erased"))
    disjoint = result.after("disjoint_sinks", "others_up", half)
    small = result.after("small_disjoint", "memory_lost", some)
    residue = max(e.residue for seeds in result.effects.values() for row in seeds for e in row)
    return [
        Claim(
            "m deletions erase 1-(1-p)^m of the pool",
            "ours",
            f"within {max(off):.3f} for every random pool and m",
            max(off) <= 0.05,
        ),
        Claim(
            f"in the paper's pool, deleting {some} erases most of the other memories",
            "ours",
            f"the others lose {estimate(paper)} of their memory; "
            f"in our sparse pool {estimate(sparse)}",
            bool(np.mean(paper) >= 0.8),
        ),
        Claim(
            "after many deletions, more of a memory is lost than of its sinks",
            "ours",
            f"half deleted: {estimate(erased)} of the others' sinks erased, "
            f"{estimate(lost)} of their memory lost",
            bool(np.mean(lost) > np.mean(erased)),
        ),
        Claim(
            "disjoint slices make deletion exact",
            "ours",
            f"half deleted: the others rise by {estimate(disjoint)}",
            max(disjoint) == 0,
            "there are fewer slices than sequences",
        ),
        Claim(
            "with more sequences than disjoint slices, it is not exact",
            "ours",
            f"eight sequences per slice, {some} deleted: "
            f"{estimate(small)} of the others' memory lost",
            bool(np.mean(small) > 0.1),
        ),
        Claim(
            "a removed memory comes back with its ID; a deleted one does not",
            "ours",
            f"sinks removed {result.estimate('sinks', 'repeated.removed')}, "
            f"own sinks {result.estimate('sinks', 'repeated.own')}; "
            f"deleted, own sinks and none differ by {residue:g}",
            residue == 0,
        ),
    ]


def labels(result: Deletions) -> dict[str, str]:
    """Return each pool's label: its scheme and density."""
    densities = (pool.density for pool in result.pools.values())
    return {
        name: f"{scheme}, {p:g}" if p > 0.2 else f"{scheme}, 1/{1 / p:g}"
        for (name, (_, _, scheme)), p in zip(POOLS.items(), densities, strict=True)
    }


def tabulate(result: Deletions) -> str:
    """Return one row per pool, mean over seeds: nats per token in the sinks, then fractions."""
    shown, rows = (1, result.some, result.half), []
    for pool, label in labels(result).items():
        held = result.rise(pool, "repeated.removed", pool, "repeated.own")
        lost = [result.after(pool, "memory_lost", m) for m in shown]
        rows.append([label, *(number(float(np.mean(values))) for values in (held, *lost))])
    header = [f"others lose ({m} deleted)" if m == 1 else f"({m})" for m in shown]
    return table(["pool", "held by sinks", *header], rows)


def draw(result: Deletions, folder: Path) -> list[Path]:
    """Draw what the others lose, by deletions and by sinks."""
    sizes, fractions, lines = result.sizes, np.linspace(0, 1, 6), []
    with plots.style():
        fig, axes = plots.subplots(1, 2, figsize=(14.5, 4.8))
        left, right = axes
        title, ylabel = "Delete some: what do others lose?", "fraction of the others' memory"
        plots.frame(left, title, ylabel, "sequences deleted")
        left.set(xscale="log", xticks=sizes, xticklabels=sizes, ylim=(0, 1.12), yticks=fractions)
        left.minorticks_off()
        title, ylabel = "How much of a memory is in a sink?", "fraction of the memory lost"
        plots.frame(right, title, ylabel, "fraction of its sinks erased (lines as on the left)")
        for pool, (method, line, _) in POOLS.items():
            erased, lost = (result.means(pool, f) for f in ("sinks_erased", "memory_lost"))
            lines.append(
                (sizes, lost, labels(result)[pool].replace(" ", "\n", 1), method, line + "o")
            )
            right.plot(erased, lost, line + "o", color=plots.color_of(method), clip_on=False)
        plots.labelled_lines(left, lines)
        right.set(xlim=(0, 1), ylim=(0, 1), xticks=fractions)
        right.plot([0, 1], [0, 1], ":", color="#444444", linewidth=1.3)
        style = {"color": "#444444", "fontsize": 11, "ha": "center", "va": "top"}
        turned = {"rotation": 45, "rotation_mode": "anchor", "transform_rotates_text": True}
        right.text(0.84, 0.83, "in proportion", **style, **turned)
        return plots.save(fig, folder, "delete")
