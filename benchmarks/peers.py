"""The same model and the same step in PyTorch and JAX, and our own forward under autograd.

Each maker takes (cfg, params, tokens, index) and returns `loss_and_grads() -> (loss, {name: gradient})` and
`step()`, a whole training step: forward, backward, optimizer.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
from memsinks_np.crew import ALONE, Crew, pair
from memsinks_np.routing import Microbatch, anything

from memsinks_np import optim
from memsinks_np.config import ModelConfig, TrainConfig
from memsinks_np.gradcheck.references import autograd_namespace
from memsinks_np.model import make_batch, token_loss
from memsinks_np.sinks import Mask, Params, Rows
from memsinks_np.train import gradients

CFG = TrainConfig(weight_decay=0.1)
LR = 1e-3


class Peer(NamedTuple):
    loss_and_grads: Callable[[], tuple[float, Params]]
    step: Callable[[], Any]


def mask_from(index: Any, S: int) -> Any:
    mask = np.zeros((len(index), S), np.float32)
    np.put_along_axis(mask, index, 1.0, axis=1)
    return mask


def halves(cfg: ModelConfig, tokens: Any, index: Any, masked: bool) -> list[Microbatch]:
    S = cfg.sinks.n_sink if cfg.sinks else 0
    parts = []
    for rows in np.array_split(np.arange(len(tokens)), 2):
        one = Mask(mask_from(index[rows], S)) if masked else Rows(index[rows])
        parts.append(
            Microbatch(tokens[rows], (one,) * cfg.n_layers, len(rows) / len(tokens), anything)
        )
    return parts


def densify(grads: Params, params: Params) -> Params:
    return {
        name: optim.densify(np, params[name], *g) if isinstance(g, tuple) else g
        for name, g in grads.items()
    }


def ours(
    cfg: ModelConfig, params: Params, tokens: Any, index: Any, masked: bool, crew: Crew = ALONE
) -> Peer:
    """This project: both halves of the batch, merged, clip_scale, lazy AdamW."""
    parts = halves(cfg, tokens, index, masked)
    params = {name: w.copy() for name, w in params.items()}
    state = optim.init_state(np, params, crew)

    def step() -> None:
        crew.exchange(None)  # nobody begins a step before the clock runs
        _, grads = gradients(params, cfg, parts, crew)
        _, scale = optim.clip_scale(np, grads, CFG.clip, crew)
        optim.update(np, params, grads, state, CFG, LR, scale)
        crew.exchange(None)

    def loss_and_grads() -> tuple[float, Params]:
        loss, grads = gradients(params, cfg, parts)
        return loss, densify(grads, params)

    return Peer(loss_and_grads, step)


def ours_by(
    threads: int,
    stack: ExitStack,
    cfg: ModelConfig,
    params: Params,
    tokens: Any,
    index: Any,
    masked: bool,
) -> Peer:
    """The same by one process or by two, until the stack is closed."""
    args = (cfg, params, tokens, index, masked)
    if threads == 1:
        return ours(*args)
    size = 2 * sum(w.nbytes for w in params.values())
    crew = stack.enter_context(pair(size, 2 * size, assist, *args))
    return ours(*args, crew)


def assist(*args: Any) -> None:
    """The second process: step after step, until the first one hangs up."""
    step = ours(*args).step
    while True:
        step()


def autograd_peer(cfg: ModelConfig, params: Params, tokens: Any, index: Any) -> Peer:
    """autograd's tape over our own (masked) forward, and our optimizer."""
    from autograd import value_and_grad

    anp = autograd_namespace()
    params = {name: w.copy() for name, w in params.items()}
    state = optim.init_state(np, params)
    selection = (Mask(mask_from(index, cfg.sinks.n_sink if cfg.sinks else 0)),) * cfg.n_layers
    on = np.unique(index)

    def mean_loss(p: Params) -> Any:
        batch = make_batch(cfg, tokens, selection)
        return anp.sum(batch.weights * token_loss(anp, p, batch, cfg))

    tape = value_and_grad(mean_loss)

    def step() -> None:
        _, grads = tape(params)
        grads = {name: (on, g[on]) if ".sink." in name else g for name, g in grads.items()}
        _, scale = optim.clip_scale(np, grads, CFG.clip)
        optim.update(np, params, grads, state, CFG, LR, scale)

    def loss_and_grads() -> tuple[float, Params]:
        loss, grads = tape(params)
        return float(loss), grads

    return Peer(loss_and_grads, step)


def torch_peer(cfg: ModelConfig, params: Params, tokens: Any, index: Any, masked: bool) -> Peer:
    """PyTorch eager.  Masked: all neurons, then the mask, as the released code does it.  Gathered: our own way."""
    import torch
    import torch.nn.functional as F

    p = {name: torch.tensor(w, requires_grad=True) for name, w in params.items()}
    matrices = [w for name, w in p.items() if optim.has_weight_decay(name)]
    others = [w for name, w in p.items() if not optim.has_weight_decay(name)]
    groups = [
        {"params": matrices, "weight_decay": CFG.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=LR, betas=CFG.betas, eps=CFG.eps, fused=True)
    inputs, targets = torch.tensor(tokens[:, :-1]), torch.tensor(tokens[:, 1:])
    at, mask = torch.tensor(index), torch.tensor(mask_from(index, cfg.sinks.n_sink))[:, None, :]
    H, C = cfg.n_heads, cfg.d_model

    def heads(x: Any) -> Any:
        return x.unflatten(-1, (H, C // H)).transpose(1, 2)

    def mlp(m: Any, w: Callable) -> Any:
        if masked:
            pre = F.linear(
                m,
                torch.cat([w("mlp.W_in").T, w("sink.W_in")]),
                torch.cat([w("mlp.b_in"), w("sink.b_in")]),
            )
            post = F.gelu(pre, approximate="tanh")
            G = cfg.n_shared
            kept = torch.cat([post[..., :G], post[..., G:] * mask], -1)
            return kept @ torch.cat([w("mlp.W_out"), w("sink.W_out")]) + w("mlp.b_out")
        y = F.gelu(m @ w("mlp.W_in") + w("mlp.b_in"), approximate="tanh") @ w("mlp.W_out") + w(
            "mlp.b_out"
        )
        w_in, w_out = F.embedding(at, w("sink.W_in")), F.embedding(at, w("sink.W_out"))
        b_in = w("sink.b_in")[at]
        pre = torch.baddbmm(b_in[:, None, :], m, w_in.transpose(1, 2))
        return y + F.gelu(pre, approximate="tanh") @ w_out

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


def jax_peer(cfg: ModelConfig, params: Params, tokens: Any, index: Any, masked: bool) -> Peer:
    """JAX, the whole step under one jit: our forward with jax.numpy, AdamW on every parameter."""
    import jax
    import jax.numpy as jnp

    one = Mask(mask_from(index, cfg.sinks.n_sink)) if masked else Rows(index)
    batch = make_batch(cfg, tokens, (one,) * cfg.n_layers)

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
        p = {
            k: p[k] * (1 - LR * CFG.weight_decay * optim.has_weight_decay(k)) - LR * change[k]
            for k in p
        }
        return p, m, v, n + 1

    jitted = jax.jit(adamw_step, donate_argnums=(0, 1, 2))
    fresh = lambda: {k: jnp.array(w) for k, w in params.items()}
    zeros = lambda: {k: jnp.zeros_like(w) for k, w in params.items()}
    held = [(fresh(), zeros(), zeros(), jnp.float32(1.0))]

    def step() -> None:
        held[0] = jitted(*held[0])
        jax.block_until_ready(held[0])

    def loss_and_grads() -> tuple[float, Params]:
        loss, g = jax.jit(value_and_grad)(fresh())
        return float(loss), {k: np.asarray(x) for k, x in g.items()}

    return Peer(loss_and_grads, step)
