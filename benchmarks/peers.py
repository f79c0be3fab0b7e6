"""The same model and the same step in NumPy, autograd, PyTorch and JAX.

Each function takes (cfg, params, tokens, index) and returns `loss_and_grads() -> (loss, {name:
gradient})` and `step()`, a whole training step: forward, backward, optimizer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from memsinks_np import optim
from memsinks_np._internal.typing import Params
from memsinks_np.config import ModelConfig, TrainConfig, require_sinks
from memsinks_np.data.batches import make_batch
from memsinks_np.gradcheck.references import autograd_namespace
from memsinks_np.model import token_loss
from memsinks_np.sinks import Mask, RowGrad, Rows, is_sink
from memsinks_np.train import Microbatch, any_param, gradients

CFG = TrainConfig(weight_decay=0.1)
LR = 1e-3


class Peer(NamedTuple):
    """One implementation."""

    loss_and_grads: Callable[[], tuple[float, Params]]
    step: Callable[[], Any]


def selection_of(cfg: ModelConfig, index: Any, masked: bool) -> Rows | Mask:
    """Return the active sinks as row numbers or as a mask."""
    if not masked:
        return Rows(index)
    mask = np.zeros((len(index), require_sinks(cfg).n_sink), np.float32)
    np.put_along_axis(mask, index, 1.0, axis=1)
    return Mask(mask)


def numpy_peer(
    params: Params,
    value_and_grads: Callable[[Params], tuple[float, Params]],
    in_place: bool = False,
) -> Peer:
    """Return gradients from `value_and_grads`, and this project's optimizer.

    It trains a copy of the parameters, or the parameters in place.
    """
    params = params if in_place else {name: w.copy() for name, w in params.items()}
    state = optim.init_state(np, params)

    def step() -> None:
        _, grads = value_and_grads(params)
        _, scale = optim.clip_scale(np, grads, CFG.clip)
        optim.update(np, params, grads, state, CFG, LR, scale)

    def loss_and_grads() -> tuple[float, Params]:
        loss, grads = value_and_grads(params)
        return float(loss), {
            name: optim.densify(np, params[name], g) if isinstance(g, RowGrad) else g
            for name, g in grads.items()
        }

    return Peer(loss_and_grads, step)


def ours(
    cfg: ModelConfig,
    params: Params,
    tokens: Any,
    index: Any,
    masked: bool,
    run: Callable[..., Any] = map,
    in_place: bool = False,
) -> Peer:
    """This project: two halves of a batch, which `run` maps over as in train.py."""
    parts = [
        Microbatch(
            tokens[half],
            selection_of(cfg, index[half], masked),
            len(half) / len(tokens),
            any_param,
        )
        for half in np.array_split(np.arange(len(tokens)), 2)
    ]
    return numpy_peer(params, lambda p: gradients(p, cfg, parts, run), in_place)


def autograd_peer(cfg: ModelConfig, params: Params, tokens: Any, index: Any) -> Peer:
    """autograd on our masked forward, with our optimizer."""
    from autograd import value_and_grad

    xp = autograd_namespace()
    batch = make_batch(cfg, tokens, selection_of(cfg, index, masked=True))
    rows = np.unique(index)
    differentiate = value_and_grad(lambda p: xp.sum(batch.weights * token_loss(xp, p, batch, cfg)))

    def value_and_grads(p: Params) -> tuple[float, Params]:
        loss, grads = differentiate(p)
        return loss, {n: RowGrad(rows, g[rows]) if is_sink(n) else g for n, g in grads.items()}

    return numpy_peer(params, value_and_grads)


def torch_peer(
    cfg: ModelConfig,
    params: Params,
    tokens: Any,
    index: Any,
    masked: bool,
    compiled: bool = False,
) -> Peer:
    """PyTorch: masked like the released code (all neurons, then the mask), or gathered.

    Eager, or with the loss and its gradient under `torch.compile`.
    """
    import torch

    p = {name: torch.tensor(w, requires_grad=True) for name, w in params.items()}
    decayed = [w for name, w in p.items() if optim.has_weight_decay(w)]
    others = [w for name, w in p.items() if not optim.has_weight_decay(w)]
    groups = [
        {"params": decayed, "weight_decay": CFG.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=LR, betas=CFG.betas, eps=CFG.eps, fused=True)
    sinks = torch.tensor(selection_of(cfg, index, masked)[0])
    loss = torch_loss(cfg, p, tokens, sinks, masked)
    loss = torch.compile(loss) if compiled else loss

    def step() -> None:
        adamw.zero_grad(set_to_none=True)
        loss().backward()
        torch.nn.utils.clip_grad_norm_(p.values(), CFG.clip)
        adamw.step()

    def loss_and_grads() -> tuple[float, Params]:
        adamw.zero_grad(set_to_none=True)
        (value := loss()).backward()
        return float(value.detach()), {name: w.grad.numpy().copy() for name, w in p.items()}

    return Peer(loss_and_grads, step)


def torch_loss(
    cfg: ModelConfig, p: Params, tokens: Any, sinks: Any, masked: bool
) -> Callable[[], Any]:
    """Return a function that computes the mean loss; `sinks` is a mask (B,S) or an index (B,A)."""
    import torch
    import torch.nn.functional as F

    inputs, targets = torch.tensor(tokens[:, :-1]), torch.tensor(tokens[:, 1:])
    H, C = cfg.n_heads, cfg.d_model

    def heads(x: Any) -> Any:
        return x.unflatten(-1, (H, C // H)).transpose(1, 2)

    def gelu(x: Any) -> Any:
        return F.gelu(x, approximate="tanh")

    def masked_mlp(m: Any, w: Callable[[str], Any]) -> Any:
        W_in = torch.cat([w("mlp.W_in").T, w("sink.W_in")])
        post = gelu(F.linear(m, W_in, torch.cat([w("mlp.b_in"), w("sink.b_in")])))
        shared, pool = post.split([cfg.n_shared, sinks.shape[1]], dim=-1)
        kept = torch.cat([shared, pool * sinks[:, None, :]], -1)
        return kept @ torch.cat([w("mlp.W_out"), w("sink.W_out")]) + w("mlp.b_out")

    def gathered_mlp(m: Any, w: Callable[[str], Any]) -> Any:
        y = gelu(m @ w("mlp.W_in") + w("mlp.b_in")) @ w("mlp.W_out") + w("mlp.b_out")
        w_in, w_out = F.embedding(sinks, w("sink.W_in")), F.embedding(sinks, w("sink.W_out"))
        pre = torch.baddbmm(w("sink.b_in")[sinks][:, None, :], m, w_in.transpose(1, 2))
        return y + gelu(pre) @ w_out

    mlp = masked_mlp if masked else gathered_mlp

    def loss() -> Any:
        x = F.embedding(inputs, p["wte"]) + p["wpe"][: inputs.shape[1]]
        for layer in range(cfg.n_layers):
            w = lambda name, layer=layer: p[f"h{layer}.{name}"]
            a = F.layer_norm(x, (C,), w("ln1.g"), w("ln1.b"))
            q, k, v = (heads(u) for u in (a @ w("W_QKV")).chunk(3, -1))
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + z.transpose(1, 2).flatten(2) @ w("W_O")
            x = x + mlp(F.layer_norm(x, (C,), w("ln2.g"), w("ln2.b")), w)
        logits = F.layer_norm(x, (C,), p["lnf.g"], p["lnf.b"]) @ p["wte"].T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return loss


def jax_peer(cfg: ModelConfig, params: Params, tokens: Any, index: Any, masked: bool) -> Peer:
    """JAX, the whole step under one jit: our forward with jax.numpy, AdamW on every parameter."""
    import jax
    import jax.numpy as jnp

    batch = make_batch(cfg, tokens, selection_of(cfg, index, masked))

    def mean_loss(p: Params) -> Any:
        return jnp.sum(batch.weights * token_loss(jnp, p, batch, cfg))

    value_and_grad = jax.value_and_grad(mean_loss)
    b1, b2 = CFG.betas

    def adamw_step(p: Params, m: Params, v: Params, n: Any) -> Any:
        _, g = value_and_grad(p)
        norm = jnp.sqrt(sum(jnp.sum(x * x) for x in g.values()))
        scale = jnp.minimum(1.0, CFG.clip / norm)
        m = {k: b1 * m[k] + (1 - b1) * scale * g[k] for k in p}
        v = {k: b2 * v[k] + (1 - b2) * (scale * g[k]) ** 2 for k in p}
        change = {k: m[k] / (1 - b1**n) / (jnp.sqrt(v[k] / (1 - b2**n)) + CFG.eps) for k in p}
        decay = {k: 1 - LR * CFG.weight_decay * optim.has_weight_decay(w) for k, w in p.items()}
        return {k: p[k] * decay[k] - LR * change[k] for k in p}, m, v, n + 1

    jitted = jax.jit(adamw_step, donate_argnums=(0, 1, 2))
    copy = lambda: {k: jnp.array(w) for k, w in params.items()}
    zeros = lambda: {k: jnp.zeros_like(w) for k, w in params.items()}
    state = (copy(), zeros(), zeros(), jnp.float32(1.0))

    def step() -> None:
        nonlocal state
        state = jitted(*state)
        jax.block_until_ready(state)

    def loss_and_grads() -> tuple[float, Params]:
        loss, g = jax.jit(value_and_grad)(copy())
        return float(loss), {k: np.asarray(x) for k, x in g.items()}

    return Peer(loss_and_grads, step)
