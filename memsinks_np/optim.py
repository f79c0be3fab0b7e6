"""AdamW and SGD that leave a sink alone while it is off; schedule and clipping.

This is the only file that writes to parameters: `update` changes `params` and `state` in place.
"""

from math import cos, pi
from typing import Any

import numpy as np

from memsinks_np.config import TrainConfig
from memsinks_np.sinks import Params

MATRICES = ("wte", "wpe", "head", "W_Q", "W_K", "W_V", "W_O", "W_in", "W_out")


def learning_rate(cfg: TrainConfig, step: int) -> float:
    """Linear warm-up to cfg.lr, then half a cosine down to a tenth of it at the last step."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    done = (step - cfg.warmup) / max(1, cfg.steps - cfg.warmup)
    return cfg.lr * (0.1 + 0.9 * 0.5 * (1 + cos(pi * done)))


def init_state(params: Params) -> dict[str, Params]:
    """First and second moments, and how often each array (of the sinks: each row) has been updated."""
    return {
        "m": {name: np.zeros_like(w) for name, w in params.items()},
        "v": {name: np.zeros_like(w) for name, w in params.items()},
        "n": {name: np.zeros(len(w) if ".sink." in name else 1, w.dtype) for name, w in params.items()},
    }


def clip(xp: Any, grads: Params, limit: float) -> tuple[Params, Any]:
    """Scale all gradients so that their global norm is at most `limit` (Pascanu et al. 2013); returns the old norm."""
    values = [g[1] if isinstance(g, tuple) else g for g in grads.values()]
    norm = sum(xp.sum(g * g) for g in values) ** 0.5
    scale = min(1.0, limit / (float(norm) + 1e-12))
    if scale < 1.0:
        grads = {name: (g[0], g[1] * scale) if isinstance(g, tuple) else g * scale for name, g in grads.items()}
    return grads, norm


def adamw(xp, w, g, m, v, n, cfg, lr, decay):
    """One AdamW step (Loshchilov & Hutter 2019, alg. 2); `n` counts the updates, per row where it is a column."""
    b1, b2 = cfg.betas
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * (g * g)
    change = (m / (1 - b1**n)) / (xp.sqrt(v / (1 - b2**n)) + cfg.eps)
    return w * (1 - lr * decay) - lr * change, m, v


def update(xp: Any, params: Params, grads: Params, state: dict[str, Params], cfg: TrainConfig, lr: float) -> None:
    """One optimizer step, in place.

    A row-sparse gradient (rows, values) touches its rows alone under "lazy_adamw" and "sgd": every other row
    keeps weights and moments to the last bit, and counts its own steps for the bias correction.  Under "adamw" the
    other rows have a gradient of zero, so momentum and weight decay go on moving them.
    """
    for name, g in grads.items():
        at: Any = ...
        if isinstance(g, tuple):
            at, g = g
            if cfg.optimizer == "adamw":
                at, g = ..., dense(params[name], at, g)
        decay = cfg.weight_decay if name.split(".")[-1] in MATRICES else 0.0
        w, m, v, n = params[name], state["m"][name], state["v"][name], state["n"][name]
        if cfg.optimizer == "sgd":
            w[at] -= lr * (g + decay * w[at])
            continue
        count = n[at] = n[at] + 1
        count = count.reshape(-1, *(1,) * (w.ndim - 1)) if len(n) > 1 else count
        w[at], m[at], v[at] = adamw(xp, w[at], g, m[at], v[at], count, cfg, lr, decay)


def dense(like: Any, rows: Any, values: Any) -> Any:
    """A row-sparse gradient, written out."""
    g = np.zeros_like(like)
    g[rows] = values
    return g
