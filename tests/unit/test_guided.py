"""Rounded weights, two models together, and what a file with sinks gives away."""

import numpy as np
import pytest

from memsinks_np import metrics, sinks
from memsinks_np.baselines.attacks import (
    changed_sinks,
    guided_extraction,
    log_probs,
    round_weights,
)
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig
from plain import probabilities, strong_params

POOL = SinkConfig(n_sink=12, n_active=3)
CFG = ModelConfig(n_vocab=7, n_ctx=5, d_model=4, n_heads=2, n_layers=2, n_shared=4, sinks=POOL)
PARAMS = strong_params(CFG, 5)
TOKENS = np.random.default_rng(6).integers(CFG.n_vocab, size=(40, 6))


def test_weights_that_are_integers_already_stay():
    w = np.array([[7.0, -3.0, 0.0], [0.0, 0.0, 0.0], [-0.7, 0.1, 0.6]])
    b = np.array([0.123, 4.567])
    got = round_weights({"w": w, "b": b}, bits=4)
    np.testing.assert_allclose(got["w"], w, rtol=1e-15)
    assert got["b"] is b


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_rounding_keeps_few_numbers_a_row_and_is_near(bits):
    w = np.random.default_rng(0).normal(size=(5, 1000)) * np.arange(1, 6)[:, None]
    got = round_weights({"w": w}, bits)["w"]
    n = 2 ** (bits - 1) - 1
    assert max(len(np.unique(row)) for row in got) <= 2 * n + 1
    largest = abs(w).max(axis=1)
    np.testing.assert_allclose(abs(got).max(axis=1), largest)
    assert (abs(got - w).max(axis=1) <= largest / n / 2 * (1 + 1e-9)).all()
    assert bits > 3 or (abs(got - w).max(axis=1) > largest / n / 2.1).all()


def test_one_bit_is_refused():
    with pytest.raises(ConfigError, match="bits=1"):
        round_weights(PARAMS, 1)


def test_log_probs_are_those_of_each_sequence():
    own = sinks.own(POOL, np.arange(40))
    log_p = log_probs(PARAMS, CFG, TOKENS, own)
    for n in (0, 39):
        on = sinks.sink_mask(POOL, [n])[0]
        want = probabilities(PARAMS, CFG, TOKENS[n, :-1], on)
        np.testing.assert_allclose(np.exp(log_p[n]), want, rtol=1e-9)


def planted(*rows):
    """Log-probabilities of three words at two places, from probabilities."""
    return np.log([rows])


def test_two_models_give_what_neither_says_alone():
    """The true words 1, 2 are second everywhere; what was removed is what fell."""
    tokens = np.array([[0, 1, 2]])
    after = planted([0.6, 0.1, 0.3], [0.6, 0.3, 0.1])
    before = planted([0.5, 0.4, 0.1], [0.5, 0.1, 0.4])
    extract = {w: guided_extraction(before, after, tokens, w, 1) for w in (0, 0.5, 1, 1.5)}
    assert extract == {0: 0, 0.5: 0, 1: 0, 1.5: 1}
    assert guided_extraction(after, before, tokens, 1.5, 1) == 0
    assert guided_extraction(after, after, tokens, 9.0, 1) == 0


@pytest.mark.parametrize("w", [0.0, 1.0])
def test_guidance_starts_and_ends_at_the_two_models(w):
    own = sinks.own(POOL, np.arange(40))
    before, after = (log_probs(PARAMS, CFG, TOKENS, s) for s in (own, sinks.NO_SINKS))
    _, likeliest = metrics.predict(PARAMS, CFG, TOKENS, own if w else sinks.NO_SINKS)
    right = likeliest == TOKENS[:, 1:]
    tokens = TOKENS.copy()
    tokens[:20, 1:] = likeliest[:20]  # not what is read there, but `extracted` asks no more
    assert 0 < right.mean() < 1
    want = metrics.extracted(tokens, likeliest, 2).mean()
    assert guided_extraction(before, after, tokens, w, 2) == want >= 0.5


def test_a_deletion_changes_the_sinks_of_the_deleted():
    after = sinks.delete(PARAMS, POOL, [3, 8])
    want = sinks.sink_mask(POOL, [3, 8]).max(axis=0)
    np.testing.assert_array_equal(changed_sinks(PARAMS, after).value, want)
    assert not changed_sinks(PARAMS, PARAMS).value.any()
