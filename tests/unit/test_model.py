"""The transformer: causal, well initialised, float32 where it should be."""

import numpy as np
import pytest

from memsinks_np import optim, sinks
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig, TrainConfig
from memsinks_np.model import init_params, loss_and_grads, make_batch, model_forward, token_loss
from memsinks_np.train import merge

RNG = np.random.default_rng(7)
CFG = ModelConfig(
    n_vocab=50,
    n_ctx=12,
    d_model=16,
    n_heads=2,
    n_shared=24,
    sinks=SinkConfig(n_sink=40, n_active=8),
)
TOKENS = RNG.integers(50, size=(6, 13))


def selections(cfg=CFG):
    bernoulli = SinkConfig(n_sink=40, scheme="bernoulli")
    ids = np.arange(6)
    return {
        "own": sinks.own(cfg.sinks, ids),
        "none": sinks.NO_SINKS,
        "all": sinks.all_scaled(cfg.sinks),
        "bernoulli": sinks.own(bernoulli, ids),
    }


@pytest.mark.parametrize("tied", [True, False])
def test_the_first_loss_is_close_to_that_of_guessing(tied):
    cfg = ModelConfig(n_vocab=100, n_shared=128, sinks=SinkConfig(), tied=tied)
    tokens = RNG.integers(100, size=(32, 33))
    batch = make_batch(cfg, tokens, sinks.own(cfg.sinks, np.arange(32)))
    assert token_loss(np, init_params(cfg), batch, cfg).mean() == pytest.approx(
        np.log(100), rel=0.03
    )


@pytest.mark.parametrize("name", selections())
def test_causality(name):
    """A word that changes moves the predictions after it, and none before it."""
    params, changed = init_params(CFG), TOKENS.copy()
    changed[:, 5] = (changed[:, 5] + 1) % 50
    a, b = (
        model_forward(np, params, make_batch(CFG, t, selections()[name]), CFG)[0]
        for t in (TOKENS, changed)
    )
    np.testing.assert_array_equal(a[:, :5], b[:, :5])
    assert (a[:, 5:] != b[:, 5:]).any(axis=(0, 2)).all()


def test_short_sequences_use_the_first_positions():
    params = init_params(CFG)
    whole, _ = model_forward(np, params, make_batch(CFG, TOKENS, sinks.NO_SINKS), CFG)
    short, _ = model_forward(np, params, make_batch(CFG, TOKENS[:, :5], sinks.NO_SINKS), CFG)
    np.testing.assert_allclose(short, whole[:, :4], rtol=1e-4, atol=1e-6)
    loss, grads = loss_and_grads(
        np, params, make_batch(CFG, TOKENS[:, :2], sinks.NO_SINKS), CFG
    )  # length 1
    assert np.isfinite(loss)
    assert (grads["wpe"][1:] == 0).all()
    assert all(np.isfinite(g).all() for g in grads.values())


def arrays(tree):
    """All arrays in nested dicts and tuples."""
    if isinstance(tree, np.ndarray | np.generic):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from arrays(value)
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from arrays(value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["own", "none", "all", "bernoulli"])
def test_nothing_is_promoted(name, dtype):
    """Every float in parameters, caches, gradients and optimizer state has the type that was asked for."""
    params, selection = init_params(CFG, dtype=dtype), selections()[name]
    batch = make_batch(CFG, TOKENS, selection, dtype)
    _, cache = model_forward(np, params, batch, CFG)
    loss, grads = loss_and_grads(np, params, batch, CFG)
    grads = merge(np, CFG, [grads], [selection])
    state = optim.init_state(np, params)
    optim.update(np, params, grads, state, TrainConfig(), 1e-3, optim.clip_scale(np, grads, 0.1)[1])
    found = [
        a.dtype
        for tree in (cache, loss, grads, params, state)
        for a in arrays(tree)
        if a.dtype.kind == "f"
    ]
    masks = (
        {np.dtype(np.float32)} if name in ("all", "bernoulli") else set()
    )  # 0 and 1 are exact in any type
    assert set(found) - masks == {np.dtype(dtype)} - masks
    assert len(found) > 50


def test_float32_gradients_are_those_of_float64():
    params = init_params(CFG)
    exact = {name: w.astype(np.float64) for name, w in params.items()}
    for name, selection in selections().items():
        _, single = loss_and_grads(np, params, make_batch(CFG, TOKENS, selection), CFG)
        _, double = loss_and_grads(np, exact, make_batch(CFG, TOKENS, selection, np.float64), CFG)
        for g, h in zip(arrays(single), arrays(double), strict=True):
            if h.dtype.kind == "f":
                assert np.abs(g - h).max() <= 1e-4 * np.abs(h).max(), name


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.full((1, 4), 50), "outside the vocabulary"),
        (np.full((1, 4), -1), "outside"),
        (np.zeros((1, 14), int), "n_ctx"),
        (np.zeros((1, 1), int), "n_ctx"),
    ],
)
def test_impossible_tokens_are_refused(tokens, message):
    with pytest.raises(ConfigError, match=message):
        make_batch(CFG, tokens, sinks.NO_SINKS)


def test_no_sequences_are_refused():
    with pytest.raises(ConfigError, match="there are no sequences"):
        make_batch(CFG, TOKENS[:0], sinks.NO_SINKS)


@pytest.mark.parametrize(
    ("ids", "layers", "message"),
    [
        ([3], 2, "sinks are chosen for 1 sequences, but there are 6"),
        ([3, 4, 5], 2, "sinks are chosen for 3 sequences, but there are 6"),
        (range(6), 1, "sinks are chosen for 1 layers, but there are 2"),
        (range(6), 3, "sinks are chosen for 3 layers, but there are 2"),
    ],
)
@pytest.mark.parametrize(
    "pool", [CFG.sinks, SinkConfig(n_sink=40, scheme="bernoulli")], ids=["rows", "mask"]
)
def test_a_choice_of_sinks_for_another_batch_or_model_is_refused(ids, layers, message, pool):
    """But one mask may stand for all: every sink on, or the sinks that some ID left."""
    if len(ids) == 1 and pool.is_random:
        make_batch(CFG, TOKENS, sinks.own(pool, ids))
    else:
        with pytest.raises(ConfigError, match=message):
            make_batch(CFG, TOKENS, sinks.own(pool, ids))


@pytest.mark.parametrize("index", [-1, 40])
def test_sinks_outside_the_pool_are_refused_on_the_host(index):
    with pytest.raises(ConfigError, match="outside the pool of 40"):
        make_batch(CFG, TOKENS, (sinks.Rows(np.full((6, 8), index)),) * 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_ten_thousand_leave_loss_and_gradients_finite(dtype):
    params = init_params(CFG, dtype=dtype)
    params["wte"] = params["wte"] * 1e5
    batch = make_batch(CFG, TOKENS, selections()["own"], dtype)
    logits, _ = model_forward(np, params, batch, CFG)
    assert np.abs(logits).max() > 1e4
    loss, grads = loss_and_grads(np, params, batch, CFG)
    assert all(np.isfinite(a).all() for a in (loss, *arrays(grads)))


@pytest.mark.parametrize(
    "bad", [{"d_model": 10, "n_heads": 4}, {"n_layers": 0}, {"n_shared": -1}, {"n_vocab": 0}]
)
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        ModelConfig(**({"n_vocab": 50} | bad))
