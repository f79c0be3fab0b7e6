"""Memorization sinks (Ghosal, Maini, Raghunathan, ICML 2025, section 5): the paper in one file.

Each MLP has G shared neurons and a pool of S sinks. A sequence's ID activates A of the sinks:

    y = mlp(x) + sink(x; active sinks)

1. IDs -> active sinks: a *selection*, host integers without a gradient.
2. The sinks' forward and backward, twice: `masked_*` is the definition, `gathered_*` computes only
   the active sinks.
3. What the pool is for: `prune` drops it, `delete` erases the sinks of chosen sequences.

The network does not know whether it is being trained, evaluated or has been pruned. It is given a
selection, the same for every layer (paper, App. I): `Rows` (the active sinks), a `Mask` (one
factor per sink), or None (no sinks).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.ids import Purpose, hash_ints, integers, uniform, validate_ids
from memsinks_np._internal.released_hash import released_mask
from memsinks_np._internal.typing import Array, Cache, Params, Xp
from memsinks_np.config import SinkConfig
from memsinks_np.ops import flatten_positions, gelu_backward, gelu_forward, sum_rows, transpose

SINK = ("sink.W_in", "sink.b_in", "sink.W_out")  # a layer's sink parameters, without its prefix


class Rows(NamedTuple):
    """The active sinks of each sequence: distinct rows of the pool."""

    index: Array  # (B,A) integers


class Mask(NamedTuple):
    """One factor per sink of the pool: 1 is active, 0 is not."""

    value: Array  # (B,S); (S,) for all sequences; (B,T,S) for each token (data/batches.py)


Selection = Rows | Mask | None
NO_SINKS: Selection = None  # the selection of a pruned model


class RowGrad(NamedTuple):
    """Gradient of an array of which only some rows took part; it is zero in all others."""

    rows: Array  # (B,A) with repetitions, or (U,) unique rows after `coalesce`
    values: Array  # (B,A,...) or (U,...)


# 1. From sequence IDs to sinks


def active(cfg: SinkConfig, ids: Any) -> NDArray[np.int64]:  # (B,) -> (B,A)
    """Return the A sinks of each ID: a pure function of (seed, ID).

    "stratified" splits the pool into A strata, and the ID draws one sink from each: exactly A, all
    distinct, and two IDs share A*A/S of them on average. "disjoint" splits the pool into S/A slices
    and gives ID i the slice i mod S/A: consecutive IDs share nothing until the slices are used up.
    """
    S, A = cfg.n_sink, cfg.n_active
    i, a = validate_ids(ids)[:, None], integers(A)
    if cfg.scheme == "disjoint":
        return i % (S // A) * A + a
    draw = hash_ints(cfg.seed, 0, i, a) % np.uint64(S // A)  # 0: no layer, they are all the same
    return a * (S // A) + draw.astype(np.int64)


def sink_mask(cfg: SinkConfig, ids: Any) -> NDArray[np.float32]:  # (B,) -> (B,S)
    """Return the same choice as a mask of 0.0 and 1.0. Random schemes have only this form.

    "bernoulli" activates each sink with probability p; "released" is the hash of the paper's
    released code (released_hash.py), without a seed.
    """
    ids = validate_ids(ids)
    if cfg.scheme == "released":
        return released_mask(ids, cfg.n_sink, cfg.p)
    if cfg.scheme == "bernoulli":
        draw = uniform(cfg.seed, 0, ids[:, None], integers(cfg.n_sink))
        return (draw < cfg.p).astype(np.float32)
    mask = np.zeros((len(ids), cfg.n_sink), np.float32)
    np.put_along_axis(mask, active(cfg, ids), 1.0, axis=1)
    return mask


def own(cfg: SinkConfig | None, ids: Any) -> Selection:
    """Select for each sequence the sinks of its ID, as in training. None without a pool."""
    if cfg is None:
        return NO_SINKS
    return Mask(sink_mask(cfg, ids)) if cfg.is_random else Rows(active(cfg, ids))


def all_scaled(cfg: SinkConfig | None) -> Selection:
    """Select all sinks, scaled by the density A/S so that the expected sum is that of training."""
    return Mask(np.full(cfg.n_sink, cfg.density, np.float32)) if cfg else NO_SINKS


def placebo(cfg: SinkConfig | None, ids: Any) -> Selection:
    """Select the sinks of IDs that no sequence has, one for each of `ids`."""
    return own(cfg, hash_ints(Purpose.PLACEBO, validate_ids(ids)).view(np.int64))


def own_except(cfg: SinkConfig, ids: Any, deleted: Any) -> Selection:
    """Select each sequence's own sinks, minus those of the `deleted` IDs."""
    erased = sink_mask(cfg, deleted).max(axis=0, initial=0)
    return Mask(sink_mask(cfg, ids) * (1 - erased))


# 2. The sinks' forward and backward: W_in (S,C), b_in (S,), W_out (S,C), one row per sink


def masked_sink_forward(
    xp: Xp, x: Array, mask: Array, W_in: Array, b_in: Array, W_out: Array
) -> tuple[Array, Cache]:  # (B,T,C), (S,), (B,S) or (B,T,S), ... -> (B,T,C)
    """y = (mask * gelu(x W_in^T + b_in)) W_out: the definition of the sinks."""
    pre = x @ W_in.T + b_in  # (B,T,S)
    post, c_act = gelu_forward(xp, pre)
    mask = mask[:, None, :] if len(mask.shape) == 2 else mask  # the same at every position
    kept = post * mask  # <- this line is the paper
    return kept @ W_out, (x, mask, W_in, W_out, c_act, kept)


def masked_sink_backward(xp: Xp, dy: Array, cache: Cache) -> tuple[Array, ...]:
    # (B,T,C) -> dx, dW_in, db_in, dW_out
    x, mask, W_in, W_out, c_act, kept = cache
    dW_out = flatten_positions(xp, kept).T @ flatten_positions(xp, dy)  # forward: y = kept @ W_out
    dpost = (dy @ W_out.T) * mask  # <- and its consequence: an inactive sink gets no gradient
    dpre = gelu_backward(xp, dpost, c_act)
    dW_in = flatten_positions(xp, dpre).T @ flatten_positions(xp, x)
    return dpre @ W_in, dW_in, sum_rows(xp, dpre), dW_out


def gathered_sink_forward(
    xp: Xp, x: Array, index: Array, W_in: Array, b_in: Array, W_out: Array
) -> tuple[Array, Cache]:  # (B,T,C), (B,A), ... -> (B,T,C)
    """The same y from the active rows alone: the cost does not grow with the pool."""
    w_in, b, w_out = (xp.take(w, index, axis=0) for w in (W_in, b_in, W_out))
    pre = x @ transpose(xp, w_in)  # (B,T,C) @ (B,C,A) -> (B,T,A)
    pre += b[:, None, :]
    post, c_act = gelu_forward(xp, pre)
    return post @ w_out, (x, index, w_in, w_out, c_act, post)


def gathered_sink_backward(xp: Xp, dy: Array, cache: Cache) -> tuple[Array, ...]:
    # (B,T,C) -> dx, and a RowGrad for each parameter
    x, index, w_in, w_out, c_act, post = cache
    dw_out = transpose(xp, post) @ dy  # (B,A,C)
    dpre = gelu_backward(xp, dy @ transpose(xp, w_out), c_act)
    dw_in = transpose(xp, dpre) @ x
    db = xp.sum(dpre, axis=1)
    return dpre @ w_in, RowGrad(index, dw_in), RowGrad(index, db), RowGrad(index, dw_out)


def coalesce(xp: Xp, index: Array, values: list[Array]) -> list[RowGrad]:
    # (B,A), [(B,A,...), ...] -> a RowGrad with (U,) rows for each array of values
    """Sum row-sparse gradients so that each row occurs once: sequences may share sinks."""
    unique, first, position = xp.unique(index, return_index=True, return_inverse=True)
    is_repeat = xp.ones(index.size, dtype=bool)
    is_repeat[first] = False
    (repeats,) = xp.nonzero(is_repeat)  # occurrences after the first one of their row
    target = xp.take(position.ravel(), repeats)  # the place in `unique` that each is added to
    grads, flat = [], {}
    for v in values:
        shape, v = v.shape, v.reshape(index.size, -1)
        width = v.shape[1]
        if width not in flat:  # `add.at` is four times faster on flat indices than on rows
            flat[width] = (target[:, None] * width + xp.arange(width)).ravel()
        total = xp.take(v, first, axis=0)
        xp.add.at(total.reshape(-1), flat[width], xp.take(v, repeats, axis=0).ravel())
        grads.append(RowGrad(unique, total.reshape(-1, *shape[2:])))
    return grads


def sink_forward(xp: Xp, x: Array, selection: Rows | Mask, *w: Array) -> tuple[Array, Cache]:
    """Run the forward that fits the selection."""
    if isinstance(selection, Rows):
        y, cache = gathered_sink_forward(xp, x, selection.index, *w)
        return y, (gathered_sink_backward, cache)
    y, cache = masked_sink_forward(xp, x, selection.value, *w)
    return y, (masked_sink_backward, cache)


def sink_backward(xp: Xp, dy: Array, cache: Cache) -> tuple[Array, ...]:
    """Run the backward of the forward that was run."""
    backward, c_sink = cache
    grads: tuple[Array, ...] = backward(xp, dy, c_sink)
    return grads


# 3. What the pool is for


def is_sink(name: str) -> bool:
    """Return whether a parameter belongs to a pool."""
    return ".sink." in name


def prune(params: Params) -> Params:
    """Drop the pool. What remains is an ordinary transformer, equal to the one without sinks."""
    return {name: w for name, w in params.items() if not is_sink(name)}


def delete(params: Params, cfg: SinkConfig, ids: Any) -> Params:
    """Return new parameters in which the sinks of `ids` are zero: all three arrays, not only W_out.

    Whatever other sequences stored in the same sinks is erased as well.
    """
    erased = sink_mask(cfg, ids).any(axis=0)
    params = dict(params)
    for name in filter(is_sink, params):
        params[name] = params[name].copy()
        params[name][erased] = 0
    return params
