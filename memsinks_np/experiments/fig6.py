"""A second story world that is seen only through repeats: what is memorized, and what is learnt from it?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from memsinks_np import plots
from memsinks_np.arms import rivals
from memsinks_np.experiments import Plan
from memsinks_np.experiments.comparison import compare, values
from memsinks_np.report import Claim, estimate, number, table

STORIES, REPEATS = (75, 300), (10, 40)  # of the second world; how often each appears
ARMS = ("standard", "memsinks", "memsinks_paper")


def run(plan: Plan) -> dict[str, Any]:
    """Every number of stories and repeats, and the same stories shown once, each with three arms.

    The number of places for repeated sequences is the same in all; where a story is shown less often, fresh stories
    of the first world stand in.
    """
    s, arms = plan.preset.settings, rivals(plan.preset)
    places = s.train.steps * s.data.n_in_batch
    presets = {}
    for n in (8,) if plan.quick else STORIES:
        passes = places // n
        for repeats in (1, 5) if plan.quick else (1, *REPEATS):
            data = replace(s.data, corpus="worlds", n_repeated=n, one_pass_of=passes // repeats)
            preset = plan.preset._replace(settings=replace(s, data=data))
            names = ("standard",) if repeats == 1 else ARMS
            presets[f"{n} stories x {repeats}"] = (preset, {name: arms[name] for name in names})
    found = compare(plan, presets)
    rows = []
    for name, one in found.items():
        n, repeats = (int(word) for word in name.split(" stories x "))
        once = values(found[f"{n} stories x 1"], "standard", "heldout_removed")
        for arm in one["arms"] if repeats > 1 else ():
            rows.append({"stories": n, "repeats": repeats, "arm": arm, **measures(one, arm, once)})
    floor = next(iter(found.values()))["floor"]
    return {"rows": rows, "floor": floor}


def measures(one: dict[str, Any], arm: str, once: list[float]) -> dict[str, list[float]]:
    """Seed by seed: losses, the share of the memorization gap closed, the share of the benefit kept.

    benefit kept = (once - arm) / (once - standard), held-out loss in the second world, sinks removed; `once` is
    standard training that saw each story once (paper, Fig. 6; higher is better).
    """
    of = {field: values(one, arm, field) for field in ("repeated_own", "repeated_removed", "heldout_removed")}
    standard = {field: values(one, "standard", field) for field in ("repeated_removed", "heldout_removed")}
    pairs = list(zip(once, of["heldout_removed"], standard["heldout_removed"], strict=True))
    gap, of_standard = (
        [new - again for new, again in zip(x["heldout_removed"], x["repeated_removed"], strict=True)]
        for x in (of, standard)
    )
    return of | {
        "once": once,
        "gap_closed": [1 - g / g0 for g, g0 in zip(gap, of_standard, strict=True)],
        "benefit_kept": [(o - a) / (o - s) for o, a, s in pairs],
    }


def claims(result: dict[str, Any]) -> list[Claim]:
    n, repeats = max(r["stories"] for r in result["rows"]), max(r["repeats"] for r in result["rows"])
    of = {r["arm"]: r for r in result["rows"] if (r["stories"], r["repeats"]) == (n, repeats)}
    where = f"{n} stories, {repeats} repeats: "
    mean = lambda arm, field: sum(of[arm][field]) / len(of[arm][field])
    once = of["standard"]["once"]
    found = [
        Claim(
            "repetition helps: a rare world is learnt better from many showings than from one",
            "Fig. 6: 2.76, then 2.12",
            f"{where}new ones {estimate(once)} after one showing, {estimate(of['standard']['heldout_removed'])}",
            sum(once) > sum(of["standard"]["heldout_removed"]),
        )
    ]
    for arm, who in (("memsinks_paper", "the paper's setting"), ("memsinks", "ours")):
        found += [
            Claim(
                f"sinks close at least half of the memorization gap ({who})",
                "Fig. 6: 56 % and 59 %",
                f"{where}{estimate(of[arm]['gap_closed'], 2)}",
                mean(arm, "gap_closed") >= 0.5,
                "few showings: the shared neurons have not yet forgotten what they learnt by heart",
            ),
            Claim(
                f"and stay better than showing everything once ({who})",
                "Fig. 6, caption; benefit kept 61 % and 23 %",
                f"{where}benefit kept {estimate(of[arm]['benefit_kept'], 2)}",
                mean(arm, "benefit_kept") > 0,
                "what is common to the second world went into the sinks too, and left with them",
            ),
            Claim(
                f"and are comparable to training with repeats ({who})",
                "section 5.2, text; its own Fig. 6 keeps 61 % and 23 %",
                f"{where}benefit kept {estimate(of[arm]['benefit_kept'], 2)}",
                mean(arm, "benefit_kept") >= 0.9,
                "a part of the benefit is in the sinks, as in the paper's own figure",
            ),
        ]
    return found


def tabulate(result: dict[str, Any]) -> str:
    fields = ("once", "repeated_own", "repeated_removed", "heldout_removed", "gap_closed", "benefit_kept")
    header = ["stories x repeats: arm", "new, shown once", "repeated, own", "repeated, removed", "new, removed"]
    rows = [
        [
            f"{r['stories']} x {r['repeats']}: {r['arm'].replace('_', ' ')}",
            *(number(sum(r[f]) / len(r[f])) for f in fields),
        ]
        for r in result["rows"]
    ]
    return table([*header, "gap closed", "benefit kept"], rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    sizes = sorted({r["stories"] for r in result["rows"]})
    with plt.rc_context(plots.STYLE):
        fig, axes = plt.subplots(
            1, len(sizes), figsize=(6.6 * len(sizes), 4.4), gridspec_kw={"wspace": 0.75}, squeeze=False
        )
        for ax, n in zip(axes[0], sizes, strict=True):
            of = [r for r in result["rows"] if r["stories"] == n]
            repeats = sorted({r["repeats"] for r in of})
            ends = []
            for arm, label in (("standard", "standard"), ("memsinks", "sinks"), ("memsinks_paper", "paper's")):
                rows = [next(r for r in of if r["arm"] == arm and r["repeats"] == k) for k in repeats]
                for field, line, what in (("heldout_removed", "-", "new"), ("repeated_removed", ":", "repeated")):
                    first = [rows[0]["once"]] if field == "heldout_removed" else []
                    x = [1] * len(first) + repeats
                    y = plots.band(ax, x, first + [r[field] for r in rows], plots.COLORS[arm], line)
                    ends.append((y, f"{label}, {what}", arm))
            ax.set_xscale("log")
            plots.frame(
                ax, f"{n} stories of a rare world", "loss, sinks removed (nats per word)", "times each was shown"
            )
            ax.set_xticks([1, *repeats], [str(k) for k in (1, *repeats)])
            ax.minorticks_off()
            plots.floor_and_ends(ax, result["floor"]["heldout"], ends)
        return plots.save(fig, folder, "fig6")
