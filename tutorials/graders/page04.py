"""Graders of page 04, a transformer: each takes your answer and says "right" or "not yet" with a hint."""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np

from memsinks_np import ops
from memsinks_np.gradcheck import Case, check
from tutorials.graders import graded, verdict

THREE = ("the cat sat on the mat", "the dog ran to the cat", "the dog sat on the mat")


def floor_of(sentences: tuple[str, ...]) -> float:
    """The lowest mean loss, in nats per word, of a model that knows the sentences and sees only the words so far."""
    words = [s.split() for s in sentences]
    pairs = [(tuple(w[:t]), w[t]) for w in words for t in range(1, len(w))]
    contexts = [context for context, _ in pairs]
    return -sum(log(pairs.count(pair) / contexts.count(pair[0])) for pair in pairs) / len(pairs)


@graded
def check_floor(nats: float) -> str:
    """Exercise 1: the floor of the three sentences, in nats per word, to three digits."""
    floor = floor_of(THREE)
    n = sum(len(s.split()) - 1 for s in THREE)
    hints = (
        (
            0.0,
            "two of the beginnings have more than one continuation, and no model can know which one comes",
        ),
        (
            floor_of(THREE[:2]),
            "that is the floor of two sentences; the third changes the odds after `the`, and adds a second doubt",
        ),
        (floor * n, "that is the sum; the loss is the mean over all words to be predicted"),
        (
            floor * n / 18,
            "the first word of a sentence is only read: 5 words of each are predicted",
        ),
        (floor / log(2), "that is in bits; nats use the natural logarithm"),
    )
    near = [hint for value, hint in hints if abs(nats - value) < 1e-3]
    hint = (
        near[0]
        if near
        else "list the beginnings that two sentences share, and how often each continuation follows"
    )
    return verdict(
        abs(nats - floor) < 1e-3, "two beginnings cost something, all other words nothing", hint
    )


def tied_mlp_forward(xp: Any, x: Any, W: Any) -> tuple[Any, Any]:  # (B,T,C), (C,G) -> (B,T,C)
    """y = gelu(x W) W^T: one weight, used on the way in and on the way out."""
    pre, c_in = ops.linear_forward(xp, x, W)
    post, c_act = ops.gelu_forward(xp, pre)
    y, c_out = ops.linear_forward(xp, post, W.T)
    return y, (c_in, c_act, c_out)


@graded
def check_tied_mlp(backward: Callable[..., Any]) -> str:
    """Exercise 2: backward(xp, dy, cache) -> dx, dW for `tied_mlp_forward`."""
    rng = np.random.default_rng(0)
    x, W = rng.standard_normal((2, 5, 6)), rng.standard_normal((6, 4))
    y, cache = tied_mlp_forward(np, x, W)
    got = backward(np, np.ones_like(y), cache)
    if not isinstance(got, tuple | list) or len(got) != 2:
        return verdict(False, "", "return two gradients: dx and dW")
    for name, z, dz in (("x", x, got[0]), ("W", W, got[1])):
        if np.shape(dz) != z.shape:
            hint = f"d{name} has shape {np.shape(dz)} and {name} has {z.shape}; which of its uses is transposed?"
            return verdict(False, "", hint)
    wrong = [
        f.input
        for f in check(Case("tied MLP", tied_mlp_forward, backward, {"x": x, "W": W}))
        if not f.ok
    ]
    hint = "W is used twice: follow dy through both uses, and add what each of them sends"
    if wrong == ["x"] or len(wrong) == 2:
        hint = "dx is off: go backwards through W^T, then gelu, then W"
    return verdict(not wrong, "used twice, so it collects twice", hint)


@graded
def check_below_the_floor(sign: int) -> str:
    """Exercise 3: the sign of (loss with the own sinks on, trained as the page does) minus the floor."""
    hint = "the floor holds for whoever sees only the words so far; does the choice of sinks say anything more?"
    if sign not in (-1, 0, 1):
        hint = "give a sign: +1 (stays above), 0 (ends at it) or -1 (falls below)"
    return verdict(
        sign == -1, "the sinks that are on tell the two sequences apart before the first word", hint
    )
