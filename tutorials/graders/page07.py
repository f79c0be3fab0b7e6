"""Exercises of page 07: try to cut it out afterwards."""

from tutorials.graders import grade_choice, grade_number, grader

CLOSED = 1 / (1 + 11 ** (2 / 3))  # the probability that a Hard-Concrete gate with a = 0 is 0


@grader
def check_at_cost(nats: float) -> str:
    """Grade what a cut forgets at a cost of 0.05, on the line from (0.02, 0.1) to (0.10, 0.5)."""
    mistakes = {
        0.3: "that is the middle of 0.1 and 0.5; is 0.05 in the middle of 0.02 and 0.10?",
        0.5: "that is forgotten at a cost of 0.10",
        0.15: "that is what the second part adds; the first 0.1 is forgotten too",
    }
    hint = "how far is 0.05 on the way from 0.02 to 0.10? go as far from 0.1 to 0.5"
    return grade_number(nats, 0.25, "three eighths of the way", mistakes, hint, tol=1e-3)


@grader
def check_closed(number: float) -> str:
    """Grade the probability that a Hard-Concrete gate with a = 0 is exactly 0."""
    mistakes = {
        0.5: "that is the probability that s is below 1/2; the gate is 0 below 1/12",
        1 / 12: "that is the largest s at which the gate is 0; which u gives it?",
        11 ** (-2 / 3): "that is u / (1 - u); solve for u",
        1 / (1 + 11**1.5): "s is sigma of ln(u / (1 - u)) divided by 2/3, not times 2/3",
    }
    hint = "the gate is 0 where s <= 1/12; sigma(z) = 1/12 at z = -ln 11; now solve for u"
    praise = "and as often exactly 1: a gate without noise would be neither"
    return grade_number(number, CLOSED, praise, mistakes, hint, tol=2e-3)


@grader
def check_contrast_sign(sign: str) -> str:
    """Grade how much more is forgotten at the same cost with the new stories' scores subtracted."""
    hints = {
        "-": "a neuron that new stories need as much now has a score near zero; "
        "is it cut sooner or later?",
        "0": "are the most needed neurons the same for repeated and for new stories? "
        "Then the order changes",
    }
    praise = "keeping what all stories need leaves more of the cost for the memory"
    return grade_choice(sign, "+", praise, hints)
