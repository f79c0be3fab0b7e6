"""From IDs to masks: the flaws of the released hash, and what they do to isolation and to deletion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from memsinks_np._internal.released_hash import BASE, MODULUS
from memsinks_np._internal.tables import number, table
from memsinks_np.experiments.hash_run import FACTORS, P, run
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate

__all__ = ["claims", "draw", "run", "tabulate"]


def numbers(result: dict[str, Any], method: str, field: str) -> list[float]:
    """One for every seed; those of text, whose IDs are hashes, have no pairs."""
    return [row[field] for row in result["methods"][method] if row[field] is not None]


def mean(result: dict[str, Any], method: str, field: str) -> float:
    return float(np.mean(numbers(result, method, field)))


def claims(result: dict[str, Any]) -> list[Claim]:
    """The masks, then what they do."""
    ours, hashed, short = (result["masks"][name] for name in ("ours", "int64", "int32"))
    show: Callable[..., str] = lambda method, field, digits=3: estimate(
        numbers(result, method, field), digits
    )
    gap = {method: mean(result, method, "gap_closed") for method in result["methods"]}
    up = {method: mean(result, method, "others") for method in result["methods"]}
    return [
        Claim(
            "the released hash gives every ID a mask that is independent of the others",
            "App. I: a tensorized linear congruential generator",
            f"i and 2i share {hashed['overlap'][1]:.3f} of the pool, independent ones {P * P:.3f}; ID 0 owns "
            f"{hashed['id_0']:.0%}; {hashed['sink_0']:.0%} of the IDs below {P * MODULUS / BASE:,.0f} own sink 0",
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
            all(
                gap[f"{pool}_released"] > gap[f"{pool}_ours"] - 0.05 for pool in ("paper", "sparse")
            ),
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


def independent(mask: dict[str, Any]) -> bool:
    return bool(
        abs(mask["overlap"][1] - P * P) < 0.01 and mask["id_0"] < 2 * P and mask["sink_0"] < 2 * P
    )


def tabulate(result: dict[str, Any]) -> str:
    """The masks; the methods, as means over seeds (95 % interval), losses in nats per word."""
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
    methods = [
        [
            method.replace("_", ", "),
            *(estimate(x) if (x := numbers(result, method, field)) else "-" for field in COLUMNS),
        ]
        for method in result["methods"]
    ]
    return table(head, masks) + "\n\n" + table(["pool, masks", *COLUMNS.values()], methods)


COLUMNS = {
    "repeated.own": "repeated, own sinks",
    "heldout.removed": "new, sinks removed",
    "gap_closed": "gap closed",
    "others": "one deleted: the others",
    "pairs": "i deleted: 2i",
    "everyones": "sinks that all own",
    "spared_others": "those spared: the others",
    "spared_pairs": "2i",
}


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """The flaw, its cause in a sparse pool, and what it does there (seed 0)."""
    with plt.rc_context(plots.STYLE):
        fig, axes = plt.subplots(1, 3, figsize=(16, 4.2), gridspec_kw={"wspace": 0.6})
        draw_overlap(axes[0], result["masks"])
        draw_owners(axes[1], result["methods"])
        draw_deletion(axes[2], result["methods"])
        return plots.save(fig, folder, "hash")


def draw_overlap(ax: Any, masks: dict[str, Any]) -> None:
    plots.frame(
        ax, "Do related IDs share sinks?", "share of the pool that both own", "k, for IDs i and k i"
    )
    ends = []
    for name, label, method in (("ours", "ours", "paper_sinks"), ("int64", "released", "released")):
        y = masks[name]["overlap"][1:]
        ax.plot(FACTORS[1:], y, "-o", color=plots.COLORS[method])
        ends.append((y[-1], label, method))
    ax.axhline(P * P, color="#444444", linestyle=":", linewidth=1.3)
    ax.annotate(
        "independent",
        (5, P * P),
        (0, -3),
        textcoords="offset points",
        va="top",
        ha="center",
        fontsize=11,
    )
    ax.set_ylim(0, 0.2)
    ax.margins(x=0.03)
    plots.label_ends(ax, ends)


def draw_owners(ax: Any, methods: dict[str, Any]) -> None:
    plots.frame(
        ax, "Who owns a sink?", "repeated sequences that own it", "sinks, the most owned first"
    )
    ax.set_xscale("log")
    for name, label, method in (
        ("sparse_ours", "ours", "paper_sinks"),
        ("sparse_released", "released", "released"),
    ):
        y = methods[name][0]["owners"]
        ax.plot(1 + np.arange(len(y)), y, "-", color=plots.COLORS[method])
        above = {"textcoords": "offset points", "va": "bottom"}
        ax.annotate(label, (1.15, y[0]), (0, 4), color=plots.COLORS[method], **above)
    ax.set_ylim(
        0, 1.15 * max(max(methods[f"sparse_{kind}"][0]["owners"]) for kind in ("ours", "released"))
    )


def draw_deletion(ax: Any, methods: dict[str, Any]) -> None:
    title, y = "Delete one: do the others stay?", "rise of their loss (nats per word)"
    plots.frame(ax, title, y, "")
    groups = (
        ("ours", "sparse_ours", "", "paper_sinks"),
        ("released", "sparse_released", "", "released"),
        ("released,\ncommon\nspared", "sparse_released", "spared_", "released"),
    )
    for x, (_, name, kind, method) in enumerate(groups):
        for shift, field, alpha in ((-0.2, "others", 1.0), (0.2, "pairs", 0.5)):
            value = methods[name][0][kind + field]
            if value is not None:
                ax.bar(x + shift, value, 0.38, color=plots.COLORS[method], alpha=alpha)
                ax.annotate(
                    number(value, 2), (x + shift, value), ha="center", va="bottom", fontsize=11
                )
    ax.set_xticks(range(len(groups)), [label for label, *_ in groups])
    ax.set_xlim(-0.6, len(groups) - 0.4)
    note = "full: any two\npale: i and 2i"
    ax.text(0.02, 0.97, note, transform=ax.transAxes, ha="left", va="top", fontsize=11)
