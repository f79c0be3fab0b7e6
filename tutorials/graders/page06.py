"""Exercises of page 06: try to cut it out afterwards."""

from math import isclose

from tutorials.graders import graded, verdict


@graded
def check_silent_neuron(slope: float) -> str:
    """The gradient of a gate whose neuron has a row of zeros in W_out."""
    hint = (
        "the gradient is the sum of dW_out'[j] * W_out[j]; what is the second factor of every term?"
    )
    return verdict(slope == 0, "turning up a neuron that says nothing changes nothing", hint)


@graded
def check_completeness(total: float) -> str:
    """The sum of all scores where the true words have probability 0.85 with all gates open, 0.25 with all closed."""
    if isclose(total, 0.85, abs_tol=0.01):
        hint = "with all gates closed the attention and the embeddings still predict something; count from there"
    elif isclose(total, -0.6, abs_tol=0.01):
        hint = "the gates go from closed to open, not the other way"
    else:
        hint = "the scores add up the slope along the way from all closed to all open; what is the whole climb?"
    return verdict(
        isclose(total, 0.6, abs_tol=0.01),
        "every neuron gets its part of the climb, none is lost",
        hint,
    )


@graded
def check_contrast_sign(sign: str) -> str:
    """How much more stories are forgotten, at the same cost, if the scores for new stories are subtracted first."""
    if sign not in ("+", "-", "0"):
        return verdict(False, "", 'answer with "+", "-" or "0"')
    hint = {
        "-": "a neuron that new stories need as much has now a score near zero; is it cut sooner or later?",
        "0": "are the most needed neurons the same for repeated and for new stories? Then the order changes",
    }
    return verdict(
        sign == "+",
        "sparing what all stories need leaves more of the cost for the memory",
        hint.get(sign, ""),
    )
