"""Facts stated in one document and facts stated in many: what is removed, what stays?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np._internal.tables import number, table
from memsinks_np.data.corpus import load_corpus
from memsinks_np.data.people import GROUPS
from memsinks_np.experiments.comparison import history_record
from memsinks_np.experiments.methods import HEADLINE, job, label, methods_of
from memsinks_np.experiments.recall import (
    CHANCE,
    MANY,
    RecallResult,
    collect,
    estimates,
    mean,
    measure,
    recall_jobs,
)
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, to_csv, to_json
from memsinks_np.experiments.report.loss_map import make_map, token_losses
from memsinks_np.experiments.report.samples import (
    SAMPLED_METHODS,
    complete,
    format_completions,
    short_completions,
)

METHODS = HEADLINE
FEW = (4, 8)
POOLS = ("paper_sinks", "sinks", "large_pool")


@dataclass(frozen=True)
class Headline(RecallResult):
    """The comparison, facts that the models complete, and the loss heat map."""

    completions: dict[str, list[Any]]  # method -> facts
    loss_map: dict[str, Any]


def jobs(context: Context) -> Jobs:
    """Train every method under every seed; let three complete facts, and take token losses."""
    methods, preset = methods_of(context.preset), context.preset
    jobs = recall_jobs(context, preset, {name: methods[name] for name in METHODS})
    for name in SAMPLED_METHODS:
        jobs["samples", name] = job(preset, methods[name], 0, complete)
        jobs["losses", name] = job(preset, methods[name], 0, token_losses)
    return jobs


def result(context: Context, outputs: Outputs) -> Headline:
    """Collect the numbers, the completed facts and the losses."""
    completions = {name: outputs.pop(("samples", name)) for name in SAMPLED_METHODS}
    losses = {name: outputs.pop(("losses", name)) for name in SAMPLED_METHODS}
    first = job(context.preset, methods_of(context.preset)["sinks"], 0, measure)
    corpus = load_corpus(first.settings.data)
    return Headline(
        collect(outputs),
        completions,
        make_map(first.method.sinks, corpus, losses),
    )


def files(result: Headline) -> dict[str, str]:
    """Return the history, the completed facts and the loss heat map as files."""
    rows = [
        history_record(name, seed, row)
        | {f"recall_{k}": x for k, x in zip(GROUPS, row.recall, strict=True)}
        for name, measured in result.methods.items()
        for seed, m in enumerate(measured)
        for row in m.history
    ]
    return {
        "history.csv": to_csv(rows),
        "samples.txt": format_completions(result.completions),
        "loss_map.json": to_json(result.loss_map),
    }


def examples(result: Headline) -> str:
    """Return a fact of one document and one of many, with sinks and without."""
    return short_completions(result.completions)


def kept_by(result: RecallResult, ks: tuple[int, ...]) -> str:
    """Return the benefit that deduplication and each pool keep."""
    names = ("deduplicated", *POOLS)
    return ", ".join(f"{label(m)} {estimates(result.benefit_kept(m, *ks))}" for m in names)


def claims(result: RecallResult) -> list[Claim]:
    """Return what the comparison should show, each with the number that decides it."""
    recall, own = result.recall, result.own
    own_lowest = {m: min(mean(own(m, k)) for k in GROUPS) for m in POOLS}
    left = {m: mean(result.rise(m, "retrained", 1)) for m in POOLS}
    kept = {m: min(mean(recall(m, k)) for k in MANY) for m in POOLS}
    beats = {m: mean(result.rise(m, "deduplicated", 4)) for m in POOLS}
    forgets = {m: mean(result.rise(m, "deduplicated", 1)) for m in POOLS}
    loss = {m: mean(result.loss(m, *MANY)) for m in ("standard", "retrained", "deduplicated")}
    benefits = {m: mean(result.benefit_kept(m, *MANY)) for m in ("deduplicated", *POOLS)}
    best = max(POOLS, key=lambda m: beats[m] if forgets[m] <= 0.1 else -1)
    masked = recall("gradient_masking", 0)
    return [
        Claim(
            "standard training learns most facts that are stated in one document only",
            "ours",
            f"recall in new documents {estimates(recall('standard', 1))}; of facts in 16 or more "
            f"{estimates(recall('standard', *MANY))}",
            mean(recall("standard", 1)) >= 0.7,
        ),
        Claim(
            "repetition helps on new text: the loss is higher with no showing or one showing",
            "Fig. 6",
            "new documents about facts in 16 or more: "
            + ", ".join(f"{label(m)} {estimates(result.loss(m, *MANY))}" for m in loss),
            loss["standard"] == min(loss.values()),
        ),
        Claim(
            "with its own sinks on, a document's facts are recalled at every k",
            "Fig. 7",
            "lowest recall over k: "
            + ", ".join(f"{label(m)} {x:.2f}" for m, x in own_lowest.items()),
            min(own_lowest.values()) >= 0.98,
        ),
        Claim(
            "with the large pool removed, facts of one document are unknown, as if never seen",
            "Fig. 4b",
            "recall above retrained: "
            + ", ".join(
                f"{label(m)} {estimates(result.rise(m, 'retrained', 1), '+')}" for m in POOLS
            ),
            left["large_pool"] <= 0.06,
            "the shared neurons learn a little from every document",
        ),
        Claim(
            "with any pool removed, facts of 16 or more documents are still recalled",
            "ours",
            "lowest recall over k: " + ", ".join(f"{label(m)} {x:.2f}" for m, x in kept.items()),
            min(kept.values()) >= 0.9,
        ),
        Claim(
            "a pool forgets as much as deduplication and keeps more facts of four documents",
            "ours",
            f"{label(best)} against deduplicated: "
            f"{estimates(result.rise(best, 'deduplicated', 1), '+')} of facts in one document, "
            f"{estimates(result.rise(best, 'deduplicated', 4), '+')} of facts in four",
            forgets[best] <= 0.1 and beats[best] >= 0.25,
        ),
        Claim(
            "a pool keeps more of what repetition teaches about new text than deduplication",
            "Fig. 4a, 6",
            f"benefit kept, k >= 16: {kept_by(result, MANY)}; k = 4 and 8: {kept_by(result, FEW)}",
            max(benefits[m] for m in POOLS) > benefits["deduplicated"],
        ),
        Claim(
            "forced isolation breaks: without its sinks, even common facts are lost",
            "Fig. 3",
            f"recall of common facts {estimates(masked)}, of facts in 16 or more "
            f"{estimates(recall('gradient_masking', *MANY))}",
            mean(masked) <= 0.5,
        ),
    ]


def tabulate(result: RecallResult) -> str:
    """Return recall by method: mean over seeds. All but the first column with sinks removed."""
    rows = []
    for name in result.methods:
        means = [result.own(name, 1), *(result.recall(name, k) for k in (1, 4, 16, 0))]
        means.append(result.loss(name, *MANY))
        rows.append([label(name), *(number(mean(x), 2) for x in means)])
    head = ["stated in", "1, own sinks", "1", "4", "16", "common", "new text"]
    return table(head, rows)


MEMORY = [
    (method, "--" if method == "gradient_masking" else "-", label(method)) for method in METHODS
]
MIRAGE = [
    ("gradient_masking", "removed", "--", label("gradient_masking") + ",\nremoved"),
    ("gradient_masking", "own", "-", label("gradient_masking") + ",\nkept"),
    ("sinks", "removed", "-", "sinks,\nremoved"),
    ("standard", "removed", "-", "standard"),
]


Lines = Sequence[tuple[str, str, str]]  # method, line style, label


def recall_axis(ax: Any, title: str, xlabel: str) -> None:
    """Set up an axis of recall in new documents, with the recall of guessing."""
    ax.set(title=title, xlabel=xlabel, ylabel="recall, sinks removed", ylim=(-0.12, 1.04))
    ax.axhline(CHANCE, color="#444444", linestyle=":", linewidth=1.3)
    place = {"xycoords": ax.get_yaxis_transform(), "ha": "right", "va": "bottom"}
    ax.annotate("guessing (dotted)", (1, -0.11), fontsize=11, color="#444444", **place)


def draw_over_training(ax: Any, result: RecallResult, lines: Lines, k: int, title: str) -> None:
    """Draw recall at one k over training."""
    recall_axis(ax, title, "training step")
    points = [result.recall_history(method, k) for method, *_ in lines]
    bands = [
        (list(p), list(p.values()), text, method, line)
        for p, (method, line, text) in zip(points, lines, strict=True)
    ]
    ax.margins(x=0)
    plots.labelled_bands(ax, bands)


def draw_by_k(ax: Any, result: RecallResult, lines: Lines, title: str) -> None:
    """Draw recall against the number of documents, from many to one; common facts apart."""
    recall_axis(ax, title, "documents that state the fact")
    ks = GROUPS[::-1]
    ax.set_xticks([-1.7, *range(len(ks))], ["common", *map(str, ks)])
    ax.axvline(-0.7, color="#888888", linewidth=0.8)
    for x, (method, *_) in zip(np.linspace(-2.2, -1.2, len(lines)), lines, strict=True):
        plots.band(ax, [x], [result.recall(method, 0)], plots.color_of(method))
    bands = [([result.recall(m, k) for k in ks], text, m, line) for m, line, text in lines]
    plots.labelled_bands(ax, [(range(len(ks)), *band) for band in bands])


def draw(result: Headline, folder: Path) -> list[Path]:
    """Draw three questions in three panels, one below the other: on a phone they can be read."""
    with plots.style():
        fig, axes = plots.subplots(3, 1, figsize=(6.6, 9))
        draw_over_training(axes[0], result, MEMORY, 1, "Stated in one document: is it gone?")
        draw_by_k(axes[1], result, MEMORY, "Stated in many: what stays?")
        plots.frame(
            axes[2], "Forced isolation: what breaks?", "loss (nats per word)", "training step"
        )
        axes[2].set_ylim(0, 9.5)
        points = [result.history(method, f"heldout.{sinks}") for method, sinks, *_ in MIRAGE]
        bands = [
            (list(p), list(p.values()), text, method, line)
            for p, (method, _, line, text) in zip(points, MIRAGE, strict=True)
        ]
        plots.labelled_bands(axes[2], bands)
        return plots.save(fig, folder, "headline")
