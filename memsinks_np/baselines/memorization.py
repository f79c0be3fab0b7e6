"""How much of a sequence a model has memorized: each measure a pure function with its formula.

`predict` (metrics.py) gives the loss of every word and the likeliest word there; all_scaled here is made of those.
A measure alone says little: natural text has a floor above zero (words that anybody could guess), and canaries have
another.  So read each beside the same number of the method that never saw the sequences (*retrained without*).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.typing import Floats, Losses, Params, Tokens
from memsinks_np.config import ModelConfig, require
from memsinks_np.data.corpus import canaries
from memsinks_np.metrics import extracted, predict
from memsinks_np.sinks import NO_SINKS, Selection, own, placebo

Select = Callable[[NDArray[np.int64]], Selection]  # a rule: IDs -> which sinks are on
REFERENCES = 255  # canaries that no model was trained on: with the one that is asked about, 2^8


# 1. From the likeliest words


def exact_memorization(tokens: Tokens, likeliest: Tokens) -> Floats:
    """(N,T+1), (N,T) -> (N,) share of words that are the likeliest one: (1/T) sum_t 1[argmax p(. | x_<t) = x_t].

    Teacher-forced (Tirumala et al. 2022; open-unlearning's EM).  1 is known by heart; lower forgets more, down to
    what can be guessed, never to 0 on natural text.
    """
    share: Floats = (likeliest == tokens[:, 1:]).mean(axis=1)
    return share


def extraction_strength(tokens: Tokens, likeliest: Tokens) -> Floats:
    """(N,T+1), (N,T) -> (N,) share that follows by itself: 1 - k/T, k = min{k : argmax correct for all t >= k}.

    The k words that must be given before greedy decoding says all the rest (Carlini et al. 2021 as made a number by
    open-unlearning).  1: nothing need be given beyond the first token; 0: not even the last word is right.  Where
    the last word is wrong, open-unlearning returns 1/T; the formula, and this function, say 0.
    """
    wrong = likeliest != tokens[:, 1:]
    rest = (
        (~wrong[:, ::-1]).cumprod(axis=1).sum(axis=1)
    )  # words right in a row, counted from the end
    share: Floats = rest / wrong.shape[1]
    return share


# 2. From the losses


def perplexity_ratio(repeated: Losses, heldout: Losses) -> float:
    """exp(L_val - L_rep): how many times more surprising a word of new text is than one of repeated text.

    1 is "no difference"; above 1, the repeated text is known better.  L is the mean over all words: the mean of
    exp(loss) over batches is not a perplexity, and depends on how the words were cut into batches.
    """
    return float(np.exp(heldout.mean(dtype=np.float64) - repeated.mean(dtype=np.float64)))


def exposure(loss: float, references: Losses) -> float:
    """log2|R| - log2 rank, in bits: how far up a canary's loss stands among those that it could have been.

    Carlini et al. 2019.  Lower is better; a canary that was never seen has about 1/ln 2 = 1.44 bits, not 0.  R is
    all canaries there; here it is a sample, `references`, that nothing was trained on, and the canary itself.  So
    the largest value is log2(len(references) + 1): at that value it says "at least".  A tie counts half.
    """
    rank = 1 + (references < loss).sum() + 0.5 * (references == loss).sum()
    return float(np.log2(len(references) + 1) - np.log2(rank))


def min_k(nll: Losses, share: float = 0.2) -> Floats:
    """(N,T) -> (N,) mean loss of the `share` of words with the highest loss (Min-K%, Shi et al. 2024).

    Even a text that is easy on average has hard words, unless it was trained on.  Lower: more likely a member.
    At least one word is taken.  ConfigError unless 0 < share <= 1.
    """
    require(0 < share <= 1, f"share={share} is not a share of the words; choose 0 < share <= 1")
    n = max(1, int(share * nll.shape[1]))
    mean: Floats = np.sort(nll, axis=1)[:, -n:].mean(axis=1, dtype=np.float64)
    return mean


def membership_auc(members: Losses, others: Losses) -> float:
    """P(s_member < s_other) + P(=)/2, over all pairs: can a score tell what was trained on (Yeom et al. 2018)?

    The score may be a sequence's loss (LOSS) or `min_k`.  0.5 is a coin, 1 a score that always tells; below 0.5
    the memory was not removed but turned around, and an attacker turns it back.
    """
    a, b = np.asarray(members)[:, None], np.asarray(others)[None, :]
    return float((a < b).mean() + 0.5 * (a == b).mean())


# 3. What lies in a sequence's own sinks


def slice_content(
    params: Params, cfg: ModelConfig, tokens: Tokens, ids: NDArray[np.int64]
) -> dict[str, Losses]:
    """What the sinks of each ID do to its loss, (N,) nats per word: two terms, and the difference that mixes them.

    content       L(shared alone) - L(shared + own sinks): what the sequence's own sinks hold; up is more
    interference  L(shared + sinks of an ID that was never used) - L(shared alone): what foreign sinks cost
    mixed         L(shared + sinks of another ID) - L(shared + own sinks) = content + interference

    "Own against foreign" alone is not evidence of content: it can be all interference.
    """
    L, sinks = cfg.n_layers, cfg.sinks
    alone, held, foreign = (
        predict(params, cfg, tokens, selection)[0].mean(axis=1, dtype=np.float64)
        for selection in (NO_SINKS, own(sinks, ids), placebo(sinks, ids))
    )
    return {"content": alone - held, "interference": foreign - alone, "mixed": foreign - held}


# 4. All of them, for one method


def memorization_report(
    params: Params, cfg: ModelConfig, corpus: Any, select: Select
) -> dict[str, float | None]:
    """Every measure for one method, under one rule IDs -> selection; means over the repeated natural sequences.

    `select` is asked for repeated and held-out sequences alike, so that nothing but memory tells them apart:

        lambda ids: own(cfg.sinks, ids)
        lambda ids: NO_SINKS

    "exposure" is None where the corpus has no canaries.
    """
    natural = corpus.cfg.n_repeated
    tokens, ids = corpus.repeated[:natural], corpus.repeated_ids[:natural]
    nll, likeliest = predict(params, cfg, tokens, select(ids))
    new, _ = predict(params, cfg, corpus.heldout, select(corpus.heldout_ids))
    return {
        "repeated": float(nll.mean(dtype=np.float64)),
        "heldout": float(new.mean(dtype=np.float64)),
        "extracted": float(extracted(tokens, likeliest).mean()),
        "extraction_strength": float(extraction_strength(tokens, likeliest).mean()),
        "exact_memorization": float(exact_memorization(tokens, likeliest).mean()),
        "perplexity_ratio": perplexity_ratio(nll, new),
        "auc_loss": membership_auc(
            nll.mean(axis=1, dtype=np.float64), new.mean(axis=1, dtype=np.float64)
        ),
        "auc_min_k": membership_auc(min_k(nll), min_k(new)),
        "exposure": mean_exposure(params, cfg, corpus, select),
    }


def mean_exposure(params: Params, cfg: ModelConfig, corpus: Any, select: Select) -> float | None:
    """Mean exposure of the canaries in bits, None where there are none.

    All candidates for a canary are asked under the selection of that canary's ID: one model, many candidates.
    """
    n = corpus.cfg.n_canaries
    if n == 0:
        return None
    fresh = canaries(replace(corpus.cfg, n_canaries=n + REFERENCES), len(corpus.vocab))[n:]
    bits = []
    for canary, i in zip(corpus.repeated[-n:], corpus.repeated_ids[-n:], strict=True):
        candidates = np.concatenate([canary[None], fresh])
        nll, _ = predict(params, cfg, candidates, select(np.full(len(candidates), i)))
        loss = nll.mean(axis=1, dtype=np.float64)
        bits.append(exposure(loss[0], loss[1:]))
    return float(np.mean(bits))
