"""Exercises of page 05: watch a model memorize."""

from math import log

from tutorials.graders import grade_choice, grade_number, grader


@grader
def check_perfect_loss(nats: float) -> str:
    """Grade the loss of a perfect model where eight next words are equally likely, in nats."""
    mistakes = {
        3: "that is in bits; we count in nats, so take the natural logarithm",
        1 / 8: "that is the probability of the word; the loss is minus its logarithm",
        0: "zero needs certainty, and eight words are possible",
    }
    hint = "all eight words have the same probability: what is minus its natural logarithm?"
    if nats < 0:
        hint = "a loss is minus the logarithm of a probability, so it is never negative"
    praise = "this is the uncertainty that remains when the rules are known"
    return grade_number(nats, log(8), praise, mistakes, hint, tol=0.01)


@grader
def check_evidence(nats: float) -> str:
    """Grade the nats below the entropy that luck reaches at most once in a thousand."""
    mistakes = {
        3.0: "the bound is a power of e, not of 10",
        1000.0: "1,000 is the odds; solve exp(-k) = 1/1000 for k",
    }
    hint = "set the bound exp(-k) equal to 1/1000 and solve for k"
    if nats < 0:
        hint = "count how far below the entropy, as a positive number"
    praise = "every repeated story is far beyond that"
    return grade_number(nats, log(1000), praise, mistakes, hint, tol=0.01)


@grader
def check_unseen_sign(sign: str) -> str:
    """Grade the sign of (standard - retrained) on stories that neither has seen: "+", "-", "0"."""
    hints = {
        "-": "a quarter of every batch was the same 64 stories; "
        "did that teach standard more of the language?",
        "0": "both read equally many new stories, but only one also spent width and steps "
        "on memorizing",
    }
    return grade_choice(sign, "+", "memorizing cost some skill here", hints)
