"""The trade-off of a removal: what is forgotten, and what that costs on new sequences."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.typing import Floats, Params, Tokens
from memsinks_np.baselines.edit import edited
from memsinks_np.baselines.localize import remove
from memsinks_np.config import ModelConfig
from memsinks_np.metrics import extracted, mean_loss, mean_of, predict
from memsinks_np.sinks import NO_SINKS


class Ablation(NamedTuple):
    """A model from which neurons were removed, or whose output vectors were edited."""

    fraction: float  # of the neurons that was removed, or strength of the edit
    repeated: float  # loss of the memorized sequences, nats per token
    heldout: float
    extraction: float  # fraction of the memorized sequences that can still be extracted


def ablation(
    cut: Params, cfg: ModelConfig, tokens: Tokens, heldout: Tokens, fraction: float
) -> Ablation:
    """Evaluate memorized `tokens` and held-out ones after a cut."""
    nll, likeliest = predict(cut, cfg, tokens, NO_SINKS)
    extraction = float(extracted(tokens, likeliest).mean())
    return Ablation(fraction, mean_of(nll), mean_loss(cut, cfg, heldout, NO_SINKS), extraction)


def ablation_curve(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    heldout: Tokens,
    scores: Any,
    fractions: Sequence[float],
) -> list[Ablation]:
    """Remove fractions of the neurons, and evaluate."""
    return [ablation(remove(params, scores, f), cfg, tokens, heldout, f) for f in fractions]


def edit_curve(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    heldout: Tokens,
    edit: Floats,
    strengths: Sequence[float],
) -> list[Ablation]:
    """Edit output vectors ever more, and evaluate. The strengths stand for fractions."""
    return [ablation(edited(params, edit, s), cfg, tokens, heldout, s) for s in strengths]


def tradeoff_curve(rows: Sequence[Any]) -> Floats:
    """Return cost and forgetting, (N,2), in nats per token above the first row.

    Each row has losses `heldout` and `repeated`.
    """
    losses = np.array([[row.heldout, row.repeated] for row in rows])
    rises: Floats = losses - losses[0]
    return rises


def max_forgetting(points: Any, cost: float) -> float:
    """Return the most forgotten at no more than a cost, with linear interpolation between points.

    Removing nothing is always possible, so the result is at least 0.
    """
    best = max([0.0, *(forgotten for c, forgotten in points if c <= cost)])
    for (c0, f0), (c1, f1) in pairwise(points):
        if c0 <= cost < c1:
            best = max(best, f0 + (f1 - f0) * (cost - c0) / (c1 - c0))
    return float(best)
