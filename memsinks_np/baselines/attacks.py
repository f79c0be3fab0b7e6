"""Attacks on a removal that need no training: rounded weights, and the model from before.

Rounding: a removal that moves weights a little is undone where the weights before and after round
to the same numbers (Zhang et al. 2024, arXiv 2410.16454; DurableUn, arXiv 2605.02196).

The model from before: an attacker who has both models reads what was removed from their difference
(Wu et al. 2025, arXiv 2505.24379),

    log p = log p_after + w (log p_before - log p_after) + constant

w = 0 is the model after the removal, w = 1 the one before; w > 1 exaggerates what was removed. In
a file with sinks both models are one selection apart.
"""

import numpy as np

from memsinks_np._internal.typing import Floats, Params, Tokens
from memsinks_np.config import ModelConfig, require
from memsinks_np.data.batches import make_batch
from memsinks_np.metrics import CHUNK, extracted, slice_selection
from memsinks_np.model import model_forward
from memsinks_np.sinks import Mask, Selection


def round_weights(params: Params, bits: int) -> Params:
    """Return parameters whose matrices are rounded: integers of some bits times a factor per row.

    The largest weight of a row is kept. Vectors (biases, norms) stay. Raises ConfigError for fewer
    than two bits.
    """
    require(bits >= 2, f"bits={bits}; one bit leaves zero alone, use 2 or more")
    rounded = dict(params)
    for name, w in params.items():
        if w.ndim == 2:
            step = abs(w).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
            step[step == 0] = 1
            rounded[name] = np.round(w / step) * step
    return rounded


def log_probs(params: Params, cfg: ModelConfig, tokens: Tokens, selection: Selection) -> Floats:
    """Return the log-probability of every word at every place, (N,T+1) -> (N,T,V)."""
    parts = []
    for start in range(0, len(tokens), CHUNK):
        part = slice(start, start + CHUNK)
        sinks = slice_selection(selection, part)
        batch = make_batch(cfg, tokens[part], sinks, params["wte"].dtype)
        logits, _ = model_forward(np, params, batch, cfg, keep=False)
        parts.append(logits.astype(np.float64))
    z = np.concatenate(parts)
    z -= z.max(axis=-1, keepdims=True)
    log_p: Floats = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return log_p


def guided_extraction(
    before: Floats, after: Floats, tokens: Tokens, w: float, n_prompt: int | None = None
) -> float:
    """Return the fraction of sequences that greedy decoding from both models continues correctly.

    As in `metrics.extracted`, one pass over the true tokens decides: both models read what was
    decoded, which is the truth until the first wrong token. `before` and `after` are (N,T,V).
    """
    likeliest = (after + w * (before - after)).argmax(axis=-1)
    return float(extracted(tokens, likeliest, n_prompt).mean())


def changed_sinks(before: Params, after: Params) -> Mask:
    """Select the sinks that differ between two files, which are those that a deletion erased."""
    pool = [name for name in before if name.endswith("sink.W_out")]
    differ = np.any([(before[name] != after[name]).any(axis=1) for name in pool], axis=0)
    return Mask(differ.astype(np.float32))
