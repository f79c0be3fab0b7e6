"""Graders of tutorial 07: co-adaptation."""

from math import isclose

from memsinks_np.exercises import verdict

NOT_GIVEN = "put your answer in the place of None"


def check_faster(answer: str | None) -> str:
    """Whether a doubled learning rate makes the final distance "larger", "smaller", or leaves it the "same"."""
    if answer is None:
        return verdict(False, "", NOT_GIVEN)
    if answer not in ("larger", "smaller", "same"):
        return verdict(False, "", 'answer with "larger", "smaller" or "same"')
    hint = "the learning rate decides how fast E shrinks; what does it shrink to?"
    return verdict(answer == "same", "the way is shorter, the end is the same", hint)


def check_rarely_on(share: float | None, rho: float = 0.1) -> str:
    """The share of ||W_mem x|| that the distance tends to when the memory is on in a share `rho` of the steps."""
    if share is None:
        return verdict(False, "", NOT_GIVEN)
    if isclose(share, 1, abs_tol=1e-6):
        hint = "that is where it is always on; which output does W_gen see on average?"
    elif isclose(share, rho**2, abs_tol=1e-6):
        hint = "the coin enters the error once, not twice; where is the average update zero?"
    else:
        hint = "write the update of W_gen - W_never, average over the coin, and ask where it is zero"
    return verdict(isclose(share, rho, abs_tol=0.02), "only what is seen on average can be cancelled", hint)


def check_cancelled(share: float | None) -> str:
    """The share of one sink's output that is cancelled where 32 of 2,048 sinks are on for a sequence."""
    if share is None:
        return verdict(False, "", NOT_GIVEN)
    hint = "how likely is one given sink on for an ordinary sequence? that is the rho of exercise 2"
    return verdict(isclose(share, 32 / 2048, rel_tol=0.05), "so a sink hardly co-adapts with anybody", hint)
