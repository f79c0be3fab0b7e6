"""Exercises of page 05: watch a model memorize."""

from math import isclose, log

from tutorials.graders import graded, verdict


@graded
def check_perfect_loss(nats: float) -> str:
    """The loss of a perfect model where eight next words are equally likely, in nats."""
    if isclose(nats, 3, abs_tol=0.01):
        hint = "that is in bits; we count in nats, so take the natural logarithm"
    elif isclose(nats, 1 / 8, abs_tol=0.01):
        hint = "that is the probability of the word; the loss is minus its logarithm"
    elif nats == 0:
        hint = "zero needs certainty, and this model knows only that eight words are possible"
    elif nats < 0:
        hint = "a loss is minus the logarithm of a probability, so it is never negative"
    else:
        hint = (
            "each of the eight words has the same probability: what is minus its natural logarithm?"
        )
    return verdict(
        isclose(nats, log(8), abs_tol=0.01),
        "so much surprise is left to a model that knows the rules",
        hint,
    )


@graded
def check_evidence(nats: float) -> str:
    """Nats below the floor that no more than one innocent model in a thousand reaches on a single chosen story."""
    if isclose(nats, 3, abs_tol=0.01):
        hint = "the bound is a power of e, not of 10"
    elif isclose(nats, 1000, abs_tol=0.01):
        hint = "1,000 is the odds; solve exp(-k) = 1/1000 for k"
    elif nats < 0:
        hint = "count how far below the floor, as a positive number"
    else:
        hint = "set the bound exp(-k) equal to 1/1000 and solve for k"
    return verdict(
        isclose(nats, log(1000), abs_tol=0.01), "every story of the list is far beyond that", hint
    )


@graded
def check_unseen_sign(sign: str) -> str:
    """The sign of (standard - retrained without) on stories that neither has seen: "+", "-" or "0"."""
    if sign not in ("+", "-", "0"):
        return verdict(False, "", 'answer with "+", "-" or "0"')
    hint = {
        "-": "a quarter of every batch was the same 64 stories; did that teach standard more of the language?",
        "0": "both read equally many new stories, but only one also spent width and steps on learning by heart",
    }
    return verdict(
        sign == "+", "learning by heart took something from the skill here", hint.get(sign, "")
    )
