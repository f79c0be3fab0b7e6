"""Sinks beside selective gradient masking (SGTM), the one method that was compared with them.

Shilov et al. 2025 (arXiv 2512.05648, appendix A) find that a variant of SGTM which "closely
resembles Memorization Sinks" loses to SGTM and to filtering. It has one slice for all sequences to
forget, masks gradients, and needs labels. Here are the variant, SGTM under right, missing and wrong
labels, filtering, and sinks, on stories and in a world of facts.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memsinks_np._internal.tables import number, table
from memsinks_np.data.people import GROUPS
from memsinks_np.experiments import comparison, recall
from memsinks_np.experiments.headline import recall_axis
from memsinks_np.experiments.methods import PRESETS, Preset, label, methods_of, quick
from memsinks_np.experiments.recall import MANY, RecallResult
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, above, below, minus

METHODS = (
    "standard",
    "retrained",
    "filter_half",
    "sgtm",
    "sgtm_half",
    "sgtm_wrong",
    "sgtm_joint",
    "sinks",
)
OTHERS = ("sgtm_joint", "sinks")
FORMS = ("sgtm", "sgtm_half", "sgtm_wrong", "sgtm_joint")
KS = (1, 4, 16, 0)  # documents that state a fact, in the table; 0: common


@dataclass(frozen=True)
class Sgtm:
    """Both worlds."""

    stories: comparison.Result
    people: RecallResult


def people(context: Context) -> Preset:
    """Return the preset of the world of facts."""
    return quick(PRESETS["people"]) if context.quick else PRESETS["people"]


def jobs(context: Context) -> Jobs:
    """Train all methods in both worlds."""
    worlds = {
        "stories": (context.preset, comparison.compare_jobs),
        "people": (people(context), recall.recall_jobs),
    }
    return {
        (world, key): job
        for world, (preset, make) in worlds.items()
        for key, job in make(
            context, preset, {name: methods_of(preset)[name] for name in METHODS}
        ).items()
    }


def result(context: Context, outputs: Outputs) -> Sgtm:
    """Compare within each world."""
    parts: dict[str, Outputs] = {"stories": {}, "people": {}}
    for (world, key), output in outputs.items():
        parts[world][key] = output
    return Sgtm(comparison.compare(parts["stories"]), RecallResult(recall.collect(parts["people"])))


def claims(result: Sgtm) -> list[Claim]:
    """Return who wins where."""
    return claims_on_stories(result.stories) + claims_on_facts(result.people)


def claims_on_stories(result: comparison.Result) -> list[Claim]:
    """Return what SGTM, its variants and sinks forget, know and cost on stories."""
    here = result.estimate
    closed = {m: result.values(m, "gold_gap_closed") for m in METHODS}
    known = {m: result.values(m, "repeated.own") for m in METHODS}
    cheaper = result.rise("sgtm", "heldout_cost", "sinks", "heldout_cost")

    def cost(method: str) -> str:
        penalty = result.mean(method, "compute_penalty")
        return f"{here(method, 'heldout_cost', '+')} nats ({penalty:.0%} penalty)"

    def gap(*methods: str) -> str:
        return ", ".join(f"{label(m)} {here(m, 'gold_gap_closed')}" for m in methods)

    return [
        Claim(
            "with all labels, SGTM forgets stories as if never seen, at a small compute penalty",
            "SGTM: forget 99 %, general 5 %",
            f"gold-gap closed {here('sgtm', 'gold_gap_closed')}; held-out {cost('sgtm')}",
            above(closed["sgtm"], 0.97)
            and below(closed["sgtm"], 1.03)
            and below(result.values("sgtm", "compute_penalty"), 0.1),
        ),
        Claim(
            "its variant that resembles sinks keeps more memory than SGTM and a perfect filter",
            "SGTM, Fig. 7",
            f"gold-gap closed: {gap('sgtm_joint', 'sgtm')}; retrained, a perfect filter, 1",
            below(minus(closed["sgtm_joint"], closed["sgtm"]), -0.05)
            and below(closed["sgtm_joint"], 0.95),
            "one slice holds these few stories, so the weights that learn from all sequences learn "
            "the language and hardly any story",
        ),
        Claim(
            "sinks forget stories as SGTM and that variant do, and cost no more",
            "SGTM: 'closely resembles Memorization Sinks'",
            f"gold-gap closed: {gap('sinks', 'sgtm_joint', 'sgtm')}; held-out: sinks "
            f"{cost('sinks')}, SGTM {cost('sgtm')}",
            all(above(minus(closed["sinks"], closed[m]), -0.03) for m in ("sgtm", "sgtm_joint"))
            and above(cheaper, -0.005),
        ),
        Claim(
            "with half of the labels, SGTM forgets more stories than filtering does",
            "SGTM, Fig. 3: absorption",
            f"gold-gap closed: {gap('sgtm_half', 'filter_half')}",
            above(minus(closed["sgtm_half"], closed["filter_half"]), 0.05),
        ),
        Claim(
            "a tenth of wrong labels does SGTM little harm on stories",
            "SGTM, appendix D",
            f"gold-gap closed: {gap('sgtm_wrong', 'sgtm')}; held-out {cost('sgtm_wrong')}",
            above(minus(closed["sgtm_wrong"], closed["sgtm"]), -0.05),
            "a missed story trains the weights that stay, as in standard training",
        ),
        Claim(
            "before removal, SGTM and its variant know their stories worse than sinks do",
            "SGTM, Fig. 10: penalty 85 %",
            "repeated: "
            + ", ".join(f"{label(m)} {here(m, 'repeated.own')}" for m in ("sgtm", *OTHERS)),
            all(above(minus(known[m], known["sinks"]), 0.1) for m in ("sgtm", "sgtm_joint")),
        ),
    ]


def claims_on_facts(result: RecallResult) -> list[Claim]:
    """Return which facts SGTM, its variants and sinks keep."""
    single = {m: result.recall(m, 1) for m in METHODS}
    many = {m: result.recall(m, *MANY) for m in METHODS}

    def known(recalls: dict[str, list[float]], *methods: str) -> str:
        return ", ".join(f"{label(m)} {recall.estimates(recalls[m])}" for m in methods)

    return [
        Claim(
            "where a capability is to go, SGTM wins: facts of many documents go with the rest",
            "SGTM: capability removal",
            f"recall at k >= 16: {known(many, 'sgtm', 'sinks')}",
            below(many["sgtm"], 0.1) and above(many["sinks"], 0.9),
        ),
        Claim(
            "where memory is to go and knowledge is to stay, sinks win against every form of SGTM",
            "ours",
            f"recall at k = 1: {known(single, *FORMS, 'sinks')}; "
            f"at k >= 16: {known(many, *FORMS, 'sinks')}",
            above(many["sinks"], 0.9)
            and all(
                below(many[m], 0.9) or above(minus(single[m], single["sinks"]), 0.05) for m in FORMS
            ),
        ),
    ]


def tabulate(result: Sgtm) -> str:
    """Return both worlds, sinks removed: mean over seeds."""
    stories, facts = result.stories, result.people
    rows, recalls = [], []
    for name in METHODS:
        fields = ("repeated.own", "repeated.removed", "gold_gap_closed", "heldout_cost")
        losses = [number(stories.mean(name, field)) for field in fields]
        rows.append([label(name), *losses, f"{stories.mean(name, 'compute_penalty'):.0%}"])
        numbers = [number(recall.mean(facts.own(name, 1)), 2)]
        numbers += [number(recall.mean(facts.recall(name, k)), 2) for k in KS]
        recalls.append([label(name), *numbers, f"{recall.mean(facts.compute_penalty(name)):.0%}"])
    header = ["stories", "own sinks", "removed", "gold gap closed", "cost on new", "penalty"]
    recall_header = ["facts stated in", "1, own sinks", "1", "4", "16", "common", "penalty"]
    return f"{table(header, rows)}\n\n{table(recall_header, recalls)}"


def draw(result: Sgtm, folder: Path) -> list[Path]:
    """Draw what stories were before and after removal, and recall by k in the world of facts."""
    with plots.style():
        fig, axes = plots.subplots(1, 2, figsize=(14, 5))
        draw_plane(axes[0], result)
        draw_recall(axes[1], result)
        return plots.save(fig, folder, "sgtm")


def draw_plane(ax: Any, result: Sgtm) -> None:
    """Draw how much of the gold gap a method closes against what it knew before, on stories."""
    points = []
    for method in reversed(METHODS):
        x, y = (result.stories.mean(method, f) for f in ("repeated.own", "gold_gap_closed"))
        ax.plot(x, y, "o", color=plots.color_of(method), markersize=9)
        points.append((x, y, label(method), method))
    xlabel = "loss on repeated stories before removal (nats per word)"
    ax.set(title="Stories: known before, forgotten after?", xlabel=xlabel)
    ax.set(ylabel="gold gap closed after removal", xlim=(-0.15, 1.2), ylim=(-0.1, 1.3))
    plots.label_points(ax, points)


def draw_recall(ax: Any, result: Sgtm) -> None:
    """Draw recall in new documents against the number of documents that state a fact."""
    recall_axis(ax, "Facts: what stays?", "documents that state the fact")
    ax.set_xticks(range(len(GROUPS)), list(map(str, GROUPS)))
    lines = []
    for method in METHODS:
        values = [result.people.recall(method, k) for k in GROUPS]
        lines.append((range(len(GROUPS)), values, label(method), method, "-"))
    plots.labelled_bands(ax, lines)
