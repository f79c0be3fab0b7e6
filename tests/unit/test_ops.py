"""GELU is its formula, large scores do not overflow, and every op is pure.

Other implementations compute the same forwards: test_micro_sinks.py, and with PyTorch
test_independent_forward.py and test_torch_model.py.
"""

import math

import numpy as np
import pytest

from memsinks_np import ops
from memsinks_np.gradcheck.cases import cases


def test_gelu_is_its_formula_and_close_to_the_exact_gelu():
    x = np.linspace(-5, 5, 201)
    y, _ = ops.gelu_forward(np, x)
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    np.testing.assert_allclose(y, 0.5 * x * (1 + np.tanh(inner)), atol=1e-14)
    exact = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]
    np.testing.assert_allclose(y, exact, atol=5e-4)


def test_large_scores_do_not_overflow():
    z = np.array([[[1e4, -1e4, 0.0]]])
    nll, cache = ops.cross_entropy_forward(np, z, np.array([[1]]))
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
    dy = np.random.default_rng(3).standard_normal(y.shape)
    dy.flags.writeable = False
    once, twice = (case.backward(np, dy, cache) for _ in range(2))
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(case.forward(np, *inputs)[0], y)
