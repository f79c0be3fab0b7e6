"""A second story world that is seen only through repeats: what is memorized, and what is learnt from it?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from memsinks_np._internal.tables import number, table
from memsinks_np.config import require
from memsinks_np.experiments import Context
from memsinks_np.experiments.comparison import compare, values
from memsinks_np.experiments.methods import methods_of
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate

STORIES, REPEATS = (75, 300), (10, 40)  # of the second world; how often each appears
METHODS = ("standard", "sinks", "paper_sinks")


def run(plan: Context) -> dict[str, Any]:
    """Every number of stories and repeats, and the same stories shown once, each with three methods.

    The number of places for repeated sequences is the same in all; where a story is shown less often, fresh stories
    of the first world stand in.
    """
    s, methods = plan.preset.settings, methods_of(plan.preset)
    require(
        s.data.corpus == "domains",
        f"--corpus {s.data.corpus} has no rare world; leave the flag out",
    )
    sizes, showings = ((8,), (1, 5)) if plan.quick else (STORIES, (1, *REPEATS))
    least = -(-max(sizes) * max(showings) // s.data.n_repeated_per_batch)
    require(
        s.train.steps >= least,
        f"--steps {s.train.steps} is too few to show all that often; use {least} or more",
    )
    presets = {}
    for n in sizes:
        passes = s.train.steps * s.data.n_repeated_per_batch // n
        for repeats in showings:
            data = replace(s.data, n_repeated=n, show_every_n_passes=passes // repeats)
            preset = plan.preset._replace(settings=replace(s, data=data))
            names = ("standard",) if repeats == 1 else METHODS
            presets[f"{n} stories x {repeats}"] = (preset, {name: methods[name] for name in names})
    found = compare(plan, presets)
    rows = []
    for name, one in found.items():
        n, repeats = (int(word) for word in name.split(" stories x "))
        once = values(found[f"{n} stories x 1"], "standard", "heldout.removed")
        for method in one["methods"] if repeats > 1 else ():
            rows.append(
                {"stories": n, "repeats": repeats, "method": method, **measures(one, method, once)}
            )
    floor = next(iter(found.values()))["floor"]
    return {"rows": rows, "floor": floor}


def measures(one: dict[str, Any], method: str, once: list[float]) -> dict[str, list[float]]:
    """Seed by seed: losses, the share of the memorization gap closed, the share of the benefit kept.

    benefit kept = (once - method) / (once - standard), held-out loss in the second world, sinks removed; `once` is
    standard training that saw each story once (paper, Fig. 6; higher is better).
    """
    of = {
        field: values(one, method, field)
        for field in ("repeated.own", "repeated.removed", "heldout.removed")
    }
    standard = {
        field: values(one, "standard", field) for field in ("repeated.removed", "heldout.removed")
    }
    pairs = list(zip(once, of["heldout.removed"], standard["heldout.removed"], strict=True))
    gap, of_standard = (
        [
            new - again
            for new, again in zip(x["heldout.removed"], x["repeated.removed"], strict=True)
        ]
        for x in (of, standard)
    )
    return of | {
        "once": once,
        "standard": standard["heldout.removed"],
        "gap_closed": [1 - g / g0 for g, g0 in zip(gap, of_standard, strict=True)],
        "benefit_kept": [(o - a) / (o - s) for o, a, s in pairs],
    }


def average(values: list[float]) -> float:
    return sum(values) / len(values)


def helped(row: dict[str, Any]) -> bool:
    """Whether standard training learnt the rare world better from the repeats than from one showing of each story.

    Only then is there a benefit of which a share can be kept.
    """
    return average(row["once"]) > average(row["standard"])


def claims(result: dict[str, Any]) -> list[Claim]:
    rows = result["rows"]
    few, many = (choose(r["repeats"] for r in rows) for choose in (min, max))
    of = {(r["method"], r["stories"], r["repeats"]): r for r in rows}
    sizes = sorted({r["stories"] for r in rows})

    def tell(method: str, repeats: int, field: str, digits: int = 2) -> str:
        return ", ".join(
            f"{n} stories: {estimate(of[method, n, repeats][field], digits)}" for n in sizes
        )

    def means(method: str, repeats: int, field: str) -> list[float]:
        return [average(of[method, n, repeats][field]) for n in sizes]

    once = {n: average(of["standard", n, few]["once"]) for n in sizes}
    found = [
        Claim(
            "repetition helps: a rare world is learnt better from several showings than from one",
            "Fig. 6: 2.76, then 2.12 (10 showings)",
            f"new stories of it after {few} showings of {tell('standard', few, 'heldout.removed', 3)}; after one: "
            + ", ".join(f"{loss:.3f}" for loss in once.values()),
            all(helped(of["standard", n, few]) for n in sizes),
        ),
        Claim(
            "and hurts when there are too many of them",
            "ours",
            f"after {many} showings of {tell('standard', many, 'heldout.removed', 3)}",
            all(
                worse > better
                for worse, better in zip(
                    *(means("standard", k, "heldout.removed") for k in (many, few)), strict=True
                )
            ),
        ),
    ]
    for method, who in (("paper_sinks", "the paper's setting"), ("sinks", "ours")):
        both = [
            (n, k)
            for n in sizes
            for k in (few, many)
            if helped(r := of[method, n, k])
            and average(r["gap_closed"]) >= 0.5
            and average(r["benefit_kept"]) > 0
        ]
        found += [
            Claim(
                f"where much is memorized, sinks close at least half of the gap ({who})",
                "Fig. 6: 56 % and 59 %",
                f"{many} showings of {tell(method, many, 'gap_closed')}",
                min(means(method, many, "gap_closed")) >= 0.5,
                "the pool is small for so many stories: each sink is on for a third of them",
            ),
            Claim(
                f"where repetition helps, they stay better than one showing ({who})",
                "Fig. 6, caption; 61 % and 23 % of the benefit kept",
                f"benefit kept, {few} showings of {tell(method, few, 'benefit_kept')}",
                min(means(method, few, "benefit_kept")) > 0,
                "what is common to the rare world went into the sinks too, and left with them",
            ),
            Claim(
                f"and are comparable to training with repeats ({who})",
                "section 5.2, text; its own Fig. 6 keeps 61 % and 23 %",
                f"benefit kept, {few} showings of {tell(method, few, 'benefit_kept')}",
                min(means(method, few, "benefit_kept")) >= 0.9,
                "a part of the benefit is in the sinks, as in the paper's own figure",
            ),
            Claim(
                f"both at once: half of the gap closed where repetition still helps ({who})",
                "Fig. 6",
                f"in {len(both)} of {2 * len(sizes)} settings",
                bool(both),
                f"after {few} showings little is memorized that could be closed, and after {many} repeats hurt",
            ),
        ]
    return found


def tabulate(result: dict[str, Any]) -> str:
    fields = ("once", "repeated.own", "repeated.removed", "heldout.removed", "gap_closed")
    header = [
        "stories x repeats: method",
        "new, shown once",
        "repeated, own",
        "repeated, removed",
        "new, removed",
    ]
    rows = [
        [
            f"{r['stories']} x {r['repeats']}: {r['method'].replace('_', ' ')}",
            *(number(average(r[f])) for f in fields),
            number(average(r["benefit_kept"])) if helped(r) else "no benefit",
        ]
        for r in result["rows"]
    ]
    return table([*header, "gap closed", "benefit kept"], rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    sizes = sorted({r["stories"] for r in result["rows"]})
    with plt.rc_context(plots.STYLE):
        fig, axes = plt.subplots(
            1,
            len(sizes),
            figsize=(6.6 * len(sizes), 4.4),
            gridspec_kw={"wspace": 0.75},
            squeeze=False,
        )
        for ax, n in zip(axes[0], sizes, strict=True):
            of = [r for r in result["rows"] if r["stories"] == n]
            repeats = sorted({r["repeats"] for r in of})
            ends = []
            for method, label in (
                ("standard", "standard"),
                ("sinks", "sinks"),
                ("paper_sinks", "paper's"),
            ):
                rows = [
                    next(r for r in of if r["method"] == method and r["repeats"] == k)
                    for k in repeats
                ]
                for field, line, what in (
                    ("heldout.removed", "-", "new"),
                    ("repeated.removed", ":", "repeated"),
                ):
                    first = [rows[0]["once"]] if field == "heldout.removed" else []
                    x = [1] * len(first) + repeats
                    y = plots.band(
                        ax, x, first + [r[field] for r in rows], plots.COLORS[method], line
                    )
                    ends.append((y, f"{label}, {what}", method))
            ax.set_xscale("log")
            plots.frame(
                ax,
                f"{n} stories of a rare world",
                "loss, sinks removed (nats per word)",
                "times each was shown",
            )
            ax.set_xticks([1, *repeats], [str(k) for k in (1, *repeats)])
            ax.minorticks_off()
            plots.floor_and_ends(ax, result["floor"]["heldout"], ends)
        return plots.save(fig, folder, "fig6")
