"""Near-duplicates: who assigns their IDs, and what is then forgotten, deleted and served?

Repeated stories come in four variants with some words changed. All variants of a story have one ID;
or the ID is a hash of the tokens (paper, App. I), and each variant has sinks of its own; or it is
the smallest hash of the n-grams, which similar stories often share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from memsinks_np._internal.tables import number, table
from memsinks_np._internal.typing import Ids
from memsinks_np.config import require_sinks
from memsinks_np.data.corpus import CHANGED, ID_RULES, N_VARIANTS
from memsinks_np.experiments.methods import Preset, job, methods_of, with_settings
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, above, below, estimate, minus
from memsinks_np.metrics import extracted, first_half, predict, ratio
from memsinks_np.sinks import NO_SINKS, delete, own
from memsinks_np.trained import Model

SHORT = 0.4  # fraction of the preset's steps, since several models are trained
NEAR = (1, 3)  # changed words, in claims
N_STORIES = 4  # for each number of changed words
RULES = {  # corpus -> the method whose color it has, label
    "variants": ("sinks", "one ID"),
    "variants_hashed": ("hashed", "hash"),
    "variants_minhash": ("minhash", "min-hash"),
}


Numbers = dict[str, list[float]]  # "loss.own" -> a number for each of CHANGED


def by_changed(values: Any) -> list[float]:
    """Return means over the variants with each number of changed words, (R,) -> (4,)."""
    values = np.asarray(values, float)
    group = np.arange(len(values)) // N_VARIANTS % len(CHANGED)
    return [float(values[group == g].mean()) for g in range(len(CHANGED))]


def neighbours(n: int) -> Ids:
    """Return for each repeated sequence the next variant of the same story, (R,)."""
    row = np.arange(n)
    return row - row % N_VARIANTS + (row + 1) % N_VARIANTS


def never_seen(model: Model) -> Numbers:
    """Return the loss without sinks, and the fraction that is recited, in a worker."""
    assert model.corpus
    tokens = model.corpus.repeated
    nll, likeliest = predict(model.params, model.cfg, tokens, NO_SINKS)
    recited = extracted(tokens, likeliest)
    return {"loss": by_changed(nll.mean(axis=1)), "recited": by_changed(recited)}


def measure(model: Model) -> Numbers:
    """Return, in a worker, what each selection of sinks, deletion and prompts do to variants.

    loss.WHICH      nats per token; WHICH: own sinks, those of a neighbour (another variant of the
                    story) or of a stranger (another story), those that the first half gets by the
                    rule of IDs (prompt), or removed
    recited.WHICH   fraction of the variants whose second half is extracted from the first
    words.WHICH     fraction of the neighbour's differing words that are likeliest
    served.own, served.neighbour    fraction of first halves that get these sinks
    deleted, siblings               see `deletions`
    n_ids           IDs of a story's variants
    """
    params, cfg, corpus = model.params, model.cfg, model.corpus
    assert corpus
    tokens, ids = corpus.repeated, corpus.repeated_ids
    rule, next_variant = ID_RULES[corpus.cfg.corpus], neighbours(len(tokens))
    served = rule(tokens[:, : first_half(tokens)]) if rule else ids  # no rule: someone knows the ID
    selections = {
        "own": own(cfg.sinks, ids),
        "neighbour": own(cfg.sinks, ids[next_variant]),
        "stranger": own(cfg.sinks, np.roll(ids, N_VARIANTS * len(CHANGED))),
        "prompt": own(cfg.sinks, served),
        "removed": NO_SINKS,
    }
    of_neighbour = tokens[next_variant][:, 1:]
    differs = by_changed((of_neighbour != tokens[:, 1:]).sum(axis=1))
    numbers = {}
    for which, selection in selections.items():
        nll, likeliest = predict(params, cfg, tokens, selection)
        said = (likeliest == of_neighbour) & (of_neighbour != tokens[:, 1:])
        numbers[f"loss.{which}"] = by_changed(nll.mean(axis=1))
        numbers[f"recited.{which}"] = by_changed(extracted(tokens, likeliest))
        pairs = zip(by_changed(said.sum(axis=1)), differs, strict=True)
        numbers[f"words.{which}"] = [ratio(a, b) or 0.0 for a, b in pairs]
    story = ids.reshape(-1, N_VARIANTS).repeat(N_VARIANTS, axis=0)
    in_story = (served[:, None] == story).any(axis=1)
    n_ids = [len(np.unique(each)) for each in story]
    numbers |= {
        "n_ids": by_changed(n_ids),
        "served.own": by_changed(served == ids),
        "served.neighbour": by_changed(in_story & (served != ids)),
    }
    return numbers | deletions(model)


def deletions(model: Model) -> Numbers:
    """Delete the first variant of each story, one story at a time.

    deleted.recited, deleted.memory     fraction of these variants that are still recited with a
                                        neighbour's sinks, and of their memory that these give
    siblings                            fraction of the others that are recited, own sinks
    """
    corpus, pool, rows = model.corpus, require_sinks(model.cfg), []
    assert corpus
    stories = np.arange(len(corpus.repeated)).reshape(-1, N_VARIANTS)
    for tokens, ids in zip(corpus.repeated[stories], corpus.repeated_ids[stories], strict=True):
        params = delete(model.params, pool, ids[:1])
        before, _ = predict(model.params, model.cfg, tokens, own(pool, ids))
        removed, _ = predict(params, model.cfg, tokens, NO_SINKS)
        selection = own(pool, ids[[1, *range(1, N_VARIANTS)]])  # the first: a neighbour's
        after, likeliest = predict(params, model.cfg, tokens, selection)
        left = (removed[0].mean() - after[0].mean()) / (removed[0].mean() - before[0].mean())
        first, *others = extracted(tokens, likeliest)
        rows.append([first, left, np.mean(others)])
    names = ("deleted.recited", "deleted.memory", "siblings")
    columns = np.array(rows, float).T
    return {n: by_changed(c.repeat(N_VARIANTS)) for n, c in zip(names, columns, strict=True)}


@dataclass(frozen=True)
class Duplicates:
    """The numbers of each rule of IDs, and of a model that never saw the stories; by seed."""

    n_words: int  # of a story
    numbers: dict[str, list[Numbers]]
    retrained: list[Numbers]

    def values(self, rule: str, field: str, changed: Sequence[int]) -> list[float]:
        """Return a number, mean over these numbers of changed words, seed by seed."""
        places = [CHANGED.index(n) for n in changed]
        return [fmean(row[field][i] for i in places) for row in self.numbers[rule]]

    def forgotten(self, rule: str, changed: Sequence[int]) -> list[float]:
        """Return which fraction of what the sinks know is forgotten when they are removed.

        1 is "as if never seen": (removed - own) / (retrained - own).
        """
        own, removed = (self.values(rule, f"loss.{w}", changed) for w in ("own", "removed"))
        places = [CHANGED.index(n) for n in changed]
        never = [fmean(row["loss"][i] for i in places) for row in self.retrained]
        return [(r - o) / (n - o) for o, r, n in zip(own, removed, never, strict=True)]


def setting(context: Context) -> Preset:
    """Return the preset with fewer steps, and as many stories as fill each of CHANGED."""
    s = context.preset.settings
    steps = s.train.steps if context.quick else max(1, round(SHORT * s.train.steps))
    n = N_VARIANTS * len(CHANGED) * (2 if context.quick else N_STORIES)
    return with_settings(context.preset, data={"n_repeated": n}, train={"steps": steps})


def jobs(context: Context) -> Jobs:
    """Train sinks under each rule of IDs, and once without the stories, under every seed."""
    preset, methods = setting(context), methods_of(context.preset)
    jobs: Jobs = {}
    for seed in range(context.seeds):
        for rule in RULES:
            by_rule = with_settings(preset, data={"corpus": rule})
            jobs[rule, seed] = job(by_rule, methods["sinks"], seed, measure)
        same = with_settings(preset, data={"corpus": "variants"})
        jobs["retrained", seed] = job(same, methods["retrained"], seed, never_seen)
    return jobs


def result(context: Context, outputs: Outputs) -> Duplicates:
    """Collect the numbers."""
    seeds = range(context.seeds)
    by_rule = {rule: [outputs[rule, seed] for seed in seeds] for rule in RULES}
    n_words = setting(context).settings.data.n_ctx + 1
    return Duplicates(n_words, by_rule, [outputs["retrained", seed] for seed in seeds])


def listed(numbers: dict[str, list[float]]) -> str:
    """Return a label and an estimate for each rule of IDs."""
    return "; ".join(f"{label} {estimate(x)}" for label, x in numbers.items())


def claims(result: Duplicates) -> list[Claim]:
    """Return what each rule of IDs forgets, deletes and serves."""
    return claims_of_removal(result) + claims_of_deletion(result) + claims_of_serving(result)


def changed_words(result: Duplicates) -> str:
    """Return how many words differ in the near-duplicates of claims."""
    return " and ".join(map(str, NEAR)) + f" of {result.n_words} words changed"


def claims_of_removal(result: Duplicates) -> list[Claim]:
    """Return what is forgotten when the sinks are removed."""
    exact = {label: result.forgotten(rule, [0]) for rule, (_, label) in RULES.items()}
    by_rule = {label: result.forgotten(rule, NEAR) for rule, (_, label) in RULES.items()}
    one, hashed, minhash = map(np.array, by_rule.values())
    changed = changed_words(result)
    return [
        Claim(
            "exact duplicates are forgotten under every rule of IDs",
            "ours",
            f"forgotten, as a fraction of what the sinks know: {listed(exact)}",
            all(above(x, 0.9) for x in exact.values()),
        ),
        Claim(
            "with one ID for all variants of a story, near-duplicates are forgotten, too",
            "ours",
            f"{changed}: {estimate(one)}",
            above(one, 0.9),
        ),
        Claim(
            "with IDs by a hash of the tokens, near-duplicates are forgotten as well",
            "App. I: a hash of the document's tokens",
            f"{changed}: {listed(by_rule)}",
            above(hashed - one, -0.05),
            "what the variants have in common has several IDs, so the shared neurons learn it, as "
            "they learn the facts of several documents",
        ),
        Claim(
            "IDs by a min-hash of n-grams make up at least half of the difference",
            "ours",
            f"{changed}: {listed(by_rule)}",
            above(minhash - (one + hashed) / 2),
            "a min-hash still gives many variants an ID of their own",
        ),
    ]


def claims_of_deletion(result: Duplicates) -> list[Claim]:
    """Return what is left of a deleted variant, and of its neighbours."""
    hashed, one = (partial(result.values, rule) for rule in ("variants_hashed", "variants"))
    deleted, closest = (hashed("deleted.memory", changed) for changed in (NEAR, [1]))
    again, siblings, before = (
        hashed(f, NEAR) for f in ("deleted.recited", "siblings", "recited.own")
    )
    one_siblings, one_before = (one(f, NEAR) for f in ("siblings", "recited.own"))
    return [
        Claim(
            "after a variant is deleted, a neighbour's sinks give none of its memory (hash)",
            "ours",
            f"{changed_words(result)}: they give {estimate(deleted)}, with one changed "
            f"{estimate(closest)}; recited {estimate(again)}",
            below(deleted, 0.05),
            "a neighbour's sinks hold the same story but for a few words",
        ),
        Claim(
            "with one ID, deleting a variant erases the others; with IDs by a hash, it does not",
            "ours",
            f"others recited: one ID {estimate(one_before)}, then {estimate(one_siblings)}; "
            f"hash {estimate(before)}, then {estimate(siblings)}",
            below(one_siblings, 0.05) and above(np.array(siblings) - 0.9 * np.array(before)),
        ),
    ]


def claims_of_serving(result: Duplicates) -> list[Claim]:
    """Return what the sinks of another document say, and whose sinks a prompt gets."""
    hashed = partial(result.values, "variants_hashed", changed=NEAR)
    said, unsaid = (hashed(f"words.{which}") for which in ("neighbour", "removed"))
    stranger, removed = (hashed(f"loss.{which}") for which in ("stranger", "removed"))
    served = {
        label: result.values(rule, "served.own", NEAR)
        for rule, (_, label) in RULES.items()
        if rule != "variants"
    }
    return [
        Claim(
            "a neighbour's sinks do not say the neighbour's own words to a variant's prompt (hash)",
            "ours",
            f"likeliest at {estimate(said)} of the words that differ; without sinks at "
            f"{estimate(unsaid)}",
            below(minus(said, unsaid), 0.05),
            "a document's sinks say its words after any prompt that resembles it",
        ),
        Claim(
            "another story's sinks give nothing: the loss is not below that without sinks (hash)",
            "ours",
            f"loss {estimate(stranger)}, without sinks {estimate(removed)}",
            above(minus(stranger, removed)),
        ),
        Claim(
            "the first half of a document has the ID of the document",
            "ours",
            f"{changed_words(result)}: {listed(served)} of the variants",
            any(above(x, 0.9) for x in served.values()),
            "a hash of fewer tokens is another ID, and the smallest n-gram is often in the other "
            "half: the caller has to know the document",
        ),
    ]


def tabulate(result: Duplicates) -> str:
    """Return one row per rule and number of changed words, mean over seeds."""
    fields = ("loss.own", "loss.removed", "recited.removed", "deleted.memory", "words.neighbour")
    rows = []
    for rule, (_, name) in RULES.items():
        for n in CHANGED:
            means = [fmean(result.values(rule, field, [n])) for field in ("n_ids", *fields)]
            means.insert(1, fmean(result.forgotten(rule, [n])))
            rows.append([f"{name}, {n} of {result.n_words} changed", *map(number, means)])
    header = ["IDs", "IDs per story", "forgotten", "own", "removed", "recited"]
    return table([*header, "left, deleted", "neighbour's words"], rows)


def draw(result: Duplicates, folder: Path) -> list[Path]:
    """Draw what is forgotten, what is left of a deleted variant, what a neighbour's sinks say."""
    with plots.style():
        fig, axes = plots.subplots(1, 3, figsize=(19, 4.8))
        xlabel = f"words changed in each variant (of {result.n_words})"
        titles = {
            "Removed: are near-duplicates forgotten?": "fraction of what the sinks know",
            "One deleted: what is left?": "memory with a neighbour's sinks",
            "A neighbour's sinks: whose words?": "fraction of the words that differ",
        }
        for ax, (title, ylabel) in zip(axes, titles.items(), strict=True):
            plots.frame(ax, title, ylabel, xlabel)
            ax.set_xticks(CHANGED)
        for ax, line_of in zip(axes, lines(result), strict=True):
            plots.labelled_bands(ax, line_of)
        return plots.save(fig, folder, "duplicates")


def lines(result: Duplicates) -> list[list[Any]]:
    """Return the lines of each panel: x, values by seed, label, method, line style."""
    changed = CHANGED[1:]
    forgotten, left = [], []
    for rule, (method, label) in RULES.items():
        y = [result.forgotten(rule, [n]) for n in CHANGED]
        forgotten.append((CHANGED, y, label, method, "-"))
        y = [result.values(rule, "deleted.memory", [n]) for n in CHANGED]
        left.append((CHANGED, y, label, method, "-"))
    fields = {
        "words.neighbour": ("the neighbour's,\nits sinks on", "-"),
        "words.removed": ("the neighbour's,\nno sinks", "--"),
        "words.own": ("the neighbour's,\nown sinks", ":"),
    }
    words = [
        (changed, [result.values("variants_hashed", f, [n]) for n in changed], text, "hashed", line)
        for f, (text, line) in fields.items()
    ]
    return [forgotten, left, words]
