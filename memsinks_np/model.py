"""A pre-LayerNorm GPT that carries its own backward: embed -> L x (attention, MLP + sinks) -> norm -> head.

Parameters are one flat dict, name -> array, and gradients a dict with the same keys.  Read `block_forward` and
`block_backward` side by side: one is the other from bottom to top.
"""

from typing import Any, NamedTuple

import numpy as np

from memsinks_np.arrays import Array, Cache, Params, Xp
from memsinks_np.config import ConfigError, ModelConfig, require
from memsinks_np.ops import (
    attention_backward,
    attention_forward,
    cross_entropy_backward,
    cross_entropy_forward,
    layernorm_backward,
    layernorm_forward,
    linear_backward,
    linear_forward,
    merge_heads,
    merge_heads_backward,
    mlp_backward,
    mlp_forward,
    rows,
    split_heads,
    split_heads_backward,
)
from memsinks_np.sinks import Mask, Rows, Selected, Selection, sink_backward, sink_forward

MLP = ("mlp.W_in", "mlp.b_in", "mlp.W_out", "mlp.b_out")
SINK = ("sink.W_in", "sink.b_in", "sink.W_out")


def init_params(cfg: ModelConfig, seed: int = 0, dtype: Any = np.float32) -> Params:
    """Every parameter of the model, by its name.

    The loss starts close to ln V: the residual stream reaches the head normalized, and the head is small.
    """
    rng = np.random.default_rng(seed)
    V, T, C, G, L = cfg.n_vocab, cfg.n_ctx, cfg.d_model, cfg.n_shared, cfg.n_layers
    residual = (2 * L) ** -0.5  # 2L branches are added to the stream (Radford et al. 2019)

    def normal(*shape: int, std: float) -> Array:
        return (std * rng.standard_normal(shape)).astype(dtype)

    def constant(value: float, n: int) -> Array:
        return np.full(n, value, dtype)

    p = {"wte": normal(V, C, std=0.05), "wpe": normal(T, C, std=0.05)}
    for layer in range(L):
        block = {"ln1.g": constant(1, C), "ln1.b": constant(0, C)}
        block |= {"W_QKV": normal(C, 3 * C, std=C**-0.5), "W_O": normal(C, C, std=residual * C**-0.5)}
        block |= {"ln2.g": constant(1, C), "ln2.b": constant(0, C)}
        block |= {"mlp.W_in": normal(C, G, std=C**-0.5), "mlp.b_in": constant(0, G)}
        block |= {"mlp.W_out": normal(G, C, std=residual * C**-0.5 / 2), "mlp.b_out": constant(0, C)}
        if cfg.sinks:
            S = cfg.sinks.n_sink
            block |= {"sink.W_in": normal(S, C, std=C**-0.5), "sink.b_in": constant(0, S)}
            block |= {"sink.W_out": normal(S, C, std=residual * C**-0.5 / 2)}
        p |= {f"h{layer}.{name}": w for name, w in block.items()}
    p |= {"lnf.g": constant(1, C), "lnf.b": constant(0, C)}
    return p if cfg.tied else p | {"head": normal(V, C, std=0.05)}


class Batch(NamedTuple):
    """What a forward pass needs beside the parameters: data, ready for any backend."""

    words: Array  # (B,T) the words that are read
    inputs: Array  # (B,T,V) the same, one-hot
    targets: Array  # (B,T,V) one-hot next words
    weights: Array  # (B,T) how much each word counts in the loss; they sum to 1 over a whole batch
    positions: Array  # (T,n_ctx) one-hot positions, or (B,T,n_ctx) where sequences differ (packing.py)
    hidden: Array  # (T,T) 0 where a query may look, -inf where it may not, or (B,1,T,T) where sequences differ
    sinks: Selection  # a selection: one entry per layer (see sinks.py)


def make_batch(cfg: ModelConfig, tokens: Any, sinks: Selection, dtype: Any = np.float32, share: float = 1.0) -> Batch:
    """(B,T+1) tokens and a selection of sinks -> Batch, on the host.

    `share` is the part that these sequences are of a whole batch.  Tokens outside the vocabulary and sinks outside
    the pool are refused here, since a device would wrap such an index silently.
    """
    tokens = np.asarray(tokens)
    require(tokens.ndim == 2, f"the tokens have shape {tokens.shape}; give (B,T+1), one row per sequence")
    if tokens.dtype.kind not in "iu":
        raise ConfigError(f"tokens must be integers, got {tokens.ravel()[:1]} ({tokens.dtype}); use int64")
    T = tokens.shape[1] - 1
    if tokens.size and not (0 <= tokens.min() and tokens.max() < cfg.n_vocab):
        raise ConfigError(f"token {tokens.min()} or {tokens.max()} is outside the vocabulary of {cfg.n_vocab}")
    require(
        0 < T <= cfg.n_ctx,
        f"{T + 1} tokens per sequence do not fit n_ctx={cfg.n_ctx}; use 2 to {cfg.n_ctx + 1}",
    )
    require(len(tokens) > 0, "there are no sequences; give at least one")
    require(len(sinks) == cfg.n_layers, f"sinks are chosen for {len(sinks)} layers, but there are {cfg.n_layers}")
    for selected in sinks:
        n = len(tokens) if selected is None else len(selected[0])
        alike = isinstance(selected, Mask) and n == 1  # one choice for all sequences
        if n != len(tokens) and not alike:
            raise ConfigError(f"sinks are chosen for {n} sequences, but there are {len(tokens)}")
        if isinstance(selected, Rows) and selected.index.size:
            S, low, high = cfg.sinks.n_sink if cfg.sinks else 0, selected.index.min(), selected.index.max()
            require(0 <= low and high < S, f"sink {low} or {high} is outside the pool of {S}")
    one_hot = np.eye(cfg.n_vocab, dtype=dtype)
    inputs, targets = (np.take(one_hot, words, axis=0) for words in (tokens[:, :-1], tokens[:, 1:]))
    weights = np.full((len(tokens), T), share / (len(tokens) * T), dtype)
    hidden = np.triu(np.full((T, T), -np.inf, dtype), k=1)
    return Batch(tokens[:, :-1], inputs, targets, weights, np.eye(T, cfg.n_ctx, dtype=dtype), hidden, sinks)


def block_params(p: Params, layer: int) -> Params:  # {"h0.W_Q": ...} -> {"W_Q": ...}
    prefix = f"h{layer}."
    return {name.removeprefix(prefix): p[name] for name in p if name.startswith(prefix)}


def block_forward(xp: Xp, x: Array, selected: Selected, hidden: Array, w: Params, H: int) -> tuple[Array, Cache]:
    # (B,T,C) -> (B,T,C)
    """Attention, then MLP and sinks side by side, each added to the stream (pre-LayerNorm)."""
    a, c_ln1 = layernorm_forward(xp, x, w["ln1.g"], w["ln1.b"])
    qkv, c_qkv = linear_forward(xp, a, w["W_QKV"])
    z, c_att = attention_forward(xp, *split_heads(xp, qkv, H), hidden)
    mid, c_o = linear_forward(xp, merge_heads(xp, z), w["W_O"])
    mid += x
    m, c_ln2 = layernorm_forward(xp, mid, w["ln2.g"], w["ln2.b"])
    out, c_mlp = mlp_forward(xp, m, *(w[name] for name in MLP))
    out += mid
    c_sink = None
    if selected is not None:
        s, c_sink = sink_forward(xp, m, selected, *(w[name] for name in SINK))
        out += s
    return out, (c_ln1, c_qkv, c_att, c_o, c_ln2, c_mlp, c_sink, H)


def block_backward(xp: Xp, dout: Array, cache: Cache) -> tuple[Array, Params]:  # (B,T,C) -> (B,T,C), {name: gradient}
    c_ln1, c_qkv, c_att, c_o, c_ln2, c_mlp, c_sink, H = cache
    d: Params = {}
    dm, *d_mlp = mlp_backward(xp, dout, c_mlp)
    d |= zip(MLP, d_mlp, strict=True)
    if c_sink is not None:
        dm_sink, *d_sink = sink_backward(xp, dout, c_sink)
        d |= zip(SINK, d_sink, strict=True)
        dm += dm_sink  # forward: m feeds the MLP and the sinks
    dmid, d["ln2.g"], d["ln2.b"] = layernorm_backward(xp, dm, c_ln2)
    dmid += dout  # forward: out = mid + mlp(m) + sink(m)
    dz, d["W_O"] = linear_backward(xp, dmid, c_o)
    dq, dk, dv = attention_backward(xp, merge_heads_backward(xp, dz, H), c_att)
    da, d["W_QKV"] = linear_backward(xp, split_heads_backward(xp, dq, dk, dv), c_qkv)
    dx, d["ln1.g"], d["ln1.b"] = layernorm_backward(xp, da, c_ln1)
    dx += dmid  # forward: mid = x + attention(a)
    return dx, d


def model_forward(
    xp: Xp, p: Params, batch: Batch, cfg: ModelConfig, keep: bool = True
) -> tuple[Array, Cache]:  # -> logits (B,T,V)
    """From words to logits.  Without a backward to come, keep=False lets every block use the memory of the last."""
    e = xp.take(p["wte"], xp.reshape(batch.words, (-1,)), axis=0)  # = inputs @ wte: a product with one-hot rows
    at, _ = linear_forward(xp, batch.positions, p["wpe"])
    x = xp.reshape(e, (*batch.words.shape, -1)) + at
    caches = []
    for layer in range(cfg.n_layers):
        x, cache = block_forward(xp, x, batch.sinks[layer], batch.hidden, block_params(p, layer), cfg.n_heads)
        caches.append(cache if keep else None)
        del cache
    n, c_lnf = layernorm_forward(xp, x, p["lnf.g"], p["lnf.b"])
    head = p["wte"] if cfg.tied else p["head"]
    logits, c_head = linear_forward(xp, n, head.T)
    return logits, (batch.inputs, batch.positions, caches, c_lnf, c_head, cfg)


def model_backward(xp: Xp, dlogits: Array, cache: Cache) -> Params:  # (B,T,V) -> {name: gradient}
    inputs, positions, caches, c_lnf, c_head, cfg = cache
    g: Params = {}
    dn, dhead = linear_backward(xp, dlogits, c_head)
    dx, g["lnf.g"], g["lnf.b"] = layernorm_backward(xp, dn, c_lnf)
    for layer in reversed(range(cfg.n_layers)):
        dx, d = block_backward(xp, dx, caches[layer])
        g |= {f"h{layer}.{name}": grad for name, grad in d.items()}
    shared = len(positions.shape) == 2  # all sequences have the same positions, which collect from all of them
    g["wpe"] = rows(xp, positions).T @ rows(xp, xp.sum(dx, axis=0) if shared else dx)
    g["wte"] = rows(xp, inputs).T @ rows(xp, dx)  # forward: e = inputs @ wte, and words are data
    dhead = dhead.T
    if cfg.tied:
        g["wte"] = g["wte"] + dhead  # used twice, so its gradients add
    else:
        g["head"] = dhead
    return g


def token_loss(xp: Xp, p: Params, batch: Batch, cfg: ModelConfig) -> Array:  # -> (B,T) nats per word
    """Cross-entropy of every word, in nats."""
    logits, _ = model_forward(xp, p, batch, cfg)
    nll, _ = cross_entropy_forward(xp, logits, batch.targets)
    return nll


def loss_and_grads(xp: Xp, p: Params, batch: Batch, cfg: ModelConfig) -> tuple[Array, Params]:
    """Mean nats per word, and its gradient with respect to every parameter that the forward used."""
    logits, c_model = model_forward(xp, p, batch, cfg)
    nll, c_nll = cross_entropy_forward(xp, logits, batch.targets)
    dlogits = cross_entropy_backward(xp, batch.weights, c_nll)
    return xp.sum(batch.weights * nll), model_backward(xp, dlogits, c_model)
