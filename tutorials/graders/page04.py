"""Exercises of page 04: assemble a transformer that carries its own backward."""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np

from memsinks_np import ops
from memsinks_np.gradcheck import Case
from tutorials.graders import grade_number, grader, require_shapes, verdict, wrong_gradients

THREE = ("the cat sat on the mat", "the dog ran to the cat", "the dog sat on the mat")


def entropy_of(sentences: tuple[str, ...]) -> float:
    """Return the lowest mean loss, in nats per word, of a model that sees only the words so far."""
    words = [s.split() for s in sentences]
    pairs = [(tuple(w[:t]), w[t]) for w in words for t in range(1, len(w))]
    contexts = [context for context, _ in pairs]
    return -sum(log(pairs.count(pair) / contexts.count(pair[0])) for pair in pairs) / len(pairs)


@grader
def check_entropy(nats: float) -> str:
    """Grade the entropy floor of the three sentences, in nats per word, to three digits."""
    entropy = entropy_of(THREE)
    n = sum(len(s.split()) - 1 for s in THREE)
    mistakes = {
        0.0: "two of the beginnings have more than one continuation; no model can predict which",
        entropy_of(THREE[:2]): "that is the entropy of two sentences; the third changes the odds "
        "after `the`, and adds a second uncertain word",
        entropy * n: "that is the sum; the loss is the mean over all words to be predicted",
        entropy * n / 18: "the first word is only read: 5 words of each sentence are predicted",
        entropy / log(2): "that is in bits; nats use the natural logarithm",
    }
    hint = "list the beginnings that sentences share, and how often each continuation follows"
    praise = "two beginnings cost something, all other words nothing"
    return grade_number(nats, entropy, praise, mistakes, hint, tol=1e-3)


def tied_mlp_forward(xp: Any, x: Any, W: Any) -> tuple[Any, Any]:  # (B,T,C), (C,G) -> (B,T,C)
    """Return y = gelu(x W) W^T: one weight, used on the way in and on the way out."""
    pre, c_in = ops.linear_forward(xp, x, W)
    post, c_act = ops.gelu_forward(xp, pre)
    y, c_out = ops.linear_forward(xp, post, W.T)
    return y, (c_in, c_act, c_out)


@grader
def check_tied_mlp(backward: Callable[..., Any]) -> str:
    """Grade backward(xp, dy, cache) -> dx, dW of `tied_mlp_forward`."""
    rng = np.random.default_rng(0)
    inputs = {"x": rng.standard_normal((2, 5, 6)), "W": rng.standard_normal((6, 4))}
    y, cache = tied_mlp_forward(np, *inputs.values())
    grads = backward(np, np.ones_like(y), cache)
    require_shapes(grads, inputs, "which of its uses is transposed?")
    wrong = wrong_gradients(Case("tied MLP", tied_mlp_forward, backward, inputs))
    hint = "W is used twice: follow dy through both uses, and add their gradients"
    if "x" in wrong:
        hint = "dx is wrong: go backwards through W^T, then gelu, then W"
    return verdict(not wrong, "W is used twice, so its gradients add", hint)


@grader
def check_below_entropy(sign: int) -> str:
    """Grade the sign of (last loss with own sinks active) minus the entropy: +1, 0 or -1."""
    hint = "the entropy is the limit for a model that sees only the words so far; "
    hint += "does the choice of sinks carry anything more?"
    if sign not in (-1, 0, 1):
        hint = "give a sign: +1 (stays above), 0 (ends at it) or -1 (falls below)"
    praise = "the active sinks distinguish the two sequences before the first word"
    return verdict(sign == -1, praise, hint)
