"""Graders of page 03, attention backwards: each takes your answer and says "right" or "not yet" with a hint."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from memsinks_np import ops
from memsinks_np._internal.backend import to_device
from memsinks_np.gradcheck import Case, check
from tutorials.graders import graded, verdict

T, C = 5, 6  # the tiny world's


@graded
def check_signs(signs: Sequence[int]) -> str:
    """Exercise 1: the signs of ds for p = (0.7, 0.2, 0.1) and dp = (3, 2, 1), three of +1, 0, -1."""
    p, dp = np.array([0.7, 0.2, 0.1]), np.array([3.0, 2.0, 1.0])
    ds, answer = np.sign(ops.softmax_backward(np, dp, p)), np.asarray(signs)
    hint = "compare each entry of dp with the average of dp under p, not with 0"
    if answer.shape != ds.shape or not np.isin(answer, (-1, 0, 1)).all():
        hint = "give three signs, each +1, 0 or -1"
    elif len(set(answer.tolist())) == 1:
        hint = "a row of ds sums to zero, so its signs cannot all be equal unless all are 0; dp is not constant here"
    ok = np.array_equal(answer, ds)
    return verdict(
        ok, "a score falls where its dp is above the average, even if every dp is positive", hint
    )


def shared_case(backward: Callable[..., Any]) -> Case:
    """Attention whose three heads read one and the same key and value, as a pair to check."""
    rng = np.random.default_rng(0)
    attn_mask = np.triu(np.full((T, T), -np.inf), k=1)
    shapes = {"q": (2, 3, T, 4), "k": (2, 1, T, 4), "v": (2, 1, T, 4)}
    inputs = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return Case(
        "shared keys",
        lambda xp, q, k, v: ops.attention_forward(xp, q, k, v, to_device(xp, attn_mask)),
        lambda xp, dy, cache: backward(dy, cache),
        inputs,
    )


@graded
def check_shared_keys(backward: Callable[..., Any]) -> str:
    """Exercise 2: backward(dy, cache) -> dq, dk, dv for k and v of shape (B,1,T,K), which all heads share."""
    case = shared_case(backward)
    y, cache = case.forward(np, *case.inputs.values())
    got = backward(np.ones_like(y), cache)
    if not isinstance(got, tuple | list) or len(got) != 3:
        return verdict(False, "", "return three gradients: dq, dk, dv")
    for (name, z), dz in zip(case.inputs.items(), got, strict=True):
        if np.shape(dz) != z.shape:
            hint = f"d{name} has shape {np.shape(dz)} and {name} has {z.shape}; a gradient has the shape of its array"
            return verdict(False, "", hint)
    wrong = [f.input for f in check(case) if not f.ok]
    hint = f"the shapes fit, but d{wrong[0]} is not what a nudge measures; " if wrong else ""
    if "q" in wrong:
        hint += "each head has its own q, so dq comes from ops.attention_backward as it is"
    else:
        hint += "three heads read this array: what happens to gradients at a fork?"
    return verdict(
        not wrong, "three heads read one key, so its gradient collects from all three", hint
    )


def attends() -> list[tuple[str, bool, Callable[[Any], Any]]]:
    """Functions (1,5,6) -> (1,5,6), what is to be said about each, and whether it is causal."""
    causal = np.triu(np.full((T, T), -np.inf), k=1)
    ahead = np.triu(np.full((T, T), -np.inf), k=2)
    first, last, far = causal.copy(), causal.copy(), causal.copy()
    first[0, 1] = last[T - 2, T - 1] = far[0, T - 1] = 0.0

    def attend(attn_mask: Any) -> Callable[[Any], Any]:
        return lambda x: ops.attention_forward(np, x, x, x, attn_mask)[0]

    def one_channel(x: Any) -> Any:
        y = attend(causal)(x)
        y[:, :-1, 2] += x[:, 1:, 2]
        return y

    return [
        (
            "it refuses causal attention: a later word may change its own place, and every place after it",
            True,
            attend(causal),
        ),
        (
            "it refuses a sum over all words so far, which looks at nothing later",
            True,
            lambda x: np.cumsum(x, axis=1),
        ),
        ("it accepts an attention that looks everywhere", False, attend(np.zeros((T, T)))),
        ("it accepts an attention that looks one word ahead", False, attend(ahead)),
        (
            "it accepts one in which only word 0 sees word 1: change every word in turn",
            False,
            attend(first),
        ),
        (
            "it accepts one in which only the last word leaks, into the place before it",
            False,
            attend(last),
        ),
        (
            "it accepts one in which word 0 sees only the last: compare all places before the word",
            False,
            attend(far),
        ),
        (
            "it accepts a leak in channel 2 alone: change and compare whole words",
            False,
            one_channel,
        ),
        (
            "it accepts a leak of one part in a million: compare exactly",
            False,
            lambda x: x + 1e-6 * x.sum(axis=1, keepdims=True),
        ),
    ]


@graded
def check_causality_test(is_causal: Callable[[Callable[[Any], Any]], bool]) -> str:
    """Exercise 3: is_causal(attend) -> bool, for any function attend of (1,5,6) arrays."""
    wrong = [said for said, truth, attend in attends() if bool(is_causal(attend)) != truth]
    return verdict(
        not wrong,
        "your test passes what is causal and catches every leak",
        wrong[0] if wrong else "",
    )
