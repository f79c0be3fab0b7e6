"""Forwards against naive references: loops that follow the textbook formula, one number a time."""

import math

import numpy as np
import pytest

from memsinks_np import ops
from memsinks_np.gradcheck.cases import cases

B, T, C, H, G, V = 2, 5, 6, 2, 7, 4


def rand(*shapes):
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape) for shape in shapes]


def gelu(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def test_linear():
    x, W = rand((B, T, C), (C, G))
    want = [
        [[sum(x[b, t, c] * W[c, g] for c in range(C)) for g in range(G)] for t in range(T)]
        for b in range(B)
    ]
    np.testing.assert_allclose(ops.linear_forward(np, x, W)[0], want, rtol=1e-12)


def test_layernorm():
    x, g, b = rand((B, T, C), (C,), (C,))
    y, _ = ops.layernorm_forward(np, x, g, b)
    for row, out in zip(x.reshape(-1, C), y.reshape(-1, C), strict=True):
        mean = sum(row) / C
        var = sum((v - mean) ** 2 for v in row) / C
        want = [g[c] * (row[c] - mean) / math.sqrt(var + 1e-5) + b[c] for c in range(C)]
        np.testing.assert_allclose(out, want, rtol=1e-12)


def test_gelu_is_its_formula_and_close_to_the_exact_gelu():
    x = np.linspace(-5, 5, 201)
    y, _ = ops.gelu_forward(np, x)
    np.testing.assert_allclose(y, [gelu(v) for v in x], atol=1e-14)
    exact = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]
    np.testing.assert_allclose(y, exact, atol=5e-4)


def test_softmax():
    (s,) = rand((3, 4))
    want = [[math.exp(v) / sum(math.exp(u) for u in row) for v in row] for row in s]
    np.testing.assert_allclose(ops.softmax_forward(np, s)[0], want, rtol=1e-12)


def test_attention():
    q, k, v = rand(*3 * [(B, H, T, 3)])
    y, _ = ops.attention_forward(np, q, k, v, np.triu(np.full((T, T), -np.inf), k=1))
    for b, h, t in np.ndindex(B, H, T):
        score = [math.exp(q[b, h, t] @ k[b, h, s] / math.sqrt(3)) for s in range(t + 1)]
        want = sum(e / sum(score) * v[b, h, s] for s, e in enumerate(score))
        np.testing.assert_allclose(y[b, h, t], want, rtol=1e-12)


def test_cross_entropy():
    (logits,), targets = rand((B, T, V)), np.arange(B * T).reshape(B, T) % V
    nll, _ = ops.cross_entropy_forward(np, logits, np.eye(V)[targets])
    for b, t in np.ndindex(B, T):
        p = math.exp(logits[b, t, targets[b, t]]) / sum(math.exp(v) for v in logits[b, t])
        assert nll[b, t] == pytest.approx(-math.log(p), rel=1e-12)


def test_large_scores_do_not_overflow():
    z = np.array([[[1e4, -1e4, 0.0]]])
    nll, cache = ops.cross_entropy_forward(np, z, np.eye(3)[[[1]]])
    assert nll == 2e4
    assert np.isfinite(ops.cross_entropy_backward(np, np.ones((1, 1)), cache)).all()
    p, _ = ops.softmax_forward(np, np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -np.inf, -1e4]]))
    want = [[1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), 0], [0.5, 0, 0.5]]
    np.testing.assert_allclose(p, want, rtol=1e-12)


@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_op_is_pure(case):
    """Arguments are read-only, and a cache serves a second backward."""
    inputs = [x.copy() for x in case.inputs.values()]
    for x in inputs:
        x.flags.writeable = False
    y, cache = case.forward(np, *inputs)
    (dy,) = rand(y.shape)
    dy.flags.writeable = False
    once, twice = (case.backward(np, dy, cache) for _ in range(2))
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(case.forward(np, *inputs)[0], y)
