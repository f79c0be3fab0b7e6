"""Exercises of page 11: what is memory, what is knowledge?"""

from tutorials.graders import grade_number, grader


@grader
def check_updates(ratio: float) -> str:
    """Grade how many updates one document's sinks get for each update of the shared neurons."""
    mistakes = {
        16: "that is the other way round: which of the two is there in every showing?",
        4: "each document is shown 64/16 = 4 times; and how often is the fact shown in all?",
        1: "they get the same update in a showing, but are the sinks there in every showing?",
    }
    hint = "the fact is shown 64 times, each of its 16 documents 64/16 times"
    return grade_number(ratio, 1 / 16, "one of sixteen", mistakes, hint, tol=1e-4)


@grader
def check_author(k: float) -> str:
    """Grade which k the facts of one author in sixteen documents behave like."""
    mistakes = {
        16: "sixteen documents, but how many different sets of sinks?",
        4: "the number of showings does not matter here; count the sets of sinks",
    }
    hint = "what counts is how many sets of sinks are trained on the fact"
    return grade_number(k, 1, "one ID, one set of sinks", mistakes, hint, tol=1e-4)


@grader
def check_kept(u: float) -> str:
    """Grade u for k = 1 where nothing is overwritten."""
    mistakes = {
        1: "together they reach 1; how is it divided?",
        0: "u fades only where something overwrites it",
    }
    hint = "u and v start equal and get the same updates until u + v = 1"
    return grade_number(
        u, 0.5, "half of it: only overwriting moves it out", mistakes, hint, tol=1e-2
    )
