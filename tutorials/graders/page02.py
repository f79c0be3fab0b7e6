"""Exercises of page 02: take LayerNorm apart and put it back together."""

from collections.abc import Callable
from typing import Any

import numpy as np

from memsinks_np.gradcheck import Case, check
from memsinks_np.ops import layernorm_backward, layernorm_forward
from tutorials.graders import graded, verdict


def dx_of(x: Any, dy: Any, g: Any) -> Any:
    """LayerNorm's dx."""
    _, cache = layernorm_forward(np, x, g, 0 * g)
    return layernorm_backward(np, dy, cache)[0]


@graded
def check_ones(answer: str) -> str:
    """The sign of dx under an upstream gradient of ones and equal gains: "zero", "positive" or "negative"."""
    x = np.random.default_rng(3).standard_normal((2, 5, 6))
    dx = dx_of(x, np.ones(x.shape), np.full(6, 2.0))
    largest = float(np.abs(dx).max())
    return verdict(
        largest < 1e-12 and answer == "zero",
        "the outputs of a position sum to the same number for every x, so their sum has no slope",
        'what is the sum of a position\'s six outputs, for any x? Answer "zero", "positive" or "negative"',
    )


@graded
def check_scale(number: float) -> str:
    """By what dx is multiplied when x is multiplied by 10."""
    rng = np.random.default_rng(4)
    x, dy, g = rng.standard_normal((2, 5, 6)), rng.standard_normal((2, 5, 6)), rng.uniform(1, 2, 6)
    ratio = float(np.median(dx_of(10 * x, dy, g) / dx_of(x, dy, g)))
    return verdict(
        abs(number - ratio) < 1e-3,
        "y is the same, so a step that is ten times as long changes it as much",
        "y stays the same; which factor of dx knows the scale of x?",
    )


def rmsnorm_forward(xp: Any, x: Any, g: Any, eps: float = 1e-5) -> tuple[Any, Any]:
    """y = g x / sqrt(mean(x^2) + eps) over the last axis (Zhang and Sennrich 2019), with cache (n, rstd, g)."""
    rstd = 1 / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)
    n = x * rstd
    return n * g, (n, rstd, g)


@graded
def check_rmsnorm(backward: Callable[..., Any]) -> str:
    """A backward (xp, dy, cache) -> dx, dg for `rmsnorm_forward`."""
    rng = np.random.default_rng(5)
    inputs = {"x": rng.standard_normal((3, 5, 6)), "g": rng.standard_normal(6)}
    found = check(Case("rmsnorm", rmsnorm_forward, backward, inputs))
    wrong = " and ".join(f"d{f.input}" for f in found if not f.ok)
    hint = f"{wrong} differs from the references; count the routes from x to n, and who uses g"
    misshapen = [f.input for f in found if np.isinf(f.errors["autograd"])]
    if misshapen:
        hint = f"d{misshapen[0]} has another shape than {misshapen[0]}, or is not finite"
    return verdict(not wrong, "every reference agrees", hint)
