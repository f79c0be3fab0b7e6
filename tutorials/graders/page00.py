"""Exercises of page 00: train a model in twelve lines."""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np

from memsinks_np.gradcheck import Case
from tutorials.graders import grade_number, grader, require_shapes, verdict, wrong_gradients
from tutorials.graders.lines import Line, grade_lines


@grader
def compare_linear(backward: Callable[..., Any]) -> str:
    """Grade the lines dx, dW of a backward(dy, cache) of y = x W, with cache (x, W)."""
    rng = np.random.default_rng(0)
    x, W, dy = (rng.standard_normal(shape) for shape in ((5, 5), (5, 5), (5, 5)))
    lines = [
        Line(
            "dx",
            dy @ W.T,
            "dx_nc sums dy_nm W_cm over m: which index of W is summed?",
            {
                "W is not transposed: in dx_nc the sum runs over the columns of W": dy @ W,
                "the order of the factors is exchanged": W.T @ dy,
            },
        ),
        Line(
            "dW",
            x.T @ dy,
            "dW_cm sums x_nc dy_nm over n: which index of x is summed?",
            {
                "x is not transposed: in dW_cm the sum runs over the rows of x": x @ dy,
                "this is the transpose of dW": dy.T @ x,
            },
        ),
    ]
    return grade_lines(
        backward, (dy, (x, W)), lines, "dx and dW; the shapes allow nothing else", ("dx", "dW")
    )


@grader
def compare_center(backward: Callable[..., Any]) -> str:
    """Grade the line dx of a backward(dy) of y = x - mean(x), over the last axis."""
    dy = np.random.default_rng(1).standard_normal((4, 6)) + 1
    mean = dy.mean(axis=-1, keepdims=True)
    line = Line(
        "dx",
        dy - mean,
        "x_j reaches y_j, and through the mean every y_i with the factor -1/C",
        {
            "only the direct path is there: x also reaches every y through the mean": dy,
            "the sum over i is there and its factor 1/C is not": dy - 6 * mean,
            "the path through the mean has a minus": dy + mean,
            "take the mean over the last axis, of each row for itself": dy - dy.mean(),
            "take the mean over the last axis, not over the rows": dy - dy.mean(axis=0),
        },
    )
    return grade_lines(backward, (dy,), [line], "the backward subtracts the mean as well", ("dx",))


@grader
def compare_cross_entropy(backward: Callable[..., Any]) -> str:
    """Grade the line dscores of a backward(cache) of the mean loss, with cache (p, true)."""
    p = np.random.default_rng(2).dirichlet(np.ones(8), 10)
    true = np.eye(8)[np.arange(10) % 8]
    line = Line(
        "dscores",
        (p - true) / 10,
        "one row is its probabilities, minus 1 at the true word",
        {
            "the loss is the mean over N rows, so 1/N belongs here": p - true,
            "this is what was true minus what you said: it raises the loss": (true - p) / 10,
            "the scores of the other words count as well: they are in the sum": true
            * (p - true)
            / 10,
            "this is the derivative with respect to p; go on to the scores": -true / p / 10,
        },
    )
    praise = "what you said minus what was true"
    return grade_lines(backward, ((p, true),), [line], praise, ("dscores",))


@grader
def check_loss(nats: float) -> str:
    """Grade the mean loss of a model that gives the true words 1/2, 1/4 and 1/8, in nats."""
    mistakes = {
        2.0: "that is in bits; use the natural logarithm",
        3 * log(4): "that is the sum; the loss is the mean over the words",
        -log((1 / 2 + 1 / 4 + 1 / 8) / 3): "take the logarithm of each probability, then the mean",
        -log(4): "a loss has a minus in front of the logarithm, so it is positive",
    }
    hint = "minus the logarithm of each of the three probabilities, then the mean"
    praise = "the same as guessing among four words each time"
    return grade_number(nats, log(4), praise, mistakes, hint, tol=5e-3)


@grader
def check_gradient(gradient: float) -> str:
    """Grade dLoss/dscore of the true word where its probability is 0.9."""
    mistakes = {
        0.1: "mind the sign: a higher score of the true word lowers the loss",
        0.9: "that is what you said; subtract what was true",
        -1 / 0.9: "that is the derivative with respect to the probability, not to the score",
    }
    praise = "nearly right already, so there is little left to learn"
    return grade_number(gradient, -0.1, praise, mistakes, "what you said minus what was true", 1e-6)


def affine_forward(xp: Any, x: Any, W: Any, b: Any) -> tuple[Any, Any]:  # (N,C), (C,M), (M,)
    """Return y = x W + b, with cache (x, W)."""
    return x @ W + b, (x, W)


@grader
def check_bias(backward: Callable[..., Any]) -> str:
    """Grade a backward (xp, dy, cache) -> dx, dW, db of `affine_forward`."""
    rng = np.random.default_rng(3)
    inputs = {"x": rng.standard_normal((5, 3)), "W": rng.standard_normal((3, 4))}
    inputs["b"] = rng.standard_normal(4)
    y, cache = affine_forward(np, *inputs.values())
    dy = rng.standard_normal(y.shape)
    grads = backward(np, dy, cache)
    require_shapes(grads, inputs, "b is added to every row: sum over what it reaches")
    if np.allclose(grads[2], dy.mean(axis=0)):
        return verdict(False, "", "db is 1/N of what it should be: the paths add up, no mean")
    wrong = wrong_gradients(Case("affine", affine_forward, backward, inputs))
    hint = f"{' and '.join(f'd{name}' for name in wrong)} differs from the references"
    return verdict(not wrong, "b reaches every row, so db sums over the rows", hint)
