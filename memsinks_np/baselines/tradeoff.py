"""Every way to choose the neurons, under every setting that is tried; and how a curve of cuts is read."""

from itertools import pairwise, product
from typing import Any

import numpy as np

from memsinks_np._internal.typing import Floats
from memsinks_np.baselines.localize import By, Scores, integrated_gradients, random_scores, zero_out
from memsinks_np.config import ModelConfig
from memsinks_np.metrics import Tokens
from memsinks_np.posthoc import gates
from memsinks_np.sinks import Params

PENALTIES, ITERATIONS = (0.5, 2.0, 10.0, 30.0), (50, 100)  # of the gates
MEASURED: tuple[tuple[By, bool], ...] = tuple(
    product(("loss", "probability"), (True, False))
)  # by, together


def scored(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    once: Tokens,
    seed: int = 0,
    quick: bool = False,
) -> dict[str, dict[str, Scores]]:
    """Method -> setting -> scores of the neurons for the memorized `tokens`.

    "contrast" is ours: the scores for `tokens` minus those for as many sequences seen `once`, so that a neuron that
    every sequence needs is spared.
    """
    gradients, contrast, learnt = {}, {}, {}
    for by, together in MEASURED[:1] if quick else MEASURED:
        name = f"{by}, {'all layers at once' if together else 'layer by layer'}"
        needed, usual = (
            integrated_gradients(params, cfg, some, by, together) for some in (tokens, once)
        )
        gradients[name], contrast[name] = needed, needed - usual
    keep = (1, 2) if quick else ITERATIONS
    for penalty in PENALTIES:
        for n, found in zip(
            keep, gates.learn(params, cfg, tokens, penalty, keep, seed=seed), strict=True
        ):
            learnt[f"penalty {penalty:g}, {n} iterations"] = found
    return {
        "gates": learnt,
        "integrated_gradients": gradients,
        "contrast": contrast,
        "zero_out": {"loss": zero_out(params, cfg, tokens[:1] if quick else tokens)},
        "random": {"one draw": random_scores(cfg, seed)},
    }


def path(rows: list[dict[str, Any]], field: str) -> Floats:
    """(N,2) cost on new sequences and forgetting of `field`'s, in nats per word, one row per share of a curve."""
    losses: Floats = np.array([[row["heldout"], row[field]] for row in rows])
    moved: Floats = losses - losses[0]
    return moved


def within(points: Floats, limit: float) -> float:
    """The most that is forgotten at no more than a cost of `limit`, with straight lines between neighbouring shares."""
    best = max([0.0, *(forgotten for cost, forgotten in points if cost <= limit)])
    for (c0, f0), (c1, f1) in pairwise(points):
        if c0 <= limit < c1:
            best = max(best, f0 + (f1 - f0) * (limit - c0) / (c1 - c0))
    return float(best)
