"""The methods_of side by side: is the memory gone, is the skill kept, and is forced isolation a mirage?"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from memsinks_np._internal.tables import number, spread, table
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import Context
from memsinks_np.experiments.comparison import compare, curve, spoken, values
from memsinks_np.experiments.methods import HEADLINE, methods_of, seeded
from memsinks_np.experiments.report import plots, samples
from memsinks_np.experiments.report.claims import Claim, estimate, to_csv, to_json
from memsinks_np.experiments.report.loss_map import memory_map


def run(plan: Context) -> dict[str, Any]:
    """Train every method under every seed, measure it, and let three of them speak."""
    methods = methods_of(plan.preset)
    result = compare(plan, {"headline": (plan.preset, {name: methods[name] for name in HEADLINE})})["headline"]
    job = seeded(plan.preset, methods["sinks"], 0)
    corpus = load_corpus(job.settings.data)
    of = spoken(plan)
    told = {
        "samples": samples.tell(corpus, of["said"], plan.delete),
        "memory_map": memory_map(job, corpus, of["words"]),
    }
    return {"corpus": corpus.cfg.corpus, **result, **told}


def files(result: dict[str, Any]) -> dict[str, str]:
    """What lies in the results' folder for a person to open."""
    return {
        "summary.json": to_json({"floor": result["floor"], "methods": result["methods"]}),
        "history.csv": to_csv(result["history"]),
        "samples.txt": result["samples"],
        "memory_map.json": to_json(result["memory_map"]),
    }


def claims(result: dict[str, Any]) -> list[Claim]:
    """What the headline is there to show, each with the number that decides it (mean over seeds)."""
    methods = result["methods"]
    mean = {name: entry["mean"] for name, entry in methods.items()}
    std, sinks, gm = mean["standard"], mean["sinks"], mean["gradient_masking"]
    random_sinks, paper, gold = mean["random_sinks"], mean["paper_sinks"], mean["retrained"]
    dip = min(curve(result, "paper_sinks", "repeated.removed").values())
    kept, cut = (curve(result, "gradient_masking", field) for field in ("heldout.own", "heldout.removed"))
    steps = list(kept)
    rises = [cut[s] - kept[s] for s in (steps[round(share * (len(steps) - 1))] for share in (0.2, 0.6, 1.0))]

    def here(method: str, field: str, sign: str = "") -> str:
        return estimate(values(result, method, field), sign=sign)

    return [
        Claim(
            "ordinary training memorizes what it sees repeatedly",
            "Fig. 2c: 0.02 against 2.72",
            f"repeated {here('standard', 'repeated.own')} against new {here('standard', 'heldout.removed')}, "
            f"{std['extraction.own']:.0%} extracted",
            std["repeated.own"] < 0.5 * std["heldout.removed"] and std["extraction.own"] > 0.5,
        ),
        Claim(
            "sinks hold the memory: with its own sinks on, a sequence is known by heart",
            "Fig. 7: 0.04",
            f"repeated {here('sinks', 'repeated.own')}, {sinks['extraction.own']:.0%} extracted",
            sinks["repeated.own"] <= std["repeated.own"],
        ),
        Claim(
            "removing the sinks removes the memory, as if the sequences had never been seen",
            "Fig. 4b: largely, 1.83 of 2.98",
            f"gold-gap closed {here('sinks', 'gold_gap_closed')}, {sinks['extraction.removed']:.0%} extracted",
            abs(sinks["gold_gap_closed"] - 1) <= 0.03
            and sinks["extraction.removed"] <= gold["extraction.removed"] + 0.02,
            "some memory stays in what all sequences share, or some skill went into the sinks",
        ),
        Claim(
            "and costs nothing on new text, against ordinary training",
            "Fig. 4a: 2.67 against 2.70",
            f"held-out {here('sinks', 'heldout_cost', '+')}",
            sinks["heldout_cost"] <= 0,
        ),
        Claim(
            "the paper's setting isolates too; the repeated loss dips, then rises again",
            "Fig. 4b: 1.10, then 1.83",
            f"gap closed {here('paper_sinks', 'gap_closed')}; {number(dip)} at its lowest, "
            f"{here('paper_sinks', 'repeated.removed')} at the end; "
            f"held-out {here('paper_sinks', 'heldout_cost', '+')}",
            paper["gap_closed"] >= 0.5 and paper["repeated.removed"] > dip,
            "few steps, and a pool in which many sequences share each sink: the shared neurons have not yet forgotten",
        ),
        Claim(
            "forced isolation learns less from the same data, with all_scaled kept",
            "Fig. 3: 3.5 against 2.72",
            f"held-out {estimate(differences(result, 'gradient_masking', 'heldout.all'), sign='+')}",
            gm["heldout.all"] > std["heldout.removed"],
        ),
        Claim(
            "and breaks when its sinks are removed, the more the longer it trained",
            "Fig. 3: 3.74, then 4.13",
            f"held-out {', '.join(f'{r:+.2f}' for r in rises)} after 20, 60, 100 % of the steps",
            1 < rises[-1] == max(rises) and rises == sorted(rises),
        ),
        Claim(
            "sinks that are not tied to the sequence do not isolate (control)",
            "ours",
            f"gap closed {here('random_sinks', 'gap_closed')}; held-out {here('random_sinks', 'heldout_cost', '+')}",
            random_sinks["gap_closed"] < 0.25,
        ),
        Claim(
            "deleting one sequence's sinks leaves the other memories in place",
            "ours",
            f"it {here('sinks', 'deleted_loss')} (never seen: {here('retrained', 'repeated.removed')}), "
            f"the others {here('sinks', 'deleted_others_up', '+')}",
            sinks["deleted_others_up"] <= 0.02 and abs(sinks["deleted_loss"] - gold["repeated.removed"]) <= 0.1,
        ),
    ]


def differences(result: dict[str, Any], name: str, field: str) -> list[float]:
    """An method's number minus standard training's held-out loss, seed by seed."""
    pairs = zip(values(result, name, field), values(result, "standard", "heldout.removed"), strict=True)
    return [ours - standard for ours, standard in pairs]


COLUMNS = {
    "repeated.own": "repeated, own sinks",
    "repeated.removed": "sinks removed",
    "heldout.removed": "new, sinks removed",
    "heldout_cost": "cost on new",
    "extraction.own": "extracted, own",
    "extraction.removed": "removed",
    "gap_closed": "gap closed",
    "gold_gap_closed": "gold-gap closed",
}


def tabulate(result: dict[str, Any]) -> str:
    """One row per method: mean (± standard deviation over seeds) in nats per token, shares and ratios."""
    rows = [
        [name.replace("_", " "), *(spread(entry["mean"][c], entry["std"][c]) for c in COLUMNS)]
        for name, entry in result["methods"].items()
    ]
    floor = result["floor"]
    if floor["heldout"] is not None:
        rows.append(["entropy floor", number(floor["repeated"]), "", number(floor["heldout"]), *[""] * 5])
    return table(["method", *COLUMNS.values()], rows)


# method, what of it, line, label
GONE = [
    ("retrained", "repeated.removed", "-", "never saw them"),
    ("sinks", "repeated.removed", "-", "sinks removed"),
    ("sinks", "repeated.own", ":", "own sinks on"),
    ("paper_sinks", "repeated.removed", "-", "paper's, removed"),
    ("random_sinks", "repeated.removed", "-", "random_sinks, removed"),
    ("standard", "repeated.removed", "-", "standard"),
]
KEPT = [
    ("gradient_masking", "heldout.own", "-", "gradient masking"),
    ("random_sinks", "heldout.removed", "-", "random_sinks, removed"),
    ("standard", "heldout.removed", "-", "standard"),
    ("paper_sinks", "heldout.removed", "-", "paper's, removed"),
    ("sinks", "heldout.removed", "-", "sinks removed"),
    ("retrained", "heldout.removed", "-", "never saw repeats"),
]
MIRAGE = [
    ("gradient_masking", "heldout.removed", "--", "gradient masking,\nsinks removed"),
    ("gradient_masking", "heldout.own", "-", "gradient masking,\neverything kept"),
    ("sinks", "heldout.removed", "-", "memorization sinks,\nremoved"),
]


def draw(result: dict[str, Any], folder: Path, name: str = "headline") -> list[Path]:
    """Three questions, three panels."""
    stories = result["corpus"] == "stories"
    what, unit = ("stories", "word") if stories else ("windows", "character")
    floor = result["floor"]
    with plt.rc_context(plots.STYLE):
        fig, axes = plt.subplots(1, 3, figsize=(14.5, 4.4), gridspec_kw={"wspace": 1.15})
        for ax, title, lines, role in zip(
            axes,
            (
                f"Repeated {what}: is the memory gone?",
                f"New {what}: is the skill kept?",
                "Forced isolation: a mirage",
            ),
            (GONE, KEPT, MIRAGE),
            ("repeated", "heldout", None),
            strict=True,
        ):
            ends = [(plots.curve(ax, result["history"], a, field, line), label, a) for a, field, line, label in lines]
            plots.frame(ax, title, f"loss (nats per {unit})", "training step")
            if role == "heldout":
                plots.zoom(ax, [y for y, *_ in ends] + [floor[role] or ends[-1][0]])
            else:
                ax.set_ylim(0, max(2, 1.15 * max(y for y, *_ in ends)) if role else None)
            plots.draw_floor(ax, floor.get(role), 0.5)
            plots.label_ends(ax, ends)
        return plots.save(fig, folder, name)
