"""Exercises of page 08: force it, and see the mirage."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tutorials.graders import grade_choice, grade_number, grader, verdict
from tutorials.graders.lines import Line, grade_lines


@grader
def compare_gen(backward: Callable[..., Any]) -> str:
    """Grade the lines error and dW_gen of a backward(W_gen, W_mem, s, y) of half the square."""
    rng = np.random.default_rng(0)
    W_gen, W_mem = rng.standard_normal((2, 4, 4))
    s, y = rng.standard_normal((2, 4))
    error = (W_gen + W_mem) @ s - y
    lines = [
        Line(
            "error",
            error,
            "what the model says, with both matrices, minus the label",
            {
                "the memory's output is a part of what the model says": W_gen @ s - y,
                "what the model says minus the label, not the other way": -error,
            },
        ),
        Line(
            "dW_gen",
            np.outer(error, s),
            "W_ij reaches output i with the factor s_j",
            {
                "this is the transpose: the row i belongs to output i": np.outer(s, error),
                "the half in the loss cancels the 2": 2 * np.outer(error, s),
                "every pair (i, j) has its own product": error * s,
            },
        ),
    ]
    praise = "the error, which contains the memory, times the input"
    return grade_lines(backward, (W_gen, W_mem, s, y), lines, praise, ("dW_gen",))


@grader
def check_faster(answer: str) -> str:
    """Grade the effect of a doubled rate on the final distance: "larger", "smaller" or "same"."""
    hint = "the learning rate decides how fast E shrinks; what does it shrink to?"
    praise = "it gets there sooner, but the limit is the same"
    return grade_choice(answer, "same", praise, {"larger": hint, "smaller": hint})


@grader
def check_rarely_on(fraction: float) -> str:
    """Grade the fraction of ||W_mem x|| that the distance tends to with a rarely active memory."""
    rho = 0.1
    hint = "write the update of W_gen - W_never, average over the coin, and ask where it is zero"
    if abs(fraction - 1) < 1e-6:
        hint = "that is the limit for a memory that is always active; which output does W_gen see "
        hint += "on average?"
    elif abs(fraction - rho**2) < 1e-6:
        hint = "the coin enters the error once, not twice; where is the average update zero?"
    elif 0 < fraction < 0.3:
        hint = "one run ends anywhere around its mean: take the mean of a hundred, or ask where "
        hint += "the average update is zero"
    return verdict(abs(fraction - rho) <= 0.02, "only the average can be cancelled", hint)


@grader
def check_cancelled(fraction: float) -> str:
    """Grade the cancelled fraction of one sink's output where 32 of 2,048 sinks are active."""
    hint = "how likely is a given sink active for an ordinary sequence? that is exercise 2's rho"
    praise = "so a sink hardly co-adapts with the rest"
    return grade_number(fraction, 1 / 64, praise, {}, hint, tol=0.05 / 64)
