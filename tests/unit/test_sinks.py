"""The sinks: which are active, and that masked = gathered, removed = pruned, deleted = inactive."""

from typing import get_args, get_type_hints

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.model import loss_and_grads, token_loss
from plain import strong_params

POOL = SinkConfig(n_sink=20, n_active=5)
CFG = ModelConfig(n_vocab=11, n_ctx=6, d_model=6, n_heads=2, n_layers=2, n_shared=7, sinks=POOL)
TOKENS = np.random.default_rng(5).integers(11, size=(4, 7))
IDS = np.array([4, -9, 4, 2**62])
SCHEMES = get_args(get_type_hints(SinkConfig)["scheme"])
MASK = sinks.Mask(sinks.sink_mask(POOL, IDS))


@pytest.fixture
def params():
    return strong_params(CFG, 6)


def losses(params, selection):
    return token_loss(np, params, make_batch(CFG, TOKENS, selection, np.float64), CFG)


def gradients(params, selection):
    return loss_and_grads(np, params, make_batch(CFG, TOKENS, selection, np.float64), CFG)[1]


# From IDs to sinks


@pytest.mark.parametrize("n", [1, 2, 5, 1000])
def test_a_pool_for_documents_gives_each_sink_to_two(n):
    pool = SinkConfig.for_documents(n, n_active=8, seed=3)
    owners = sinks.sink_mask(pool, np.arange(n)).sum(axis=0)
    assert (pool.n_active, pool.seed, len(owners) % 8) == (8, 3, 0)
    assert 1 <= owners.mean() <= 2
    assert SinkConfig.for_documents(n).n_active == SinkConfig().n_active
    with pytest.raises(ConfigError, match="n=0 documents; give at least 1"):
        SinkConfig.for_documents(n - n)


def test_stratified_takes_one_sink_from_each_stratum():
    ids = np.random.default_rng(0).integers(-(2**63), 2**63, size=500)
    index = sinks.active(SinkConfig(n_sink=2048, n_active=32), ids)
    assert (index // 64 == np.arange(32)).all()


@pytest.mark.parametrize(
    "cfg",
    [SinkConfig(n_sink=256, n_active=32), SinkConfig(n_sink=256, scheme="bernoulli", p=0.125)],
    ids=lambda c: c.scheme,
)
@pytest.mark.parametrize(
    ("one", "other", "plus"),
    [(1, 2, 0), (1, 1, 1), (1, -1, 0), (0, 1, 0), (1, 1, 2**16), (1, 2**32, 0)],
    ids=["i,2i", "i,i+1", "i,-i", "0,i", "i,i+65536", "i,i<<32"],
)
def test_overlap_is_that_of_independent_draws(cfg, one, other, plus):
    """A active sinks and A*A/S shared ones on average, also for related IDs."""
    i, std = np.arange(1, 4001, dtype=np.int64), np.sqrt(0.125 * 0.875)
    a, b = sinks.sink_mask(cfg, one * i), sinks.sink_mask(cfg, other * i + plus)
    error = 4 * np.sqrt(256 * 0.125**2 / 4000)  # four standard errors
    assert (a * b).sum(axis=1).mean() == pytest.approx(a.sum(axis=1).mean() * 0.125, abs=error)
    n_active = b.sum(axis=1).mean()
    assert n_active == pytest.approx(32, abs=1e-9 if cfg.scheme == "stratified" else 0.4)
    assert b.mean(axis=0) == pytest.approx(np.full(256, 0.125), abs=6 * std / np.sqrt(4000))


def test_disjoint_slices_do_not_overlap_until_used_up():
    cfg = SinkConfig(n_sink=20, n_active=5, scheme="disjoint")
    assert sorted(sinks.active(cfg, [0, 1, 2, 3]).ravel().tolist()) == list(range(20))
    np.testing.assert_array_equal(sinks.active(cfg, [4, -1]), sinks.active(cfg, [0, 3]))


def test_active_sinks_do_not_depend_on_batch_or_order():
    ids = np.random.default_rng(1).integers(-1000, 1000, size=40)
    index = sinks.active(POOL, ids)
    np.testing.assert_array_equal(sinks.active(POOL, ids[::-1]), index[::-1])
    np.testing.assert_array_equal(sinks.active(POOL, ids[7:8]), index[7:8])


# Two implementations, one meaning


def test_masked_equals_gathered_forward_and_backward(params):
    rows = sinks.own(POOL, IDS)
    np.testing.assert_allclose(losses(params, rows), losses(params, MASK), rtol=1e-13)
    gathered, masked = gradients(params, rows), gradients(params, MASK)
    for name, g in gathered.items():
        if isinstance(g, sinks.RowGrad):
            dense = np.zeros_like(params[name])
            np.add.at(dense, g.rows, g.values)
            g = dense
        np.testing.assert_allclose(g, masked[name], rtol=1e-9, atol=1e-13, err_msg=name)


def test_an_inactive_sink_gets_a_gradient_of_exactly_zero(params):
    grads, inactive = gradients(params, MASK), ~MASK.value.any(axis=0)
    assert inactive.any()
    for name in sinks.SINK:
        assert (grads[f"h0.{name}"][inactive] == 0).all()
        assert (grads[f"h0.{name}"][~inactive] != 0).any(axis=-1).all()


@pytest.mark.parametrize("S", [2, 40, 1000])  # nearly all rows shared, some, hardly any
def test_coalesce_is_the_sum_over_all_occurrences(S):
    rng = np.random.default_rng(S)
    index, values = rng.integers(S, size=(7, 5)), rng.standard_normal((7, 5, 3))
    before = values.copy()
    matrix, bias = sinks.coalesce(np, index, [values, values[..., 0]])
    assert matrix.rows.tolist() == bias.rows.tolist() == sorted(set(index.ravel().tolist()))
    for row, got, first in zip(matrix.rows, matrix.values, bias.values, strict=True):
        np.testing.assert_allclose(got, values[index == row].sum(axis=0), rtol=1e-12)
        assert first == pytest.approx(got[0], rel=1e-12)
    np.testing.assert_array_equal(values, before)


# Selections


def test_removed_equals_pruned_equals_a_mask_of_zeros(params):
    pruned = sinks.prune(params)
    assert not any("sink" in name for name in pruned)
    want = losses(pruned, sinks.NO_SINKS)
    np.testing.assert_array_equal(losses(params, sinks.NO_SINKS), want)
    np.testing.assert_allclose(losses(params, sinks.Mask(np.zeros((4, 20)))), want, rtol=1e-13)


def test_a_model_without_a_pool_has_no_selection():
    assert sinks.own(None, IDS) is sinks.all_scaled(None) is sinks.placebo(None, IDS) is None


def test_all_scaled_is_the_pool_times_the_density(params):
    mask = sinks.all_scaled(POOL).value
    assert mask.shape == (20,)
    assert (mask == 0.25).all()
    dense = SinkConfig(n_sink=20, n_active=20)
    got, want = (losses(params, f) for f in (sinks.all_scaled(dense), sinks.own(dense, IDS)))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_placebo_selects_sinks_of_other_ids():
    a, b = sinks.own(POOL, IDS).index, sinks.placebo(POOL, IDS).index
    assert a.shape == b.shape
    assert (a != b).any(axis=1).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_is_a_pure_function_of_seed_and_id(scheme):
    cfg = SinkConfig(n_sink=256, n_active=32, scheme=scheme)
    mask = sinks.sink_mask(cfg, IDS)
    np.testing.assert_array_equal(mask, [sinks.sink_mask(cfg, [i])[0] for i in IDS])
    assert np.unique(mask, axis=0).shape == (3, 256)  # two of the four IDs are the same
    if not cfg.is_random:
        assert (mask.sum(axis=1) == 32).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_deleting_rows_equals_making_them_inactive(params, scheme):
    cfg = SinkConfig(n_sink=20, n_active=5, scheme=scheme)
    own = sinks.own(cfg, IDS)
    want = losses(params, sinks.own_except(cfg, IDS, [2, 4]))
    erased = sinks.delete(params, cfg, [2, 4])
    np.testing.assert_allclose(losses(erased, own), want, rtol=1e-12)
    assert np.abs(want - losses(params, own)).max() > 1e-3
    removed = losses(params, sinks.NO_SINKS)
    np.testing.assert_allclose(want[0], removed[0], rtol=1e-12)  # ID 4 has nothing left


def test_delete_erases_all_weights_of_its_rows_only(params):
    before = {name: w.copy() for name, w in params.items()}
    erased, gone = sinks.delete(params, POOL, [4]), sinks.active(POOL, [4])[0]
    for name, w in params.items():
        np.testing.assert_array_equal(w, before[name])  # the argument is not written to
        if sinks.is_sink(name):
            assert (erased[name][gone] == 0).all()
            left = [np.delete(p[name], gone, axis=0) for p in (erased, params)]
            np.testing.assert_array_equal(*left)
        else:
            assert erased[name] is w
