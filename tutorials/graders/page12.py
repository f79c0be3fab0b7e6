"""Exercises of page 12: learning and forgetting."""

from memsinks_np.experiments.simulations import Bounds
from tutorials.graders import grade_choice, grade_number, grader

EXAMPLE = Bounds(k=20, N=1000, eps=0.5, c_min=0.02, c_max=0.03)


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
def check_push(rise: float) -> str:
    """Grade the rise of a story's score of word 0, shown at p_0 = 0.2 with lr = 0.3."""
    mistakes = {
        0.24: "that is one part; the other part gets the same step",
        0.12: "1 - p_0 is the error where word 0 is right, not p_0",
        -0.48: "the story's own word: up",
        1.6: "multiply by lr",
    }
    hint = "lr times 1 - p_0 for a part; how many parts add to the score?"
    return grade_number(rise, 0.48, "half of it in each part", mistakes, hint, tol=1e-3)
