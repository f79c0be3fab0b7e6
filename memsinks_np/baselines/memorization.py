"""Measures of what a model has memorized: extraction, and two tests of membership.

All are made of `metrics.predict`: the loss of every token, and the likeliest token. None has a
meaning alone: natural text has a loss that no model can go below. Compare each number with that of
a model that never saw the sequences (*retrained*).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from memsinks_np._internal.typing import Floats, Ids, Losses, Params
from memsinks_np.config import ModelConfig, require
from memsinks_np.data.corpus import Corpus
from memsinks_np.metrics import extracted, mean_of, predict
from memsinks_np.sinks import Selection


def min_k(nll: Losses, fraction: float = 0.2) -> Floats:
    """Return the mean of the highest losses of each sequence, (N,T) -> (N,) (Shi et al. 2024).

    Min-K%: a text that is easy on average still has hard tokens, unless it was trained on. Lower
    means more likely a member. At least one token is taken, and no padding (NaN). Raises
    ConfigError unless 0 < fraction <= 1.
    """
    require(0 < fraction <= 1, f"fraction={fraction} of the tokens; choose 0 < fraction <= 1")
    n = np.maximum(1, (fraction * (~np.isnan(nll)).sum(axis=1)).astype(int))[:, None]
    hardest = np.where(np.arange(nll.shape[1]) < n, -np.sort(-nll, axis=1), 0)  # NaN comes last
    mean: Floats = hardest.sum(axis=1, dtype=np.float64) / n[:, 0]
    return mean


def membership_auc(members: Losses, others: Losses) -> float:
    """Return P(s_member < s_other) + P(=)/2 over all pairs of scores (Yeom et al. 2018).

    The score is a sequence's loss (LOSS) or `min_k`. 0.5 is chance, 1 identifies all members.
    Below 0.5 the memory was not removed but inverted, and an attacker can invert it back. Raises
    ConfigError without scores on both sides, and for NaN.
    """
    a, b = np.asarray(members)[:, None], np.asarray(others)[None, :]
    exists = a.size > 0 and b.size > 0 and not (np.isnan(a).any() or np.isnan(b).any())
    require(exists, f"no AUC of {a.size} and {b.size} scores; give some of each, without NaN")
    return float((a < b).mean() + 0.5 * (a == b).mean())


class Report(NamedTuple):
    """Measures of the natural repeated sequences."""

    repeated: float  # mean loss in nats per token
    extracted: float  # fraction of the sequences
    auc_loss: float
    auc_min_k: float


def memorization_report(
    params: Params, cfg: ModelConfig, corpus: Corpus, select: Callable[[Ids], Selection]
) -> Report:
    """Return the measures of a model under one rule from IDs to a selection of sinks.

    The rule, such as `lambda ids: own(cfg.sinks, ids)`, applies to repeated and held-out sequences,
    so that only memorization can distinguish them.
    """
    n = corpus.n_evaluated
    tokens = corpus.repeated[:n]
    nll, likeliest = predict(params, cfg, tokens, select(corpus.repeated_ids[:n]))
    new, _ = predict(params, cfg, corpus.heldout, select(corpus.heldout_ids))
    return Report(
        repeated=mean_of(nll),
        extracted=float(extracted(tokens, likeliest).mean()),
        auc_loss=membership_auc(np.nanmean(nll, axis=1), np.nanmean(new, axis=1)),
        auc_min_k=membership_auc(min_k(nll), min_k(new)),
    )
