"""Memorization sinks (Ghosal, Maini, Raghunathan, ICML 2025, section 5): the paper, in one file.

Beside its G shared neurons every MLP has a pool of S sinks, and a sequence's ID switches on A of them:

    y = mlp(x) + sink(x; the sinks that are on)

1. IDs -> which sinks are on (a *selection*: host integers, data without a gradient).
2. The sinks' forward and backward, twice: `masked_*` is the definition, `gathered_*` computes only what is on.
3. What the pool is for: `prune` drops it, `delete` erases the sinks of chosen sequences.

The network never knows whether it trains, is evaluated or has been pruned: it is handed a selection, a tuple
with one entry per layer, each `Rows` (the sinks that are on), a `Mask` (a factor for every sink) or None.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np.arrays import Array, Cache, Xp
from memsinks_np.arrays import Params as Params
from memsinks_np.config import SinkConfig
from memsinks_np.ids import check_ids, mix, uniform
from memsinks_np.ops import flip, gelu_backward, gelu_forward, rows, sum_rows
from memsinks_np.released_hash import released_mask

PLACEBO = 0x5EED  # salt of the IDs that no sequence ever has


class Rows(NamedTuple):
    """The sinks that are on, for each sequence: distinct row numbers of the pool."""

    index: Array  # (B,A) integers


class Mask(NamedTuple):
    """A factor for every sink of the pool: 1 is on, 0 is off."""

    value: Array  # (B,S), or (1,S) for all sequences alike, or (B,T,S) for every token its own (packing.py)


Selected = Rows | Mask | None  # of one layer
Selection = tuple[Selected, ...]


# 1. From sequence IDs to sinks


def active(cfg: SinkConfig, ids: Any, layer: int = 0) -> NDArray[np.int64]:
    """The A sinks that each ID owns, (B,) -> (B,A): a pure function of (seed, layer, ID).

    "stratified" cuts the pool into A strata and lets the ID draw one sink from each: exactly A, all distinct,
    and two IDs share A*A/S of them on average.  "disjoint" cuts it into S/A slices and gives ID i the slice
    i mod S/A: no overlap until the slices are used up.
    """
    S, A = cfg.n_sink, cfg.n_active
    salt, i, a = layer if cfg.per_layer else 0, check_ids(ids)[:, None], np.arange(A)
    if cfg.scheme == "disjoint":
        return i % (S // A) * A + a
    draw = mix(cfg.seed, salt, i, a) % np.uint64(S // A)
    return a * (S // A) + draw.astype(np.int64)


def mask_of(cfg: SinkConfig, ids: Any, layer: int = 0) -> NDArray[np.float32]:
    """The same choice as a mask, (B,) -> (B,S) of 0.0 and 1.0.  What is drawn by chance has only this form.

    "bernoulli" draws every sink with probability p; "released" is an exhibit (released_hash.py), without a seed.
    """
    ids = check_ids(ids)
    if cfg.scheme == "released":
        return released_mask(ids, cfg.n_sink, cfg.p)
    if cfg.scheme == "bernoulli":
        salt = layer if cfg.per_layer else 0
        return (uniform(cfg.seed, salt, ids[:, None], np.arange(cfg.n_sink)) < cfg.p).astype(np.float32)
    mask = np.zeros((len(ids), cfg.n_sink), np.float32)
    np.put_along_axis(mask, active(cfg, ids, layer), 1.0, axis=1)
    return mask


def own(cfg: SinkConfig | None, ids: Any, n_layers: int) -> Selection:
    """Selection: every sequence with the sinks that its ID owns.  Training uses this one."""
    if cfg is None:
        return none(n_layers)

    def choose(layer: int) -> Rows | Mask:
        return Mask(mask_of(cfg, ids, layer)) if cfg.by_chance else Rows(active(cfg, ids, layer))

    if cfg.per_layer:
        return tuple(choose(layer) for layer in range(n_layers))
    return (choose(0),) * n_layers


def none(n_layers: int) -> Selection:
    """Selection: no sinks at all, as after `prune`."""
    return (None,) * n_layers


def everything(cfg: SinkConfig, n_layers: int) -> Selection:
    """Selection: all sinks, scaled by the density A/S so that the expected sum is that of training."""
    return (Mask(np.full((1, cfg.n_sink), cfg.density, np.float32)),) * n_layers


def placebo(cfg: SinkConfig | None, ids: Any, n_layers: int) -> Selection:
    """Selection: the sinks of IDs that were never used, one for each of `ids`."""
    unused = mix(PLACEBO, check_ids(ids)).view(np.int64)
    return own(cfg, unused, n_layers)


def without(cfg: SinkConfig, ids: Any, deleted: Any, n_layers: int) -> Selection:
    """Selection: every sequence's own sinks, minus those of the `deleted` IDs."""

    def choose(layer: int) -> Mask:
        gone = mask_of(cfg, deleted, layer).max(axis=0, initial=0)
        return Mask(mask_of(cfg, ids, layer) * (1 - gone))

    return tuple(choose(layer) for layer in range(n_layers))


# 2. The sinks' forward and backward: W_in (S,C), b_in (S,), W_out (S,C), one row per sink


def masked_sink_forward(xp: Xp, x: Array, mask: Array, W_in: Array, b_in: Array, W_out: Array) -> tuple[Array, Cache]:
    # (B,T,C), (B,S) or (B,T,S), ... -> (B,T,C)
    """y = (mask * gelu(x W_in^T + b_in)) W_out: the definition (mask after GELU, before the down projection)."""
    pre = x @ W_in.T + b_in  # (B,T,S)
    post, c_act = gelu_forward(xp, pre)
    mask = mask if len(mask.shape) == 3 else mask[:, None, :]  # one for a sequence holds at all of its positions
    kept = post * mask  # <- this line is the paper
    return kept @ W_out, (x, mask, W_in, W_out, c_act, kept)


def masked_sink_backward(xp: Xp, dy: Array, cache: Cache) -> tuple[Array, ...]:  # (B,T,C) -> dx, dW_in, db_in, dW_out
    x, mask, W_in, W_out, c_act, kept = cache
    dW_out = rows(xp, kept).T @ rows(xp, dy)  # forward: y = kept @ W_out
    dpost = (dy @ W_out.T) * mask  # <- and this is its consequence: off is zero
    dpre = gelu_backward(xp, dpost, c_act)
    dW_in = rows(xp, dpre).T @ rows(xp, x)
    return dpre @ W_in, dW_in, sum_rows(xp, dpre), dW_out


def gathered_sink_forward(
    xp: Xp, x: Array, index: Array, W_in: Array, b_in: Array, W_out: Array
) -> tuple[Array, Cache]:  # (B,T,C), (B,A), ... -> (B,T,C)
    """The same y from the rows that are on alone: the cost does not grow with the pool."""
    w_in, b, w_out = (xp.take(w, index, axis=0) for w in (W_in, b_in, W_out))  # (B,A,C), (B,A), (B,A,C)
    pre = x @ flip(xp, w_in)  # (B,T,A)
    pre += b[:, None, :]
    post, c_act = gelu_forward(xp, pre)
    return post @ w_out, (x, index, w_in, w_out, c_act, post)


def gathered_sink_backward(xp: Xp, dy: Array, cache: Cache) -> tuple[Array, ...]:
    # (B,T,C) -> dx, and three row-sparse gradients (index, rows)
    x, index, w_in, w_out, c_act, post = cache
    dw_out = flip(xp, post) @ dy  # (B,A,C)
    dpre = gelu_backward(xp, dy @ flip(xp, w_out), c_act)
    dw_in = flip(xp, dpre) @ x
    return dpre @ w_in, (index, dw_in), (index, xp.sum(dpre, axis=1)), (index, dw_out)


def coalesce(xp: Xp, index: Array, values: list[Array]) -> tuple[Array, list[Array]]:
    # (B,A), [(B,A,...), ...] -> (U,), [(U,...), ...]
    """Row-sparse gradients with every row once: sinks that several sequences share collect from all of them."""
    unique, first, place = xp.unique(index, return_index=True, return_inverse=True)
    later = xp.ones(index.size, dtype=bool)
    later[first] = False
    (again,) = xp.nonzero(later)  # what is not the first of its row is added to it
    place = xp.take(place.ravel(), again)
    sums, at = [], {}
    for v in values:
        shape, v = v.shape, v.reshape(index.size, -1)
        width = v.shape[1]
        if width not in at:  # flat: `add.at` is four times faster so than by rows
            at[width] = (place[:, None] * width + xp.arange(width)).ravel()
        total = xp.take(v, first, axis=0)
        xp.add.at(total.reshape(-1), at[width], xp.take(v, again, axis=0).ravel())
        sums.append(total.reshape(-1, *shape[2:]))
    return unique, sums


def sink_forward(xp: Xp, x: Array, selected: Rows | Mask, *w: Array) -> tuple[Array, Cache]:
    """The pair that the selection asks for."""
    if isinstance(selected, Rows):
        y, cache = gathered_sink_forward(xp, x, selected.index, *w)
        return y, (gathered_sink_backward, cache)
    y, cache = masked_sink_forward(xp, x, selected.value, *w)
    return y, (masked_sink_backward, cache)


def sink_backward(xp: Xp, dy: Array, cache: Cache) -> tuple[Array, ...]:
    backward, c_sink = cache
    grads: tuple[Array, ...] = backward(xp, dy, c_sink)
    return grads


# 3. What the pool is for


def prune(params: Params) -> Params:
    """Drop the pool: what remains is an ordinary transformer, equal to the one with every sink off."""
    return {name: w for name, w in params.items() if ".sink." not in name}


def delete(params: Params, cfg: SinkConfig, ids: Any) -> Params:
    """Erase the sinks that `ids` own: their rows become zero, in new arrays (W_in too, not only W_out).

    Everything that other sequences had stored in the same sinks goes with them.
    """
    params = dict(params)
    for name in [n for n in params if ".sink." in n]:
        layer = int(name.split(".")[0][1:])
        gone = mask_of(cfg, ids, layer).any(axis=0)
        params[name] = params[name].copy()
        params[name][gone] = 0
    return params
