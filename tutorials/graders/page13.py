"""Exercises of page 13: what an optimizer does to an inactive sink."""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np

from tutorials.graders import grade_number, grader
from tutorials.graders.lines import Line, grade_lines

LR, DECAY, B1, B2, EPS = 3e-3, 0.1, 0.9, 0.99, 1e-8


@grader
def compare_adamw(step: Callable[..., Any]) -> str:
    """Grade the lines of a step(w, g, m, v, n, lr, decay, b1, b2, eps) of AdamW."""
    rng, n = np.random.default_rng(0), 3
    w, g, m = rng.standard_normal((3, 5))
    v = rng.uniform(0.5, 2, 5)
    new_m, new_v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
    mean, square = new_m / (1 - B1**n), new_v / (1 - B2**n)
    change = mean / (square**0.5 + EPS)
    lines = [
        Line(
            "m",
            new_m,
            "b1 of the old mean, and the rest of 1 of g",
            {
                "the new gradient counts 1 - b1": B1 * m + g,
                "the old mean is missing": (1 - B1) * g,
                "b1 is the share of the old mean": B1 * g + (1 - B1) * m,
            },
        ),
        Line(
            "v",
            new_v,
            "as m, for the square of g, with b2",
            {
                "it is the mean of the square of g": B2 * v + (1 - B2) * g,
                "v has its own b2": B1 * v + (1 - B1) * g**2,
            },
        ),
        Line(
            "change",
            change,
            "the corrected m over the root of the corrected v",
            {
                "correct both means: divide by 1 - b^n": new_m / (new_v**0.5 + EPS),
                "m is not corrected": new_m / (square**0.5 + EPS),
                "v is not corrected": mean / (new_v**0.5 + EPS),
                "take the root of v": mean / (square + EPS),
                "that is plain momentum: divide by the gradient's usual size": mean,
            },
        ),
        Line(
            "w",
            (1 - LR * DECAY) * w - LR * change,
            "shrink w by lr * decay, then go lr against the change",
            {
                "the decay is missing": w - LR * change,
                "against the change, not along it": (1 - LR * DECAY) * w + LR * change,
                "the decay is multiplied by lr": (1 - DECAY) * w - LR * change,
                "the rate is missing": (1 - LR * DECAY) * w - change,
            },
        ),
    ]
    arguments = (w, g, m, v, n, LR, DECAY, B1, B2, EPS)
    return grade_lines(step, arguments, lines, "a step of AdamW", ("w", "m", "v"))


@grader
def check_tail(factor: float) -> str:
    """Grade the factor from one change of a weight without gradients to the next."""
    mistakes = {
        B1: "m shrinks so, but v shrinks too, and the change is divided by its root",
        B1 / B2: "the change is divided by the root of v",
        B1 * B2**0.5: "dividing by something smaller makes the change larger",
    }
    hint = "m shrinks by 0.9, v by 0.99; the change is m over the root of v"
    praise = "and the sum of all further changes is 9.5 times the last one"
    return grade_number(factor, B1 / B2**0.5, praise, mistakes, hint, tol=2e-3)


@grader
def check_half_life(steps: float) -> str:
    """Grade the number of inactive steps after which decay has halved a weight."""
    half_life = log(0.5) / log(1 - LR * DECAY)
    mistakes = {
        0.5 / (LR * DECAY): "that holds if each step takes the same amount; "
        "each takes the same fraction",
        log(0.5) / log(1 - DECAY): "a step shrinks by lr * decay, not by decay",
    }
    hint = "solve (1 - lr * decay)^t = 1/2"
    tol = 0.02 * steps  # relative: the mistakes are of different sizes
    return grade_number(steps, half_life, "slow, but it never stops", mistakes, hint, tol)


@grader
def check_density(p: float) -> str:
    """Grade the p at which a sink waits 1,000 steps on average, with 32 IDs in a batch."""
    right = 1 - (1 - 1 / 1000) ** (1 / 32)
    mistakes = {
        1 / 1000: "that is the probability for a batch; it has 32 IDs",
        32 / 1000: "the more IDs in a batch, the smaller p must be",
    }
    hint = "the wait is 1 / (probability that at least one of 32 IDs activates it)"
    praise = "one in 32,000: only very sparse pools have sinks that wait so long"
    return grade_number(p, right, praise, mistakes, hint, tol=1e-6)
