"""Exercises of page 10: learning, forgetting, and what changes in an inactive sink."""

from math import log

from memsinks_np.experiments.simulations import Bounds
from tutorials.graders import grade_choice, grade_number, grader

EXAMPLE = Bounds(k=20, N=1000, eps=0.5, c_min=0.02, c_max=0.03)
LR, DECAY = 3e-3, 0.1


@grader
def check_more_often(answer: str) -> str:
    """Grade the logit in the sinks of a story shown twice as often: "higher", "lower" or "same"."""
    hint = "count the pushes: how many go up now, how many go down?"
    praise = "more pushes up, fewer down"
    return grade_choice(answer, "higher", praise, {"lower": hint, "same": hint})


@grader
def check_threshold(rho: float) -> str:
    """Grade the rho below which the bounds of Theorem H.3 separate in the page's example."""
    mistakes = {
        EXAMPLE.printed_threshold(): "that is the printed formula; try the two bounds at your rho",
        EXAMPLE.c_min / EXAMPLE.c_max: "that is the first term; the k occurrences are missing",
    }
    hint = "set sink_lower equal to shared_upper and solve for rho; mind the signs"
    praise = "there the two bounds meet"
    return grade_number(rho, EXAMPLE.threshold(), praise, mistakes, hint, tol=5e-4)


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
