"""The optimizer: AdamW as published; an inactive sink keeps every bit."""

import itertools
import math

import numpy as np
import pytest

from memsinks_np import optim
from memsinks_np.config import TrainConfig
from memsinks_np.sinks import RowGrad

CFG = TrainConfig(steps=100, warmup=10, lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
SINKS = {"h0.sink.W_in": 0.1, "h0.sink.b_in": 0.0, "h1.sink.W_in": 0.1}  # with their decay


def adamw_reference(w, grads, decay):
    """Loshchilov & Hutter 2019, algorithm 2, for one number."""
    (b1, b2), m, v = CFG.betas, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        w = w - CFG.lr * m_hat / (math.sqrt(v_hat) + CFG.eps) - CFG.lr * decay * w
    return w


@pytest.mark.parametrize(
    ("name", "shape", "decay"),
    [("h0.W_any", (3, 2), 0.1), ("wte", (3, 2), 0.1), ("h0.b", (3,), 0.0), ("h1.ln1.g", (3,), 0.0)],
)
def test_dense_parameters_follow_the_published_adamw(name, shape, decay):
    rng = np.random.default_rng(0)
    params, grads = {name: rng.standard_normal(shape)}, rng.standard_normal((5, *shape))
    start, state = params[name].copy(), optim.init_state(np, params)
    for g in grads:
        optim.update(np, params, {name: g}, state, CFG, CFG.lr)
    for i in np.ndindex(*shape):
        want = adamw_reference(start[i], grads[(slice(None), *i)], decay)
        assert params[name][i] == pytest.approx(want, rel=1e-12)


def test_only_parameters_with_a_gradient_move():
    rng, names = np.random.default_rng(1), ("wte", "wpe", "h0.ln1.g")
    start, grads = ({name: rng.standard_normal(3) for name in names} for _ in range(2))

    def updated(moving):
        params = {name: w.copy() for name, w in start.items()}
        some = {name: grads[name] for name in moving}
        optim.update(np, params, some, optim.init_state(np, params), CFG, CFG.lr)
        return params

    moved, one = updated(names), updated(["wpe"])
    for name, w in start.items():
        assert (moved[name] != w).all()
        np.testing.assert_array_equal(one[name], moved[name] if name == "wpe" else w)


def run_sinks(optimizer):
    """Take four steps: sink 0 is never active, 1 in the first and last, 2 in all of them."""
    rng = np.random.default_rng(2)
    cfg = TrainConfig(optimizer=optimizer, weight_decay=0.1, betas=CFG.betas)
    params = {name: rng.standard_normal((3, 2) if "W" in name else 3) for name in SINKS}
    params["wte"] = np.ones((1, 1))
    state = optim.init_state(np, params)

    def snapshot():
        arrays = {name: (params[name].copy(), *map(np.copy, state.moments[name])) for name in SINKS}
        return arrays, state.sink_steps.copy()

    trace, grads = [snapshot()], []
    for step in range(4):
        rows = np.array([1, 2]) if step in (0, 3) else np.array([2])
        shapes = {name: (len(rows), *params[name].shape[1:]) for name in SINKS}
        sparse = {n: RowGrad(rows, rng.standard_normal(shape)) for n, shape in shapes.items()}
        optim.update(np, params, {"wte": np.ones((1, 1)), **sparse}, state, cfg, CFG.lr)
        trace.append(snapshot())
        grads.append(sparse)
    return trace, grads


@pytest.mark.parametrize("optimizer", ["lazy_adamw", "sgd"])
def test_an_inactive_sink_keeps_every_bit(optimizer):
    """Of weights, both moments and the step count."""
    trace, _ = run_sinks(optimizer)
    for name in SINKS:
        for i in range(3):
            row = lambda step, sink, name=name, i=i: trace[step][0][name][i][sink].tobytes()
            assert row(4, 0) == row(0, 0)
            assert row(1, 1) == row(2, 1) == row(3, 1)
        w = [arrays[name][0][1] for arrays, _ in trace]
        assert (w[1] != w[0]).all()
        assert (w[4] != w[3]).all()
    counts = [[0, 0, 0], [0, 1, 1], [0, 1, 2], [0, 1, 3], [0, 2, 4]]
    assert [steps.tolist() for _, steps in trace] == counts


def test_ordinary_adamw_keeps_moving_inactive_sinks():
    w = [arrays["h0.sink.W_in"][0] for arrays, _ in run_sinks("adamw")[0]]
    assert (w[3][1] != w[1][1]).all()  # momentum
    assert (w[1][0] != w[0][0]).all()  # weight decay


@pytest.mark.parametrize(("sink", "steps"), [(1, (0, 3)), (2, (0, 1, 2, 3))])
def test_each_sink_counts_its_own_steps(sink, steps):
    trace, grads = run_sinks("lazy_adamw")
    for name, decay in SINKS.items():
        seen = [grads[s][name].values[grads[s][name].rows == sink][0] for s in steps]
        start, end = (np.atleast_1d(trace[i][0][name][0][sink]) for i in (0, -1))
        for c, w in enumerate(start):
            want = adamw_reference(w, [np.atleast_1d(g)[c] for g in seen], decay)
            assert end[c] == pytest.approx(want, rel=1e-12)


def test_clip_scale_bounds_the_global_norm():
    grads = {"wte": np.array([[3.0, 0.0]])}
    grads |= {"h0.sink.W_in": RowGrad(np.array([5]), np.array([[0.0, 4.0]]))}
    assert optim.clip_scale(np, grads, 1.0) == pytest.approx((5.0, 0.2))
    assert optim.clip_scale(np, grads, 6.0) == pytest.approx((5.0, 1.0))
    params = {
        "wte": np.zeros((1, 2)),
        "h0.sink.W_in": np.zeros((7, 2)),
        "h0.sink.b_in": np.zeros(7),
    }
    cfg, state = TrainConfig(optimizer="sgd", weight_decay=0.0), optim.init_state(np, params)
    optim.update(np, params, grads, state, cfg, 1.0, 0.2)
    np.testing.assert_allclose(params["wte"], [[-0.6, 0]])
    np.testing.assert_allclose(params["h0.sink.W_in"][5], [0, -0.8])


@pytest.mark.parametrize(
    ("name", "shape", "decay"),
    [("wte", (3, 2), 0.1), ("h0.ln1.g", (3,), 0.0), ("h0.sink.W_in", (3, 2), 0.1)],
)
def test_sgd_takes_the_gradient_and_the_decay(name, shape, decay):
    rng = np.random.default_rng(4)
    cfg = TrainConfig(optimizer="sgd", weight_decay=0.1)
    w, g = rng.standard_normal((2, *shape))
    params, rows = {name: w.copy(), "h0.sink.b_in": np.zeros(3)}, np.arange(3)
    grads = {name: RowGrad(rows, g) if name in SINKS else g}
    optim.update(np, params, grads, optim.init_state(np, params), cfg, 0.5, 0.2)
    np.testing.assert_allclose(params[name], w - 0.5 * (decay * w + 0.2 * g), rtol=1e-12)


def test_schedule_warms_up_and_decays_to_a_tenth():
    rates = [optim.learning_rate(CFG, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == rates[9] == rates[10] == CFG.lr
    assert rates[99] == pytest.approx(0.001, rel=0.02)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
