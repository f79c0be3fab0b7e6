"""Graders of pages 03 and 04: right answers pass, and each typical mistake gets the hint that helps."""

import numpy as np
import pytest

from memsinks_np import ops
from memsinks_np.model import init_params, loss_and_grads, make_batch
from memsinks_np.sinks import NO_SINKS, own
from tutorials.graders import page03, page04
from tutorials.toy import SENTENCES, TINY, TINY_IDS, TINY_TOKENS


def right(answer):
    return answer.startswith("right")


def refused(answer, *words):
    return answer.startswith("not yet") and all(word in answer for word in words)


def test_signs():
    assert right(page03.check_signs((+1, -1, -1)))
    assert refused(page03.check_signs((+1, +1, +1)), "sums to zero")
    assert refused(page03.check_signs((+1, 0, -1)), "average")
    assert refused(page03.check_signs((+1, -1)), "three signs")
    assert refused(page03.check_signs((0.28, -0.12, -0.16)), "three signs")


def shared(dy, cache):
    dq, dk, dv = ops.attention_backward(np, dy, cache)
    return dq, dk.sum(axis=1, keepdims=True), dv.sum(axis=1, keepdims=True)


def shared_mean(dy, cache):
    dq, dk, dv = ops.attention_backward(np, dy, cache)
    return dq, dk.mean(axis=1, keepdims=True), dv.sum(axis=1, keepdims=True)


def shared_everywhere(dy, cache):
    return tuple(
        d.sum(axis=1, keepdims=True) + 0 * d[:, :n]
        for d, n in zip(shared(dy, cache), (3, 1, 1), strict=True)
    )


def test_shared_keys():
    assert right(page03.check_shared_keys(shared))
    assert refused(
        page03.check_shared_keys(lambda dy, cache: ops.attention_backward(np, dy, cache)),
        "dk has shape",
    )
    assert refused(page03.check_shared_keys(shared_mean), "dk", "fork")
    assert refused(page03.check_shared_keys(shared_everywhere), "dq", "its own q")
    assert refused(
        page03.check_shared_keys(lambda dy, cache: shared(dy, cache)[0]), "three gradients"
    )


def is_causal(attend):
    x = np.random.default_rng(1).standard_normal((1, 5, 6))
    y = attend(x)
    for t in range(1, 5):
        changed = x.copy()
        changed[:, t] += 1.0
        if not np.array_equal(attend(changed)[:, :t], y[:, :t]):
            return False
    return True


def changes(at, upto, same=np.array_equal):
    """A test that changes only the word `at` and looks only at the places before `upto`."""

    def test(attend):
        x = np.random.default_rng(1).standard_normal((1, 5, 6))
        changed = x.copy()
        changed[:, at] += 1.0
        return same(attend(changed)[:, :upto], attend(x)[:, :upto])

    return test


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (lambda attend: True, "everywhere"),
        (lambda attend: False, "refuses causal"),
        (changes(4, 5), "refuses causal"),  # looks at the changed place too
        (changes(4, 1), "one word ahead"),
        (changes(4, 4), "only word 0"),
        (changes(1, 1), "before it"),
        (lambda a: all(changes(t, t - 1)(a) for t in range(1, 5)), "one word ahead"),
        (
            lambda a: all(
                changes(t, t, lambda y, z: np.array_equal(y[:, -1], z[:, -1]))(a)
                for t in range(1, 5)
            ),
            "last",
        ),
        (
            lambda a: all(
                changes(t, t, lambda y, z: np.array_equal(y[..., 0], z[..., 0]))(a)
                for t in range(1, 5)
            ),
            "2",
        ),
        (
            lambda a: all(
                changes(t, t, lambda y, z: np.abs(y - z).max() < 1e-3)(a) for t in range(1, 5)
            ),
            "exactly",
        ),
    ],
)
def test_causality_tests_that_see_too_little(test, said):
    assert refused(page03.check_causality_test(test), said)


def is_causal_backwards(attend):
    """A right one of another kind: new words from t on, all at once."""
    x, other = np.random.default_rng(1).standard_normal((2, 1, 5, 6))
    mixed = [np.concatenate([x[:, :t], other[:, t:]], axis=1) for t in range(1, 5)]
    return all((attend(m)[:, :t] == attend(x)[:, :t]).all() for t, m in enumerate(mixed, 1))


@pytest.mark.parametrize("test", [is_causal, is_causal_backwards])
def test_causality_test(test):
    assert right(page03.check_causality_test(test))


def test_floor():
    assert page04.floor_of(SENTENCES) == pytest.approx(np.log(2) / 5)
    floor = (
        np.log(3) + 2 * np.log(3 / 2) + 2 * np.log(2)
    ) / 15  # after `the`: one of three, twice two of three
    assert right(page04.check_floor(floor))
    assert right(page04.check_floor(round(floor, 3)))
    assert refused(page04.check_floor(0.0), "more than one continuation")
    assert refused(page04.check_floor(np.log(2) / 5), "two sentences")
    assert refused(page04.check_floor(15 * floor), "mean")
    assert refused(page04.check_floor(15 / 18 * floor), "only read")
    assert refused(page04.check_floor(floor / np.log(2)), "bits")
    assert refused(page04.check_floor(1.0), "how often")


def tied(xp, dy, cache):
    c_in, c_act, c_out = cache
    dpost, dWt = ops.linear_backward(xp, dy, c_out)
    dx, dW = ops.linear_backward(xp, ops.gelu_backward(xp, dpost, c_act), c_in)
    return dx, dW, dWt


def test_tied_mlp():
    x, W = (
        np.random.default_rng(2).standard_normal((2, 5, 6)),
        np.random.default_rng(3).standard_normal((6, 4)),
    )
    assert np.allclose(page04.tied_mlp_forward(np, x, W)[0], ops.gelu_forward(np, x @ W)[0] @ W.T)

    def graded(combine):
        return page04.check_tied_mlp(lambda xp, dy, cache: combine(*tied(xp, dy, cache)))

    assert right(graded(lambda dx, dW, dWt: (dx, dW + dWt.T)))
    assert refused(graded(lambda dx, dW, dWt: (dx, dW)), "used twice")
    assert refused(graded(lambda dx, dW, dWt: (dx, dWt.T)), "used twice")
    assert refused(graded(lambda dx, dW, dWt: (dx, (dW + dWt.T) / 2)), "used twice")
    assert refused(graded(lambda dx, dW, dWt: (dx, dWt)), "dW has shape", "transposed")
    assert refused(graded(lambda dx, dW, dWt: (2 * dx, dW + dWt.T)), "dx is off")
    assert refused(graded(lambda dx, dW, dWt: dx), "two gradients")


def loss_after_descent(selection, steps=300):
    batch = make_batch(TINY, TINY_TOKENS, selection, np.float64)
    params = init_params(TINY, dtype=np.float64)
    for _ in range(steps):
        loss, grads = loss_and_grads(np, params, batch, TINY)
        params = {name: w - 0.3 * grads[name] if name in grads else w for name, w in params.items()}
    return loss


def test_below_the_floor_is_what_happens():
    floor = page04.floor_of(SENTENCES)
    assert floor < loss_after_descent(NO_SINKS) < 1.1 * floor
    assert loss_after_descent(own(TINY.sinks, TINY_IDS)) < 0.1 * floor
    assert right(page04.check_below_the_floor(-1))
    for sign in (0, 1):
        assert refused(page04.check_below_the_floor(sign), "anything more")
    assert refused(page04.check_below_the_floor(-0.13), "give a sign")
