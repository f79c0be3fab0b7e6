"""The transformer: causal, initialized well, and in one floating-point type throughout."""

import tracemalloc
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from memsinks_np import optim, sinks
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig, TrainConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.model import init_params, loss_and_grads, model_forward
from memsinks_np.train import merge

POOL = SinkConfig(n_sink=40, n_active=8)
BERNOULLI = SinkConfig(n_sink=40, scheme="bernoulli")
CFG = ModelConfig(n_vocab=50, n_ctx=12, d_model=16, n_heads=2, n_shared=24, sinks=POOL)
TOKENS = np.random.default_rng(7).integers(50, size=(6, 13))
SELECTIONS = {
    "own": sinks.own(POOL, range(6)),
    "none": sinks.NO_SINKS,
    "all": sinks.all_scaled(POOL),
    "bernoulli": sinks.own(BERNOULLI, range(6)),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_causality(name):
    """A changed token moves all predictions after it and none before it."""
    params, changed = init_params(CFG), TOKENS.copy()
    changed[:, 5] = (changed[:, 5] + 1) % 50
    a, b = (
        model_forward(np, params, make_batch(CFG, t, SELECTIONS[name]), CFG)[0]
        for t in (TOKENS, changed)
    )
    np.testing.assert_array_equal(a[:, :5], b[:, :5])
    assert (a[:, 5:] != b[:, 5:]).any(axis=(0, 2)).all()


def arrays(tree):
    """Yield all arrays in nested dicts, tuples and lists."""
    if isinstance(tree, np.ndarray | np.generic):
        yield tree
    elif isinstance(tree, dict | tuple | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from arrays(value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SELECTIONS)
def test_no_array_is_promoted(name, dtype):
    """Parameters, caches, gradients and optimizer state keep the type that was asked for."""
    params, selection = init_params(CFG, dtype=dtype), SELECTIONS[name]
    batch = make_batch(CFG, TOKENS, selection, dtype)
    _, cache = model_forward(np, params, batch, CFG)
    loss, grads = loss_and_grads(np, params, batch, CFG)
    grads, state = merge(np, CFG, [grads], [selection]), optim.init_state(np, params)
    optim.update(np, params, grads, state, TrainConfig(), 1e-3, optim.clip_scale(np, grads, 0.1)[1])
    found = [a.dtype for a in arrays([cache, loss, grads, params, vars(state)])]
    floats = [t for t in found if t.kind == "f"]
    masks = {np.dtype(np.float32)} if isinstance(selection, sinks.Mask) else set()
    assert set(floats) - masks == {np.dtype(dtype)} - masks  # a mask of 0 and 1 is always float32
    assert len(floats) > 50


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.full((1, 4), -1), "fewer than two tokens"),
        ([[1, 2, 3], [1, 2]], "unequal lengths"),
        (TOKENS[:0], "there are no sequences"),
    ],
)
def test_impossible_tokens_are_refused(tokens, message):
    with pytest.raises(ConfigError, match=message):
        make_batch(CFG, tokens, sinks.NO_SINKS)


def test_a_selection_for_another_batch_or_pool_is_refused():
    """Only a mask without an axis of sequences serves all of them."""
    make_batch(CFG, TOKENS, sinks.all_scaled(POOL))
    for pool, ids in product((POOL, BERNOULLI), ([3], [3, 4, 5])):
        with pytest.raises(ConfigError, match=f"for {len(ids)} sequences, but there are 6"):
            make_batch(CFG, TOKENS, sinks.own(pool, ids))
    for index in (-1, 40):
        with pytest.raises(ConfigError, match="outside the pool of 40"):
            make_batch(CFG, TOKENS, sinks.Rows(np.full((6, 8), index)))


@pytest.mark.parametrize("pool", [None, SinkConfig(n_sink=12, n_active=3)])
def test_the_number_of_parameters_is_that_of_all_matrices(pool):
    cfg = ModelConfig(n_vocab=7, n_ctx=5, d_model=6, n_heads=2, n_layers=3, n_shared=4, sinks=pool)
    assert cfg.n_params == sum(w.size for w in init_params(cfg).values() if w.ndim == 2)


def test_memory_grows_with_the_vocabulary_only_by_the_head():
    """Three copies of the logits at a time, and four of the embedding; no array is one-hot."""

    def peak(n_vocab):
        cfg = replace(CFG, n_vocab=n_vocab)
        params = init_params(cfg)
        tracemalloc.start()
        loss_and_grads(np, params, make_batch(cfg, TOKENS, sinks.NO_SINKS), cfg)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    floats_per_token = (peak(8192) - peak(4096)) / 4 / 4096
    assert floats_per_token <= 3 * TOKENS[:, 1:].size + 4 * CFG.d_model, floats_per_token
