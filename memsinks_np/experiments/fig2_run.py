"""Cuts through a finished model, under every setting of every method: what each forgets and costs, read by field."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import log
from typing import Any

import numpy as np

from memsinks_np._internal.typing import Floats
from memsinks_np.baselines.localize import curve, random_scores
from memsinks_np.baselines.tradeoff import path, scored, within
from memsinks_np.config import DataConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import Context
from memsinks_np.experiments.methods import methods_of, seeded
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.sinks import prune
from memsinks_np.train import Model

SHARES = [k / 128 for k in (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 64, 96, 128)]
LIMIT = 0.05  # nats per word: the cost that a removal may have
FIELD = {"stories": "repeated", "canaries": "canary"}


def atypical(data: DataConfig) -> DataConfig:
    """The same corpus with canaries instead of the repeated stories, all but one."""
    return replace(data, n_repeated=1, n_canaries=max(1, data.n_repeated - 1))


def measure(job: Job, trained: Model, quick: bool) -> dict[str, Any]:
    """In a worker: a standard method under every cut; of the others what they know, sinks removed, of either kind."""
    corpus = load_corpus(job.settings.data)
    cfg = job.settings.model(job.method, len(corpus.vocab))
    if job.method.name != "standard":
        params, nothing = prune(trained.params), random_scores(cfg)
        both = {"stories": corpus, "canaries": load_corpus(atypical(corpus.cfg))}
        return {kind: curve(params, cfg, of, nothing, [0])[0] for kind, of in both.items()}
    shares = SHARES[::4] if quick else SHARES
    canary = corpus.cfg.n_canaries > 0
    tokens = corpus.repeated[corpus.cfg.n_repeated :] if canary else corpus.repeated
    once, _ = corpus.draw(np.arange(len(tokens)))
    methods = scored(trained.params, cfg, tokens, once, job.settings.train.seed, quick)
    cuts = {
        method: {
            name: curve(trained.params, cfg, corpus, scores, shares)
            for name, scores in settings.items()
        }
        for method, settings in methods.items()
    }
    return {
        "cuts": cuts,
        "history": trained.history,
        "floor": corpus.entropy and corpus.entropy(corpus.heldout),
    }


def run(plan: Context) -> dict[str, Any]:
    """Per seed: both standard methods under every cut, the gold reference, and the sinks removed."""
    methods, names = methods_of(plan.preset), ("stories", "canaries", "gold", "sinks")
    jobs = []
    for seed in range(plan.seeds):
        stories, *others = (
            seeded(plan.preset, methods[a], seed) for a in ("standard", "retrained", "sinks")
        )
        canaries = stories._replace(
            settings=replace(stories.settings, data=atypical(stories.settings.data))
        )
        jobs += [stories, canaries, *others]
    found = iter(plan.grid(jobs, partial(measure, quick=plan.quick)))
    data = plan.preset.settings.data
    return {
        "corpus": data.corpus,
        "guess": log(len(load_corpus(data).vocab)),
        "seeds": [{name: next(found) for name in names} for _ in range(plan.seeds)],
    }


def tuned(result: dict[str, Any], kind: str, method: str) -> str:
    """The setting under which a method forgets most at the allowed cost, on average over seeds."""
    settings: dict[str, Any] = result["seeds"][0][kind]["cuts"][method]
    return max(settings, key=lambda s: float(np.mean(forgotten(result, kind, method, setting=s))))


def cuts(
    result: dict[str, Any], kind: str, method: str, setting: str = ""
) -> list[list[dict[str, Any]]]:
    """Seed -> rows of the curve, under one setting or the tuned one."""
    setting = setting or tuned(result, kind, method)
    return [seed[kind]["cuts"][method][setting] for seed in result["seeds"]]


def forgotten(
    result: dict[str, Any], kind: str, method: str, limit: float = LIMIT, setting: str = ""
) -> Floats:
    """Seed -> nats per word forgotten at no more than a cost of `limit`."""
    return np.array(
        [within(path(rows, FIELD[kind]), limit) for rows in cuts(result, kind, method, setting)]
    )


def gold_gap(result: dict[str, Any], kind: str) -> Floats:
    """Seed -> how much more a model that never saw the sequences loses on them, nats per word."""
    field, before = FIELD[kind], cuts(result, kind, "random", "one draw")
    return np.array(
        [s["gold"][kind][field] - b[0][field] for s, b in zip(result["seeds"], before, strict=True)]
    )


def left(result: dict[str, Any], kind: str, method: str) -> Floats:
    """Seed -> the smallest share of sequences that can still be extracted at the allowed cost."""
    field = f"{FIELD[kind]}_extraction"
    pairs = ((rows, path(rows, FIELD[kind])[:, 0] <= LIMIT) for rows in cuts(result, kind, method))
    return np.array(
        [min(r[field] for r, ok in zip(rows, cheap, strict=True) if ok) for rows, cheap in pairs]
    )


def sinks_point(result: dict[str, Any]) -> Floats:
    """(seeds, 2) cost and forgetting of removed sinks on stories, against standard training."""
    before = [rows[0] for rows in cuts(result, "stories", "random", "one draw")]
    fields = ("heldout", "repeated")
    return np.array(
        [
            [s["sinks"]["stories"][f] - b[f] for f in fields]
            for s, b in zip(result["seeds"], before, strict=True)
        ]
    )


def while_memorizing(history: list[dict[str, float]]) -> dict[str, float]:
    """How far both losses still fall once repeats are better known than new ones by half of the final gap."""
    gap: Callable[[dict[str, float]], float] = lambda row: (
        row["heldout.removed"] - row["repeated.removed"]
    )
    first, last = history[0], history[-1]
    half = next(row for row in history if gap(row) >= gap(last) / 2)
    falls = {
        name: half[f"{name}_removed"] - last[f"{name}_removed"] for name in ("repeated", "heldout")
    }
    return falls | {
        "share": falls["heldout"] / (first["heldout.removed"] - last["heldout.removed"])
    }
