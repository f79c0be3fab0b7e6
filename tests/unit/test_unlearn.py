"""Gradient ascent and NPO: their gradients, their limits, where they stop."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks_np.baselines.unlearn import (
    UNSEEN,
    Unlearning,
    forgetting,
    gradient,
    npo_backward,
    npo_forward,
    unlearn,
)
from memsinks_np.config import ConfigError, DataConfig, Method, Settings, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.gradcheck.references import autograd, central_slope
from memsinks_np.model import init_params, make_batch, token_loss
from memsinks_np.sinks import NO_SINKS
from memsinks_np.train import train

DATA = DataConfig(n_ctx=7, batch_size=8, n_repeated=4, n_heldout=24, repeat_fraction=0.5)
SETTINGS = Settings(
    data=DATA, train=TrainConfig(steps=120, warmup=10, eval_every=60, lr=1e-2), d_model=8, n_heads=2
)
ARM = Method(name="standard", n_shared=12)
CORPUS = load_corpus(DATA)
CFG = SETTINGS.model(ARM, len(CORPUS.vocab))
RNG = np.random.default_rng(0)
NLL, REFERENCE = RNG.uniform(0.1, 2, (3, 5)), RNG.uniform(2, 8, 3)


@pytest.fixture(scope="module")
def memorized():
    return train(ARM, SETTINGS).params


def test_npo_is_minus_two_over_beta_log_sigmoid():
    got, _ = npo_forward(np, NLL, REFERENCE, 0.3)
    log_ratio = REFERENCE - NLL.sum(axis=1)  # log(pi / pi_ref)
    want = [-2 / 0.3 * np.log(1 / (1 + np.exp(0.3 * r))) / 5 for r in log_ratio]
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_npo_with_beta_to_zero_is_gradient_ascent_and_not_before():
    ascent = forgetting(NLL, REFERENCE, 0.0)
    np.testing.assert_allclose(ascent, -1 / NLL.size)
    np.testing.assert_allclose(forgetting(NLL, REFERENCE, 1e-9), ascent, rtol=1e-6)
    assert np.abs(forgetting(NLL, REFERENCE, 0.3) / ascent - 1).max() > 0.1


def test_npo_lets_go_of_what_is_forgotten_and_starts_as_ascent():
    """The share of ascent's gradient, by hand: pi = pi_ref gives 1, pi = pi_ref / 3 with beta = 1 gives 1/2."""
    nll = np.full((3, 4), 0.5)
    reference = np.array([2.0, 2.0 - np.log(3), -60.0])
    share = forgetting(nll, reference, 1.0) * -nll.size
    np.testing.assert_allclose(share[:, 0], [1, 0.5, 0], atol=1e-12)
    assert (share == share[:, :1]).all()  # the same for every word of a sequence


def whole_loss(xp, params, how, reference, tokens):
    """What a step descends on, written down as one function: NPO of the first half, retain of the second."""
    nll = token_loss(xp, params, make_batch(CFG, tokens, NO_SINKS, np.float64), CFG)
    n = len(tokens) // 2
    away = xp.sum(nll[:n]) / -nll[:n].size
    if how.beta:
        ratio = xp.exp(how.beta * (reference - xp.sum(nll[:n], axis=1)))
        away = xp.sum(2 / how.beta * xp.log(1 + ratio)) / nll[:n].size
    return away + how.retain * xp.sum(nll[n:]) / nll[n:].size


@pytest.mark.parametrize(
    "how", [Unlearning(retain=0.7), Unlearning(beta=0.2, retain=1.7)], ids=["ascent", "npo"]
)
def test_gradient_of_a_step_is_that_of_the_whole_loss(how):
    rng = np.random.default_rng(1)
    params = {
        k: w + 0.3 * rng.standard_normal(w.shape)
        for k, w in init_params(CFG, dtype=np.float64).items()
    }
    reference = rng.uniform(15, 35, 4)
    got = gradient(params, 3, CFG, CORPUS, how, reference)
    tokens = np.concatenate([CORPUS.repeated, CORPUS.draw(UNSEEN + 12 + np.arange(4))[0]])

    def forward(xp, *values):
        return whole_loss(xp, dict(zip(params, values, strict=True)), how, reference, tokens), None

    values = list(params.values())
    for i, (name, want) in enumerate(zip(params, autograd(forward, values, 1.0), strict=True)):
        np.testing.assert_allclose(got[name], want, rtol=1e-9, atol=1e-12, err_msg=name)
        v = rng.standard_normal(want.shape)
        slope = central_slope(forward, values, i, 1.0, v)
        assert np.sum(got[name] * v) == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_retained_sequences_were_never_trained_on():
    longest = replace(DATA, batch_size=8)
    trained_on = np.concatenate([load_corpus(longest).batch(step).ids for step in (0, 10**6)])
    retained = [CORPUS.draw(UNSEEN + step * 4 + np.arange(4))[1] for step in (0, 80)]
    assert np.min(retained) > trained_on.max()
    assert not set(np.ravel(retained)) & {*CORPUS.heldout_ids, *CORPUS.repeated_ids}


@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_unlearning_forgets_and_stops_where_it_says(memorized, beta):
    before = {name: w.copy() for name, w in memorized.items()}
    how = Unlearning(beta=beta, retain=2.0, lr=3e-3, max_steps=200)
    now, way = unlearn(memorized, CFG, CORPUS, how, target=1.5)
    assert way[0]["repeated_removed"] < 1.2
    assert all(row["repeated_removed"] < 1.5 for row in way[:-1])
    assert way[-1]["repeated_removed"] >= 1.5
    assert [row["step"] for row in way] == list(range(len(way)))
    assert all(
        (memorized[name] == w).all() for name, w in before.items()
    )  # the caller's model is untouched
    assert (now["wte"] != memorized["wte"]).any()
    _, by_heldout = unlearn(memorized, CFG, CORPUS, how)
    assert by_heldout[-1]["repeated_removed"] >= by_heldout[-1]["heldout_removed"]
    assert all(row["repeated_removed"] < row["heldout_removed"] for row in by_heldout[:-1])


def test_retain_term_holds_what_is_to_stay(memorized):
    ends = [
        unlearn(memorized, CFG, CORPUS, Unlearning(retain=r, lr=3e-3), 3.0)[1][-1]
        for r in (0.0, 2.0)
    ]
    assert ends[1]["heldout_removed"] < ends[0]["heldout_removed"] - 0.1


def test_unlearning_takes_no_more_steps_than_allowed(memorized):
    _, way = unlearn(memorized, CFG, CORPUS, Unlearning(max_steps=3), target=99.0)
    assert [row["step"] for row in way] == [0, 1, 2, 3]


def test_npo_backward_does_not_overflow_when_everything_is_forgotten():
    _, cache = npo_forward(np, np.full((1, 4), 1e4), np.array([1.0]), 1.0)
    assert npo_backward(np, np.ones(1), cache).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("field", "value"), [("beta", -0.1), ("retain", -1.0), ("max_steps", 0), ("lr", 0.0)]
)
def test_what_cannot_work_is_refused(field, value):
    with pytest.raises(ConfigError, match=f"{field}={value}"):
        Unlearning(**{field: value}).tune  # noqa: B018
