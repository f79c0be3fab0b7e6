"""Exercises of page 10: sink the memories, then remove them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from memsinks_np._internal.typing import Params
from memsinks_np.metrics import sequence_losses
from memsinks_np.sinks import NO_SINKS, Selection, delete, own
from tutorials.graders import AnswerError, grade_choice, grade_number, grader, verdict
from tutorials.toy import TINY, TINY_IDS, TINY_POOL, TINY_TOKENS, tiny_params


@grader
def check_new_story_sign(sign: str) -> str:
    """Grade the sign of (own sinks active - sinks removed) on new stories: "+", "-" or "0"."""
    hints = {
        "-": "these neurons were trained on other stories; why should they help with this one?",
        "0": "an active sink adds something to the stream, trained for this story or not",
    }
    praise = "sinks of other stories add noise, so new text is read with the sinks removed"
    return grade_choice(sign, "+", praise, hints)


@grader
def check_gold_gap(value: float) -> str:
    """Grade the gold-gap closed: standard 0.60 on repeated stories, retrained 0.95, now 0.90."""
    mistakes = {
        0.90 / 0.95: "standard closes 0 of the gap, so measure from its loss, not from zero",
        0.05 / 0.35: "that fraction is still open; which fraction is closed?",
        0.35 / 0.30: "upside down: divide by the whole gap",
    }
    hint = "the rise above standard's loss, divided by the rise that the retrained model shows"
    if value > 1:
        hint = "above 1 the removal has a higher loss than a model that never saw the stories"
    return grade_number(value, 0.30 / 0.35, "and 1 is: as if never seen", mistakes, hint, tol=5e-3)


def losses(params: Params, selection: Selection) -> Any:
    """Return the loss of each tiny sequence."""
    return sequence_losses(params, TINY, TINY_TOKENS, selection)


def require_erased(params: Params, i: int) -> None:
    """Raise AnswerError unless the sinks of ID `i`, and nothing else, were set to zero."""
    changed, wrong = (
        [n for n, w in reference.items() if not np.array_equal(params.get(n, ()), w)]
        for reference in (tiny_params(), delete(tiny_params(), TINY_POOL, [i]))
    )
    if not changed:
        raise AnswerError("its sinks are inactive, not erased: activated again, they still recall")
    if wrong:
        rule = "the rows of its sinks become zero in W_in, b_in and W_out, and no others"
        raise AnswerError(f"{', '.join(wrong)}: {rule}")


@grader
def check_erase_one(erase_one: Callable[..., Any]) -> str:
    """Grade erase_one(params, cfg, tokens, ids, i) -> new params, (N,) losses with own sinks.

    It is called with the tiny model of `tutorials.toy`.
    """
    places = range(len(TINY_IDS))
    given = [erase_one(tiny_params(), TINY, TINY_TOKENS, TINY_IDS, i) for i in places]
    if not all(isinstance(g, tuple | list) and len(g) == 2 for g in given) or not all(
        isinstance(g[0], dict) for g in given
    ):
        raise AnswerError("return two things: the new parameters, and one loss per sequence")
    got = [np.asarray(g[1]) for g in given]
    if any(g.shape != TINY_IDS.shape for g in got):
        raise AnswerError("return one loss per sequence, shape (2,), the mean over its words")
    params, selection = tiny_params(), own(TINY_POOL, TINY_IDS)
    after = {i: losses(delete(params, TINY_POOL, [i]), selection) for i in (*TINY_IDS, *places)}
    n_words = TINY_TOKENS.shape[1] - 1
    if np.allclose(got, [after[i] for i in TINY_IDS], rtol=1e-6):
        for (new, _), i in zip(given, TINY_IDS, strict=True):
            require_erased(new, i)
        return verdict(
            True, "the other story's loss rose only through the sink that they share", ""
        )
    everything = delete(params, TINY_POOL, TINY_IDS)
    if all(np.array_equal(given[0][0].get(n, ()), w) for n, w in everything.items()):
        raise AnswerError("all sequences were erased; erase the ID at position i alone")
    mistakes = {
        "nothing was erased: compute the losses with what `delete` returns; "
        "it does not change its argument": [losses(params, selection)] * 2,
        "all sinks are inactive; select every sequence's own after erasing those of one": (
            [losses(params, NO_SINKS)] * 2
        ),
        "i is a position in the list; the sinks belong to the ID at that position": (
            [after[i] for i in places]
        ),
        "these are sums; take the mean over the words of a sequence": (
            [n_words * after[i] for i in TINY_IDS]
        ),
    }
    hints = [hint for hint, wrong in mistakes.items() if np.allclose(got, wrong, rtol=1e-6)]
    raise AnswerError((hints or ["erase with `delete`, select with `own`"])[0])
