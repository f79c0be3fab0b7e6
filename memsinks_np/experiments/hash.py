"""From IDs to masks: the flaws of the released hash, and what they do to isolation and deletion."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.ids import integers
from memsinks_np._internal.released_hash import BASE, MODULUS, released_mask
from memsinks_np._internal.tables import number, table
from memsinks_np._internal.typing import Floats
from memsinks_np.config import Method, SinkConfig, require, require_sinks
from memsinks_np.experiments import comparison
from memsinks_np.experiments.comparison import Result
from memsinks_np.experiments.methods import Preset, job, methods_of
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate
from memsinks_np.metrics import sequence_losses
from memsinks_np.sinks import Mask, sink_mask
from memsinks_np.trained import Model

POOL, P = 1228, 0.3  # 30 % of 4,096 neurons, as in the paper
SOME_IDS = integers(300, 1)
FACTORS = (1, 2, 3, 4, 5, 6, 7, 8)
MASKS: dict[str, Callable[[Any], Any]] = {
    "ours": lambda ids: sink_mask(SinkConfig(n_sink=POOL, scheme="bernoulli", p=P), ids),
    "exact": lambda ids: released_mask(ids, POOL, P, "exact"),
    "int64": lambda ids: released_mask(ids, POOL, P, "int64"),
    "int32": lambda ids: released_mask(ids, POOL, P, "int32"),
}
POOLS = {  # pool -> the method with our masks, and with the released ones
    "paper's": ("paper_ours", "paper_released"),
    "sparse": ("sparse_ours", "sparse_released"),
}


class MaskStats(NamedTuple):
    """Properties of a hash, all fractions: of the pool, unless noted otherwise."""

    id_0: float  # sinks of ID 0
    sink_0: float  # of small IDs: those that have sink 0
    overlap: list[float]  # sinks that IDs i and k*i share, for each of FACTORS
    as_int64: float  # of an ID's sinks: those that the released hash gives in 64 bits
    wrapped: float  # of IDs: those whose mask is also that of ID + 65,536


class Collateral(NamedTuple):
    """Mean rise of another repeated sequence's loss when one is deleted, own sinks on.

    others    any two sequences
    pairs     i is deleted and 2i is evaluated, or the reverse; None if there are no such IDs
    spared_*  the same, but the sinks that all repeated sequences have (except ID 0) are not deleted
    """

    others: float
    pairs: float | None
    spared_others: float
    spared_pairs: float | None
    n_common: int  # sinks that all repeated sequences have, except ID 0
    owners: list[int]  # how many of these sequences have a sink, in descending order


@dataclass(frozen=True)
class HashResult(Result):
    """The comparison of methods, the properties of each hash, and collateral by method."""

    masks: dict[str, MaskStats]
    collateral: dict[str, list[Collateral]]

    def numbers(self, method: str, field: str) -> list[float]:
        """Return a field of the collateral, seed by seed."""
        return [getattr(row, field) for row in self.collateral[method]]


def methods_compared(preset: Preset) -> dict[str, Method]:
    """Return the references; and the paper's pool and a sparse one, each under both hashes."""
    known, S, A = methods_of(preset), preset.sinks.n_sink, preset.sinks.n_active
    reason = f"--n-active {A} is more than a quarter of --n-sink {S}, which is the pool here"
    require(S >= 4 * A, f"{reason}; choose fewer")
    sparse = SinkConfig(n_sink=S // 4, scheme="bernoulli", p=4 * preset.sinks.density)
    methods = [known["standard"], known["retrained"]]
    bases = (known["paper_sinks"], replace(known["sinks"], sinks=sparse))
    for base, (ours, released) in zip(bases, POOLS.values(), strict=True):
        sinks = replace(require_sinks(base), scheme="released")
        methods += [replace(base, name=ours), replace(base, name=released, sinks=sinks)]
    return {method.name: method for method in methods}


def jobs(context: Context) -> Jobs:
    """Train every method under every seed."""
    return {
        (name, seed): job(context.preset, method, seed, measure)
        for name, method in methods_compared(context.preset).items()
        for seed in range(context.seeds)
    }


def measure(model: Model) -> tuple[Any, Collateral | None]:
    """Evaluate a model in a worker, and delete each sequence in turn."""
    evaluation = comparison.measure(model, deletions=False)
    return evaluation, collateral(model) if model.cfg.sinks else None


def collateral(model: Model) -> Collateral:
    """Return what the deletion of one sequence does to the others, mean over pairs of sequences."""
    corpus = model.corpus
    assert corpus
    ids = corpus.repeated_ids
    mask = sink_mask(require_sinks(model.cfg), ids)
    owners = mask[ids != 0].sum(axis=0)
    common = owners == (ids != 0).sum()
    doubled = (ids[:, None] * 2 == ids) & (ids != 0)
    pair = doubled | doubled.T
    related = pair | np.eye(len(ids), dtype=bool) | (ids == 0) | (ids == 0)[:, None]

    def losses(erased: Any) -> Floats:
        selection = Mask((mask * (1 - erased)).astype(np.float32))
        return sequence_losses(model.params, model.cfg, corpus.repeated, selection)

    def means(spared: Any) -> tuple[float, float | None]:
        # (R,R): how much the loss of j rises when i is deleted
        up = np.stack([losses(row * (1 - spared)) for row in mask]) - losses(0 * mask[0])
        return float(up[~related].mean()), float(up[pair].mean()) if pair.any() else None

    counts = np.sort(owners)[::-1].astype(int).tolist()
    return Collateral(*means(0 * common), *means(common), int(common.sum()), counts)


def describe(mask: Callable[[Any], Any]) -> MaskStats:
    """Return the properties of a hash."""
    last = round(P * MODULUS / BASE)  # the released hash gives sink 0 to all IDs up to this one
    some = mask(SOME_IDS)
    small = np.array_split(np.arange(1, last, 37, dtype=np.int64), 5)
    return MaskStats(
        id_0=float(mask([0]).mean()),
        sink_0=float(np.mean([mask(ids)[:, 0].mean() for ids in small])),
        overlap=[float((some * mask(k * SOME_IDS)).mean()) for k in FACTORS],
        as_int64=float((some * MASKS["int64"](SOME_IDS)).sum() / some.sum()),
        wrapped=float((mask(SOME_IDS + 65_536) == some).all(axis=1).mean()),
    )


def result(context: Context, outputs: Outputs) -> HashResult:
    """Compare the methods, describe the hashes, and collect the collateral."""
    compared = comparison.compare({key: base for key, (base, _) in outputs.items()})
    collateral = {
        name: [Collateral(*outputs[name, seed][1]) for seed in range(context.seeds)]
        for names in POOLS.values()
        for name in names
    }
    masks = {name: describe(mask) for name, mask in MASKS.items()}
    return HashResult(compared.entropy, compared.methods, masks, collateral)


def independent(mask: MaskStats) -> bool:
    """Return whether related IDs share no more sinks than others, and no ID or sink is special."""
    expected = abs(mask.overlap[1] - P * P) < 0.01
    return expected and mask.id_0 < 2 * P and mask.sink_0 < 2 * P


def claims(result: HashResult) -> list[Claim]:
    """Return what an ID's mask depends on, then its effect on isolation and deletion."""
    masks = result.masks
    ours, released, exact, short = (masks[name] for name in ("ours", "int64", "exact", "int32"))
    closed = {
        pool: [result.estimate(method, "gap_closed") for method in reversed(methods)]
        for pool, methods in POOLS.items()
    }
    difference = min(
        result.mean(released, "gap_closed") - result.mean(ours, "gap_closed")
        for ours, released in POOLS.values()
    )
    up, up_released = (result.numbers(method, "others") for method in POOLS["sparse"])
    _, sparse = POOLS["sparse"]
    n_common = np.mean(result.numbers(sparse, "n_common"))
    return [
        Claim(
            "the released hash gives every ID a mask that is independent of the others",
            "App. I: a tensorized linear congruential generator",
            f"i and 2i share {released.overlap[1]:.3f} of the pool, independent ones {P * P:.3f}; "
            f"ID 0 has {released.id_0:.0%}; {released.sink_0:.0%} of the IDs below "
            f"{P * MODULUS / BASE:,.0f} have sink 0",
            independent(released),
            "the ID is a factor: multiples stay related, 0 stays 0, and small IDs stay below p "
            "for sink 0",
        ),
        Claim(
            "our hash gives every ID such a mask",
            "ours",
            f"i and 2i share {ours.overlap[1]:.3f}; ID 0 has {ours.id_0:.0%}; "
            f"{ours.sink_0:.0%} have sink 0",
            independent(ours),
        ),
        Claim(
            "the mask of an ID does not depend on the integer type",
            "section 5: a deterministic function of the ID",
            f"without overflow {exact.as_int64:.0%} of an ID's sinks are those of 64 bits "
            f"(two random masks: {P:.0%}); in 32 bits {short.wrapped:.0%} of the IDs have the mask "
            "of ID + 65,536",
            exact.as_int64 == 1 and short.wrapped == 0,
            "a^j overflows 64 bits from j = 3 on, and ID * 2^16 overflows 32 bits: 65,536 masks "
            "remain",
        ),
        Claim(
            "removing all sinks closes as much of the gap with the released masks as with ours",
            "ours",
            "; ".join(f"{pool} pool: {' against '.join(here)}" for pool, here in closed.items()),
            difference > -0.05,
            "the masks of small IDs are too similar",
        ),
        Claim(
            "in a sparse pool with our masks, deleting one sequence leaves the others in place",
            "ours",
            f"the others rise by {estimate(up)} nats per token",
            bool(np.mean(up) < 0.1),
            "the pool is too dense: sequences share too many sinks",
        ),
        Claim(
            "in a sparse pool with the released masks, it leaves them in place, too",
            "ours",
            f"the others rise by {estimate(up_released)}, by "
            f"{estimate(result.numbers(sparse, 'spared_others'))} if the {n_common:.0f} sinks "
            "that they all have are not deleted",
            bool(np.mean(up_released) < 0.1),
            "every small ID has sink 0 and the other sinks with a small factor, so their memories "
            "share these sinks",
        ),
    ]


def tabulate(result: HashResult) -> str:
    """Return the masks, then the methods: the rise of the others' loss when one is deleted."""
    masks = [
        [name, *map(number, (m.id_0, m.sink_0, m.overlap[1], m.as_int64))]
        for name, m in result.masks.items()
    ]
    methods = [
        [f"{pool}, {kind}", result.estimate(method, "gap_closed")]
        + [estimate(result.numbers(method, field)) for field in ("others", "spared_others")]
        for pool, names in POOLS.items()
        for kind, method in zip(("ours", "released"), names, strict=True)
    ]
    tables = [
        (["masks", "ID 0 has", "have sink 0", "i and 2i share", "sinks as in 64 bits"], masks),
        (["pool, masks", "gap closed", "others' rise", "common spared"], methods),
    ]
    return "\n\n".join(table(header, rows) for header, rows in tables)


def draw(result: HashResult, folder: Path) -> list[Path]:
    """Draw the overlap of related IDs; in a sparse pool, shared sinks and deletion (seed 0)."""
    sparse = [result.collateral[method][0] for method in POOLS["sparse"]]
    with plots.style():
        fig, axes = plots.subplots(1, 3, figsize=(16, 4.2))
        draw_overlap(axes[0], result.masks)
        draw_owners(axes[1], *sparse)
        draw_deletion(axes[2], *sparse)
        return plots.save(fig, folder, "hash")


def draw_overlap(ax: Any, masks: dict[str, MaskStats]) -> None:
    """Draw how much of the pool IDs i and k*i share."""
    ylabel = "fraction of the pool in both masks"
    plots.frame(ax, "Do related IDs share sinks?", ylabel, "k, for IDs i and k i")
    ax.axhline(P * P, color="#444444", linestyle=":", linewidth=1.3)
    style = {"textcoords": "offset points", "va": "top", "ha": "center", "fontsize": 11}
    ax.annotate("independent", (5, P * P), (0, -7), **style)
    ax.set_ylim(0, 0.2)
    ax.margins(x=0.03)
    lines = [
        (FACTORS[1:], masks["ours"].overlap[1:], "ours", "paper_sinks", "-o"),
        (FACTORS[1:], masks["int64"].overlap[1:], "released", "released", "-o"),
    ]
    plots.labelled_lines(ax, lines)


def draw_owners(ax: Any, ours: Collateral, released: Collateral) -> None:
    """Draw how many repeated sequences have each sink."""
    title, ylabel = "How many sequences share a sink?", "repeated sequences that have it"
    plots.frame(ax, title, ylabel, "sinks, the most shared first")
    ax.set_xscale("log")
    above = {"textcoords": "offset points", "va": "bottom"}
    for row, label, method in ((ours, "ours", "paper_sinks"), (released, "released", "released")):
        color = plots.color_of(method)
        ax.plot(range(1, len(row.owners) + 1), row.owners, "-", color=color)
        ax.annotate(label, (1.15, row.owners[0]), (0, 4), color=plots.ink_of(method), **above)
    ax.set_ylim(0, 1.15 * max(ours.owners[0], released.owners[0]))


def draw_deletion(ax: Any, ours: Collateral, released: Collateral) -> None:
    """Draw the rise of the others' loss: any two sequences, and pairs of i and 2i."""
    ylabel = "rise of their loss (nats per token)"
    xlabel = "dark: any two sequences, pale: IDs i and 2i"
    plots.frame(ax, "Delete one: do the others stay?", ylabel, xlabel)
    bars = {
        "ours": (ours.others, ours.pairs, "paper_sinks"),
        "released": (released.others, released.pairs, "released"),
        "released,\ncommon\nspared": (released.spared_others, released.spared_pairs, "released"),
    }
    style = {"ha": "center", "va": "bottom", "fontsize": 11}
    for x, (others, pairs, method) in enumerate(bars.values()):
        for at, value, alpha in ((x - 0.2, others, 1.0), (x + 0.2, pairs, 0.5)):
            if value is not None:
                ax.bar(at, value, 0.38, color=plots.color_of(method), alpha=alpha)
                ax.annotate(number(value, 2), (at, value), **style)
    ax.set_xticks(range(len(bars)), bars)
    ax.set_xlim(-0.6, len(bars) - 0.4)
