"""Exercises of page 03: run attention backwards."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from memsinks_np import ops
from memsinks_np._internal.backend import to_device
from memsinks_np.gradcheck import Case
from tutorials.graders import grader, require_shapes, verdict, wrong_gradients

T = 5  # positions of the tiny sequences
CAUSAL = np.triu(np.full((T, T), -np.inf), k=1)


@grader
def check_signs(signs: Sequence[int]) -> str:
    """Grade the signs of ds for p = (0.7, 0.2, 0.1) and dp = (3, 2, 1): three of +1, 0, -1."""
    p, dp = np.array([0.7, 0.2, 0.1]), np.array([3.0, 2.0, 1.0])
    ds, answer = np.sign(ops.softmax_backward(np, dp, p)), np.asarray(signs)
    hint = "compare each entry of dp with the average of dp under p, not with 0"
    if answer.shape != ds.shape or not np.isin(answer, (-1, 0, 1)).all():
        hint = "give three signs, each +1, 0 or -1"
    elif len(set(answer.tolist())) == 1:
        hint = "a row of ds sums to zero, and here dp is not constant: the signs cannot be equal"
    praise = "ds is positive where dp is above its average, even if every dp is positive"
    return verdict(np.array_equal(answer, ds), praise, hint)


@grader
def check_shared_keys(backward: Callable[..., Any]) -> str:
    """Grade backward(dy, cache) -> dq, dk, dv, with k and v (B,1,T,K) shared by all heads."""
    rng = np.random.default_rng(0)
    shapes = {"q": (2, 3, T, 4), "k": (2, 1, T, 4), "v": (2, 1, T, 4)}
    inputs = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    q, k, v = inputs.values()
    y, cache = ops.attention_forward(np, q, k, v, CAUSAL)
    remark = "a gradient has the shape of its array"
    require_shapes(backward(np.ones_like(y), cache), inputs, remark)
    case = Case(
        "shared keys",
        lambda xp, q, k, v: ops.attention_forward(xp, q, k, v, to_device(xp, CAUSAL)),
        lambda xp, dy, cache: backward(dy, cache),
        inputs,
    )
    wrong = list(wrong_gradients(case))
    hint = "three heads read this array: what happens to gradients at a fork?"
    if "q" in wrong:
        hint = "each head has its own q, so dq comes from ops.attention_backward as it is"
    hint = f"the shapes fit, but {', '.join(f'd{name}' for name in wrong)} differs; {hint}"
    return verdict(not wrong, "three heads read one key, so its gradient sums over them", hint)


def attention_with(*visible: tuple[int, int]) -> Callable[[Any], Any]:
    """Return causal attention in which further (query, key) positions are visible."""
    attn_mask = CAUSAL.copy()
    for position in visible:
        attn_mask[position] = 0.0
    return lambda x: ops.attention_forward(np, x, x, x, attn_mask)[0]


def leaks_one_channel(x: Any) -> Any:
    """Return causal attention, plus channel 2 of the next word."""
    y = attention_with()(x)
    y[:, :-1, 2] += x[:, 1:, 2]
    return y


CAUSAL_FUNCTIONS: dict[str, Callable[[Any], Any]] = {  # hint -> function
    "it rejects causal attention: a later word may change its own position and all after it": (
        attention_with()
    ),
    "it rejects a sum over all words so far, which uses nothing later": (
        lambda x: np.cumsum(x, axis=1)
    ),
}
LEAKING_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "it accepts attention that looks everywhere": attention_with(
        *((i, j) for i in range(T) for j in range(T))
    ),
    "it accepts attention that looks one word ahead": attention_with(
        *((i, i + 1) for i in range(T - 1))
    ),
    "it accepts attention in which only word 0 sees word 1: change every word in turn": (
        attention_with((0, 1))
    ),
    "it accepts attention in which only the last word leaks, into the position before it": (
        attention_with((T - 2, T - 1))
    ),
    "it accepts attention in which word 0 sees only the last: compare all earlier positions": (
        attention_with((0, T - 1))
    ),
    "it accepts a leak in channel 2 alone: change and compare whole words": leaks_one_channel,
    "it accepts a leak of one part in a million: compare exactly": (
        lambda x: x + 1e-6 * x.sum(axis=1, keepdims=True)
    ),
}


@grader
def check_causality_test(is_causal: Callable[[Callable[[Any], Any]], bool]) -> str:
    """Grade is_causal(attend) -> bool, for any function attend of (1,5,6) arrays."""
    hints = [hint for hint, attend in CAUSAL_FUNCTIONS.items() if not is_causal(attend)]
    hints += [hint for hint, attend in LEAKING_FUNCTIONS.items() if is_causal(attend)]
    praise = "your test accepts causal functions and detects every leak"
    return verdict(not hints, praise, (hints or [""])[0])
