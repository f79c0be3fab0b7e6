"""AdamW and SGD that leave inactive sinks untouched, the learning-rate schedule, clipping.

This is the only file that writes to parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

from memsinks_np._internal.typing import Array, Params, Xp
from memsinks_np.config import TrainConfig
from memsinks_np.sinks import RowGrad, is_sink

Pair = tuple[Array, Array]  # for the first and the second moment
Rule = Callable[..., None]  # adamw or sgd


@dataclass
class OptimState:
    """Moments of every parameter, and the number of updates that the bias correction needs."""

    moments: dict[str, Pair]
    step: int  # of the dense parameters
    sink_steps: Array  # (S,) updates of each sink; all layers have the same active sinks


def learning_rate(cfg: TrainConfig, step: int) -> float:
    """Return the rate: linear warm-up to cfg.lr, then cosine decay to a tenth of it."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    done = (step - cfg.warmup) / max(1, cfg.steps - cfg.warmup)
    return cfg.lr * (0.1 + 0.9 * 0.5 * (1 + cos(pi * done)))


def has_weight_decay(w: Array) -> bool:
    """Return whether weight decay applies to a parameter: to every matrix, to no vector."""
    return len(w.shape) > 1


def init_state(xp: Xp, params: Params) -> OptimState:
    """Return zero moments and counts."""
    moments = {name: (xp.zeros_like(w), xp.zeros_like(w)) for name, w in params.items()}
    pool = [w for name, w in params.items() if name.endswith("sink.b_in")]
    return OptimState(moments, 0, xp.zeros_like(pool[0]) if pool else None)


def clip_scale(xp: Xp, grads: Params, limit: float) -> tuple[float, float]:
    """Return the global gradient norm and the factor that clips it to `limit`.

    Pascanu et al. 2013.
    """
    values = [xp.reshape(g.values if isinstance(g, RowGrad) else g, (-1,)) for g in grads.values()]
    norm = sum(float(v @ v) for v in values) ** 0.5
    return norm, min(1.0, limit / (norm + 1e-12))


def bias_corrections(cfg: TrainConfig, n: Array) -> Pair:
    """Return 1 - beta^n for both moments, which start at zero (Kingma & Ba 2015, section 3)."""
    b1, b2 = cfg.betas
    return 1 - b1**n, 1 - b2**n


def adamw(
    xp: Xp,
    w: Array,
    g: Array,
    moments: Pair,
    correction: Pair,
    cfg: TrainConfig,
    lr: float,
    decay: float,
) -> None:
    """Take one AdamW step in place (Loshchilov & Hutter 2019, alg. 2).

    `correction` is what `bias_corrections` returns; it may differ from row to row.
    """
    (m, v), (b1, b2), (first, second) = moments, cfg.betas, correction
    m *= b1
    m += (1 - b1) * g
    v *= b2
    v += (1 - b2) * (g * g)
    # lr (m / first) / (sqrt(v / second) + eps), with both divisions done once (Kingma & Ba, sec. 2)
    root = second**0.5
    change = xp.sqrt(v)
    change += cfg.eps * root
    change = (lr * root / first) / change
    change *= m
    w *= 1 - lr * decay
    w -= change


def sgd(
    xp: Xp,
    w: Array,
    g: Array,
    moments: Pair,
    correction: Pair,
    cfg: TrainConfig,
    lr: float,
    decay: float,
) -> None:
    """Take one step of gradient descent with the same weight decay, in place."""
    w *= 1 - lr * decay
    w -= lr * g


def update(
    xp: Xp,
    params: Params,
    grads: Params,
    state: OptimState,
    cfg: TrainConfig,
    lr: float,
    scale: float = 1.0,
) -> None:
    """Take one optimizer step along scale * grads, in place, for the parameters in `grads`.

    A sink's gradient is a RowGrad with each row once. Only its rows change: all other sinks keep
    weights and moments to the last bit, and each sink has its own step count for the bias
    correction. Under "adamw" the other rows take part with a gradient of zero, so momentum and
    weight decay keep moving them.
    """
    rule: Rule = sgd if cfg.optimizer == "sgd" else adamw
    state.step += 1
    dense = bias_corrections(cfg, state.step)
    sinks = [name for name in grads if is_sink(name)]
    if sinks:
        rows = slice(None) if cfg.optimizer == "adamw" else grads[sinks[0]].rows
        state.sink_steps[rows] += 1
        sparse = bias_corrections(cfg, state.sink_steps[rows])
    for name, g in grads.items():
        w = params[name]
        decay = cfg.weight_decay * has_weight_decay(w)
        if not is_sink(name):
            rule(xp, w, scale * g, state.moments[name], dense, cfg, lr, decay)
            continue
        correction = (broadcast_rows(xp, sparse[0], w), broadcast_rows(xp, sparse[1], w))
        if cfg.optimizer == "adamw":
            g = RowGrad(slice(None), densify(xp, w, g))
        arrays = (w, *state.moments[name])
        active, m, v = (gather_rows(xp, a, g.rows) for a in arrays)
        rule(xp, active, scale * g.values, (m, v), correction, cfg, lr, decay)
        for array, changed in zip(arrays, (active, m, v), strict=True):
            array[g.rows] = changed


def gather_rows(xp: Xp, array: Array, rows: Array | slice) -> Array:
    """Return a copy of some rows; for a slice, a view."""
    return array[rows] if isinstance(rows, slice) else xp.take(array, rows, axis=0)


def broadcast_rows(xp: Xp, x: Array, like: Array) -> Array:  # (S,) -> (S,) or (S,1)
    """Reshape one number per row so that it broadcasts against `like`."""
    return xp.reshape(x, (-1, *(1,) * (len(like.shape) - 1)))


def densify(xp: Xp, like: Array, grad: RowGrad) -> Array:
    """Return a row-sparse gradient as a full array."""
    g = xp.zeros_like(like)
    g[grad.rows] = grad.values
    return g
