"""The mechanism: which sinks are on, that off is exactly zero, that masked = gathered = pruned."""

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig
from memsinks_np.model import init_params, loss_and_grads, make_batch, token_loss

RNG = np.random.default_rng(5)
POOL = SinkConfig(n_sink=20, n_active=5)
CFG = ModelConfig(n_vocab=11, n_ctx=6, d_model=6, n_heads=2, n_layers=2, n_shared=7, sinks=POOL)
PARAMS = {
    k: w + 0.3 * RNG.standard_normal(w.shape) for k, w in init_params(CFG, dtype=np.float64).items()
}
TOKENS = RNG.integers(11, size=(4, 7))
IDS = np.array([4, -9, 4, 2**62])


def loss(params, selection):
    return token_loss(np, params, make_batch(CFG, TOKENS, selection, np.float64), CFG)


def as_masks(cfg, ids):
    return tuple(sinks.Mask(sinks.sink_mask(cfg, ids, layer)) for layer in range(2))


# From IDs to sinks


def test_golden_values():
    assert sinks.active(SinkConfig(n_sink=12, n_active=3), [0, 1, -1]).tolist() == [
        [0, 5, 11],
        [2, 7, 9],
        [3, 6, 10],
    ]
    coin = SinkConfig(n_sink=12, scheme="bernoulli", p=0.5)
    assert np.flatnonzero(sinks.sink_mask(coin, [7])).tolist() == [1, 3, 5, 6, 7, 8, 9, 10, 11]


def test_stratified_takes_one_sink_from_each_stratum():
    on = sinks.active(SinkConfig(n_sink=2048, n_active=32), RNG.integers(-(2**63), 2**63, size=500))
    assert (on // 64 == np.arange(32)).all()


@pytest.mark.parametrize(
    "cfg",
    [SinkConfig(n_sink=256, n_active=32), SinkConfig(n_sink=256, scheme="bernoulli", p=0.125)],
    ids=lambda c: c.scheme,
)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda i: i, lambda i: 2 * i),
        (lambda i: i, lambda i: i + 1),
        (lambda i: i, lambda i: -i),
        (lambda i: 0 * i, lambda i: i),
        (lambda i: i, lambda i: i + 2**16),
        (lambda i: i, lambda i: i * 2**32),
    ],
    ids=["i,2i", "i,i+1", "i,-i", "0,i", "i,i+65536", "i,i<<32"],
)
def test_density_and_overlap_are_those_of_independent_draws(cfg, one, other):
    """A sinks on and A*A/S shared on average, also for IDs that are related; four standard errors."""
    i = np.arange(1, 4001)
    a, b = sinks.sink_mask(cfg, one(i)), sinks.sink_mask(cfg, other(i))
    error = 4 * np.sqrt(256 * 0.125**2 / 4000)
    assert (a * b).sum(axis=1).mean() == pytest.approx(a.sum(axis=1).mean() * 0.125, abs=error)
    assert b.sum(axis=1).mean() == pytest.approx(
        32, abs=1e-9 if cfg.scheme == "stratified" else 0.4
    )
    assert b.mean(axis=0) == pytest.approx(
        np.full(256, 0.125), abs=6 * np.sqrt(0.125 * 0.875 / 4000)
    )


def test_disjoint_slices_do_not_overlap_until_they_are_used_up():
    cfg = SinkConfig(n_sink=20, n_active=5, scheme="disjoint")
    assert sorted(sinks.active(cfg, [0, 1, 2, 3]).ravel().tolist()) == list(range(20))
    np.testing.assert_array_equal(sinks.active(cfg, [4, -1]), sinks.active(cfg, [0, 3]))


def test_choice_does_not_depend_on_batch_or_order():
    ids = RNG.integers(-1000, 1000, size=40)
    whole = sinks.active(POOL, ids)
    np.testing.assert_array_equal(sinks.active(POOL, ids[::-1]), whole[::-1])
    np.testing.assert_array_equal(sinks.active(POOL, ids[7:8]), whole[7:8])


def test_layers_are_alike_by_default_and_differ_on_request():
    alike = sinks.own(POOL, IDS)
    differ = sinks.own(SinkConfig(n_sink=20, n_active=5, per_layer=True), IDS)
    np.testing.assert_array_equal(alike[0].index, alike[1].index)
    assert (differ[0].index != differ[1].index).any()


@pytest.mark.parametrize("ids", [[0.5], [True], [2**63]])
def test_bad_ids_are_refused(ids):
    with pytest.raises(ConfigError):
        sinks.own(POOL, ids)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_sink": 8, "n_active": 9},
        {"n_sink": 0},
        {"n_sink": 8, "n_active": 0},
        {"n_sink": 8, "n_active": 3},
        {"scheme": "bernoulli", "p": 0.0},
        {"scheme": "bernoulli", "p": 1.5},
    ],
)
def test_impossible_pools_are_refused_in_one_line(bad):
    with pytest.raises(ConfigError) as e:
        SinkConfig(**bad)
    assert "\n" not in str(e.value)


# Two pairs, one meaning


def test_naive_forward():
    """One sequence, one position, one sink at a time."""
    x, mask = RNG.standard_normal((2, 3, 4)), np.array([[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
    W_in, b_in, W_out = (
        RNG.standard_normal((3, 4)),
        RNG.standard_normal(3),
        RNG.standard_normal((3, 4)),
    )
    y, _ = sinks.masked_sink_forward(np, x, mask, W_in, b_in, W_out)
    for b, t in np.ndindex(2, 3):
        z = [float(W_in[s] @ x[b, t] + b_in[s]) for s in range(3)]
        gelu = [0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))) for v in z]
        np.testing.assert_allclose(
            y[b, t], sum(mask[b, s] * gelu[s] * W_out[s] for s in range(3)), rtol=1e-12
        )


def densify(grads, params):
    out = dict(grads)
    for name, g in grads.items():
        if isinstance(g, tuple):
            rows, values = sinks.coalesce(np, g[0], [g[1]])
            out[name] = np.zeros_like(params[name])
            out[name][rows] = values[0]
    return out


def test_masked_equals_gathered_forward_and_backward():
    _, by_rows = loss_and_grads(
        np, PARAMS, make_batch(CFG, TOKENS, sinks.own(POOL, IDS), np.float64), CFG
    )
    _, by_mask = loss_and_grads(
        np, PARAMS, make_batch(CFG, TOKENS, as_masks(POOL, IDS), np.float64), CFG
    )
    np.testing.assert_allclose(
        loss(PARAMS, sinks.own(POOL, IDS)), loss(PARAMS, as_masks(POOL, IDS)), rtol=1e-13
    )
    by_rows = densify(by_rows, PARAMS)
    for name in PARAMS:
        np.testing.assert_allclose(
            by_rows[name], by_mask[name], rtol=1e-9, atol=1e-13, err_msg=name
        )


def test_a_sink_that_is_off_gets_a_gradient_of_exactly_zero():
    batch = make_batch(CFG, TOKENS, as_masks(POOL, IDS), np.float64)
    _, grads = loss_and_grads(np, PARAMS, batch, CFG)
    off = ~batch.sinks[0].value.any(axis=0)
    assert off.any()
    for name in ("sink.W_in", "sink.b_in", "sink.W_out"):
        assert (grads[f"h0.{name}"][off] == 0).all()
        assert (grads[f"h0.{name}"][~off] != 0).any(axis=-1).all()


def test_coalesce_sums_what_sequences_share():
    values = np.arange(12.0).reshape(3, 2, 2)
    rows, (matrix, bias) = sinks.coalesce(
        np, np.array([[3, 1], [1, 3], [0, 3]]), [values, values[..., 0]]
    )
    assert rows.tolist() == [0, 1, 3]
    assert matrix.tolist() == [[8, 9], [2 + 4, 3 + 5], [0 + 6 + 10, 1 + 7 + 11]]
    assert bias.tolist() == [8, 6, 16]


@pytest.mark.parametrize("S", [2, 40, 1000])  # nearly all of them shared, some, hardly any
def test_coalesce_is_the_sum_over_all_that_name_a_sink(S):
    rng = np.random.default_rng(S)
    index, values = rng.integers(S, size=(7, 5)), rng.standard_normal((7, 5, 3))
    rows, (matrix, bias) = sinks.coalesce(np, index, [values, values[..., 0]])
    assert rows.tolist() == sorted(set(index.ravel().tolist()))
    for row, got, first in zip(rows, matrix, bias, strict=True):
        np.testing.assert_allclose(got, values[index == row].sum(axis=0), rtol=1e-12)
        assert first == pytest.approx(values[index == row][:, 0].sum(), rel=1e-12)


# Selections


def test_removed_equals_pruned_equals_a_mask_of_zeros():
    pruned = sinks.prune(PARAMS)
    assert not any("sink" in name for name in pruned)
    np.testing.assert_array_equal(loss(PARAMS, sinks.NO_SINKS), loss(pruned, sinks.NO_SINKS))
    zeros = (sinks.Mask(np.zeros((4, 20))),) * 2
    np.testing.assert_allclose(loss(PARAMS, zeros), loss(pruned, sinks.NO_SINKS), rtol=1e-13)


def test_everything_is_the_pool_scaled_by_the_density():
    mask = sinks.all_scaled(POOL)[1].value
    assert mask.shape == (1, 20)
    assert (mask == 0.25).all()
    whole = sinks.all_scaled(SinkConfig(n_sink=20, n_active=20))
    own = sinks.own(SinkConfig(n_sink=20, n_active=20), IDS)
    np.testing.assert_allclose(loss(PARAMS, whole), loss(PARAMS, own), rtol=1e-12)


def test_placebo_is_somebody_elses():
    a, b = sinks.own(POOL, IDS)[0].index, sinks.placebo(POOL, IDS)[0].index
    assert a.shape == b.shape
    assert (a != b).any(axis=1).all()


@pytest.mark.parametrize("scheme", ["stratified", "bernoulli", "disjoint"])
@pytest.mark.parametrize("per_layer", [False, True])
def test_deleting_rows_equals_switching_them_off(scheme, per_layer):
    cfg = SinkConfig(n_sink=20, n_active=5, scheme=scheme, per_layer=per_layer)
    erased = sinks.delete(PARAMS, cfg, [2, 4])
    want = loss(PARAMS, sinks.without(cfg, IDS, [2, 4]))
    np.testing.assert_allclose(loss(erased, sinks.own(cfg, IDS)), want, rtol=1e-12)
    assert np.abs(want - loss(PARAMS, sinks.own(cfg, IDS))).max() > 1e-3
    np.testing.assert_allclose(
        want[0], loss(PARAMS, sinks.NO_SINKS)[0], rtol=1e-12
    )  # ID 4 has nothing left


def test_delete_erases_both_weights_and_leaves_its_argument():
    before = {name: w.copy() for name, w in PARAMS.items()}
    erased = sinks.delete(PARAMS, POOL, [4])
    gone = sinks.active(POOL, [4])[0]
    for name in PARAMS:
        np.testing.assert_array_equal(PARAMS[name], before[name])
        if ".sink." in name:
            assert (erased[name][gone] == 0).all()
            assert (
                np.delete(erased[name], gone, axis=0) == np.delete(PARAMS[name], gone, axis=0)
            ).all()
