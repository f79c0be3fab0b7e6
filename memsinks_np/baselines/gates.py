"""Gates on the MLP neurons: their gradients, and hard-concrete gates that are learned.

A gate is a factor for one neuron, the same for every token: `post` becomes g * post. A network with
gates is the same network with other weights,

    (g * post) W_out = post (g[:, None] * W_out)            W_out'[j,c] = g_j W_out[j,c]

so the chain rule gives the gradient of the gates from that of the weights:

    dL/dg_j = sum_c dL/dW_out'[j,c] * W_out[j,c]

Hard-concrete gates (Louizos, Welling, Kingma 2018; the pruning of the paper's section 3) are
trained to close as long as the model still predicts the sequences. The gates that stay open mark
the neurons that the memory needs.

    s = sigmoid((log u - log(1-u) + a) / BETA)      u uniform noise, a one parameter per neuron
    g = s stretched to (LOW, HIGH), then clipped to [0, 1]: exactly 0 or 1 with some probability
    minimize  L(g) + penalty * mean P(g > 0),       P(g > 0) = sigmoid(a - BETA log(-LOW/HIGH))
"""

from collections.abc import Sequence
from math import log
from typing import Any, Literal

import numpy as np

from memsinks_np._internal.ids import Purpose, integers, uniform
from memsinks_np._internal.typing import Array, Cache, Floats, Params, Tokens, Xp
from memsinks_np.config import ModelConfig, TrainConfig, require
from memsinks_np.data.batches import make_batch, n_targets
from memsinks_np.metrics import CHUNK
from memsinks_np.model import loss_and_grads, token_loss
from memsinks_np.optim import adamw, bias_corrections
from memsinks_np.sinks import NO_SINKS

Objective = Literal["loss", "probability"]
BETA, LOW, HIGH = 2 / 3, -0.1, 1.1  # Louizos et al. 2018


# Algebra


def gated(params: Params, gates: Array) -> Params:  # (L,G)
    """Multiply the shared MLP neurons by gates: 1 changes nothing, 0 removes a neuron."""
    names = [f"h{layer}.mlp.W_out" for layer in range(len(gates))]
    return params | {name: gates[layer, :, None] * params[name] for layer, name in enumerate(names)}


def gate_grads(xp: Xp, params: Params, grads: Params) -> Array:  # -> (L,G)
    """Return the gradient of the gates from the gradients of the gated model."""
    n_layers = sum(name.endswith("mlp.W_out") for name in grads)
    names = [f"h{layer}.mlp.W_out" for layer in range(n_layers)]
    return xp.stack([xp.sum(grads[name] * params[name], axis=1) for name in names])


def known_and_grad(
    params: Params, cfg: ModelConfig, tokens: Tokens, gates: Any, objective: Objective = "loss"
) -> tuple[float, Floats]:
    """Return how well a gated model predicts the sequences, and the gates' gradient, (L,G).

    "loss" is minus the mean loss in nats per token; "probability" is the mean probability of the
    true next token. dP/dg = -P dnll/dg, so the second weights each token of the first by its P.
    """
    dtype = params["wte"].dtype
    model = gated(params, gates.astype(dtype))
    known, grad = 0.0, np.zeros(gates.shape)
    for start in range(0, len(tokens), CHUNK):
        part = tokens[start : start + CHUNK]
        fraction = n_targets(part) / n_targets(tokens)
        batch = make_batch(cfg, part, NO_SINKS, dtype, fraction)
        if objective == "probability":
            probability = np.exp(-token_loss(np, model, batch, cfg))
            batch = batch._replace(weights=batch.weights * probability)
        loss, grads = loss_and_grads(np, model, batch, cfg)
        known += float(batch.weights.sum() if objective == "probability" else -loss)
        grad -= gate_grads(np, params, grads)
    return known, grad


# Hard-concrete gates


def sigmoid(xp: Xp, x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return 0.5 + 0.5 * xp.tanh(0.5 * x)


def hard_concrete_forward(
    xp: Xp, a: Array, u: Array
) -> tuple[Array, Cache]:  # (L,G), (L,G) -> (L,G)
    """Return g = clip(LOW + (HIGH - LOW) s, 0, 1), s = sigmoid((log u - log(1-u) + a) / BETA)."""
    s = sigmoid(xp, (xp.log(u) - xp.log(1 - u) + a) / BETA)
    wide = LOW + (HIGH - LOW) * s
    g = xp.where(wide < 0, 0 * wide, xp.where(wide > 1, 0 * wide + 1, wide))
    return g, (s, wide)


def hard_concrete_backward(xp: Xp, dg: Array, cache: Cache) -> Array:  # (L,G) -> (L,G)
    s, wide = cache
    da = dg * (HIGH - LOW) * s * (1 - s) / BETA  # forward: wide is linear in s, ds/da = s(1-s)/BETA
    return xp.where((wide < 0) | (wide > 1), xp.zeros_like(da), da)  # forward: constant if clipped


def open_fraction_forward(xp: Xp, a: Array) -> tuple[Array, Cache]:  # (L,G) -> ()
    """Return the expected fraction of gates above 0: mean sigmoid(a - BETA log(-LOW/HIGH))."""
    q = sigmoid(xp, a - BETA * log(-LOW / HIGH))
    L, G = a.shape
    return xp.sum(q) / (L * G), q


def open_fraction_backward(xp: Xp, dy: Array, q: Cache) -> Array:  # () -> (L,G)
    L, G = q.shape
    return dy * q * (1 - q) / (L * G)


def learn(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    penalty: float = 1.0,
    iterations: Sequence[int] = (100,),
    lr: float = 0.1,
    start: float = 2.0,
    seed: int = 0,
) -> list[Floats]:
    """Learn gates by Adam; return sigmoid(a) as scores (L,G) after each number of iterations.

    A higher `penalty` (nats per token for all gates) closes more gates. All parameters a begin at
    `start`. Each iteration sees all sequences under one draw of noise. Raises ConfigError for a
    negative penalty.
    """
    require(penalty >= 0, f"penalty={penalty} is negative; open gates must not be rewarded")
    shape = (cfg.n_layers, cfg.n_shared)
    layer, neuron = integers(cfg.n_layers)[:, None], integers(cfg.n_shared)
    a, m, v = np.full(shape, float(start)), np.zeros(shape), np.zeros(shape)
    train = TrainConfig()
    scores = []
    for step in range(max(iterations)):
        u = uniform(Purpose.GATE_NOISE, seed, step, layer, neuron) + 2.0**-54  # never 0
        gates, c_gates = hard_concrete_forward(np, a, u)
        _, grad = known_and_grad(params, cfg, tokens, gates)  # of -L
        _, c_open = open_fraction_forward(np, a)
        da = hard_concrete_backward(np, -grad, c_gates)
        da = da + open_fraction_backward(np, penalty, c_open)
        adamw(np, a, da, (m, v), bias_corrections(train, step + 1), train, lr, 0.0)
        if step + 1 in iterations:
            scores.append(sigmoid(np, a))
    return scores
