"""Masks under our mixer and under the released hash: what they share, and what deleting one sequence does."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from memsinks_np import metrics
from memsinks_np._internal.released_hash import BASE, MODULUS, released_mask
from memsinks_np._internal.typing import Floats
from memsinks_np.config import Method, ModelConfig, SinkConfig, require, require_sinks
from memsinks_np.data.corpus import Corpus, load_corpus
from memsinks_np.experiments import Context
from memsinks_np.experiments.methods import Preset, methods_of, seeded
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.sinks import Mask, Params, sink_mask
from memsinks_np.train import Model

POOL, P, FEW = 1228, 0.3, np.arange(1, 301)  # 30 % of 4,096 neurons, as in the paper
FACTORS = (1, 2, 3, 4, 5, 6, 7, 8)
MASKS = {
    "ours": lambda ids: sink_mask(SinkConfig(n_sink=POOL, scheme="bernoulli", p=P), ids),
    "exact": lambda ids: released_mask(ids, POOL, P, "exact"),
    "int64": lambda ids: released_mask(ids, POOL, P, "int64"),
    "int32": lambda ids: released_mask(ids, POOL, P, "int32"),
}


def run(plan: Context) -> dict[str, Any]:
    """What the masks are, and what they do: the same two pools, once with our masks, once with the released ones."""
    methods = arms_of(plan.preset)
    jobs = [
        seeded(plan.preset, method, seed)
        for seed in range(plan.seeds)
        for method in methods.values()
    ]
    found = plan.grid(jobs, measure)
    rows = {name: found[i :: len(methods)] for i, name in enumerate(methods)}  # one for every seed
    references = list(zip(rows.pop("standard"), rows.pop("retrained"), strict=True))
    for of in rows.values():
        for row, (standard, gold) in zip(of, references, strict=True):
            row |= metrics.compare(row, standard, gold)
    return {"masks": {name: describe(mask) for name, mask in MASKS.items()}, "methods": rows}


def arms_of(preset: Preset) -> dict[str, Method]:
    """The paper's setting, and a sparse pool like ours but with masks by chance, each under two hashes."""
    known, S, A = methods_of(preset), preset.sinks.n_sink, preset.sinks.n_active
    require(
        S >= 4 * A,
        f"--n-active {A} is more than a quarter of --n-sink {S}, which is the pool here; choose fewer",
    )
    sparse = SinkConfig(n_sink=S // 4, scheme="bernoulli", p=4 * preset.sinks.density)
    pools = {"paper": known["paper_sinks"], "sparse": replace(known["sinks"], sinks=sparse)}
    methods = {name: known[name] for name in ("standard", "retrained")}
    for name, method in pools.items():
        methods[f"{name}_ours"] = method
        methods[f"{name}_released"] = replace(
            method, sinks=replace(require_sinks(method), scheme="released")
        )
    return {name: replace(method, name=name) for name, method in methods.items()}


def describe(mask: Callable[[Any], Any]) -> dict[str, Any]:
    """Shares of the pool: what IDs 0, and 1 to 20 together, own; what i and k*i share; and of IDs, that own sink 0."""
    last = round(P * MODULUS / BASE)  # what the released hash gives sink 0, by its formula
    some = mask(FEW)
    return {
        "id_0": float(mask([0]).mean()),
        "ids_1_to_20": float(mask(np.arange(1, 21)).any(axis=0).mean()),
        "sink_0": float(
            np.mean([mask(part)[:, 0].mean() for part in np.array_split(np.arange(1, last, 37), 5)])
        ),
        "overlap": [float((some * mask(k * FEW)).mean()) for k in FACTORS],
        "as_int64": float((some * MASKS["int64"](FEW)).sum() / some.sum()),
        "wrapped": float((mask(FEW + 65_536) == some).all(axis=1).mean()),
    }


def measure(job: Job, trained: Model) -> dict[str, Any]:
    """In a worker: the method's losses, and what deleting one sequence's sinks does to the others."""
    corpus = load_corpus(job.settings.data)
    model = job.settings.model(job.method, len(corpus.vocab))
    row: dict[str, Any] = dict(metrics.measure(trained.params, model, corpus))
    return row | (collateral(trained.params, model, corpus) if model.sinks else {})


def collateral(params: Params, model: ModelConfig, corpus: Corpus) -> dict[str, Any]:
    """Mean rise of the loss of another repeated sequence, own sinks on, when one sequence's sinks are deleted.

    others    of any two sequences        pairs    i is deleted and 2i is read, or the reverse
    spared_*  the same where the sinks that all repeated sequences own (but for ID 0) are left in place
    """
    ids = corpus.repeated_ids
    mask = sink_mask(require_sinks(model), ids)
    owners = mask[ids != 0].sum(axis=0)
    everyones = owners == (ids != 0).sum()
    doubled = (ids[:, None] * 2 == ids) & (ids != 0)
    pair = doubled | doubled.T
    related = pair | np.eye(len(ids), dtype=bool) | (ids == 0) | (ids == 0)[:, None]
    row: dict[str, Any] = {
        "everyones": int(everyones.sum()),
        "owners": np.sort(owners)[::-1].astype(int).tolist(),
    }
    for name, spared in (("", 0 * everyones), ("spared_", everyones)):
        up = rise(params, model, corpus, mask, spared)
        row[f"{name}others"] = float(up[~related].mean())
        row[f"{name}pairs"] = float(up[pair].mean()) if pair.any() else None
    return row


def rise(params: Params, model: ModelConfig, corpus: Corpus, mask: Any, spared: Any) -> Floats:
    """(R,R): how much the loss of sequence j rises when the sinks of sequence i, but for the spared ones, go."""

    def loss(gone: Any) -> Floats:
        selection = (Mask((mask * (1 - gone)).astype(np.float32)),) * model.n_layers
        of: Floats = metrics.predict(params, model, corpus.repeated, selection)[0].mean(
            axis=1, dtype=np.float64
        )
        return of

    return np.stack([loss(one * (1 - spared)) for one in mask]) - loss(0 * mask[0])
