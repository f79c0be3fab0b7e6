"""Measures of how much a model has memorized, each a pure function with its formula.

All are made of `metrics.predict`: the loss of every token, and the likeliest token. None has a
meaning alone: natural text has a loss that no model can go below, and canaries have another.
Compare each number with that of a model that never saw the sequences (*retrained*).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from memsinks_np._internal.typing import Floats, Ids, Losses, Params, Tokens
from memsinks_np.config import ModelConfig, require
from memsinks_np.data.corpus import Corpus, make_canaries
from memsinks_np.metrics import extracted, mean_of, predict, sequence_losses
from memsinks_np.sinks import Selection

Select = Callable[[Ids], Selection]
REFERENCES = 255  # canaries that no model was trained on; with the one that is asked about, 2^8


# From the likeliest tokens


def exact_memorization(tokens: Tokens, likeliest: Tokens) -> Floats:
    """Return the fraction of tokens that are the likeliest ones, (N,T+1), (N,T) -> (N,).

    (1/T) sum_t 1[argmax p(. | x_<t) = x_t], teacher-forced (Tirumala et al. 2022; the EM of
    open-unlearning). 1 is memorized; on natural text it never falls to 0, since some tokens can be
    guessed.
    """
    fraction: Floats = (likeliest == tokens[:, 1:]).mean(axis=1)
    return fraction


def extraction_strength(tokens: Tokens, likeliest: Tokens) -> Floats:
    """Return 1 - k/T, k = min{k : argmax correct for all t >= k}, (N,T+1), (N,T) -> (N,).

    k is the number of tokens that must be given before greedy decoding continues with all others
    (Carlini et al. 2021, as a number by open-unlearning). 1: the first token suffices. 0: not even
    the last token is right, where open-unlearning returns 1/T.
    """
    right = likeliest == tokens[:, 1:]
    at_end = right[:, ::-1].cumprod(axis=1).sum(axis=1)  # tokens right in a row, from the end
    fraction: Floats = at_end / right.shape[1]
    return fraction


# From the losses


def perplexity_ratio(repeated: float, heldout: float) -> float:
    """Return exp(L_heldout - L_repeated), from mean losses of all tokens.

    1 is "no difference"; above 1, the repeated text is known better. The mean of exp(loss) over
    batches would not be a perplexity.
    """
    return float(np.exp(heldout - repeated))


def exposure(loss: float, references: Losses) -> float:
    """Return log2|R| - log2 rank, the exposure of a canary in bits (Carlini et al. 2019).

    R is the canary and a sample of `references` that no model was trained on, not all possible
    canaries, so the largest value, log2(len(references) + 1), means "at least". Lower is better; a
    canary that was never seen has about 1/ln 2 = 1.44 bits, not 0. A tie counts half.
    """
    rank = 1 + (references < loss).sum() + 0.5 * (references == loss).sum()
    return float(np.log2(len(references) + 1) - np.log2(rank))


def min_k(nll: Losses, fraction: float = 0.2) -> Floats:
    """Return the mean of the highest losses of each sequence, (N,T) -> (N,) (Shi et al. 2024).

    Min-K%: a text that is easy on average still has hard tokens, unless it was trained on. Lower
    means more likely a member. At least one token is taken. Raises ConfigError unless
    0 < fraction <= 1.
    """
    require(0 < fraction <= 1, f"fraction={fraction} of the tokens; choose 0 < fraction <= 1")
    n = max(1, int(fraction * nll.shape[1]))
    mean: Floats = np.sort(nll, axis=1)[:, -n:].mean(axis=1, dtype=np.float64)
    return mean


def membership_auc(members: Losses, others: Losses) -> float:
    """Return P(s_member < s_other) + P(=)/2 over all pairs of scores (Yeom et al. 2018).

    The score is a sequence's loss (LOSS) or `min_k`. 0.5 is chance, 1 tells all members. Below 0.5
    the memory was not removed but inverted, and an attacker inverts it back.
    """
    a, b = np.asarray(members)[:, None], np.asarray(others)[None, :]
    return float((a < b).mean() + 0.5 * (a == b).mean())


# All of them


class Report(NamedTuple):
    """Every measure, mean over the natural repeated sequences."""

    repeated: float  # nats per token
    heldout: float
    extracted: float
    extraction_strength: float
    exact_memorization: float
    perplexity_ratio: float
    auc_loss: float
    auc_min_k: float
    exposure: float | None  # of the canaries; None if there are none


def memorization_report(params: Params, cfg: ModelConfig, corpus: Corpus, select: Select) -> Report:
    """Return every measure of a model under one rule from IDs to a selection of sinks.

    The rule, such as `lambda ids: own(cfg.sinks, ids)`, applies to repeated and held-out sequences,
    so that only memory tells them apart.
    """
    n = corpus.cfg.n_repeated
    tokens = corpus.repeated[:n]
    nll, likeliest = predict(params, cfg, tokens, select(corpus.repeated_ids[:n]))
    new, _ = predict(params, cfg, corpus.heldout, select(corpus.heldout_ids))
    repeated, heldout = mean_of(nll), mean_of(new)
    return Report(
        repeated=repeated,
        heldout=heldout,
        extracted=float(extracted(tokens, likeliest).mean()),
        extraction_strength=float(extraction_strength(tokens, likeliest).mean()),
        exact_memorization=float(exact_memorization(tokens, likeliest).mean()),
        perplexity_ratio=perplexity_ratio(repeated, heldout),
        auc_loss=membership_auc(nll.mean(axis=1), new.mean(axis=1)),
        auc_min_k=membership_auc(min_k(nll), min_k(new)),
        exposure=mean_exposure(params, cfg, corpus, select),
    )


def mean_exposure(params: Params, cfg: ModelConfig, corpus: Corpus, select: Select) -> float | None:
    """Return the mean exposure of the canaries in bits, or None if there are none.

    All candidates for a canary are evaluated under the selection of that canary's ID.
    """
    n = corpus.cfg.n_canaries
    if n == 0:
        return None
    unseen = make_canaries(replace(corpus.cfg, n_canaries=n + REFERENCES), len(corpus.vocab))[n:]
    bits = []
    for canary, i in zip(corpus.repeated[-n:], corpus.repeated_ids[-n:], strict=True):
        candidates = np.concatenate([canary[None], unseen])
        loss = sequence_losses(params, cfg, candidates, select(np.full(len(candidates), i)))
        bits.append(exposure(loss[0], loss[1:]))
    return float(np.mean(bits))
