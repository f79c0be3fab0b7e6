"""Graders of tutorial 10: learning, forgetting, and what moves while a sink is off."""

from math import isclose, log

from memsinks_np.experiments.simulations import Bounds
from tutorials.graders import graded, verdict

EXAMPLE = Bounds(k=20, N=1000, eps=0.5, c_min=0.02, c_max=0.03)
LR, DECAY = 3e-3, 0.1


@graded
def check_more_often(answer: str) -> str:
    """Whether a sequence shown twice as often leaves a "higher", a "lower" or the "same" logit in its sinks."""
    if answer not in ("higher", "lower", "same"):
        return verdict(False, "", 'answer with "higher", "lower" or "same"')
    hint = "count the pushes: how many go up now, how many go down?"
    return verdict(answer == "higher", "more pushes up, fewer down", hint)


@graded
def check_threshold(rho: float) -> str:
    """The rho below which the two bounds of Theorem H.3 separate in the page's example."""
    if isclose(rho, EXAMPLE.printed_threshold(), abs_tol=5e-4):
        hint = "that is the printed formula; try the two bounds at your rho"
    elif isclose(rho, EXAMPLE.c_min / EXAMPLE.c_max, abs_tol=5e-4):
        hint = "that is the first term; the k occurrences are missing"
    else:
        hint = "set sink_lower equal to shared_upper and solve for rho; mind the signs"
    return verdict(
        isclose(rho, EXAMPLE.threshold(), abs_tol=5e-4), "there the two bounds meet", hint
    )


@graded
def check_half_life(steps: float) -> str:
    """After how many steps off decay has halved a weight, at the page's learning rate and decay."""
    if isclose(steps, 0.5 / (LR * DECAY), rel_tol=0.02):
        hint = "that would be so if each step took the same amount; each takes the same share"
    elif isclose(steps, log(0.5) / log(1 - DECAY), rel_tol=0.02):
        hint = "a step shrinks by lr * decay, not by decay"
    else:
        hint = "solve (1 - lr * decay)^t = 1/2"
    return verdict(
        isclose(steps, log(0.5) / log(1 - LR * DECAY), rel_tol=0.02),
        "slow, but it never stops",
        hint,
    )
