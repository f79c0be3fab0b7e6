"""From IDs to masks: the flaws of the released hash, and what they do to isolation and to deletion."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from memsinks_np import metrics, plots
from memsinks_np.arms import Preset, rivals, seeded
from memsinks_np.config import Arm, ModelConfig, SinkConfig
from memsinks_np.data import Corpus, load_corpus
from memsinks_np.experiments import Plan
from memsinks_np.grid import Job
from memsinks_np.released_hash import BASE, MODULUS, released_mask
from memsinks_np.report import Claim, estimate, number, table
from memsinks_np.sinks import Mask, Params, mask_of
from memsinks_np.train import Trained

POOL, P, FEW = 1228, 0.3, np.arange(1, 301)  # 30 % of 4,096 neurons, as in the paper
FACTORS = (1, 2, 3, 4, 5, 6, 7, 8)
MASKS = {
    "ours": lambda ids: mask_of(SinkConfig(n_sink=POOL, scheme="bernoulli", p=P), ids),
    "exact": lambda ids: released_mask(ids, POOL, P, "exact"),
    "int64": lambda ids: released_mask(ids, POOL, P, "int64"),
    "int32": lambda ids: released_mask(ids, POOL, P, "int32"),
}


def run(plan: Plan) -> dict[str, Any]:
    """What the masks are, and what they do: the same two pools, once with our masks, once with the released ones."""
    arms = arms_of(plan.preset)
    jobs = [seeded(plan.preset, arm, seed) for seed in range(plan.seeds) for arm in arms.values()]
    found = plan.grid(jobs, measure)
    rows = {name: found[i :: len(arms)] for i, name in enumerate(arms)}  # one for every seed
    references = list(zip(rows.pop("standard"), rows.pop("retrained_without"), strict=True))
    for of in rows.values():
        for row, (standard, gold) in zip(of, references, strict=True):
            row |= metrics.compare(row, standard, gold)
    return {"masks": {name: describe(mask) for name, mask in MASKS.items()}, "arms": rows}


def arms_of(preset: Preset) -> dict[str, Arm]:
    """The paper's setting, and a sparse pool like ours but with masks by chance, each under two hashes."""
    known = rivals(preset)
    sparse = SinkConfig(n_sink=preset.sinks.n_sink // 4, scheme="bernoulli", p=4 * preset.sinks.density)
    pools = {"paper": known["memsinks_paper"], "sparse": replace(known["memsinks"], sinks=sparse)}
    arms = {name: known[name] for name in ("standard", "retrained_without")}
    for name, arm in pools.items():
        arms[f"{name}_ours"] = arm
        arms[f"{name}_released"] = replace(arm, sinks=replace(arm.sinks, scheme="released"))
    return {name: replace(arm, name=name) for name, arm in arms.items()}


def describe(mask: Callable) -> dict[str, Any]:
    """Shares of the pool: what IDs 0, and 1 to 20 together, own; what i and k*i share; and of IDs, that own sink 0."""
    last = round(P * MODULUS / BASE)  # what the released hash gives sink 0, by its formula
    some = mask(FEW)
    return {
        "id_0": float(mask([0]).mean()),
        "ids_1_to_20": float(mask(np.arange(1, 21)).any(axis=0).mean()),
        "sink_0": float(np.mean([mask(part)[:, 0].mean() for part in np.array_split(np.arange(1, last, 37), 5)])),
        "overlap": [float((some * mask(k * FEW)).mean()) for k in FACTORS],
        "as_int64": float((some * MASKS["int64"](FEW)).sum() / some.sum()),
        "wrapped": float((mask(FEW + 65_536) == some).all(axis=1).mean()),
    }


def measure(job: Job, trained: Trained) -> dict[str, Any]:
    """In a worker: the arm's losses, and what deleting one sequence's sinks does to the others."""
    corpus = load_corpus(job.settings.data)
    model = job.settings.model(job.arm, len(corpus.vocab))
    row: dict[str, Any] = dict(metrics.measure(trained.params, model, corpus))
    return row | (collateral(trained.params, model, corpus) if model.sinks else {})


def collateral(params: Params, model: ModelConfig, corpus: Corpus) -> dict[str, Any]:
    """Mean rise of the loss of another repeated sequence, own sinks on, when one sequence's sinks are deleted.

    others    of any two sequences        pairs    i is deleted and 2i is read, or the reverse
    spared_*  the same where the sinks that all repeated sequences own (but for ID 0) are left in place
    """
    ids = corpus.repeated_ids
    mask = mask_of(model.sinks, ids)
    owners = mask[ids != 0].sum(axis=0)
    everyones = owners == (ids != 0).sum()
    doubled = (ids[:, None] * 2 == ids) & (ids != 0)
    pair = doubled | doubled.T
    related = pair | np.eye(len(ids), dtype=bool) | (ids == 0) | (ids == 0)[:, None]
    row: dict[str, Any] = {"everyones": int(everyones.sum()), "owners": np.sort(owners)[::-1].astype(int).tolist()}
    for name, spared in (("", 0 * everyones), ("spared_", everyones)):
        up = rise(params, model, corpus, mask, spared)
        row[f"{name}others"] = float(up[~related].mean())
        row[f"{name}pairs"] = float(up[pair].mean()) if pair.any() else None
    return row


def rise(params: Params, model: ModelConfig, corpus: Corpus, mask: Any, spared: Any) -> NDArray[np.float64]:
    """(R,R): how much the loss of sequence j rises when the sinks of sequence i, but for the spared ones, go."""

    def loss(gone: Any) -> NDArray[np.float64]:
        selection = (Mask((mask * (1 - gone)).astype(np.float32)),) * model.n_layers
        return metrics.predict(params, model, corpus.repeated, selection)[0].mean(axis=1, dtype=np.float64)

    return np.stack([loss(one * (1 - spared)) for one in mask]) - loss(0 * mask[0])


def numbers(result: dict, arm: str, field: str) -> list[float]:
    """One for every seed; those of text, whose IDs are hashes, have no pairs."""
    return [row[field] for row in result["arms"][arm] if row[field] is not None]


def mean(result: dict, arm: str, field: str) -> float:
    return float(np.mean(numbers(result, arm, field)))


def claims(result: dict) -> list[Claim]:
    """The masks, then what they do."""
    ours, hashed, short = (result["masks"][name] for name in ("ours", "int64", "int32"))
    show = lambda arm, field, digits=3: estimate(numbers(result, arm, field), digits)
    gap = {arm: mean(result, arm, "gap_closed") for arm in result["arms"]}
    up = {arm: mean(result, arm, "others") for arm in result["arms"]}
    return [
        Claim(
            "the released hash gives every ID a mask that is independent of the others",
            "App. I: a tensorized linear congruential generator",
            f"i and 2i share {hashed['overlap'][1]:.3f} of the pool, independent ones {P * P:.3f}; ID 0 owns "
            f"{hashed['id_0']:.0%}; {hashed['sink_0']:.0%} of the IDs up to {P * MODULUS / BASE:,.0f} own sink 0",
            independent(hashed),
            "an ID enters as a factor: multiples stay related, 0 stays 0, and small IDs stay below p for sink 0",
        ),
        Claim(
            "ours are",
            "ours",
            f"i and 2i share {ours['overlap'][1]:.3f}; ID 0 owns {ours['id_0']:.0%}; {ours['sink_0']:.0%} own sink 0",
            independent(ours),
        ),
        Claim(
            "a mask belongs to an ID, whatever the integer type",
            "section 5: a deterministic function of the ID",
            f"without overflow {result['masks']['exact']['as_int64']:.0%} of an ID's sinks are those of 64 bits (two "
            f"draws: {P:.0%}); in 32 bits {short['wrapped']:.0%} of the IDs have the mask of ID + 65,536",
            result["masks"]["exact"]["as_int64"] == 1 and short["wrapped"] == 0,
            "a^j overflows 64 bits from j = 3 on, and ID * 2^16 overflows 32 bits: 65,536 masks remain",
        ),
        Claim(
            "removing all sinks closes as much of the gap with the released masks as with ours",
            "ours",
            "; ".join(
                f"{pool} pool: {show(f'{pool}_released', 'gap_closed')} against {show(f'{pool}_ours', 'gap_closed')}"
                for pool in ("paper", "sparse")
            ),
            all(gap[f"{pool}_released"] > gap[f"{pool}_ours"] - 0.05 for pool in ("paper", "sparse")),
            "the masks of small IDs are too much alike",
        ),
        Claim(
            "in a sparse pool with our masks, one sequence can be deleted and the others stay",
            "ours",
            f"the others rise by {show('sparse_ours', 'others')} nats per word",
            up["sparse_ours"] < 0.1,
            "the pool is too dense: sequences share too many sinks",
        ),
        Claim(
            "and with the released masks",
            "ours",
            f"the others rise by {show('sparse_released', 'others')}, by {show('sparse_released', 'spared_others')} "
            f"if the {mean(result, 'sparse_released', 'everyones'):.0f} sinks that they all own stay",
            up["sparse_released"] < 0.1,
            "every small ID owns sink 0 and the other sinks with a small factor, and their memories gather there",
        ),
    ]


def independent(mask: dict) -> bool:
    return abs(mask["overlap"][1] - P * P) < 0.01 and mask["id_0"] < 2 * P and mask["sink_0"] < 2 * P


def tabulate(result: dict) -> str:
    """The masks; the arms, as means over seeds (95 % interval), losses in nats per word."""
    head = [
        "masks",
        "ID 0 owns",
        "IDs 1-20 own",
        "i and 2i share",
        "i and 3i share",
        "have sink 0",
        "sinks as in 64 bits",
    ]
    masks = [
        [name, *(number(m[f]) for f in ("id_0", "ids_1_to_20")), *map(number, m["overlap"][1:3])]
        + [number(m[f]) for f in ("sink_0", "as_int64")]
        for name, m in result["masks"].items()
    ]
    arms = [
        [arm.replace("_", ", "), *(estimate(x) if (x := numbers(result, arm, field)) else "-" for field in COLUMNS)]
        for arm in result["arms"]
    ]
    return table(head, masks) + "\n\n" + table(["pool, masks", *COLUMNS.values()], arms)


COLUMNS = {
    "repeated_own": "repeated, own sinks",
    "heldout_removed": "new, sinks removed",
    "gap_closed": "gap closed",
    "others": "one deleted: the others",
    "pairs": "i deleted: 2i",
    "everyones": "sinks that all own",
    "spared_others": "those spared: the others",
    "spared_pairs": "2i",
}


def draw(result: dict, folder: Path) -> list[Path]:
    """The flaw, its cause in a sparse pool, and what it does there (seed 0)."""
    with plt.rc_context(plots.STYLE):
        fig, axes = plt.subplots(1, 3, figsize=(16, 4.2), gridspec_kw={"wspace": 0.6})
        draw_overlap(axes[0], result["masks"])
        draw_owners(axes[1], result["arms"])
        draw_deletion(axes[2], result["arms"])
        return plots.save(fig, folder, "hash")


def draw_overlap(ax: Any, masks: dict) -> None:
    plots.frame(ax, "Do related IDs share sinks?", "share of the pool that both own", "k, for IDs i and k i")
    ends = []
    for name, label, arm in (("ours", "ours", "memsinks_paper"), ("int64", "released", "released")):
        y = masks[name]["overlap"][1:]
        ax.plot(FACTORS[1:], y, "-o", color=plots.COLORS[arm])
        ends.append((y[-1], label, arm))
    ax.axhline(P * P, color="#444444", linestyle=":", linewidth=1.3)
    ax.annotate("independent", (5, P * P), (0, -3), textcoords="offset points", va="top", ha="center", fontsize=11)
    ax.set_ylim(0, 0.2)
    ax.margins(x=0.03)
    plots.label_ends(ax, ends)


def draw_owners(ax: Any, arms: dict) -> None:
    plots.frame(ax, "Who owns a sink?", "repeated sequences that own it", "sinks, the most owned first")
    ax.set_xscale("log")
    for name, label, arm in (("sparse_ours", "ours", "memsinks_paper"), ("sparse_released", "released", "released")):
        y = arms[name][0]["owners"]
        ax.plot(1 + np.arange(len(y)), y, "-", color=plots.COLORS[arm])
        above = {"textcoords": "offset points", "va": "bottom"}
        ax.annotate(label, (1.15, y[0]), (0, 4), color=plots.COLORS[arm], **above)
    ax.set_ylim(0, 1.15 * max(max(arms[f"sparse_{kind}"][0]["owners"]) for kind in ("ours", "released")))


def draw_deletion(ax: Any, arms: dict) -> None:
    title, y = "Delete one: do the others stay?", "rise of their loss (nats per word)"
    plots.frame(ax, title, y, "")
    groups = (
        ("ours", "sparse_ours", "", "memsinks_paper"),
        ("released", "sparse_released", "", "released"),
        ("released,\ncommon\nspared", "sparse_released", "spared_", "released"),
    )
    for x, (_, name, kind, arm) in enumerate(groups):
        for shift, field, alpha in ((-0.2, "others", 1.0), (0.2, "pairs", 0.5)):
            value = arms[name][0][kind + field]
            if value is not None:
                ax.bar(x + shift, value, 0.38, color=plots.COLORS[arm], alpha=alpha)
                ax.annotate(number(value, 2), (x + shift, value), ha="center", va="bottom", fontsize=11)
    ax.set_xticks(range(len(groups)), [label for label, *_ in groups])
    ax.set_xlim(-0.6, len(groups) - 0.4)
    note = "full: any two\npale: i and 2i"
    ax.text(0.02, 0.97, note, transform=ax.transAxes, ha="left", va="top", fontsize=11)
