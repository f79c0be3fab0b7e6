"""Every forward/backward pair of the package, ready to be checked (see gradcheck.py).

Sizes are small, odd and unequal, so that no transposed axis fits by accident.  Inputs are random, never 0 or 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from memsinks_np import model, ops, sinks
from memsinks_np._internal.backend import to_device, to_host
from memsinks_np.config import ModelConfig, SinkConfig
from memsinks_np.baselines import gates, localize, unlearn

B, T, C, H, K, G, S, V = 3, 5, 6, 2, 3, 4, 7, 11


class Case(NamedTuple):
    """A pair to check: `backward(xp, dy, cache)` gives one gradient for each of `inputs`, by name.

    What the forward needs beside its inputs (masks, targets) is data, and each reference has its own kind of array:
    hand it on as `to_device(xp, data)`, or on a page, where xp is NumPy's or autograd's, as `xp.asarray(data)`.
    """

    name: str
    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., Any]
    inputs: dict[str, Any]


def densify(grad: Any, like: Any) -> Any:
    """A row-sparse gradient (rows, values) as a full array; a full one as it is."""
    if not isinstance(grad, tuple):
        return to_host(grad)
    rows, values = to_host(grad[0]), to_host(grad[1])
    out = np.zeros_like(like)
    np.add.at(out, rows, values)
    return out


def cases(seed: int = 0) -> list[Case]:
    """Every forward/backward pair of the package, and whole models."""
    rng = np.random.default_rng(seed)

    def rand(**shapes: tuple[int, ...]) -> dict[str, Any]:
        return {name: rng.standard_normal(shape) for name, shape in shapes.items()}

    target = np.eye(V)[rng.integers(V, size=(B, T))]
    attn_mask = np.triu(np.full((T, T), -np.inf), k=1)
    heads = {"q": (B, H, T, K), "k": (B, H, T, K), "v": (B, H, T, K)}
    pool = {"x": (B, T, C), "W_in": (S, C), "b_in": (S,), "W_out": (S, C)}
    mask = np.array([[1, 0, 1, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0, 1], [0.3, 0.3, 0, 0.3, 0, 0, 0.3]])
    reference = rng.standard_normal(B)
    index = np.array([[0, 2, 4], [1, 2, 6], [4, 5, 2]])  # sink 2 is shared by all, sink 3 is off
    noise = np.array(
        [[0.001, 0.3, 0.6, 0.999], [0.4, 0.002, 0.7, 0.55]]
    )  # of gates: some end up closed, some open
    pairs = [
        Case("linear", ops.linear_forward, ops.linear_backward, rand(x=(B, T, C), W=(C, G))),
        Case(
            "layernorm",
            ops.layernorm_forward,
            ops.layernorm_backward,
            rand(x=(B, T, C), g=(C,), b=(C,)),
        ),
        Case("gelu", ops.gelu_forward, ops.gelu_backward, rand(x=(B, T, G))),
        split_heads_case(rand(qkv=(B, T, 3 * C))),
        Case(
            "merge_heads",
            lambda xp, z: (ops.merge_heads(xp, z), None),
            lambda xp, dy, cache: ops.merge_heads_backward(xp, dy, H),
            rand(z=(B, H, T, K)),
        ),
        Case("softmax", ops.softmax_forward, ops.softmax_backward, rand(s=(B, H, T, T))),
        Case(
            "attention",
            lambda xp, q, k, v: ops.attention_forward(xp, q, k, v, to_device(xp, attn_mask)),
            ops.attention_backward,
            rand(**heads),
        ),
        Case(
            "mlp",
            ops.mlp_forward,
            ops.mlp_backward,
            rand(x=(B, T, C), W_in=(C, G), b_in=(G,), W_out=(G, C), b_out=(C,)),
        ),
        Case(
            "cross_entropy",
            lambda xp, z: ops.cross_entropy_forward(xp, z, to_device(xp, target)),
            ops.cross_entropy_backward,
            rand(logits=(B, T, V)),
        ),
        Case(
            "masked_sink",
            lambda xp, x, *w: sinks.masked_sink_forward(xp, x, to_device(xp, mask), *w),
            sinks.masked_sink_backward,
            rand(**pool),
        ),
        gathered_case(index, rand(**pool)),
        Case(
            "npo",
            lambda xp, nll: unlearn.npo_forward(xp, nll, to_device(xp, reference), 0.7),
            unlearn.npo_backward,
            rand(nll=(B, T)),
        ),
        Case(
            "hard_concrete",
            lambda xp, a: gates.hard_concrete_forward(xp, a, to_device(xp, noise)),
            gates.hard_concrete_backward,
            rand(a=(2, G)),
        ),
        Case("open_share", gates.open_share_forward, gates.open_share_backward, rand(a=(2, G))),
    ]
    on = {"own (gathered)": sinks.Rows(index), "mask": sinks.Mask(mask), "no sinks": None}
    models = [
        model_case(name, selected, tied, rng)
        for name, selected in on.items()
        for tied in (True, False)
    ]
    return [*pairs, block_case(sinks.Rows(index), rng), *models, gates_case(rng)]


def split_heads_case(inputs: dict[str, Any]) -> Case:
    def forward(xp: Any, qkv: Any) -> tuple[Any, Any]:
        return xp.stack(ops.split_heads(xp, qkv, H)), None

    def backward(xp: Any, dy: Any, cache: Any) -> Any:
        return ops.split_heads_backward(xp, dy[0, ...], dy[1, ...], dy[2, ...])

    return Case("split_heads", forward, backward, inputs)


def gathered_case(index: Any, inputs: dict[str, Any]) -> Case:
    def backward(xp: Any, dy: Any, cache: Any) -> list[Any]:
        grads = sinks.gathered_sink_backward(xp, dy, cache)
        return [densify(g, x) for g, x in zip(grads, inputs.values(), strict=True)]

    return Case(
        "gathered_sink",
        lambda xp, x, *w: sinks.gathered_sink_forward(xp, x, to_device(xp, index), *w),
        backward,
        inputs,
    )


def small_model(tied: bool, rng: Any) -> tuple[ModelConfig, dict[str, Any]]:
    """A model of two layers whose parameters are all random, far from their initial values."""
    pool = SinkConfig(n_sink=S, n_active=1)
    cfg = ModelConfig(
        n_vocab=V, n_ctx=T + 2, d_model=C, n_heads=H, n_layers=2, n_shared=G, sinks=pool, tied=tied
    )
    start = model.init_params(cfg, dtype=np.float64)
    return cfg, {name: w + 0.5 * rng.standard_normal(w.shape) for name, w in start.items()}


def block_case(selected: Any, rng: Any) -> Case:
    cfg, params = small_model(True, rng)
    attn_mask = np.triu(np.full((T, T), -np.inf), k=1)
    weights = model.block_params(params, 0)
    inputs = {"x": rng.standard_normal((B, T, C)), **weights}

    def forward(xp: Any, x: Any, *w: Any) -> tuple[Any, Any]:
        on, unseen = to_device(xp, (selected, attn_mask))
        return model.block_forward(
            xp, x, on, unseen, dict(zip(weights, w, strict=True)), cfg.n_heads
        )

    def backward(xp: Any, dy: Any, cache: Any) -> list[Any]:
        dx, grads = model.block_backward(xp, dy, cache)
        return [dx, *(densify(grads[name], w) for name, w in weights.items())]

    return Case("block", forward, backward, inputs)


def model_case(name: str, selected: Any, tied: bool, rng: Any) -> Case:
    """From every parameter to the loss of every word."""
    cfg, params = small_model(tied, rng)
    if selected is None:
        params = sinks.prune(params)
    batch = model.make_batch(
        cfg, rng.integers(V, size=(B, T + 1)), (selected,) * cfg.n_layers, np.float64
    )

    def forward(xp: Any, *values: Any) -> tuple[Any, Any]:
        moved = to_device(xp, batch)
        logits, c_model = model.model_forward(
            xp, dict(zip(params, values, strict=True)), moved, cfg
        )
        nll, c_nll = ops.cross_entropy_forward(xp, logits, moved.targets)
        return nll, (c_model, c_nll)

    def backward(xp: Any, dnll: Any, cache: Any) -> list[Any]:
        c_model, c_nll = cache
        grads = model.model_backward(xp, ops.cross_entropy_backward(xp, dnll, c_nll), c_model)
        return [densify(grads[n], w) for n, w in params.items()]

    return Case(
        f"model, {name}, {'tied' if tied else 'random_sinks'} head", forward, backward, params
    )


def gates_case(rng: Any) -> Case:
    """From the gates of all MLP neurons to the loss of every word."""
    cfg, params = small_model(True, rng)
    params = sinks.prune(params)
    batch = model.make_batch(cfg, rng.integers(V, size=(B, T + 1)), sinks.NO_SINKS, np.float64)

    def forward(xp: Any, g: Any) -> tuple[Any, Any]:
        moved, weights = to_device(xp, (batch, params))
        logits, c_model = model.model_forward(xp, localize.gated(weights, g), moved, cfg)
        nll, c_nll = ops.cross_entropy_forward(xp, logits, moved.targets)
        return nll, (c_model, c_nll, weights)

    def backward(xp: Any, dnll: Any, cache: Any) -> Any:
        c_model, c_nll, weights = cache
        grads = model.model_backward(xp, ops.cross_entropy_backward(xp, dnll, c_nll), c_model)
        return localize.gate_grads(xp, weights, grads)

    return Case(
        "gates of a model", forward, backward, {"gates": rng.standard_normal((cfg.n_layers, G))}
    )
