"""Exercises of page 01: check a gradient before you trust it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from memsinks_np.gradcheck import Case, check
from memsinks_np.ops import softmax_backward, softmax_forward
from memsinks_np.sinks import sink_mask
from tutorials import toy as lessons
from tutorials.graders import graded, verdict


@graded
def check_sleeper(answer: str) -> str:
    """What raising the bias of sink 2 does to the loss of the two sentences: "up", "down" or "same"."""
    asleep = not sink_mask(lessons.TINY_POOL, lessons.TINY_IDS)[:, 2].any()
    return verdict(
        asleep and answer == "same",
        "what is off has no influence, so its gradient is zero",
        'follow sink 2 through the forward: by what is it multiplied? Answer "up", "down" or "same"',
    )


@graded
def check_blind(dp: Any) -> str:
    """An upstream gradient (2,3), not constant, under which softmax's gradient is zero for any scores."""
    dp = np.asarray(dp, float)
    if dp.shape != (2, 3) or np.ptp(dp) == 0:
        return verdict(
            False, "", "give an array of shape (2, 3) that is not the same number everywhere"
        )
    _, p = softmax_forward(np, np.random.default_rng(1).standard_normal((2, 3)))
    return verdict(
        float(np.abs(softmax_backward(np, dp, p)).max()) <= 1e-12,
        "each row of probabilities sums to one, so what is constant along a row sees no change",
        "the gradient is not zero; which sums of softmax's outputs never change?",
    )


def swish_forward(xp: Any, x: Any) -> tuple[Any, Any]:
    """y = x sigma(x), with cache (x, sigma(x))."""
    sigma = 1 / (1 + xp.exp(-x))
    return x * sigma, (x, sigma)


@graded
def check_swish(backward: Callable[..., Any]) -> str:
    """A backward (xp, dy, cache) -> dx for `swish_forward`."""
    (found,) = check(
        Case(
            "swish",
            swish_forward,
            backward,
            {"x": np.random.default_rng(2).standard_normal((3, 5))},
        )
    )
    off = f"{found.errors['autograd']:.1e}"
    hint = f"the error is {off} of the largest entry; x appears twice in the forward, so its gradient has two terms"
    if np.isinf(found.errors["autograd"]):
        hint = "dx has another shape than x, or is not finite"
    return verdict(found.ok, f"autograd and central differences agree (error {off})", hint)
