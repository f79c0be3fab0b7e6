"""What is memory, what is knowledge? Recall of facts against how many documents state them.

Every fact is shown equally often. With its sinks removed, a model has what many documents say and
has lost what one says; capped training (each document shown at most 1, 2, 4 or 8 times) is the
curve that a method has to beat.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memsinks_np import metrics
from memsinks_np._internal.tables import number, table
from memsinks_np.config import Method
from memsinks_np.data.people import GROUPS
from memsinks_np.experiments.headline import MEMORY, draw_by_k, recall_axis
from memsinks_np.experiments.methods import Preset, job, label, methods_of, with_settings
from memsinks_np.experiments.recall import (
    CAPS,
    MANY,
    RecallResult,
    collect,
    effective_showings,
    estimates,
    gain_over_capping,
    mean,
    recall_jobs,
)
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, above
from memsinks_np.sinks import delete, own
from memsinks_np.trained import Model

METHODS = (
    "standard",
    "retrained",
    *CAPS.values(),
    "gradient_masking",
    "sgtm",
    "narrow",
    "random_sinks",
    "paper_sinks",
    "sinks",
    "large_pool",
)
N_DELETED = 20  # documents
SHOWN = (1, 2, 4, 8, 16, 64, 0)  # k, in the table


def sweeps(preset: Preset) -> dict[str, dict[str, Method]]:
    """Return the methods with one size changed: S, A, G of the sinks, p of the paper's setting."""
    methods = methods_of(preset)
    sinks, paper = methods["sinks"], methods["paper_sinks"]
    pool, bernoulli = preset.sinks, paper.sinks
    assert bernoulli
    changes: dict[str, list[Any]] = {
        "S": [n * pool.n_sink // 4 for n in (1, 2, 8, 16)],
        "A": [n * pool.n_active // 2 for n in (1, 4, 8)],
        "G": [n * preset.n_shared // 4 for n in (2, 3, 6)],
        "p": [0.1, 0.2, 0.5],
    }
    make: dict[str, Callable[[Any], Method]] = {
        "S": lambda n: replace(sinks, sinks=replace(pool, n_sink=n)),
        "A": lambda n: replace(sinks, sinks=replace(pool, n_active=n)),
        "G": lambda n: replace(sinks, n_shared=n),
        "p": lambda p: replace(paper, sinks=replace(bernoulli, p=p)),
    }
    names = {size: {f"{size}={n}": n for n in values} for size, values in changes.items()}
    return {
        size: {name: replace(make[size](n), name=name) for name, n in each.items()}
        for size, each in names.items()
    }


class Deleted(NamedTuple):
    """Recall, own sinks on, after one document's sinks were deleted; mean over documents."""

    itself: float  # in the deleted document
    other: float  # in the other document that states a fact of it
    rest: float  # in documents about other facts


def own_recall(model: Model, params: Any, rows: Any) -> Any:
    """Return which facts of some repeated documents are completed, own sinks on: (N,5)."""
    corpus = model.corpus
    assert corpus
    tokens, ids = corpus.repeated[rows], corpus.repeated_ids[rows]
    selection = own(model.cfg.sinks, ids)
    return metrics.values_right(tokens, metrics.predict(params, model.cfg, tokens, selection)[1])


def measure_deletion(model: Model) -> list[float]:
    """Delete, one at a time, one of the two documents that state a fact, in a worker."""
    corpus, pool = model.corpus, model.cfg.sinks
    assert corpus
    assert corpus.facts
    assert pool
    stated = corpus.facts.repeated
    pairs = np.flatnonzero(corpus.facts.world.group[stated[:, 0]] == 2)
    numbers = []
    for i in pairs[:N_DELETED].tolist():
        params = delete(model.params, pool, corpus.repeated_ids[[i]])
        shared = np.isin(stated[pairs], stated[i])
        right = own_recall(model, params, pairs)
        other = pairs != i
        numbers.append(
            [
                right[~other].mean(),
                right[other][shared[other]].mean(),
                right[other][~shared[other]].mean(),
            ]
        )
    means: list[float] = np.mean(numbers, axis=0).tolist()
    return means


class Authors(NamedTuple):
    """Recall where all documents of an author have one ID, by k in GROUPS."""

    alone: list[float]  # facts that one author states in k documents, sinks removed
    many: list[float]  # facts that k authors state, sinks removed
    deleted: float  # facts that one author states in k > 1 documents, after deleting the author
    others: float  # facts of the other authors, own sinks on, after the same deletions


def measure_authors(model: Model) -> Authors:
    """Measure recall by the number of authors, and delete authors one at a time, in a worker."""
    corpus, pool = model.corpus, model.cfg.sinks
    assert corpus
    assert corpus.facts
    assert pool
    by_k = [metrics.recall(model.params, model.cfg, corpus.facts, k) for k in GROUPS]
    half = corpus.facts.world.n_alone
    ids, counts = np.unique(corpus.repeated_ids, return_counts=True)
    deleted, others = [], []
    for author in ids[counts > 1][:: max(1, int((counts > 1).sum()) // N_DELETED)]:
        params = delete(model.params, pool, [int(author)])
        mine = corpus.repeated_ids == author
        rest = np.flatnonzero(~mine)[:: max(1, len(mine) // 64)]
        deleted.append(own_recall(model, params, mine).mean())
        others.append(own_recall(model, params, rest).mean())
    one, many = ([float(r[part].mean()) for r in by_k] for part in (slice(half), slice(half, None)))
    return Authors(one, many, float(np.mean(deleted)), float(np.mean(others)))


@dataclass(frozen=True)
class Knowledge(RecallResult):
    """All methods and sweeps; deletions and authors by seed."""

    sweeps: dict[str, list[str]]  # size -> names of its methods
    deleted: list[Deleted]
    authors: list[Authors]


def jobs(context: Context) -> Jobs:
    """Train every method and sweep under every seed; delete documents and authors."""
    preset = context.preset
    methods = methods_of(preset)
    chosen = {name: methods[name] for name in METHODS}
    for each in sweeps(preset).values():
        chosen |= each
    jobs = recall_jobs(context, preset, chosen)
    authors = with_settings(preset, data={"corpus": "authors"})
    for seed in range(context.seeds):
        jobs["deletion", seed] = job(preset, methods["sinks"], seed, measure_deletion)
        jobs["authors", seed] = job(authors, methods["sinks"], seed, measure_authors)
    return jobs


def result(context: Context, outputs: Outputs) -> Knowledge:
    """Collect the numbers."""
    seeds = range(context.seeds)
    deleted = [Deleted(*outputs.pop(("deletion", seed))) for seed in seeds]
    authors = [Authors(*outputs.pop(("authors", seed))) for seed in seeds]
    names = {size: list(each) for size, each in sweeps(context.preset).items()}
    return Knowledge(collect(outputs), names, deleted, authors)


def claims(result: Knowledge) -> list[Claim]:
    """Return what the comparison should show, each with the number that decides it."""
    recall, rise = result.recall, result.rise
    over_k = [mean(recall("standard", k)) for k in GROUPS]
    own_lowest = min(mean(result.own("sinks", k)) for k in GROUPS)
    gone, kept = rise("large_pool", "retrained", 1), rise("large_pool", "standard", *MANY)
    gain = gain_over_capping(result, "sinks")
    half = 0.5 * mean(recall("standard", 1))
    random, narrow = recall("random_sinks", 1), recall("narrow", 1)
    showings = {m: effective_showings(result, m) for m in ("sinks", "large_pool", "paper_sinks")}
    single = result.recall_history("sinks", 1)
    top = max(single, key=lambda step: mean(single[step]))
    itself, other, rest = (list(x) for x in zip(*result.deleted, strict=True))
    alone = [mean(a.alone[1:]) for a in result.authors]
    many = [mean(a.many[GROUPS.index(16) :]) for a in result.authors]
    erased, others = [a.deleted for a in result.authors], [a.others for a in result.authors]
    masked, sgtm = recall("gradient_masking", 0), recall("sgtm", *MANY)
    return [
        Claim(
            "at equal exposure, standard training learns facts of one document as well as of many",
            "ours",
            f"recall by k from {min(over_k):.2f} to {max(over_k):.2f}",
            max(over_k) - min(over_k) <= 0.1,
        ),
        Claim(
            "with its own sinks on, a document's facts are recalled at every k",
            "Fig. 7",
            f"lowest recall over k {own_lowest:.2f}",
            own_lowest >= 0.98,
        ),
        Claim(
            "with the large pool removed, facts of one document are as unknown as to a model that "
            "never saw them, and facts of 16 or more are still recalled",
            "Fig. 4",
            f"k=1: {estimates(gone, '+')} against retrained; k >= 16: {estimates(kept, '+')} "
            "against standard",
            mean(gone) <= 0.06 and mean(kept) >= -0.05,
            "one document's facts leave a trace in the shared neurons",
        ),
        Claim(
            "sinks keep more facts of four documents than deduplication, and forget as many of one",
            "ours",
            f"k=4: {estimates(rise('sinks', 'deduplicated', 4), '+')}, "
            f"k=1: {estimates(rise('sinks', 'deduplicated', 1), '+')}",
            mean(rise("sinks", "deduplicated", 4)) > 0.1
            and mean(rise("sinks", "deduplicated", 1)) <= 0.1,
        ),
        Claim(
            "sinks keep more facts of four documents than capped training that forgets as much",
            "ours",
            f"k=4, at equal recall at k=1: {estimates(gain, '+')}",
            above(gain),
            "the shared neurons learn a document as they would from a few showings",
        ),
        Claim(
            "gradient masking loses even the common facts when its neurons are dropped",
            "Fig. 3",
            f"recall of common facts {estimates(masked)}",
            mean(masked) <= 0.5,
        ),
        Claim(
            "SGTM without its neurons also loses the facts of many documents",
            "ours",
            f"recall at k >= 16 {estimates(sgtm)}, of common facts {estimates(recall('sgtm', 0))}",
            mean(sgtm) <= 0.5,
        ),
        Claim(
            "random sinks and a narrow model forget little (controls)",
            "ours",
            f"recall at k=1: random {estimates(random)}, narrow {estimates(narrow)}",
            min(mean(random), mean(narrow)) > half,
        ),
        Claim(
            "without its sinks, a model knows as much as from one to three showings a document",
            "ours",
            "effective showings: " + "; ".join(f"{label(m)} {n}" for m, n in showings.items()),
            1 <= showings["sinks"].n <= 3,
        ),
        Claim(
            "the shared neurons learn the facts of one document first, then lose them",
            "Fig. 4b",
            f"recall at k=1, sinks removed: {mean(single[top]):.2f} after {top} steps, "
            f"{estimates(recall('sinks', 1))} at the end",
            mean(single[top]) > mean(recall("sinks", 1)) + 0.05,
        ),
        Claim(
            "if one of two documents with the same fact is deleted, the other still recalls it",
            "ours",
            f"recall with own sinks: deleted {estimates(itself)}, other {estimates(other)}, "
            f"rest {estimates(rest)}",
            mean(other) >= 0.9 and mean(rest) >= 0.9,
        ),
        Claim(
            "with one ID per author, a single author's facts are lost at every number of documents",
            "ours",
            f"sinks removed: one author {estimates(alone)} (2 to 64 documents), "
            f"16 authors and more {estimates(many)}",
            mean(alone) <= 0.2 and mean(many) >= 0.9,
        ),
        Claim(
            "deleting one author erases the facts of that author only",
            "ours",
            f"recall with own sinks: the author's facts {estimates(erased)}, all others "
            f"{estimates(others)}",
            mean(erased) <= 0.5 and mean(others) >= 0.95,
        ),
    ]


def tabulate(result: Knowledge) -> str:
    """Return recall with sinks removed by k, and with own sinks on (k=1): mean over seeds."""
    rows = []
    for name in result.methods:
        means = [*(result.recall(name, k) for k in SHOWN), result.own(name, 1)]
        rows.append([label(name), *(number(mean(x), 2) for x in means)])
    return table(["stated in", *map(str, SHOWN[:-1]), "common", "own"], rows)


LINES = [*MEMORY, *((method, "-", label(method)) for method in ("random_sinks", "narrow"))]


PLANE = ("sinks", "large_pool", "paper_sinks", "gradient_masking", "sgtm", "narrow", "random_sinks")
CAPPED = {"retrained": "never shown", "deduplicated": "once", "capped_2": "at most twice"}
CAPPED |= {"capped_4": "4 times", "capped_8": "8", "standard": "all"}


def draw_plane(ax: Any, result: Knowledge) -> None:
    """Draw what is kept (k=4 and 8) against what is left (k=1), sinks removed."""

    def point(m: str) -> tuple[float, float]:
        return mean(result.recall(m, 1)), mean(result.recall(m, 4, 8))

    orange = plots.color_of("deduplicated")
    x, y = zip(*map(point, CAPPED), strict=True)
    ax.plot(x, y, "--s", color=orange, markersize=6)
    for size, names in result.sweeps.items():
        method = "paper_sinks" if size == "p" else "sinks"
        points = sorted(point(m) for m in [*names, method])
        style = {"color": plots.color_of(method), "linewidth": 1, "marker": "."}
        ax.plot(*zip(*points, strict=True), **style)
    for m in PLANE:
        ax.plot(*point(m), "o", color=plots.color_of(m), markersize=9)
    title, kept = "Memory left, knowledge kept", "recall of facts in 4 and 8 documents"
    ax.set(title=title, xlabel="recall of facts in 1 document", ylabel=kept)
    ax.set(xticks=[0, 0.2, 0.4, 0.6, 0.8], xlim=(-0.15, 0.95), ylim=(-0.06, 1.12))
    plots.label_points(ax, [(*point(m), label(m), m) for m in PLANE])
    plots.label_points(ax, [(*point(m), text, "deduplicated") for m, text in CAPPED.items()])


def draw_training(ax: Any, result: Knowledge) -> None:
    """Draw recall over training for facts of 1 to 16 documents."""
    recall_axis(ax, "When do single documents leave?", "training step")
    lines = []
    for k, line in ((16, "-"), (4, "--"), (2, "-."), (1, ":")):
        points = result.recall_history("sinks", k)
        lines.append((list(points), list(points.values()), f"stated in {k}", "sinks", line))
    plots.labelled_bands(ax, lines)


def draw_authors(ax: Any, result: Knowledge) -> None:
    """Draw recall where an author has one ID: facts of one author and of several."""
    recall_axis(ax, "One ID per author: what goes?", "documents that state the fact")
    ax.set_xticks(range(len(GROUPS)), [str(k) for k in reversed(GROUPS)])
    lines = []
    for field, line, text in (("many", "-", "by k authors"), ("alone", "--", "by one author")):
        values = np.array([getattr(a, field)[::-1] for a in result.authors]).T
        lines.append((range(len(GROUPS)), values.tolist(), text, "sinks", line))
    plots.labelled_bands(ax, lines)


def draw(result: Knowledge, folder: Path) -> list[Path]:
    """Draw recall against k, the plane, training, and authors."""
    with plots.style():
        fig, axes = plots.subplots(2, 2, figsize=(13.5, 10))
        draw_by_k(axes[0, 0], result, LINES, "Sinks removed: which facts stay?")
        draw_training(axes[1, 0], result)
        draw_authors(axes[1, 1], result)
        draw_plane(axes[0, 1], result)
        return plots.save(fig, folder, "knowledge")
