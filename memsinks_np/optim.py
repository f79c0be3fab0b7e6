"""AdamW and SGD that leave a sink alone while it is off; schedule and clipping.

This is the only file that writes to parameters.  `init_state` moves all of them but the sinks into one vector, of
which they become views, so that a step updates that vector at once; a pool is updated row by row.
"""

from collections.abc import Callable
from itertools import accumulate
from math import cos, pi
from typing import Any

from memsinks_np.arrays import Array, Params, Xp
from memsinks_np.config import TrainConfig
from memsinks_np.crew import ALONE, Crew
from memsinks_np.sinks import Mask

MATRICES = ("wte", "wpe", "head", "W_QKV", "W_O", "W_in", "W_out")  # these decay
BLOCK = 1 << 15  # numbers
Pair = tuple[Array, Array]  # of the first and the second moment
Rule = Callable[..., None]  # adamw or sgd


def learning_rate(cfg: TrainConfig, step: int) -> float:
    """Linear warm-up to cfg.lr, then half a cosine down to a tenth of it, where step = cfg.steps."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    done = (step - cfg.warmup) / max(1, cfg.steps - cfg.warmup)
    return cfg.lr * (0.1 + 0.9 * 0.5 * (1 + cos(pi * done)))


def decays(name: str) -> bool:
    return name.split(".")[-1] in MATRICES


def job_of(name: str) -> int:
    """Which part of an update a parameter belongs to: 0 is all that is dense, then come the layers' pools."""
    return 1 + int(name.split(".")[0][1:]) if ".sink." in name else 0


def init_state(xp: Xp, params: Params, crew: Crew = ALONE) -> dict[str, Any]:
    """Moments and step counts, all zero.  From here on the dense parameters are views of state["vector"]["w"]."""
    dense = sorted((name for name in params if ".sink." not in name), key=decays, reverse=True)
    ends = list(accumulate(params[name].size for name in dense))
    parts = dict(zip(dense, map(slice, [0, *ends], ends), strict=False))
    like = xp.reshape(params[dense[0]], (-1,))[:1]
    vector = {key: xp.zeros_like(xp.broadcast_to(like, (ends[-1],))) for key in ("w", "g", "m", "v")}
    for name, part in parts.items():
        vector["w"][part] = xp.reshape(params[name], (-1,))
    vector["w"] = crew.shared(vector["w"])
    shapes = {name: params[name].shape for name in dense}
    params |= {name: xp.reshape(vector["w"][part], shapes[name]) for name, part in parts.items()}
    pools: dict[str, Params] = {}  # by layer: both moments by name, and how often every sink has been on
    for name in [name for name in params if ".sink." in name]:
        params[name] = w = crew.shared(params[name])
        layer = pools.setdefault(name.split(".")[0], {"n": xp.zeros_like(xp.reshape(w, (w.shape[0], -1))[:, 0])})
        layer[name] = (xp.zeros_like(w), xp.zeros_like(w))
    decaying = max([0, *(part.stop for name, part in parts.items() if decays(name))])
    blocks = [(part, True) for part in cut(0, decaying)] + [(part, False) for part in cut(decaying, ends[-1])]
    return {"n": 0, "vector": vector, "parts": parts, "blocks": blocks, "pools": pools}


def cut(start: int, stop: int) -> list[slice]:
    """From start to stop in blocks, so that all that a step reads and writes of one stays in a core's cache."""
    return [slice(i, min(i + BLOCK, stop)) for i in range(start, stop, BLOCK)]


def clipped(xp: Xp, grads: Params, limit: float, crew: Crew = ALONE) -> tuple[float, float]:
    """The global norm of all gradients, and the factor that brings it down to `limit` (Pascanu et al. 2013)."""
    mine: dict[int, Array] = {}
    for name, g in grads.items():
        values = xp.reshape(g[1] if isinstance(g, tuple) else g, (-1,))
        mine[job_of(name)] = mine.get(job_of(name), 0.0) + values @ values
    squares = {job: total for some in crew.exchange(mine) for job, total in some.items()}
    norm = float(sum(squares[job] for job in sorted(squares))) ** 0.5  # in one order, whoever owns which job
    return norm, min(1.0, limit / (norm + 1e-12))


def corrections(cfg: TrainConfig, n: Array) -> Pair:
    """What both moments are divided by at step n = 1, 2, ..., since they started at zero (Kingma & Ba 2015, sec. 3)."""
    b1, b2 = cfg.betas
    return 1 - b1**n, 1 - b2**n


def adamw(
    xp: Xp, w: Array, g: Array, moments: Pair, correction: Pair, cfg: TrainConfig, lr: float, decay: float
) -> None:
    """One AdamW step (Loshchilov & Hutter 2019, alg. 2), in place, in the order of Kingma & Ba 2015, end of sec. 2.

    `correction` is what `corrections` gives at this step; it may differ from row to row.
    """
    (m, v), (b1, b2), (first, second) = moments, cfg.betas, correction
    m *= b1
    m += (1 - b1) * g
    v *= b2
    v += (1 - b2) * (g * g)
    # lr (m / first) / (sqrt(v / second) + eps), times root / root
    root = second**0.5
    change = xp.sqrt(v)
    change += cfg.eps * root
    change = (lr * root / first) / change
    change *= m
    w *= 1 - lr * decay
    w -= change


def sgd(xp: Xp, w: Array, g: Array, moments: Pair, correction: Pair, cfg: TrainConfig, lr: float, decay: float) -> None:
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
) -> None:
    """One optimizer step along scale * grads, in place, for the parameters that grads names.

    A pool's gradient is row-sparse, (rows, values), and touches its rows alone: every other sink keeps weights and
    moments to the last bit, and its own step count for the bias correction.  (Where arrays cannot be indexed by
    rows, it is the Mask of the sinks that were on, (S,), and the full gradient.)  Under "adamw" the other rows take
    part with a gradient of zero, so momentum and weight decay go on moving them.
    """
    rule = sgd if cfg.optimizer == "sgd" else adamw
    state["n"] += 1

    def clip(g: Array) -> Array:
        return g if scale == 1.0 else scale * g

    def update_dense() -> None:
        """All of the vector at once, or some of its parts where others have no gradient."""
        named = [(name, part) for name, part in state["parts"].items() if name in grads]
        for name, part in named:
            state["vector"]["g"][part] = xp.reshape(grads[name], (-1,))
        whole = len(named) == len(state["parts"])
        correction = corrections(cfg, state["n"])
        for part, decaying in state["blocks"] if whole else [(part, decays(name)) for name, part in named]:
            w, g, m, v = (state["vector"][key][part] for key in ("w", "g", "m", "v"))
            rule(xp, w, clip(g), (m, v), correction, cfg, lr, cfg.weight_decay * decaying)

    def update_pool(layer: Params) -> None:
        """The rows that were on are taken out, updated and put back; a layer's arrays had the same ones."""
        names = [name for name in layer if name in grads]
        if not names:
            return
        whole = cfg.optimizer == "adamw"
        rows = None if whole else grads[names[0]][0]
        n = taken(xp, layer["n"], rows)
        n += 1
        put_back(xp, layer["n"], rows, n)
        correction = corrections(cfg, n)
        for name in names:
            w, (on, g) = params[name], grads[name]
            if whole and not isinstance(on, Mask):
                g = written_out(xp, w, on, g)
            arrays = (w, *layer[name])
            awake, m, v = (taken(xp, a, rows) for a in arrays)
            first, second = (column(xp, b, w) for b in correction)
            rule(xp, awake, clip(g), (m, v), (first, second), cfg, lr, cfg.weight_decay * decays(name))
            for array, changed in zip(arrays, (awake, m, v), strict=True):
                put_back(xp, array, rows, changed)

    for layer in state["pools"].values():
        update_pool(layer)
    update_dense()


def taken(xp: Xp, array: Array, rows: Array | Mask | None) -> Array:
    """A copy of some rows (under a Mask, of all), or for None the array itself."""
    if rows is None:
        return array
    return array + 0.0 if isinstance(rows, Mask) else xp.take(array, rows, axis=0)


def put_back(xp: Xp, array: Array, rows: Array | Mask | None, changed: Array) -> None:
    """Write what `taken` gave out, changed, to where it came from."""
    if isinstance(rows, Mask):
        array[...] = xp.where(column(xp, rows.value, array) > 0, changed, array)
    elif rows is not None:
        array[rows] = changed


def column(xp: Xp, x: Array, like: Array) -> Array:  # (S,) -> (S,) or (S,1)
    """One number for every row of an array that has as many dimensions as `like`."""
    return xp.reshape(x, (-1, *(1,) * (len(like.shape) - 1)))


def written_out(xp: Xp, like: Array, rows: Array, values: Array) -> Array:
    """A row-sparse gradient as a full array."""
    g = xp.zeros_like(like)
    g[rows] = values
    return g
