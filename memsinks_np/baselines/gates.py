"""Hard-Concrete gates (Louizos, Welling, Kingma 2018; the pruning of the paper's section 3): closed one by one for as
long as the sequences are still known, so that those left open are the neurons that the memory needs.

    s = sigmoid((log u - log(1-u) + a) / beta)      u uniform noise, a one learnt number per neuron
    g = s stretched to (LOW, HIGH), then clip_scale to [0, 1]: closed or open with positive probability
    minimize  L(g) + penalty * mean P(g > 0),       P(g > 0) = sigmoid(a - beta log(-LOW/HIGH))
"""

from math import log
from typing import Any

import numpy as np

from memsinks_np._internal.ids import uniform
from memsinks_np._internal.typing import Array, Cache, Xp
from memsinks_np.baselines.localize import Scores, remembered
from memsinks_np.config import ModelConfig, TrainConfig, require
from memsinks_np.metrics import Tokens
from memsinks_np.optim import adamw, bias_corrections
from memsinks_np.sinks import Params

BETA, LOW, HIGH = 2 / 3, -0.1, 1.1  # Louizos et al. 2018
NOISE = 302  # salt of u


def sigmoid(xp: Xp, x: Array) -> Array:
    return 0.5 + 0.5 * xp.tanh(0.5 * x)  # 1 / (1 + exp(-x)), and nothing overflows


def hard_concrete_forward(
    xp: Xp, a: Array, u: Array
) -> tuple[Array, Cache]:  # (L,G), (L,G) -> (L,G)
    """g = clip(LOW + (HIGH - LOW) s, 0, 1), s = sigmoid((log u - log(1-u) + a) / beta); u is data."""
    s = sigmoid(xp, (xp.log(u) - xp.log(1 - u) + a) / BETA)
    wide = LOW + (HIGH - LOW) * s
    g = xp.where(wide < 0, 0 * wide, xp.where(wide > 1, 0 * wide + 1, wide))
    return g, (s, wide)


def hard_concrete_backward(xp: Xp, dg: Array, cache: Cache) -> Array:  # (L,G) -> (L,G)
    s, wide = cache
    da = (
        dg * (HIGH - LOW) * s * (1 - s) / BETA
    )  # forward: wide = LOW + (HIGH - LOW) s, where ds/da = s (1-s) / beta
    return xp.where(
        (wide < 0) | (wide > 1), xp.zeros_like(da), da
    )  # forward: clip_scale, so constant, outside


def open_share_forward(xp: Xp, a: Array) -> tuple[Array, Cache]:  # (L,G) -> ()
    """The expected share of gates that are not closed: mean sigmoid(a - beta log(-LOW/HIGH))."""
    q = sigmoid(xp, a - BETA * log(-LOW / HIGH))
    L, G = a.shape
    return xp.sum(q) / (L * G), q


def open_share_backward(xp: Xp, dy: Array, q: Cache) -> Array:  # () -> (L,G)
    L, G = q.shape
    return dy * q * (1 - q) / (L * G)


def learn(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    penalty: float = 1.0,
    keep: Any = (100,),
    lr: float = 0.1,
    start: float = 2.0,
    seed: int = 0,
) -> list[Scores]:
    """Learn gates on the sequences by Adam; returns the scores sigmoid(a) after each number of iterations in `keep`.

    The higher the `penalty` (nats per word for all gates), the fewer gates stay open.  All `start` equally open; an
    iteration sees all sequences under one draw of noise for each gate.
    """
    require(penalty >= 0, f"penalty={penalty} is negative; open gates must not be rewarded")
    shape = (cfg.n_layers, cfg.n_shared)
    layer, neuron = np.arange(cfg.n_layers)[:, None], np.arange(cfg.n_shared)
    a, m, v = np.full(shape, float(start)), np.zeros(shape), np.zeros(shape)
    rule, found = TrainConfig(), []
    for step in range(max(keep)):
        u = uniform(NOISE, seed, step, layer, neuron) + 2.0**-54  # never 0
        gates, c_gates = hard_concrete_forward(np, a, u)
        _, slope = remembered(params, cfg, tokens, gates)  # of -L
        _, c_open = open_share_forward(np, a)
        da = hard_concrete_backward(np, -slope, c_gates) + open_share_backward(np, penalty, c_open)
        adamw(np, a, da, (m, v), bias_corrections(rule, step + 1), rule, lr, 0.0)
        if step + 1 in keep:
            found.append(sigmoid(np, a))
    return found
