"""Graders of tutorial 07: co-adaptation."""

from math import isclose

from tutorials.graders import graded, verdict


@graded
def check_faster(answer: str) -> str:
    """Whether a doubled learning rate makes the final distance "larger", "smaller", or leaves it the "same"."""
    if answer not in ("larger", "smaller", "same"):
        return verdict(False, "", 'answer with "larger", "smaller" or "same"')
    hint = "the learning rate decides how fast E shrinks; what does it shrink to?"
    return verdict(answer == "same", "the way is shorter, the end is the same", hint)


@graded
def check_rarely_on(share: float, rho: float = 0.1) -> str:
    """The share of ||W_mem x|| that the distance tends to when the memory is on in a share `rho` of the steps."""
    if isclose(share, 1, abs_tol=1e-6):
        hint = "that is where it is always on; which output does W_gen see on average?"
    elif isclose(share, rho**2, abs_tol=1e-6):
        hint = "the coin enters the error once, not twice; where is the average update zero?"
    elif 0 < share < 0.3:
        hint = "one run ends anywhere around its mean: take the mean of a hundred, or ask where the average update is zero"
    else:
        hint = (
            "write the update of W_gen - W_never, average over the coin, and ask where it is zero"
        )
    return verdict(
        isclose(share, rho, abs_tol=0.02), "only what is seen on average can be cancelled", hint
    )


@graded
def check_cancelled(share: float) -> str:
    """The share of one sink's output that is cancelled where 32 of 2,048 sinks are on for a sequence."""
    hint = "how likely is one given sink on for an ordinary sequence? that is the rho of exercise 2"
    return verdict(
        isclose(share, 32 / 2048, rel_tol=0.05), "so a sink hardly co-adapts with anybody", hint
    )
