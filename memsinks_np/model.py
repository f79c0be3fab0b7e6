"""A pre-LayerNorm GPT with its own backward: embed -> L x (attention, MLP + sinks) -> norm -> head.

Parameters are one flat dict, name -> array; gradients are a dict with the same keys. Read
`block_forward` and `block_backward` side by side: the backward undoes the forward from the last
line to the first.
"""

from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.typing import Array, Cache, Params, Xp
from memsinks_np.config import ModelConfig
from memsinks_np.ops import (
    attention_backward,
    attention_forward,
    cross_entropy_backward,
    cross_entropy_forward,
    embedding_backward,
    embedding_forward,
    flatten_positions,
    layernorm_backward,
    layernorm_forward,
    linear_backward,
    linear_forward,
    merge_heads,
    merge_heads_backward,
    mlp_backward,
    mlp_forward,
    split_heads,
    split_heads_backward,
)
from memsinks_np.sinks import SINK, Selection, sink_backward, sink_forward

MLP = ("mlp.W_in", "mlp.b_in", "mlp.W_out", "mlp.b_out")


def init_params(cfg: ModelConfig, seed: int = 0, dtype: Any = np.float32) -> Params:
    """Return all parameters by name.

    Matrices get a standard deviation of 1/sqrt(inputs). Those that add to the residual stream are
    scaled by 1/sqrt(2L), since 2L branches add to it (Radford et al. 2019). The initial loss is
    close to ln V: the stream reaches the head normalized, and the head's weights are small.
    """
    rng = np.random.default_rng(seed)
    V, T, C, G, L = cfg.n_vocab, cfg.n_ctx, cfg.d_model, cfg.n_shared, cfg.n_layers
    residual = (2 * L) ** -0.5

    def normal(*shape: int, std: float) -> Array:
        return (std * rng.standard_normal(shape)).astype(dtype)

    def constant(value: float, n: int) -> Array:
        return np.full(n, value, dtype)

    p = {"wte": normal(V, C, std=0.05), "wpe": normal(T, C, std=0.05)}
    for layer in range(L):
        block = {"ln1.g": constant(1, C), "ln1.b": constant(0, C)}
        block |= {"W_QKV": normal(C, 3 * C, std=C**-0.5)}
        block |= {"W_O": normal(C, C, std=residual * C**-0.5)}
        block |= {"ln2.g": constant(1, C), "ln2.b": constant(0, C)}
        block |= {"mlp.W_in": normal(C, G, std=C**-0.5), "mlp.b_in": constant(0, G)}
        # half, since MLP and sinks both add to the stream
        block |= {"mlp.W_out": normal(G, C, std=residual * C**-0.5 / 2)}
        block |= {"mlp.b_out": constant(0, C)}
        if cfg.sinks:
            S = cfg.sinks.n_sink
            block |= {"sink.W_in": normal(S, C, std=C**-0.5), "sink.b_in": constant(0, S)}
            block |= {"sink.W_out": normal(S, C, std=residual * C**-0.5 / 2)}
        p |= {f"h{layer}.{name}": w for name, w in block.items()}
    return p | {"lnf.g": constant(1, C), "lnf.b": constant(0, C)}


class Batch(NamedTuple):
    """Inputs of a forward pass besides the parameters, made by `data.batches`."""

    tokens: Array  # (B,T) the input tokens
    targets: Array  # (B,T) the next tokens
    weights: Array  # (B,T) weight of each token in the loss; they sum to 1 over a whole batch
    positions: Array  # (T,n_ctx) one-hot positions; (B,T,n_ctx) for packed documents
    attn_mask: Array  # (T,T) 0 where a query may look, else -inf; (B,1,T,T) for packed documents
    sinks: Selection


def block_params(p: Params, layer: int) -> Params:
    """Return one layer's parameters without their prefix: {"h0.W_O": w} -> {"W_O": w}."""
    prefix = f"h{layer}."
    return {name.removeprefix(prefix): p[name] for name in p if name.startswith(prefix)}


def block_forward(
    xp: Xp, x: Array, sinks: Selection, attn_mask: Array, w: Params, H: int
) -> tuple[Array, Cache]:  # (B,T,C) -> (B,T,C)
    """Add attention, then MLP and sinks, to the residual stream (pre-LayerNorm)."""
    a, c_ln1 = layernorm_forward(xp, x, w["ln1.g"], w["ln1.b"])
    qkv, c_qkv = linear_forward(xp, a, w["W_QKV"])
    z, c_att = attention_forward(xp, *split_heads(xp, qkv, H), attn_mask)
    mid, c_o = linear_forward(xp, merge_heads(xp, z), w["W_O"])
    mid += x
    m, c_ln2 = layernorm_forward(xp, mid, w["ln2.g"], w["ln2.b"])
    out, c_mlp = mlp_forward(xp, m, *(w[name] for name in MLP))
    out += mid
    c_sink = None
    if sinks is not None:
        s, c_sink = sink_forward(xp, m, sinks, *(w[name] for name in SINK))
        out += s
    return out, (c_ln1, c_qkv, c_att, c_o, c_ln2, c_mlp, c_sink, H)


def block_backward(xp: Xp, dout: Array, cache: Cache) -> tuple[Array, Params]:
    # (B,T,C) -> (B,T,C), {name: gradient}
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
    """Return logits. With keep=False, caches are freed block by block; no backward can follow."""
    e, c_embed = embedding_forward(xp, p["wte"], batch.tokens)
    at, _ = linear_forward(xp, batch.positions, p["wpe"])
    x = e + at
    caches = []
    for layer in range(cfg.n_layers):
        w = block_params(p, layer)
        x, cache = block_forward(xp, x, batch.sinks, batch.attn_mask, w, cfg.n_heads)
        caches.append(cache if keep else None)
        del cache
    n, c_lnf = layernorm_forward(xp, x, p["lnf.g"], p["lnf.b"])
    logits, c_head = linear_forward(xp, n, p["wte"].T)  # the head is the token embedding
    return logits, (c_embed, batch.positions, caches, c_lnf, c_head)


def model_backward(xp: Xp, dlogits: Array, cache: Cache) -> Params:  # (B,T,V) -> {name: gradient}
    c_embed, positions, caches, c_lnf, c_head = cache
    g: Params = {}
    dn, dhead = linear_backward(xp, dlogits, c_head)
    dx, g["lnf.g"], g["lnf.b"] = layernorm_backward(xp, dn, c_lnf)
    for layer in reversed(range(len(caches))):
        dx, d = block_backward(xp, dx, caches[layer])
        g |= {f"h{layer}.{name}": grad for name, grad in d.items()}
    same = len(positions.shape) == 2  # all sequences have the same positions: sum over them
    at = flatten_positions(xp, xp.sum(dx, axis=0) if same else dx)
    g["wpe"] = flatten_positions(xp, positions).T @ at
    g["wte"] = embedding_backward(xp, dx, c_embed) + dhead.T  # used twice: the gradients add
    return g


def token_loss(xp: Xp, p: Params, batch: Batch, cfg: ModelConfig) -> Array:  # -> (B,T)
    """Return the cross-entropy of every token, in nats."""
    logits, _ = model_forward(xp, p, batch, cfg)
    nll, _ = cross_entropy_forward(xp, logits, batch.targets)
    return nll


def loss_and_grads(xp: Xp, p: Params, batch: Batch, cfg: ModelConfig) -> tuple[Array, Params]:
    """Return the mean loss in nats per token, and its gradient for every parameter in use."""
    logits, c_model = model_forward(xp, p, batch, cfg)
    nll, c_nll = cross_entropy_forward(xp, logits, batch.targets)
    dlogits = cross_entropy_backward(xp, batch.weights, c_nll)
    return xp.sum(batch.weights * nll), model_backward(xp, dlogits, c_model)
