"""Exercises of page 09: sink the memories, then remove them."""

from collections.abc import Callable
from math import isclose
from typing import Any

import numpy as np

from memsinks_np.metrics import predict
from memsinks_np.sinks import NO_SINKS, Params, Selection, delete, own
from tutorials.graders import graded, verdict
from tutorials.toy import TINY, TINY_IDS, TINY_POOL, TINY_TOKENS, tiny_params


@graded
def check_strangers_sign(sign: str) -> str:
    """The sign of (own sinks on - sinks removed) on new stories, whose sinks hold what other stories left there."""
    if sign not in ("+", "-", "0"):
        return verdict(False, "", 'answer with "+", "-" or "0"')
    hint = {
        "-": "these neurons were trained on other stories; why should they know this one?",
        "0": "a sink that is on adds something to the stream, whether it was trained for this story or not",
    }
    return verdict(
        sign == "+",
        "strangers' sinks disturb, so new text is read with the sinks removed",
        hint.get(sign, ""),
    )


@graded
def check_gold_gap(value: float) -> str:
    """Gold-gap closed, where standard has 0.60 on repeated stories, retrained without 0.95, the removal 0.90."""
    if isclose(value, 0.90 / 0.95, abs_tol=0.005):
        hint = "standard training closes 0 of the gap, so measure from its loss, not from zero"
    elif isclose(value, 0.05 / 0.35, abs_tol=0.005):
        hint = "that share is still open; which share is closed?"
    elif isclose(value, 0.35 / 0.30, abs_tol=0.005):
        hint = "upside down: the whole gap belongs under the line"
    elif value > 1:
        hint = (
            "above 1 the removal would have a higher loss than a model that never saw the stories"
        )
    else:
        hint = "the rise above standard's loss, divided by the rise that the retrained model shows"
    return verdict(
        isclose(value, 0.30 / 0.35, abs_tol=0.005), "and 1 would be: as if never seen", hint
    )


def not_erased(left: Params, i: int) -> str:
    """What is wrong with the parameters that are left after the sinks of ID `i` were to be erased; "" if nothing."""
    changed, off = (
        [n for n, w in other.items() if not np.array_equal(left.get(n, ()), w)]
        for other in (tiny_params(), delete(tiny_params(), TINY_POOL, [i]))
    )
    if not changed:
        return (
            "its sinks are switched off, not erased: whoever switches them on has the memory again"
        )
    if off:
        return f"{', '.join(off)}: the rows of its sinks become zero in W_in, b_in and W_out, and no others"
    return ""


@graded
def check_erase_one(erase_one: Callable[..., Any]) -> str:
    """erase_one(params, cfg, tokens, ids, i) -> what is left of params, (N,) loss of every sequence, own sinks on.

    It is tried on the tiny world of `lessons`.
    """
    params, selection = tiny_params(), own(TINY_POOL, TINY_IDS)

    def losses(params: Any, selection: Selection) -> Any:
        return predict(params, TINY, TINY_TOKENS, selection)[0].mean(axis=1)

    given = [erase_one(tiny_params(), TINY, TINY_TOKENS, TINY_IDS, i) for i in range(len(TINY_IDS))]
    if not all(
        isinstance(g, tuple | list) and len(g) == 2 and isinstance(g[0], dict) for g in given
    ):
        return verdict(
            False, "", "return two things: the parameters that are left, and one loss per sequence"
        )
    got = [np.asarray(g[1]) for g in given]
    want = [losses(delete(params, TINY_POOL, [i]), selection) for i in TINY_IDS]
    wrong = {
        "nothing was erased: pass what `delete` returns on to the loss; it does not change its argument": [
            losses(params, selection)
        ]
        * 2,
        "all sinks are off; switch on every sequence's own after erasing those of one": [
            losses(params, NO_SINKS)
        ]
        * 2,
        "i is a place in the list; the sinks belong to the ID that stands there": [
            losses(delete(params, TINY_POOL, [i]), selection) for i in range(len(TINY_IDS))
        ],
    }
    if any(g.shape != w.shape for g, w in zip(got, want, strict=True)):
        return verdict(
            False,
            "",
            f"return one loss per sequence, shape {want[0].shape}, the mean over its words",
        )
    alike: Callable[[list[Any]], bool] = lambda losses: all(
        np.allclose(g, w, rtol=1e-6) for g, w in zip(got, losses, strict=True)
    )
    hint = next(
        (hint for hint, losses in wrong.items() if alike(losses)),
        "erase with `delete`, select with `own`",
    )
    if alike(want):
        hint = next(
            filter(
                None, (not_erased(left, i) for (left, _), i in zip(given, TINY_IDS, strict=True))
            ),
            "",
        )
    return verdict(not hint, "and the other story rose only through the sink that they share", hint)
