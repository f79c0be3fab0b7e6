"""Losses under any selection of sinks, extraction, and the numbers that compare arms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsinks_np.config import ModelConfig
from memsinks_np.model import make_batch, model_forward
from memsinks_np.ops import cross_entropy_forward
from memsinks_np.sinks import Mask, Params, Rows

CHUNK = 32  # sequences per forward pass


def take(selection: tuple, part: slice) -> tuple:
    """The entries of a selection for some of its sequences."""

    def cut(s: Any) -> Any:
        if s is None or (isinstance(s, Mask) and len(s.value) == 1):
            return s
        return type(s)(s[0][part])

    return tuple(cut(s) for s in selection)


def evaluate(params: Params, cfg: ModelConfig, tokens: NDArray[np.int64], selection: tuple) -> tuple[Any, Any]:
    """(N,T+1) tokens and a selection -> loss of every word in nats, and whether the likeliest word is right, (N,T)."""
    nll, hit = [], []
    for start in range(0, len(tokens), CHUNK):
        part = slice(start, start + CHUNK)
        batch = make_batch(cfg, tokens[part], take(selection, part), params["wte"].dtype)
        logits, _ = model_forward(np, params, batch, cfg)
        nll.append(cross_entropy_forward(np, logits, batch.targets)[0])
        hit.append(logits.argmax(axis=-1) == tokens[part, 1:])
    return np.concatenate(nll), np.concatenate(hit)
