"""Delete one sequence, five, half of all: what do the others lose? And delete half of one."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np import sinks
from memsinks_np._internal.ids import Purpose, integers, permutation, uniform
from memsinks_np._internal.tables import number, table
from memsinks_np._internal.typing import Floats, Ids, Tokens
from memsinks_np.baselines.memorization import membership_auc
from memsinks_np.config import Method, SinkConfig, require_sinks
from memsinks_np.data.corpus import STORIES, Corpus
from memsinks_np.experiments import comparison
from memsinks_np.experiments.comparison import Result
from memsinks_np.experiments.methods import Preset, job, methods_of
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, above, below, estimate, minus
from memsinks_np.metrics import extracted, fraction_deleted, predict, sequence_losses
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


N_RANKED, N_CANDIDATES = 16, 128  # stories whose exposure is measured; each and guesses at it


class Effect(NamedTuple):
    """What the deletion of some sequences does; mean over choices of the sequences."""

    pool_erased: float  # fraction of the pool
    sinks_erased: float  # fraction of the other sequences' sinks
    others_up: float  # rise of the other sequences' loss, nats per token
    memory_lost: float  # the same, as a fraction of what their sinks hold
    residue: float  # largest difference of a deleted sequence's loss to that without sinks


class Left(NamedTuple):
    """What is left of stories with some of their own sinks on."""

    n_on: int
    loss: float  # nats per token
    recited: float  # fraction whose second half is extracted from the first
    auc: float  # of a membership test by loss, against new stories with as many of their sinks on
    exposure: float | None  # bits, mean over stories: 7 if known, 1.4 expected by chance


@dataclass(frozen=True)
class Deletions(Result):
    """The comparison of the pools, the effects of deletions, and of half of a deletion."""

    some: int
    half: int
    sizes: list[int]
    pools: dict[str, SinkConfig]
    effects: dict[str, list[list[Effect]]]  # pool -> for each seed, for each size
    left: list[list[Left]]  # for each seed, for each number of sinks on

    def after(self, pool: str, field: str, m: int) -> list[float]:
        """Return a field of the effect of m deletions, seed by seed."""
        return [getattr(row[self.sizes.index(m)], field) for row in self.effects[pool]]

    def left_on(self, field: str, eighths: int) -> list[Any]:
        """Return a number with so many eighths of a story's own sinks on, seed by seed."""
        at = eighths * (len(self.left[0]) - 1) // 8  # a small pool has fewer rows
        return [getattr(rows[at], field) for rows in self.left]

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
    """Train every pool under every seed; delete. Delete parts of stories from our pool."""
    *_, sizes = sizes_of(context)
    delete = partial(measure, sizes=sizes, draws=2 if context.quick else DRAWS)
    methods, seeds = pools(context.preset), range(context.seeds)
    jobs = {
        (name, seed): job(context.preset, method, seed, delete)
        for name, method in methods.items()
        for seed in seeds
    }
    return jobs | {
        ("left", seed): job(context.preset, methods["sinks"], seed, measure_left) for seed in seeds
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


def exposure(losses: Floats) -> Floats:
    """Return log2 of the number of candidates minus log2 of the first one's rank, (N,K) -> (N,).

    Carlini et al. (2019): of K equally likely texts, the secret is the first. The lowest loss has
    rank 1; ties count against the secret.
    """
    rank = (losses <= losses[:, :1]).sum(axis=1)
    bits: Floats = np.log2(losses.shape[1] / rank)
    return bits


def guesses(corpus: Corpus) -> Tokens | None:
    """Return each of some stories, then guesses at it: other words wherever there was a choice.

    (stories * candidates, T+1), by story; None where no language is known to guess in.
    """
    if corpus.cfg.corpus not in STORIES:
        return None
    language = STORIES[corpus.cfg.corpus]()[1]
    secrets = corpus.repeated[: min(N_RANKED, corpus.n_evaluated)]
    tokens = secrets.repeat(N_CANDIDATES, axis=0)
    number = integers(len(tokens))
    n_changed = np.where(number % N_CANDIDATES == 0, 0, tokens.shape[1])
    return language.vary(tokens, n_changed, corpus.cfg.seed, Purpose.GUESS, number)


def some_of_own(pool: SinkConfig, ids: Ids, n_on: int) -> sinks.Selection:
    """Select some of each ID's own sinks, drawn at random; those of a lower number are among them.

    This is what remains if all others are deleted.
    """
    draw = uniform(pool.seed, Purpose.SINKS_LEFT, ids[:, None], integers(pool.n_active))
    index = np.take_along_axis(sinks.active(pool, ids), draw.argsort(axis=1), axis=1)
    return sinks.Rows(index[:, :n_on]) if n_on else sinks.NO_SINKS


def measure_left(model: Model) -> list[Left]:
    """Leave eighths of each story's own sinks on, in a worker: loss, recital and two attacks."""
    corpus, pool, rows = model.corpus, require_sinks(model.cfg), []
    assert corpus
    n, guessed = corpus.n_evaluated, guesses(corpus)
    tokens, ids = corpus.repeated[:n], corpus.repeated_ids[:n]
    run = partial(predict, model.params, model.cfg)
    for n_on in sorted({pool.n_active * eighths // 8 for eighths in range(9)}):
        nll, likeliest = run(tokens, some_of_own(pool, ids, n_on))
        new, _ = run(corpus.heldout, some_of_own(pool, corpus.heldout_ids, n_on))
        loss, bits = nll.mean(axis=1), None
        if guessed is not None:
            secret_ids = ids[:N_RANKED].repeat(N_CANDIDATES)
            ranked, _ = run(guessed, some_of_own(pool, secret_ids, n_on))
            losses = ranked.mean(axis=1, dtype=np.float64).reshape(-1, N_CANDIDATES)
            bits = float(exposure(losses).mean())
        recited = float(extracted(tokens, likeliest).mean())
        auc = membership_auc(loss, new.mean(axis=1))
        rows.append(Left(n_on, float(loss.mean()), recited, auc, bits))
    return rows


def result(context: Context, outputs: Outputs) -> Deletions:
    """Compare the pools, and collect the effects."""
    left = [[Left(*row) for row in outputs.pop(("left", s))] for s in range(context.seeds)]
    compared = comparison.compare({key: base for key, (base, _) in outputs.items()})
    methods, seeds = pools(context.preset), range(context.seeds)
    return Deletions(
        compared.entropy,
        compared.methods,
        *sizes_of(context),
        {name: require_sinks(method) for name, method in methods.items()},
        {name: [[Effect(*row) for row in outputs[name, s][1]] for s in seeds] for name in methods},
        left,
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
            above(minus(lost, erased)),
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
            above(small, 0.1),
        ),
        Claim(
            "a removed memory comes back with its ID; a deleted one does not",
            "ours",
            f"sinks removed {result.estimate('sinks', 'repeated.removed')}, "
            f"own sinks {result.estimate('sinks', 'repeated.own')}; "
            f"deleted, own sinks and none differ by {residue:g}",
            residue == 0,
        ),
        *claims_of_left(result),
    ]


def claims_of_left(result: Deletions) -> list[Claim]:
    """Return what is left of a story with some of its own sinks on."""
    on = result.left_on
    own, half, none = (on("loss", eighths) for eighths in (8, 4, 0))
    gone = [(h - o) / (n - o) for o, h, n in zip(own, half, none, strict=True)]
    recited, some, auc = on("recited", 4), on("recited", 6), on("auc", 2)
    last_auc, last_bits = on("auc", 0), on("exposure", 0)
    what, bits, hidden = "neither attack finds a story", "", True
    if None in last_bits:  # a text: there is no language to guess in
        what = "a test of membership does not find a story"
    else:
        bits = f"; exposure {estimate(last_bits, 1)} bits (chance: 1.4 of 7)"
        hidden = below(last_bits, 2)
    return [
        Claim(
            "half-deleted is not deleted: with half of its sinks, a story is still recited",
            "ours",
            f"{estimate(gone)} of the memory is gone by its loss; {estimate(recited)} of the "
            f"stories are recited, {estimate(some)} with three quarters of their sinks",
            above(recited, 0.1),
        ),
        Claim(
            "a test of membership still finds a story with a quarter of its sinks",
            "ours",
            f"AUC {estimate(auc)}, recited {estimate(on('recited', 2))}, exposure "
            f"{estimate(on('exposure', 2), 1)} bits",
            above(auc, 0.75),
        ),
        Claim(
            f"with all of its sinks off, {what}",
            "ours",
            f"AUC {estimate(last_auc)} (chance: 0.5){bits}",
            hidden and below(last_auc, 0.6),
            "a trace of each story is in the shared neurons",
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
    """Return a row per pool: nats per token in the sinks, fractions lost; then a row per sinks on.

    Means over seeds.
    """
    shown, rows = (1, result.some, result.half), []
    for pool, label in labels(result).items():
        held = result.rise(pool, "repeated.removed", pool, "repeated.own")
        lost = [result.after(pool, "memory_lost", m) for m in shown]
        rows.append([label, *(number(float(np.mean(values))) for values in (held, *lost))])
    header = [f"others lose ({m} deleted)" if m == 1 else f"({m})" for m in shown]
    pools = table(["pool", "held by sinks", *header], rows)
    left = [[str(n_on), *map(number, numbers)] for n_on, *numbers in mean_left(result)]
    return f"{pools}\n\n{table(['own sinks on', 'loss', 'recited', 'AUC', 'exposure'], left)}"


def mean_left(result: Deletions) -> list[list[Any]]:
    """Return the rows of `left`, means over seeds; NaN for what does not exist."""
    columns = np.moveaxis(np.array(result.left, float), 0, -1).mean(axis=-1).tolist()
    return [[int(n_on), *numbers] for n_on, *numbers in columns]


def draw(result: Deletions, folder: Path) -> list[Path]:
    """Draw what the others lose, by deletions and by sinks; and what half a deletion leaves."""
    with plots.style():
        fig, axes = plots.subplots(1, 3, figsize=(20, 4.8))
        draw_others(axes[0], axes[1], result)
        draw_left(axes[2], result)
        return plots.save(fig, folder, "delete")


def draw_others(left: Any, right: Any, result: Deletions) -> None:
    """Draw what the others lose, by deletions and by sinks."""
    sizes, fractions, lines = result.sizes, np.linspace(0, 1, 6), []
    title, ylabel = "Delete some: what do others lose?", "fraction of the others' memory"
    plots.frame(left, title, ylabel, "sequences deleted")
    left.set(xscale="log", xticks=sizes, xticklabels=sizes, ylim=(0, 1.12), yticks=fractions)
    left.minorticks_off()
    title, ylabel = "How much of a memory is in a sink?", "fraction of the memory lost"
    plots.frame(right, title, ylabel, "fraction of its sinks erased (lines as on the left)")
    for pool, (method, line, _) in POOLS.items():
        erased, lost = (result.means(pool, f) for f in ("sinks_erased", "memory_lost"))
        lines.append((sizes, lost, labels(result)[pool].replace(" ", "\n", 1), method, line + "o"))
        right.plot(erased, lost, line + "o", color=plots.color_of(method), clip_on=False)
    plots.labelled_lines(left, lines)
    right.set(xlim=(0, 1), ylim=(0, 1), xticks=fractions)
    right.plot([0, 1], [0, 1], ":", color="#444444", linewidth=1.3)
    style = {"color": "#444444", "fontsize": 11, "ha": "center", "va": "top"}
    turned = {"rotation": 45, "rotation_mode": "anchor", "transform_rotates_text": True}
    right.text(0.84, 0.83, "in proportion", **style, **turned)


def draw_left(ax: Any, result: Deletions) -> None:
    """Draw four measures of what is left of a story, from all of its sinks to none."""
    rows = mean_left(result)
    n_on, loss, recited, auc, bits = (list(column) for column in zip(*rows, strict=True))
    held = [(loss[0] - x) / (loss[0] - loss[-1]) for x in loss]
    off = [n_on[-1] - n for n in n_on]
    plots.frame(ax, "Half-deleted: what is left?", "fraction", "own sinks deleted")
    ax.set(ylim=(0, 1.05), xticks=off[::2])
    measures = [(held, "memory,\nby loss", "-"), (recited, "recited", "--")]
    measures += [(auc, "AUC of\nmembership", "-.")]
    if not np.isnan(bits).any():
        measures += [([x / np.log2(N_CANDIDATES) for x in bits], "exposure\n(of 7 bits)", ":")]
    lines = [(off[::-1], y[::-1], text, "sinks", line + "o") for y, text, line in measures]
    plots.labelled_lines(ax, lines)
