"""Witnesses for every gradient: our algebra against autograd on the same forward, and against differences.

    python -m memsinks_np.gradcheck

Sizes are small, odd and unequal, so that no transposed axis fits by accident.  Inputs and upstream gradients are
random, never 0 or 1: under a gradient of ones softmax's backward is zero, and any formula would pass.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from memsinks_np import model, ops, sinks
from memsinks_np.config import ModelConfig, SinkConfig
from memsinks_np.report import table

LIMIT = 1e-6
B, T, C, H, K, G, S, V = 3, 5, 6, 2, 3, 4, 7, 11


class Case(NamedTuple):
    """A pair to check: `backward(xp, dy, cache)` gives one gradient for each of `inputs`, by name."""

    name: str
    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., Any]
    inputs: dict[str, Any]


class Found(NamedTuple):
    """The largest errors of one gradient, relative to its largest entry."""

    case: str
    input: str
    autograd: float
    differences: float

    @property
    def ok(self) -> bool:
        return max(self.autograd, self.differences) <= LIMIT  # False for NaN


def check(case: Case, seed: int = 0, directions: int = 3) -> list[Found]:
    """Check one pair in float64.  Usable on a pair of your own: it needs no more than a Case."""
    rng = np.random.default_rng(seed)
    names, values = list(case.inputs), list(case.inputs.values())
    y, cache = case.forward(np, *values)
    dy = rng.standard_normal(y.shape)
    got = case.backward(np, dy, cache)
    got = [np.asarray(g) for g in (got if isinstance(got, tuple | list) else (got,))]
    tape = autograd_of(case, values, dy)
    found = []
    for i, name in enumerate(names):
        scale = float(np.abs(tape[i]).max())
        if got[i].shape != values[i].shape:
            found.append(Found(case.name, name, np.inf, np.inf))
            continue
        slopes = [slope_error(case, values, i, got[i], dy, rng) for _ in range(directions)]
        found.append(Found(case.name, name, float(np.abs(got[i] - tape[i]).max()) / scale, max(slopes) / scale))
    return found


def autograd_of(case: Case, values: list[Any], dy: Any) -> list[Any]:
    """Gradients of <dy, forward(inputs)> from autograd's tape."""
    import autograd.numpy as anp
    from autograd import grad

    return grad(lambda inputs: anp.sum(case.forward(anp, *inputs)[0] * dy))(values)


def slope_error(case: Case, values: list[Any], i: int, got: Any, dy: Any, rng: Any, eps: float = 1e-5) -> float:
    """|<gradient, v> - (f(x + eps v) - f(x - eps v)) / 2 eps| for a random direction v of length 1."""
    v = rng.standard_normal(values[i].shape)
    v /= np.sqrt(np.sum(v * v))

    def f(e: float) -> float:
        nudged = [x + e * v if j == i else x for j, x in enumerate(values)]
        return float(np.sum(case.forward(np, *nudged)[0] * dy))

    return abs(float(np.sum(got * v)) - (f(eps) - f(-eps)) / (2 * eps))


# The pairs of this package


def written_out(grad: Any, like: Any) -> Any:
    """A row-sparse gradient (rows, values) as a full array; a full one as it is."""
    if not isinstance(grad, tuple):
        return grad
    out = np.zeros_like(like)
    np.add.at(out, *grad)
    return out


def cases(seed: int = 0) -> list[Case]:
    """Every forward/backward pair of the package, and whole models."""
    rng = np.random.default_rng(seed)

    def rand(**shapes: tuple[int, ...]) -> dict[str, Any]:
        return {name: rng.standard_normal(shape) for name, shape in shapes.items()}

    target = np.eye(V)[rng.integers(V, size=(B, T))]
    hidden = np.triu(np.full((T, T), -np.inf), k=1)
    heads = {"q": (B, H, T, K), "k": (B, H, T, K), "v": (B, H, T, K)}
    pool = {"x": (B, T, C), "W_in": (S, C), "b_in": (S,), "W_out": (S, C)}
    mask = np.array([[1, 0, 1, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0, 1], [0.3, 0.3, 0, 0.3, 0, 0, 0.3]])
    index = np.array([[0, 2, 4], [1, 2, 6], [4, 5, 2]])  # sink 2 is shared by all, sink 3 is off
    pairs = [
        Case("linear", ops.linear_forward, ops.linear_backward, rand(x=(B, T, C), W=(C, G))),
        Case("layernorm", ops.layernorm_forward, ops.layernorm_backward, rand(x=(B, T, C), g=(C,), b=(C,))),
        Case("gelu", ops.gelu_forward, ops.gelu_backward, rand(x=(B, T, G))),
        Case("softmax", ops.softmax_forward, ops.softmax_backward, rand(s=(B, H, T, T))),
        Case(
            "attention",
            lambda xp, *qkv: ops.attention_forward(xp, *qkv, hidden),
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
            lambda xp, z: ops.cross_entropy_forward(xp, z, target),
            ops.cross_entropy_backward,
            rand(logits=(B, T, V)),
        ),
        Case(
            "masked_sink",
            lambda xp, x, *w: sinks.masked_sink_forward(xp, x, mask, *w),
            sinks.masked_sink_backward,
            rand(**pool),
        ),
        gathered_case(index, rand(**pool)),
    ]
    on = {"own (gathered)": sinks.Rows(index), "mask": sinks.Mask(mask), "no sinks": None}
    models = [model_case(name, selected, tied, rng) for name, selected in on.items() for tied in (True, False)]
    return [*pairs, block_case(sinks.Rows(index), rng), *models]


def gathered_case(index: Any, inputs: dict[str, Any]) -> Case:
    def backward(xp: Any, dy: Any, cache: Any) -> list[Any]:
        grads = sinks.gathered_sink_backward(xp, dy, cache)
        return [written_out(g, x) for g, x in zip(grads, inputs.values(), strict=True)]

    return Case("gathered_sink", lambda xp, x, *w: sinks.gathered_sink_forward(xp, x, index, *w), backward, inputs)


def small_model(tied: bool, rng: Any) -> tuple[ModelConfig, dict[str, Any]]:
    """A model of two layers whose parameters are all random, far from their initial values."""
    pool = SinkConfig(n_sink=S, n_active=1)
    cfg = ModelConfig(n_vocab=V, n_ctx=T + 2, d_model=C, n_heads=H, n_layers=2, n_shared=G, sinks=pool, tied=tied)
    start = model.init_params(cfg, dtype=np.float64)
    return cfg, {name: w + 0.5 * rng.standard_normal(w.shape) for name, w in start.items()}


def block_case(selected: Any, rng: Any) -> Case:
    cfg, params = small_model(True, rng)
    hidden = np.triu(np.full((T, T), -np.inf), k=1)
    weights = model.block_params(params, 0)
    inputs = {"x": rng.standard_normal((B, T, C)), **weights}

    def forward(xp: Any, x: Any, *w: Any) -> tuple[Any, Any]:
        return model.block_forward(xp, x, selected, hidden, dict(zip(weights, w, strict=True)), cfg.n_heads)

    def backward(xp: Any, dy: Any, cache: Any) -> list[Any]:
        dx, grads = model.block_backward(xp, dy, cache)
        return [dx, *(written_out(grads[name], w) for name, w in weights.items())]

    return Case("block", forward, backward, inputs)


def model_case(name: str, selected: Any, tied: bool, rng: Any) -> Case:
    """From every parameter to the loss of every word."""
    cfg, params = small_model(tied, rng)
    if selected is None:
        params = sinks.prune(params)
    batch = model.make_batch(cfg, rng.integers(V, size=(B, T + 1)), (selected,) * cfg.n_layers, np.float64)

    def forward(xp: Any, *values: Any) -> tuple[Any, Any]:
        logits, c_model = model.model_forward(xp, dict(zip(params, values, strict=True)), batch, cfg)
        nll, c_nll = ops.cross_entropy_forward(xp, logits, batch.targets)
        return nll, (c_model, c_nll)

    def backward(xp: Any, dnll: Any, cache: Any) -> list[Any]:
        c_model, c_nll = cache
        grads = model.model_backward(xp, ops.cross_entropy_backward(xp, dnll, c_nll), c_model)
        return [written_out(grads[n], w) for n, w in params.items()]

    return Case(f"model, {name}, {'tied' if tied else 'untied'} head", forward, backward, params)


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m memsinks_np.gradcheck",
        description="Check every hand-written gradient against autograd and central differences, in float64.",
    )
    p.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    a = p.parse_args(argv)
    found = [row for case in cases(a.seed) for row in check(case, a.seed)]
    worst: dict[str, list[Found]] = {}
    for row in found:
        worst.setdefault(row.case, []).append(row)
    rows = [
        [case, str(len(of)), f"{max(f.autograd for f in of):.1e}", f"{max(f.differences for f in of):.1e}"]
        for case, of in worst.items()
    ]
    print(table(["pair", "gradients", "against autograd", "against differences"], rows))
    failed = [f for f in found if not f.ok]
    for f in failed:
        print(f"FAILS  {f.case}: gradient of {f.input} (autograd {f.autograd:.1e}, differences {f.differences:.1e})")
    print(f"{len(found) - len(failed)} of {len(found)} gradients agree to {LIMIT:.0e} of their largest entry")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
