"""AdamW and SGD that leave a sink alone while it is off; schedule and clipping.

This is the only file that writes to parameters.  `init_state` moves all of them but the sinks into one vector, of
which they become views, so that a step updates that vector at once; a pool is updated row by row.
"""

from collections.abc import Callable, Iterable
from functools import partial
from math import cos, pi
from typing import Any

from memsinks_np.arrays import Array, Params, Xp
from memsinks_np.config import TrainConfig
from memsinks_np.sinks import Mask

MATRICES = ("wte", "wpe", "head", "W_QKV", "W_O", "W_in", "W_out")  # these decay
Rule = Callable[..., None]  # adamw or sgd
Run = Callable[..., Iterable[Any]]  # map over parts or pools, in this thread or in several


def learning_rate(cfg: TrainConfig, step: int) -> float:
    """Linear warm-up to cfg.lr, then half a cosine down to a tenth of it at the last step."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    done = (step - cfg.warmup) / max(1, cfg.steps - cfg.warmup)
    return cfg.lr * (0.1 + 0.9 * 0.5 * (1 + cos(pi * done)))


def decays(name: str) -> bool:
    return name.split(".")[-1] in MATRICES


def init_state(xp: Xp, params: Params) -> dict[str, Any]:
    """Moments and step counts, all zero.  From here on the dense parameters are views of state["vector"]["w"]."""
    dense = [name for name in params if ".sink." not in name]
    size = sum(params[name].size for name in dense)
    like = xp.reshape(params[dense[0]], (-1,))[:1]
    vector = {key: xp.zeros_like(xp.broadcast_to(like, (size,))) for key in ("w", "g", "m", "v", "decay")}
    views: Params = {}
    start = 0
    for name in dense:
        part = slice(start, start + params[name].size)
        vector["w"][part] = xp.reshape(params[name], (-1,))
        vector["decay"][part] = float(decays(name))
        params[name] = xp.reshape(vector["w"][part], params[name].shape)
        views[name] = xp.reshape(vector["g"][part], params[name].shape)
        start = part.stop
    pools: dict[str, dict[str, Params]] = {}  # by layer, then by name
    for name in [name for name in params if ".sink." in name]:
        w = params[name]
        ones = (1,) * (len(w.shape) - 1)
        count = xp.zeros_like(w[:, :1] if ones else w)
        layer = pools.setdefault(name.split(".")[0], {})
        layer[name] = {"m": xp.zeros_like(w), "v": xp.zeros_like(w), "n": count}
    return {"n": 0, "vector": vector, "gradient": views, "pools": pools}


def clipped(xp: Xp, grads: Params, limit: float) -> tuple[float, float]:
    """The global norm of all gradients, and the factor that brings it down to `limit` (Pascanu et al. 2013)."""
    values = [g[1] if isinstance(g, tuple) else g for g in grads.values()]
    norm = float(sum(xp.sum(g * g) for g in values)) ** 0.5
    return norm, min(1.0, limit / (norm + 1e-12))


def adamw(xp: Xp, w: Array, g: Array, m: Array, v: Array, n: Array, cfg: TrainConfig, lr: float, decay: Array) -> None:
    """One AdamW step (Loshchilov & Hutter 2019, alg. 2), in place.

    `n` counts the steps including this one, `decay` is the weight decay; both may differ from row to row.
    """
    b1, b2 = cfg.betas
    m *= b1
    m += (1 - b1) * g
    v *= b2
    v += (1 - b2) * (g * g)
    size = xp.sqrt(v / (1 - b2**n))
    size += cfg.eps
    change = m / size
    change *= lr / (1 - b1**n)
    w *= 1 - lr * decay
    w -= change


def sgd(xp: Xp, w: Array, g: Array, m: Array, v: Array, n: Array, cfg: TrainConfig, lr: float, decay: Array) -> None:
    """One step of gradient descent with the same weight decay, in place; the moments stay zero."""
    w *= 1 - lr * decay
    w -= lr * g


def update(
    xp: Xp,
    params: Params,
    grads: Params,
    state: dict[str, Any],
    cfg: TrainConfig,
    lr: float,
    scale: float = 1.0,
    run: Run = map,
) -> None:
    """One optimizer step along scale * grads, in place.

    `run` maps over the jobs, a layer's pool each and all that is dense, in one thread or in several.

    A pool's gradient is row-sparse, (rows, values), and touches its rows alone: every other sink keeps weights and
    moments to the last bit, and its own step count for the bias correction.  (Where arrays cannot be indexed by
    rows, it is the Mask of the sinks that were on, (S,), and the full gradient.)  Under "adamw" the other rows take
    part with a gradient of zero, so momentum and weight decay go on moving them.
    """
    rule = sgd if cfg.optimizer == "sgd" else adamw
    state["n"] += 1

    def update_dense() -> None:
        dense = state["vector"]
        for name, place in state["gradient"].items():
            place[...] = grads[name]
        dense["g"] *= scale
        decay = cfg.weight_decay * dense["decay"]
        rule(xp, dense["w"], dense["g"], dense["m"], dense["v"], state["n"], cfg, lr, decay)

    def update_layer(pools: dict[str, Params]) -> None:
        for name, pool in pools.items():
            if name in grads:
                decay = cfg.weight_decay * decays(name)
                update_pool(xp, params[name], grads[name], pool, rule, cfg, lr, decay, scale)

    jobs = [partial(update_layer, pools) for pools in state["pools"].values()]
    list(run(lambda job: job(), [*jobs, update_dense]))


def update_pool(
    xp: Xp, w: Array, grad: Array, pool: Params, rule: Rule, cfg: TrainConfig, lr: float, decay: float, scale: float
) -> None:
    """One step for the rows of a pool that were on, in place: taken out, updated, put back."""
    rows, g = grad
    arrays = [w, pool["m"], pool["v"], pool["n"]]
    masked = isinstance(rows, Mask)
    if cfg.optimizer == "adamw":
        on, g = arrays, g if masked else written_out(xp, w, rows, g)
    else:
        on = [a + 0.0 if masked else xp.take(a, rows, axis=0) for a in arrays]
    on[3][...] += 1
    rule(xp, on[0], scale * g, *on[1:], cfg, lr, decay)
    if on is arrays:
        return
    for array, changed in zip(arrays, on, strict=True):
        if masked:
            awake = xp.reshape(rows.value, (-1, *(1,) * (len(array.shape) - 1))) > 0
            array[...] = xp.where(awake, changed, array)
        else:
            array[rows] = changed


def written_out(xp: Xp, like: Array, rows: Array, values: Array) -> Array:
    """A row-sparse gradient as a full array."""
    g = xp.zeros_like(like)
    g[rows] = values
    return g
