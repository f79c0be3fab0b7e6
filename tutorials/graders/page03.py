"""Exercises of page 03: run attention backwards."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from memsinks_np import ops
from memsinks_np._internal.backend import to_device
from memsinks_np.gradcheck import Case
from memsinks_np.ops import transpose
from tutorials.graders import grader, require_shapes, verdict, wrong_gradients
from tutorials.graders.lines import Line, grade_lines

T = 5  # positions of the tiny sequences
CAUSAL = np.triu(np.full((T, T), -np.inf), k=1)


def line_of_softmax(dp: Any, p: Any) -> Line:
    """Return the line ds of a backward, with the typical mistakes."""
    average = np.sum(p * dp, axis=-1, keepdims=True)
    slips = {
        "the average under p is not subtracted: every p depends on every score": p * dp,
        "the factor p is missing": dp - average,
        "the average is weighted by p: sum p * dp": p * (dp - dp.mean(axis=-1, keepdims=True)),
        "the sum is over p * dp, not over dp": p * (dp - dp.sum(axis=-1, keepdims=True)),
        "sum over the last axis alone, with keepdims=True": p * (dp - np.sum(p * dp)),
    }
    return Line(
        "ds", p * (dp - average), "subtract the average of dp under p, then multiply by p", slips
    )


@grader
def compare_softmax(backward: Callable[..., Any]) -> str:
    """Grade the line ds of a backward(dp, p) of softmax over the last axis."""
    rng = np.random.default_rng(0)
    p, dp = rng.dirichlet(np.ones(5), 4), rng.standard_normal((4, 5))
    return grade_lines(
        backward, (dp, p), [line_of_softmax(dp, p)], "each row of ds sums to zero", ("ds",)
    )


@grader
def compare_attention(backward: Callable[..., Any]) -> str:
    """Grade the lines dv, dp, ds, dq, dk of a backward(dy, cache), with cache (q, k, v, p, scale).

    K and T are equal: a wrong transpose reaches the comparison, not NumPy's error.
    """
    q, k, v, dy = np.random.default_rng(1).standard_normal((4, 2, 3, T, T))
    scale = T**-0.5
    _, (*_, p, _) = ops.attention_forward(np, q, k, v, CAUSAL)
    dp = dy @ transpose(np, v)
    ds = ops.softmax_backward(np, dp, p)
    lines = [
        Line(
            "dv",
            transpose(np, p) @ dy,
            "y = p v is Z = A B with B = v",
            {"p is not transposed: v_j is read by every word i that looks at j": p @ dy},
        ),
        Line("dp", dp, "y = p v is Z = A B with A = p", {"v is not transposed": dy @ v}),
        line_of_softmax(dp, p),
        Line(
            "dq",
            scale * ds @ k,
            "s = scale q k^T is Z = A B with A = q and B = k^T",
            {
                "the scale is missing": ds @ k,
                "k is transposed twice": scale * ds @ transpose(np, k),
            },
        ),
        Line(
            "dk",
            scale * transpose(np, ds) @ q,
            "s = scale q k^T is Z = A B with A = q and B = k^T",
            {
                "the scale is missing": transpose(np, ds) @ q,
                "ds is not transposed: k_j gets the scores of every word i that looks at j": scale
                * ds
                @ q,
                "this is the transpose of dk": scale * transpose(np, q) @ ds,
            },
        ),
    ]
    praise = "two products and a softmax, in reverse order"
    return grade_lines(backward, (dy, (q, k, v, p, scale)), lines, praise, ("dq", "dk", "dv", "ds"))


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


def leaks_after_layernorm(x: Any) -> Any:
    """Return causal attention, plus the LayerNorm of the next word, to six digits."""
    y, C = attention_with()(x), x.shape[-1]
    y[:, :-1] += np.round(ops.layernorm_forward(np, x, np.ones(C), np.zeros(C))[0], 6)[:, 1:]
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
    **{
        f"it accepts attention in which word {i} alone sees the next: change every word in turn": (
            attention_with((i, i + 1))
        )
        for i in range(1, T - 2)
    },
    "it accepts attention in which word 0 sees only the last: compare all earlier positions": (
        attention_with((0, T - 1))
    ),
    "it accepts a leak in channel 2 alone: change and compare whole words": leaks_one_channel,
    "it accepts a leak of one part in a million: compare exactly": (
        lambda x: x + 1e-6 * x.sum(axis=1, keepdims=True)
    ),
    "it accepts a leak after a LayerNorm, which ignores one number added to a whole word: change "
    "its entries by different numbers": leaks_after_layernorm,
}


@grader
def check_causality_test(is_causal: Callable[[Callable[[Any], Any]], bool]) -> str:
    """Grade is_causal(attend) -> bool, for any function attend of (1,5,6) arrays."""
    hints = [hint for hint, attend in CAUSAL_FUNCTIONS.items() if not is_causal(attend)]
    hints += [hint for hint, attend in LEAKING_FUNCTIONS.items() if is_causal(attend)]
    praise = "your test accepts causal functions and detects all leaks that we tried"
    return verdict(not hints, praise, (hints or [""])[0])
