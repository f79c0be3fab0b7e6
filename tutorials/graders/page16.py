"""Exercises of page 16: which function has the bug?"""

from tutorials.bugs import NUMBERS, function_of, patch_of
from tutorials.graders import grade_choice, grade_number, grader, verdict


@grader
def check_factor(c: float) -> str:
    """Grade the factor that gradcheck prints where a backward averages three sequences."""
    mistakes = {
        3: "the mean is smaller than the sum; take wrong over right",
        1 / 5: "how many terms does the mean divide by? not by the positions",
        1 / 15: "it averages over the sequences only, and still sums over the positions",
    }
    hint = "the factor is the wrong gradient over the right one: a mean over a sum"
    return grade_number(c, 1 / 3, "the mean of three is a third of their sum", mistakes, hint, 0.01)


@grader
def check_wrong_forward(color: str) -> str:
    """Grade what gradcheck does with a wrong forward whose backward fits it."""
    hints = {"red": "what does it compare the backward with: a formula, or this same forward?"}
    return grade_choice(color, "green", "the backward is that of this forward", hints)


@grader
def check_functions(found: dict[int, str]) -> str:
    """Grade a dictionary from the numbers of the bugs to the functions that they are in."""
    names = {number: str(name).rpartition(".")[2] for number, name in found.items()}
    wrong = [n for n in NUMBERS if names.get(n) != function_of(patch_of(n))]
    right = f"{len(NUMBERS) - len(wrong)} of {len(NUMBERS)}"
    hint = f"{right} are right; in which function is bug {', '.join(map(str, wrong))}?"
    return verdict(not wrong, "all ten", hint)
