"""Exercises of page 01: check a gradient before you trust it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from memsinks_np.gradcheck import Case
from memsinks_np.ops import softmax_backward, softmax_forward
from tutorials.graders import grade_choice, grader, verdict, wrong_gradients


@grader
def check_inactive(answer: str) -> str:
    """Grade what a larger bias of sink 2 does to the loss: "up", "down" or "same"."""
    hint = "follow sink 2 through the forward: what is it multiplied by?"
    praise = "an inactive sink has no influence, so its gradient is zero"
    return grade_choice(answer, "same", praise, {"up": hint, "down": hint})


@grader
def check_zero_gradient(dp: Any) -> str:
    """Grade an upstream gradient (2,3), not constant, under which softmax has gradient zero."""
    dp = np.asarray(dp, float)
    if dp.shape != (2, 3) or np.ptp(dp) == 0:
        hint = "give an array of shape (2, 3) that is not the same number everywhere"
        return verdict(False, "", hint)
    _, p = softmax_forward(np, np.random.default_rng(1).standard_normal((2, 3)))
    return verdict(
        float(np.abs(softmax_backward(np, dp, p)).max()) <= 1e-12,
        "each row of probabilities sums to one, so a constant along a row has no effect",
        "the gradient is not zero; which sums of softmax's outputs never change?",
    )


def swish_forward(xp: Any, x: Any) -> tuple[Any, Any]:
    """Return y = x sigma(x), with cache (x, sigma(x))."""
    sigma = 1 / (1 + xp.exp(-x))
    return x * sigma, (x, sigma)


@grader
def check_swish(backward: Callable[..., Any]) -> str:
    """Grade a backward (xp, dy, cache) -> dx of `swish_forward`."""
    rng = np.random.default_rng(2)
    x, dy = rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    _, (_, sigma) = swish_forward(np, x)
    slope = sigma + x * sigma * (1 - sigma)
    slips = {
        "dy is missing: the upstream gradient is a factor of dx": slope,
        "the second term has the other sign": dy * (sigma - x * sigma * (1 - sigma)),
        "the cache is unpacked in the wrong order: it holds x, then sigma": dy
        * (x + sigma * x * (1 - x)),
        "the derivative of sigma is sigma (1 - sigma), not sigma": dy * (sigma + x * sigma),
        "the product rule's second term is missing: x is in sigma too": dy * sigma,
    }
    answer = backward(np, dy, (x, sigma))
    for slip, value in slips.items():
        if np.shape(answer) == value.shape and np.allclose(answer, value):
            return verdict(False, "", f"dx differs from the references; {slip}")
    wrong = wrong_gradients(Case("swish", swish_forward, backward, {"x": x}))
    hint = "dx differs from the references; x appears twice in the forward, "
    hint += "so its gradient has two terms"
    if np.isinf(wrong.get("x", 0)):
        hint = "dx has another shape than x, or is not finite"
    return verdict(not wrong, "every reference agrees", hint)
