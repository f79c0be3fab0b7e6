"""The optimizer: AdamW as published, and a sink that is off keeps every bit."""

import itertools
import math

import numpy as np
import pytest

from memsinks_np import optim
from memsinks_np.config import ConfigError, TrainConfig

RNG = np.random.default_rng(6)
CFG = TrainConfig(steps=100, warmup=10, lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))


def naive_adamw(w, grads, lr, decay, cfg):
    """Loshchilov & Hutter 2019, algorithm 2, for one number."""
    m = v = 0.0
    for t, g in enumerate(grads, start=1):
        m = cfg.betas[0] * m + (1 - cfg.betas[0]) * g
        v = cfg.betas[1] * v + (1 - cfg.betas[1]) * g * g
        m_hat, v_hat = m / (1 - cfg.betas[0] ** t), v / (1 - cfg.betas[1] ** t)
        w = w - lr * m_hat / (math.sqrt(v_hat) + cfg.eps) - lr * decay * w
    return w


@pytest.mark.parametrize(
    ("name", "decay"), [("h0.W_QKV", 0.1), ("wte", 0.1), ("h0.mlp.b_in", 0.0), ("h1.ln1.g", 0.0)]
)
def test_dense_parameters_follow_the_published_algorithm(name, decay):
    params = {name: RNG.standard_normal((3, 2))}
    start, state = params[name].copy(), optim.init_state(np, params)
    grads = RNG.standard_normal((5, 3, 2))
    for g in grads:
        optim.update(np, params, {name: g}, state, CFG, 0.01)
    for i in np.ndindex(3, 2):
        assert params[name][i] == pytest.approx(
            naive_adamw(start[i], grads[(slice(None), *i)], 0.01, decay, CFG), rel=1e-12
        )


def test_what_has_no_gradient_rests_and_all_else_moves_as_with_it():
    start = {
        "wte": RNG.standard_normal((4, 3)),
        "wpe": RNG.standard_normal((5, 3)),
        "h0.ln1.g": RNG.standard_normal(3),
    }
    grads = {name: RNG.standard_normal(w.shape) for name, w in start.items()}

    def updated(still):
        params = {name: w.copy() for name, w in start.items()}
        state = optim.init_state(np, params)
        optim.update(
            np, params, {n: g for n, g in grads.items() if n not in still}, state, CFG, 0.01
        )
        return params

    moved = updated(set())
    assert not any((moved[name] == start[name]).any() for name in start)
    for still in ({"wpe"}, {"wte", "h0.ln1.g"}, set(start)):
        for name, w in updated(still).items():
            assert np.array_equal(w, start[name] if name in still else moved[name])


def sink_run(optimizer, n=4):
    """Four updates of which sink 1 sees the first and the last, sink 2 all, sink 0 none."""
    cfg = TrainConfig(optimizer=optimizer, weight_decay=0.1)
    params = {
        "wte": np.ones((1, 1)),
        "h0.sink.W_in": RNG.standard_normal((3, 2)),
        "h0.sink.b_in": RNG.standard_normal(3),
    }
    state = optim.init_state(np, params)
    trace, grads = [{k: w.copy() for k, w in params.items()}], []
    for step in range(n):
        rows = np.array([1, 2]) if step in (0, n - 1) else np.array([2])
        g = {
            k: (rows, RNG.standard_normal((len(rows), *w.shape[1:])))
            for k, w in params.items()
            if "sink" in k
        }
        g["wte"] = np.ones((1, 1))
        optim.update(np, params, g, state, cfg, 0.01)
        trace.append({k: w.copy() for k, w in params.items()})
        grads.append(g)
    return trace, grads, cfg


@pytest.mark.parametrize("optimizer", ["lazy_adamw", "sgd"])
def test_a_sink_that_is_off_keeps_every_bit(optimizer):
    trace, _, _ = sink_run(optimizer)
    for name in ("h0.sink.W_in", "h0.sink.b_in"):
        assert (trace[-1][name][0] == trace[0][name][0]).all()  # never on
        assert (trace[1][name][1] != trace[0][name][1]).all()
        assert (trace[3][name][1] == trace[1][name][1]).all()  # off for two steps
        assert (trace[4][name][1] != trace[3][name][1]).all()


def test_ordinary_adamw_goes_on_moving_it():
    trace, _, _ = sink_run("adamw")
    assert (trace[3]["h0.sink.W_in"][1] != trace[1]["h0.sink.W_in"][1]).all()  # momentum's tail
    assert (trace[1]["h0.sink.W_in"][0] != trace[0]["h0.sink.W_in"][0]).all()  # decay


def test_every_sink_counts_its_own_steps():
    trace, grads, cfg = sink_run("lazy_adamw")
    for row, seen in ((1, (0, 3)), (2, (0, 1, 2, 3))):
        for c in range(2):
            own = [grads[s]["h0.sink.W_in"][1][-1 if row == 2 else 0][c] for s in seen]
            want = naive_adamw(trace[0]["h0.sink.W_in"][row, c], own, 0.01, 0.1, cfg)
            assert trace[-1]["h0.sink.W_in"][row, c] == pytest.approx(want, rel=1e-12)


def test_clipping_scales_the_global_norm_over_dense_and_row_sparse_gradients():
    grads = {"a": np.array([3.0, 0.0]), "h0.sink.W_in": (np.array([5]), np.array([[0.0, 4.0]]))}
    assert optim.clip_scale(np, grads, 1.0) == pytest.approx((5.0, 0.2))
    assert optim.clip_scale(np, grads, 6.0) == pytest.approx((5.0, 1.0))
    params = {"wte": np.zeros((1, 2)), "h0.sink.W_in": np.zeros((7, 2))}
    cfg, state = TrainConfig(optimizer="sgd", weight_decay=0.0), optim.init_state(np, params)
    optim.update(
        np,
        params,
        {"wte": grads["a"][None], "h0.sink.W_in": grads["h0.sink.W_in"]},
        state,
        cfg,
        1.0,
        0.2,
    )
    np.testing.assert_allclose(params["wte"], [[-0.6, 0]])
    np.testing.assert_allclose(params["h0.sink.W_in"][5], [0, -0.8])


def test_schedule():
    rates = [optim.learning_rate(CFG, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == rates[9] == rates[10] == CFG.lr
    assert rates[99] == pytest.approx(0.001, rel=0.02)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize(
    "bad",
    [{"steps": -5}, {"steps": 0}, {"lr": 0.0}, {"clip": 0}, {"warmup": -1}, {"eval_every": 0}],
)
def test_impossible_training_is_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        TrainConfig(**bad)


def test_every_layer_has_a_pool_of_its_own_and_all_of_them_move():
    pool = RNG.standard_normal((5, 3))
    params = {"wte": np.ones((1, 1))} | {f"h{layer}.sink.W_in": pool.copy() for layer in range(3)}
    state, rows = optim.init_state(np, params), np.array([1, 4])
    grads = {name: (rows, RNG.standard_normal((2, 3))) for name in params if "sink" in name}
    optim.update(np, params, grads | {"wte": np.ones((1, 1))}, state, CFG, 0.01)
    for name, (_, g) in grads.items():
        for i, row in enumerate(rows):
            want = [naive_adamw(pool[row, c], [g[i, c]], 0.01, 0.1, CFG) for c in range(3)]
            assert params[name][row] == pytest.approx(want, rel=1e-12)
        assert (params[name][[0, 2, 3]] == pool[[0, 2, 3]]).all()
