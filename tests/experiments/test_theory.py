"""The paper's three formal results against independent computations."""

import json

import numpy as np
import pytest

from memsinks_np.experiments import simulations as t

LR = 0.05


def memory(seed, D=7):
    """Return a memory of norm 1 and an input to test it on."""
    s_mem, x = t.positive(2, D, seed, 2)
    return np.outer(t.anywhere(1, D, seed, 3)[0], s_mem), x


@pytest.mark.parametrize("draw", [t.positive, t.anywhere])
def test_draws_are_unit_vectors_in_their_directions(draw):
    x = draw(4000, 5, 3)
    np.testing.assert_allclose((x * x).sum(axis=1), 1)
    assert len(np.unique(x.round(12), axis=0)) == 4000
    assert (draw(4000, 5, 4) != x).all()
    if draw is t.positive:
        assert (x @ x.T).min() > 0
    else:
        assert np.abs(x.mean(axis=0)).max() < 4 * (1 / 5 / 4000) ** 0.5
        np.testing.assert_allclose(x.T @ x / 4000, np.eye(5) / 5, atol=0.03)


# Co-adaptation


def test_distance_does_not_depend_on_the_labels():
    """W_gen - W_never = W_mem (prod_k (I - lr s_k s_k^T) - 1): there is no label in it."""
    W_mem, x = memory(0)
    data = t.positive(30, 7, 0)
    E = W_mem
    for s in data:
        E = E @ (np.eye(7) - LR * np.outer(s, s))
    for labels in (t.anywhere(30, 7, 1), np.zeros((30, 7))):
        distance = t.coadaptation(W_mem, data, labels, x, LR)
        assert distance[0] == 0
        np.testing.assert_allclose(distance[-1], np.linalg.norm((E - W_mem) @ x), rtol=1e-12)


def test_bound_on_the_distance_is_that_of_the_theorem():
    assert t.coadaptation_bound(2, 0.5, 0.5) == 2 * 0.5 * 0.25 * 0.25
    bound = t.coadaptation_bound(np.arange(4001), LR, 0.7)
    assert bound.argmax() in (19, 20)  # -1/log(1 - 0.05) = 19.5, close to 1/lr
    assert bound[-1] < 1e-80


# Accumulation


def test_threshold_of_the_counterexample():
    b = t.COUNTEREXAMPLE
    assert b.printed_threshold() == pytest.approx(0.4999, abs=5e-5)
    assert b.threshold() == pytest.approx(0.4495, abs=5e-5)
    assert b.shared_upper() == pytest.approx(8.91)
    assert b.sink_lower(0.48) == pytest.approx(8.8496)


OTHERS = [t.Bounds(5, 400, 0.3, 0.02, 0.021), t.Bounds(25, 1000, 0.47, 0.02, 0.03)]


@pytest.mark.parametrize("bounds", [t.COUNTEREXAMPLE, *OTHERS])
def test_bounds_meet_exactly_at_the_threshold(bounds):
    at = bounds.threshold()
    assert bounds.sink_lower(at, 0.7) == pytest.approx(bounds.shared_upper(0.7))
    assert bounds.sink_lower(at - 0.01) > bounds.shared_upper() > bounds.sink_lower(at + 0.01)
    assert bounds.printed_threshold() > at


def run(rho, lr, seed=0):
    return t.accumulation(rho, steps=600, period=30, lr=lr, width=9, n_words=30, seed=seed)


@pytest.mark.parametrize("lr", [0.001, 0.01, 0.3])
@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_model_stays_within_both_bounds(rho, lr):
    """With the smallest similarity for the shared neurons and the largest for the sinks."""
    a = run(rho, lr)
    assert a.k == 20
    assert a.n_active == (0 if rho == 0 else 580 if rho == 1 else pytest.approx(0.3 * 580, abs=45))
    assert a.shared[-1] <= t.Bounds(a.k, 600, a.eps_shared, *a.c).shared_upper(lr)
    assert a.sink[-1] >= t.Bounds(a.k, a.k + a.n_active, a.eps_sink[1], *a.c).sink_lower(1.0, lr)


def test_logits_rise_when_shown_and_fall_otherwise():
    a = run(0.1, 0.3)
    change, again = np.diff(a.shared), np.arange(1, 600) % 30 == 0
    assert (change[again] > 0).all()
    assert (change[~again] < 0).all()
    assert a.sink[-1] > 2 * a.shared[-1]
    assert (np.diff(run(0.0, 0.3).sink)[~again] == 0).all()  # a closed gate keeps the memory


def test_first_steps_follow_the_cross_entropy_gradient():
    """The first steps by hand: the repeated word, then another one."""
    a = t.accumulation(1.0, steps=2, period=2, lr=0.5, width=4, n_words=5, seed=3)
    z = [t.positive(2, 4, 3, part) for part in (0, 1)]
    up = 0.5 * (1 - 1 / 5)
    assert a.shared[0] == pytest.approx(up)  # activations have length 1
    products = [float(part[0] @ part[1]) for part in z]
    scores = np.full(5, -0.25 * up * sum(products))
    scores[0] *= -4
    p = np.exp(scores) / np.exp(scores).sum()
    second = [up - 0.5 * p[0] * x for x in products]
    assert [a.shared[1], a.sink[1]] == pytest.approx(second, rel=1e-12)
    assert a.c == pytest.approx((1 / 5, p[0]))


# Entanglement


@pytest.mark.parametrize("noise", [1.0, 0.0, 0.3])
def test_fraction_is_that_of_the_min_norm_update(noise):
    """Solve X u = (0, ..., 0, 1) for the smallest u: that is the update's direction."""
    others, mine = t.anywhere(6, 4, 0), t.anywhere(1, 4, 1)[0]
    X = np.zeros((7, 4 + 6 + 1))
    X[:6, :4], X[6, :4] = others, mine
    X[:6, 4:10], X[6, 10] = noise * np.eye(6), 1
    u = np.linalg.pinv(X) @ np.eye(7)[6]
    fraction = (u[:4] ** 2).sum() / (u**2).sum()
    assert t.semantic_fraction(mine, others, noise) == pytest.approx(fraction, abs=1e-12)


# The experiment


def test_claims_hold_and_fail_as_documented(out):
    claims = json.loads((out / "theory" / "claims.json").read_text())
    fails = [i for i, claim in enumerate(claims) if not claim["holds"]]
    assert (len(claims), fails) == (10, [1, 3, 6])
    assert all(claims[i]["why"] for i in fails)
    assert "0.500" in (out / "theory" / "numbers.md").read_text()
