"""Exercises of page 06: which neurons hold a memory?"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tutorials.graders import grade_number, grader, verdict
from tutorials.graders.lines import Line, grade_lines


@grader
def compare_gates(backward: Callable[..., Any]) -> str:
    """Grade the line dg of a backward(dW_gated, W_out) of gates on the rows of W_out."""
    dW, W_out = np.random.default_rng(0).standard_normal((2, 5, 5))
    line = Line(
        "dg",
        np.sum(dW * W_out, axis=1),
        "g_j multiplies the row j of W_out",
        {
            "one gate serves a whole row: sum over its entries": dW * W_out,
            "a neuron is a row of W_out: sum over c, not over j": np.sum(dW * W_out, axis=0),
            "each entry of dW counts with its factor W_out": dW.sum(axis=1),
            "the paths add up: a sum, not a mean": np.mean(dW * W_out, axis=1),
        },
    )
    praise = "the slopes of all gates, from a backward that you have"
    return grade_lines(backward, (dW, W_out), [line], praise, ("dg",))


@grader
def check_silent_neuron(slope: float) -> str:
    """Grade the gradient of a gate whose neuron has a row of zeros in W_out."""
    hint = "the gradient is the sum of dW_out'[j] * W_out[j]; what is the second factor of a term?"
    praise = "scaling a neuron without output changes nothing"
    return grade_number(slope, 0, praise, {}, hint, tol=0)


@grader
def check_completeness(total: float) -> str:
    """Grade the sum of all scores: true words at 0.85 with all gates open, 0.25 with all closed."""
    mistakes = {
        0.85: "with all gates closed, attention and embeddings still predict something; "
        "count from there",
        -0.6: "the gates go from closed to open, not the other way",
    }
    hint = "the scores sum the slope from all closed to all open; what is the whole rise?"
    praise = "the scores of all neurons add up to the whole rise"
    return grade_number(total, 0.6, praise, mistakes, hint, tol=0.01)


@grader
def check_pair(scores: tuple[float, float]) -> str:
    """Grade the two scores of Integrated Gradients of P = a b."""
    score_a, score_b = scores
    hint = "what is dP/da where both gates are at alpha? then average it over alpha from 0 to 1"
    if (score_a, score_b) == (1, 1):
        hint = "these are the slopes at open gates, and they add up to 2; P rises by 1"
    elif score_a + score_b == 1:
        hint = "they add up, but P treats a and b equally"
    praise = "half each, though without either nothing is known"
    return verdict(abs(score_a - 0.5) + abs(score_b - 0.5) < 1e-3, praise, hint)
