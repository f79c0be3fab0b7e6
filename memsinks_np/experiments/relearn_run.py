"""Every removal under the relearning attack: what is removed, how, and what the attacker gets."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from memsinks_np import metrics
from memsinks_np.baselines.localize import integrated_gradients, remove
from memsinks_np.baselines.relearning import examine
from memsinks_np.baselines.unlearn import Unlearning, unlearn
from memsinks_np.config import ModelConfig
from memsinks_np.data.corpus import Corpus, load_corpus
from memsinks_np.experiments import Context
from memsinks_np.experiments.methods import methods_of, seeded
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.sinks import NO_SINKS, Params, own, prune
from memsinks_np.train import Model

METHODS = ("standard", "retrained", "sinks", "paper_sinks")
CUT = "integrated_gradients"
# every update is tuned in its own favour: of these settings, the one that costs least and the one that holds best
UPDATES = {
    "gradient_ascent": [
        {"retain": 1, "lr": 1e-3},
        {"retain": 5, "lr": 3e-4},
        {"retain": 5, "lr": 1e-3},
        {"retain": 5, "lr": 3e-3},
        {"retain": 10, "lr": 3e-3},
    ],
    "npo": [
        {"beta": 0.1, "retain": 1, "lr": 3e-4},
        {"beta": 0.1, "retain": 1, "lr": 1e-3},
        {"beta": 0.1, "retain": 2, "lr": 1e-3},
        {"beta": 0.1, "retain": 1, "lr": 3e-3},
        {"beta": 0.1, "retain": 2, "lr": 3e-3},
    ],
}
STEPS = 200  # of the attack
BUDGET = 0.05  # nats per word: what unlearning may cost on held-out sequences


def measure(job: Job, trained: Model) -> dict[str, Any]:
    """In a worker: a method's own numbers."""
    corpus = load_corpus(job.settings.data)
    return metrics.measure(
        trained.params, job.settings.model(job.method, len(corpus.vocab)), corpus
    )


def attack(
    job: Job, trained: Model, levels: list[float], steps: int, updates: dict[str, Any]
) -> list[dict[str, Any]]:
    """In a worker: every removal that starts from this method, attacked; `levels` are the standard model's, by seed."""
    corpus = load_corpus(job.settings.data)
    cfg = job.settings.model(job.method, len(corpus.vocab))
    examined = partial(examine, cfg=cfg, corpus=corpus, lr=job.settings.train.lr / 10, steps=steps)
    level = levels[job.settings.train.seed]
    if job.method.name == CUT:
        return [
            examined(localized(trained.params, cfg, corpus), level=level) | {"with_arrays": None}
        ]
    if job.method.name not in updates:
        return [
            examined(prune(trained.params), level=level)
            | {"with_arrays": known(trained.params, cfg, corpus)}
        ]
    rows = []
    for how in updates[job.method.name]:
        params, way = unlearn(trained.params, cfg, corpus, Unlearning(**how))
        rows.append(
            examined(params, level=level) | {"with_arrays": None, "how": how, "unlearning": way}
        )
    return rows


def localized(params: Params, cfg: ModelConfig, corpus: Corpus) -> Params:
    """Post-hoc localization (paper, section 3): neurons erased until the repeated loss is at the held-out loss.

    First those that the repeated sequences need more than as many once-seen ones do, by Integrated Gradients.
    """
    forgotten, off = corpus.repeated[: corpus.cfg.n_repeated], NO_SINKS
    once, _ = corpus.draw(np.arange(len(forgotten)))
    needed, usual = (
        integrated_gradients(params, cfg, some, "loss", together=False)
        for some in (forgotten, once)
    )
    for share in np.arange(1, 33) / 32:
        now = remove(params, needed - usual, share)
        if metrics.mean_loss(now, cfg, forgotten, off) >= metrics.mean_loss(
            now, cfg, corpus.heldout, off
        ):
            break
    return now


def known(params: Params, cfg: ModelConfig, corpus: Corpus) -> float | None:
    """The loss for an attacker who has the arrays of the sinks, and so needs the IDs alone."""
    n = corpus.cfg.n_repeated
    selection = own(cfg.sinks, corpus.repeated_ids[:n])
    return metrics.mean_loss(params, cfg, corpus.repeated[:n], selection) if cfg.sinks else None


def cheapest(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the settings that reached their end (repeated loss at the held-out loss), the one with the best model."""
    ended = [row for row in rows if row["repeated.removed"] >= row["heldout.removed"]]
    return min(ended or rows, key=lambda row: row["heldout.removed"])


def toughest(rows: list[dict[str, Any]], standard: dict[str, Any]) -> dict[str, Any]:
    """Of the settings that reached their end within the budget, the one that gives least back."""
    ended = [row for row in rows if row["repeated.removed"] >= row["heldout.removed"]]
    paid = [row for row in ended if row["heldout.removed"] - standard["heldout.removed"] <= BUDGET]
    return min(paid or rows, key=lambda row: row["recovered"])


def run(plan: Context) -> dict[str, Any]:
    """Train, remove, attack: first the methods' own numbers, then every removal, under every seed."""
    methods, seeds = methods_of(plan.preset), range(plan.seeds)
    jobs = [seeded(plan.preset, methods[name], seed) for seed in seeds for name in METHODS]
    own_numbers = dict(
        zip(
            ((j.settings.train.seed, j.method.name) for j in jobs),
            plan.grid(jobs, measure),
            strict=True,
        )
    )
    levels = [own_numbers[seed, "standard"]["repeated.removed"] for seed in seeds]
    updates = {name: hows[1:2] for name, hows in UPDATES.items()} if plan.quick else UPDATES
    updated = [
        replace(methods["standard"], name=name) for name in (CUT, *updates)
    ]  # the same model, then the removal
    jobs = [seeded(plan.preset, method, seed) for seed in seeds for method in updated] + jobs
    then = partial(attack, levels=levels, steps=4 if plan.quick else STEPS, updates=updates)
    found = {
        (j.settings.train.seed, j.method.name): rows
        for j, rows in zip(jobs, plan.grid(jobs, then), strict=True)
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        standard, gold = found[seed, "standard"][0], found[seed, "retrained"][0]
        for name in (*METHODS, CUT, *updates):
            of = {name: cheapest(found[seed, name]) if name in updates else found[seed, name][0]}
            of |= (
                {f"{name}_toughest": toughest(found[seed, name], standard)}
                if name in updates
                else {}
            )
            for label, row in of.items():
                rows.setdefault(label, []).append(
                    {"seed": seed, **row, **metrics.compare(row, standard, gold)}
                )
        rows["standard"][seed]["recovered"] = None  # nothing had been removed
    return {
        "corpus": plan.preset.settings.data.corpus,
        "standard": levels,
        "methods": rows,
        "tried": {
            name: found[0, name] for name in updates
        },  # every setting of every update, seed 0
    }
