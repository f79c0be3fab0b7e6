"""Two attacks that need no training: rounded weights, and the model from before the removal.

Removals: *retrained* (exact unlearning), sinks pruned, neurons cut out of the standard model,
gradient ascent and NPO applied to it. The attacker of the second kind has the model from before,
too; for sinks it is the same file with the sinks of an ID on.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.tables import number, table
from memsinks_np._internal.typing import Floats, Params
from memsinks_np.baselines.attacks import (
    changed_sinks,
    guided_extraction,
    log_probs,
    round_weights,
)
from memsinks_np.baselines.localize import ablate_until_forgotten
from memsinks_np.baselines.unlearn import Unlearning, unlearn
from memsinks_np.config import ModelConfig
from memsinks_np.data.corpus import Corpus, load_corpus
from memsinks_np.experiments import methods
from memsinks_np.experiments.methods import job, methods_of
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, above, below, estimate, minus
from memsinks_np.metrics import extracted, mean_loss, mean_of, predict, sequence_losses
from memsinks_np.sinks import NO_SINKS, Selection, all_scaled, delete, own
from memsinks_np.trained import Model, prune

CUT = "integrated_gradients"
UPDATES = {  # ascent looked at on seed 100, NPO as in relearn; nothing was searched
    "gradient_ascent": Unlearning(retain=5, lr=1e-3),
    "npo": Unlearning(beta=0.1, retain=2, lr=1e-3),
}
REMOVALS = ("retrained", "sinks", CUT, *UPDATES)
BITS = (32, 8, 4, 3)  # 32: not rounded
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # w, of the model from before
PROMPTS = (2, 16)  # tokens that the attacker knows
STORIES = 32  # repeated sequences that the attacker of two models continues
TRIED = 4  # words with which an attacker without an ID tries all IDs


class Rounded(NamedTuple):
    """A removal with its weights rounded. Losses are in nats per token."""

    repeated: float
    heldout: float
    extraction: float


Guided = list[list[float]]  # by prompt and w: the fraction of sequences that both models give


class Measured(NamedTuple):
    """What a worker measures of one model."""

    rounded: list[Rounded]  # by BITS
    guided: Guided | None = None  # with the model from before
    log_p: list[Any] | None = None  # (STORIES,T,V), where the two models are trained apart
    all_on: Guided | None = None  # with all sinks on, scaled: the attacker has no ID
    found: float | None = None  # fraction of IDs that are found by trying all
    named: float | None = None  # loss of a deleted sequence with the sinks that deletion changed


@dataclass(frozen=True)
class Attacks:
    """Every removal, and *standard*, seed by seed."""

    models: dict[str, list[Measured]]


def rounded(params: Params, cfg: ModelConfig, corpus: Corpus) -> list[Rounded]:
    """Evaluate a model without sinks with its weights rounded."""
    rows, tokens = [], corpus.repeated[: corpus.n_evaluated]
    for bits in BITS:
        coarse = params if bits == BITS[0] else round_weights(params, bits)
        nll, likeliest = predict(coarse, cfg, tokens, NO_SINKS)
        new = mean_loss(coarse, cfg, corpus.heldout, NO_SINKS)
        rows.append(Rounded(mean_of(nll), new, float(extracted(tokens, likeliest).mean())))
    return rows


def guide(before: Floats, after: Floats, corpus: Corpus) -> Guided:
    """Extract sequences with both models, (STORIES,T,V) each, for every prompt and w."""
    tokens = corpus.repeated[:STORIES]
    extract = partial(guided_extraction, before, after, tokens)
    return [[extract(w, n_prompt) for w in WEIGHTS] for n_prompt in PROMPTS]


def first(model: Model, params: Params, selection: Selection = NO_SINKS) -> Floats:
    """Return the log-probabilities of the first repeated sequences."""
    assert model.corpus
    return log_probs(params, model.cfg, model.corpus.repeated[:STORIES], selection)


def attack_trained(model: Model) -> Measured:
    """Attack a model that never had to unlearn, and return its log-probabilities."""
    assert model.corpus
    log_p = np.round(first(model, model.params), 2).tolist()
    return Measured(rounded(model.params, model.cfg, model.corpus), log_p=log_p)


def attack_removal(model: Model, update: Unlearning | None = None) -> Measured:
    """Unlearn by an update, or else cut neurons out until the sequences are forgotten; attack."""
    corpus = model.corpus
    assert corpus
    if update:
        after, _ = unlearn(model.params, model.cfg, corpus, update)
    else:
        after = ablate_until_forgotten(model.params, model.cfg, corpus)
    guided = guide(first(model, model.params), first(model, after), corpus)
    return Measured(rounded(after, model.cfg, corpus), guided)


def attack_sinks(model: Model) -> Measured:
    """Remove the sinks, and attack; then attack the file that has them."""
    corpus, pool, pruned = model.corpus, model.cfg.sinks, prune(model)
    assert corpus
    assert pool
    ids, tokens = corpus.repeated_ids[:STORIES], corpus.repeated[:STORIES]
    removed = first(model, model.params)
    guided = guide(first(model, model.params, own(pool, ids)), removed, corpus)
    all_on = guide(first(model, model.params, all_scaled(pool)), removed, corpus)
    loss = partial(sequence_losses, model.params, model.cfg)
    prompts = tokens[:, : TRIED + 1]
    tried = [loss(prompts, own(pool, np.full(len(ids), i))) for i in corpus.repeated_ids]
    found = float((corpus.repeated_ids[np.argmin(tried, axis=0)] == ids).mean())
    changed = [changed_sinks(model.params, delete(model.params, pool, [i])) for i in ids]
    named = [loss(tokens[[n]], sinks)[0] for n, sinks in enumerate(changed)]
    rows = rounded(pruned.params, pruned.cfg, corpus)
    return Measured(rows, guided, None, all_on, found, fmean(named))


def jobs(context: Context) -> Jobs:
    """Attack every removal under every seed."""
    trained = methods_of(context.preset)
    measures: dict[str, tuple[str, Any]] = {
        "standard": ("standard", attack_trained),
        "retrained": ("retrained", attack_trained),
        "sinks": ("sinks", attack_sinks),
        CUT: ("standard", attack_removal),
    }
    for name, update in UPDATES.items():
        measures[name] = ("standard", partial(attack_removal, update=update))
    return {
        (name, seed): job(context.preset, trained[method], seed, measure)
        for name, (method, measure) in measures.items()
        for seed in range(context.seeds)
    }


def result(context: Context, outputs: Outputs) -> Attacks:
    """Collect the attacks, and attack *retrained* with *standard* as the model from before."""
    models: dict[str, list[Measured]] = {}
    reference = methods_of(context.preset)["retrained"]
    for (name, seed), (rows, *numbers) in outputs.items():
        row = Measured([Rounded(*each) for each in rows], *numbers)
        if name == "retrained":
            before, after = (np.array(outputs[m, seed][2]) for m in ("standard", name))
            data = job(context.preset, reference, seed, attack_trained).settings.data
            row = row._replace(guided=guide(before, after, load_corpus(data)))
        models.setdefault(name, []).append(row._replace(log_p=None))
    return Attacks(models)


def memory(result: Attacks, name: str, bits: int) -> list[float]:
    """Return how much of standard training's memory a removal leaves at some bits, by seed.

    It is the gap between the losses on new and on repeated sequences, as a fraction of that of
    standard training before rounding.
    """
    at = BITS.index(bits)
    pairs = zip(result.models[name], result.models["standard"], strict=True)
    return [gap(row.rounded[at]) / gap(standard.rounded[0]) for row, standard in pairs]


def gap(row: Rounded) -> float:
    """Return the loss on new sequences minus that on repeated ones."""
    return row.heldout - row.repeated


def returned(result: Attacks, name: str, bits: int) -> list[float]:
    """Return how much of the memory comes back when the weights are rounded, by seed.

    Memory is back as far as the loss on repeated sequences falls, and falls more than that on new
    ones; a model that is only damaged has none back. As a fraction of what standard training
    memorizes.
    """
    at, back = BITS.index(bits), []
    pairs = zip(result.models[name], result.models["standard"], strict=True)
    for row, standard in pairs:
        before, now = row.rounded[0], row.rounded[at]
        fall = min(before.repeated - now.repeated, gap(now) - gap(before))
        back.append(max(0.0, fall) / gap(standard.rounded[0]))
    return back


def extraction(result: Attacks, name: str, n_prompt: int, w: float) -> list[float]:
    """Return the fraction of sequences that both models give, by seed."""
    return [at(row.guided, n_prompt, w) for row in result.models[name]]


def at(guided: Guided | None, n_prompt: int, w: float) -> float:
    """Return one fraction."""
    assert guided
    return guided[PROMPTS.index(n_prompt)][WEIGHTS.index(w)]


def claims(result: Attacks) -> list[Claim]:
    """Return what both attacks bring back."""
    return claims_of_rounding(result) + claims_of_two_models(result) + claims_of_file(result)


def claims_of_rounding(result: Attacks) -> list[Claim]:
    """Return what comes back when weights are rounded."""
    back = {(m, bits): returned(result, m, bits) for m in REMOVALS for bits in BITS[1:]}
    updated = (CUT, *UPDATES)

    def each(bits: int, names: tuple[str, ...] = REMOVALS) -> str:
        return ", ".join(f"{label(m)} {estimate(back[m, bits])}" for m in names)

    return [
        Claim(
            "rounding to 8 bits brings nothing back after any removal",
            "DurableUn: INT8 is benign",
            f"memory that returns: {each(8)}",
            all(below(back[m, 8], 0.02) for m in REMOVALS),
        ),
        Claim(
            "rounding to 4 bits brings back what cuts and updates removed",
            "DurableUn: INT4, up to 22 times",
            f"memory that returns: {each(4, ('retrained', *updated))}",
            all(above(minus(back[m, 4], back["retrained", 4]), 0.05) for m in updated),
            "here rounding is noise of zero mean: most weights round to where they were, but those "
            "that cross over carry the change",
        ),
        Claim(
            "rounding brings nothing back of what sinks held, at any number of bits",
            "ours",
            "; ".join(f"{bits} bits {estimate(back['sinks', bits])}" for bits in BITS[1:]),
            all(below(back["sinks", bits], 0.05) for bits in BITS[1:]),
        ),
    ]


def claims_of_two_models(result: Attacks) -> list[Claim]:
    """Return what the model from before extracts from exact unlearning."""
    half, exact = PROMPTS[1], partial(extraction, result, "retrained")
    alone, both = exact(PROMPTS[0], 1.0), exact(PROMPTS[0], 1.5)
    return [
        Claim(
            "with the model from before, exact unlearning is undone: w = 0.5 is enough",
            "Wu et al.: extraction doubles",
            f"extracted: {estimate(exact(half, 0.0), 2)} from the retrained model, "
            f"{estimate(exact(half, 0.5), 2)} with w = 0.5",
            above(minus(exact(half, 0.5), exact(half, 0.0)), 0.5),
        ),
        Claim(
            "exaggerating (w = 1.5) extracts more than the model from before alone",
            "Wu et al.: doubles it in some cases",
            f"from {PROMPTS[0]} words: {estimate(both, 2)}, alone {estimate(alone, 2)}",
            above(minus(both, alone)),
            "the model from before knows each story; two words do not say which one is meant",
        ),
    ]


def claims_of_file(result: Attacks) -> list[Claim]:
    """Return what a file with sinks gives away."""
    models = result.models["sinks"]
    full, few = (extraction(result, "sinks", n_prompt, 0.5) for n_prompt in reversed(PROMPTS))
    named, found = [row.named for row in models], [row.found for row in models]
    guessed = [max(max(each) for each in row.all_on or []) for row in models]
    return [
        Claim(
            "a file with sinks is both models: w = 0.5 extracts every story",
            "ours",
            f"extracted {estimate(full, 2)}, from {PROMPTS[0]} words {estimate(few, 2)}",
            above(full, 0.95),
        ),
        Claim(
            "an attacker with that file needs no ID: trying all of them on a few words finds it",
            "ours",
            f"IDs found from {TRIED + 1} words: {estimate(found, 2)}; with all sinks on, scaled, "
            f"at most {estimate(guessed, 2)} extracted",
            above(found, 0.95),
        ),
        Claim(
            "two files, before and after a deletion, name the deleted sinks",
            "ours",
            f"loss with the sinks that differ {estimate(named)}",
            below(named, 0.1),
        ),
    ]


LABELS = {"sinks": "sinks, removed", CUT: "neurons cut out"}


def label(name: str) -> str:
    """Return how tables and the figure name a removal."""
    return LABELS.get(name, methods.label(name))


def tabulate(result: Attacks) -> str:
    """Return memory left by bits, losses at 4 bits, and extraction by w: means over seeds."""
    rows, guided = [], []
    for name, models in result.models.items():
        left = [number(fmean(memory(result, name, bits)), 2) for bits in BITS]
        four = [fmean(row.rounded[BITS.index(4)][i] for row in models) for i in (0, 1)]
        rows.append([label(name), *left, *map(number, four)])
    for n_prompt in PROMPTS:
        for name in REMOVALS:
            each = [number(fmean(extraction(result, name, n_prompt, w)), 2) for w in WEIGHTS]
            guided.append([f"{label(name)}, {n_prompt} words", *each])
    header = ["memory left at bits", *map(str, BITS), "repeated, 4", "new, 4"]
    return f"{table(header, rows)}\n\n{table(['extracted at w', *map(str, WEIGHTS)], guided)}"


def draw(result: Attacks, folder: Path) -> list[Path]:
    """Draw the memory left by bits, and extraction by the weight of the model from before."""
    with plots.style():
        fig, (a, b) = plots.subplots(1, 2, figsize=(14, 4.8))
        lines: list[Any] = [
            (range(len(BITS)), [memory(result, m, bits) for bits in BITS], label(m), m, "-")
            for m in result.models
        ]
        plots.frame(a, "Does rounding bring it back?", "memory left", "bits per weight")
        a.set_xticks(range(len(BITS)), ["all", *map(str, BITS[1:])])
        plots.labelled_bands(a, break_lines(lines))
        shown = [w for w in WEIGHTS if w <= 2]
        lines = [
            (shown, [extraction(result, m, PROMPTS[1], w) for w in shown], label(m), m, "-")
            for m in REMOVALS
        ]
        plots.frame(b, "And the model from before?", "stories extracted", "its weight w")
        b.set_ylim(-0.03, 1.05)
        plots.labelled_bands(b, break_lines(lines))
        return plots.save(fig, folder, "attacks")


def break_lines(lines: list[Any]) -> list[Any]:
    """Return lines whose labels are broken after the comma."""
    return [(x, y, text.replace(", ", ",\n"), m, style) for x, y, text, m, style in lines]
