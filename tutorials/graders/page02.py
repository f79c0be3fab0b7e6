"""Exercises of page 02: take LayerNorm apart and put it back together."""

from collections.abc import Callable
from typing import Any

import numpy as np

from memsinks_np.gradcheck import Case
from tutorials.graders import grade_choice, grade_number, grader, verdict, wrong_gradients


@grader
def check_ones(answer: str) -> str:
    """Grade the sign of dx under an upstream gradient of ones: "zero", "positive" or "negative"."""
    hint = "what is the sum of a position's six outputs, for any x?"
    praise = "the outputs of a position have the same sum for every x, so the sum has no slope"
    return grade_choice(answer, "zero", praise, {"positive": hint, "negative": hint})


@grader
def check_scale(number: float) -> str:
    """Grade the factor by which dx changes when x is multiplied by 10."""
    praise = "y is the same, so a step must be ten times as long to change it as much"
    hint = "y stays the same; which factor of dx depends on the scale of x?"
    return grade_number(number, 0.1, praise, {}, hint, tol=1e-3)


def rmsnorm_forward(xp: Any, x: Any, g: Any, eps: float = 1e-5) -> tuple[Any, Any]:
    """Return y = g x / sqrt(mean(x^2) + eps) over the last axis, with cache (n, rstd, g).

    Zhang and Sennrich 2019.
    """
    rstd = 1 / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)
    n = x * rstd
    return n * g, (n, rstd, g)


@grader
def check_rmsnorm(backward: Callable[..., Any]) -> str:
    """Grade a backward (xp, dy, cache) -> dx, dg of `rmsnorm_forward`."""
    rng = np.random.default_rng(5)
    inputs = {"x": rng.standard_normal((3, 5, 6)), "g": rng.standard_normal(6)}
    wrong = wrong_gradients(Case("rmsnorm", rmsnorm_forward, backward, inputs))
    hint = f"{' and '.join(f'd{name}' for name in wrong)} differs from the references; "
    hint += "count the routes from x to n, and the uses of g"
    for name in filter(lambda name: np.isinf(wrong[name]), wrong):
        hint = f"d{name} has another shape than {name}, or is not finite"
    return verdict(not wrong, "every reference agrees", hint)
