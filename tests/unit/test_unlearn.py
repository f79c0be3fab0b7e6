"""Gradient ascent and NPO: gradients, limits, and where they stop."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks_np.baselines.unlearn import (
    RETAIN_OFFSET,
    Unlearning,
    forgetting_weights,
    npo_backward,
    npo_forward,
    unlearn,
    unlearning_gradient,
)
from memsinks_np.config import ConfigError, DataConfig, Method, Settings, TrainConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.data.corpus import load_corpus
from memsinks_np.gradcheck.references import autograd, central_slope
from memsinks_np.model import token_loss
from memsinks_np.sinks import NO_SINKS
from memsinks_np.train import train
from plain import strong_params

DATA = DataConfig(n_ctx=7, batch_size=8, n_repeated=4, n_heldout=24, repeat_fraction=0.5)
SETTINGS = Settings(
    data=DATA, train=TrainConfig(steps=120, warmup=10, eval_every=60, lr=1e-2), d_model=8, n_heads=2
)
METHOD = Method(name="standard", n_shared=12)
CORPUS = load_corpus(DATA)
CFG = SETTINGS.model(METHOD, len(CORPUS.vocab))


@pytest.fixture(scope="module")
def memorized():
    return train(METHOD, SETTINGS, CORPUS).params


@pytest.fixture
def losses():
    rng = np.random.default_rng(0)
    return rng.uniform(0.1, 2, (3, 5)), rng.uniform(2, 8, 3)


def test_npo_is_minus_two_over_beta_log_sigmoid(losses):
    nll, reference = losses
    got, _ = npo_forward(np, nll, reference, 0.3)
    log_ratio = reference - nll.sum(axis=1)  # log(pi / pi_ref)
    want = [-2 / 0.3 * np.log(1 / (1 + np.exp(0.3 * r))) / 5 for r in log_ratio]
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_npo_with_beta_to_zero_is_gradient_ascent(losses):
    nll, reference = losses
    ascent = forgetting_weights(nll, reference, 0.0)
    np.testing.assert_allclose(ascent, -1 / nll.size)
    np.testing.assert_allclose(forgetting_weights(nll, reference, 1e-9), ascent, rtol=1e-6)
    assert np.abs(forgetting_weights(nll, reference, 0.3) / ascent - 1).max() > 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_npo_of_any_size_is_finite_and_right(dtype):
    """Far above, the loss is 2 log(pi/pi_ref) / T; far below, it is zero."""
    log_ratio = np.array([-1e4, -90, 0, 79, 81, 800, 1e4])
    nll = np.ones((7, 4), dtype)
    got, cache = npo_forward(np, nll, (log_ratio + 4).astype(dtype), 1.0)
    want = 2 * np.logaddexp(0, log_ratio) / 4
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-30)
    grad = npo_backward(np, np.ones(7, dtype), cache)
    factor = 2 * np.exp(-np.logaddexp(0, -log_ratio))
    np.testing.assert_allclose(grad, np.tile(-factor[:, None] / 4, 4), rtol=1e-6, atol=1e-30)
    assert got.dtype == grad.dtype == dtype


def whole_loss(xp, params, settings, reference, tokens):
    """The loss of a step as one function: forget the first half, retain the second."""
    nll = token_loss(xp, params, make_batch(CFG, tokens, NO_SINKS, np.float64), CFG)
    n = len(tokens) // 2
    away = xp.sum(nll[:n]) / -nll[:n].size
    if settings.beta:
        ratio = xp.exp(settings.beta * (reference - xp.sum(nll[:n], axis=1)))
        away = xp.sum(2 / settings.beta * xp.log(1 + ratio)) / nll[:n].size
    return away + settings.retain * xp.sum(nll[n:]) / nll[n:].size


@pytest.mark.parametrize(
    "settings", [Unlearning(retain=0.7), Unlearning(beta=0.2, retain=1.7)], ids=["ascent", "npo"]
)
def test_gradient_of_a_step_is_that_of_the_whole_loss(settings):
    rng = np.random.default_rng(1)
    params = strong_params(CFG)
    reference = rng.uniform(15, 35, 4)
    got = unlearning_gradient(params, 3, CFG, CORPUS, settings, reference)
    retained, _ = CORPUS.draw(RETAIN_OFFSET + 12 + np.arange(4))
    tokens = np.concatenate([CORPUS.repeated, retained])

    def forward(xp, *values):
        p = dict(zip(params, values, strict=True))
        return whole_loss(xp, p, settings, reference, tokens), None

    values = list(params.values())
    for i, (name, want) in enumerate(zip(params, autograd(forward, values, 1.0), strict=True)):
        np.testing.assert_allclose(got[name], want, rtol=1e-9, atol=1e-12, err_msg=name)
        v = rng.standard_normal(want.shape)
        slope = central_slope(forward, values, i, 1.0, v)
        assert np.sum(got[name] * v) == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_retained_sequences_were_never_trained_on():
    corpus = load_corpus(replace(DATA, batch_size=8))
    trained_on = np.concatenate([corpus.batch(step).ids for step in (0, 10**6)])
    retained = [CORPUS.draw(RETAIN_OFFSET + step * 4 + np.arange(4))[1] for step in (0, 80)]
    assert np.min(retained) > trained_on.max()
    assert not set(np.ravel(retained)) & {*CORPUS.heldout_ids, *CORPUS.repeated_ids}


@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_unlearning_stops_at_the_heldout_loss(memorized, beta):
    before = {name: w.copy() for name, w in memorized.items()}
    settings = Unlearning(beta=beta, retain=2.0, lr=3e-3, max_steps=200)
    now, trajectory = unlearn(memorized, CFG, CORPUS, settings)
    *rows, last = trajectory
    assert last.repeated >= last.heldout
    assert len(rows) > 1
    assert all(row.repeated < row.heldout for row in rows)
    assert all((memorized[name] == w).all() for name, w in before.items())  # caller's arrays
    assert (now["wte"] != memorized["wte"]).any()


def test_retain_term_keeps_the_heldout_loss_low(memorized):
    free, retained = (
        unlearn(memorized, CFG, CORPUS, Unlearning(retain=r, lr=3e-3))[1][-1] for r in (0.0, 2.0)
    )
    assert retained.heldout < free.heldout - 0.1


def test_unlearning_takes_at_most_max_steps(memorized):
    _, trajectory = unlearn(memorized, CFG, CORPUS, Unlearning(lr=1e-6, max_steps=3))
    assert len(trajectory) == 1 + 3


@pytest.mark.parametrize(
    ("field", "value"), [("beta", -0.1), ("retain", -1.0), ("max_steps", 0), ("lr", 0.0)]
)
def test_impossible_settings_are_rejected(field, value):
    with pytest.raises(ConfigError, match=f"{field}={value}"):
        Unlearning(**{field: value})
