"""Exercises of page 08: give every sequence its own neurons."""

from collections.abc import Iterable
from math import isclose

import numpy as np

from memsinks_np.sinks import sink_mask
from tutorials.graders import graded, verdict
from tutorials.toy import TINY_IDS, TINY_POOL


@graded
def check_zero_rows(rows: Iterable[int]) -> str:
    """The rows of dW_in that are exactly zero when the batch holds the tiny world's second sequence alone."""
    given = set(rows)
    other, own = (set(np.flatnonzero(mask).tolist()) for mask in sink_mask(TINY_POOL, TINY_IDS))
    right = set(range(TINY_POOL.n_sink)) - own
    if given == own:
        hint = "these are on for the sequence: they get a gradient; which rows are left?"
    elif given & own:
        hint = "at least one of these is on for the sequence itself; sharing a sink does not switch it off"
    elif given < right and given == other - own:
        hint = "you found the other sequence's sinks; do sinks that nobody owns get a gradient?"
    elif given < right and given == right - other:
        hint = "those sleep for both; but what about sinks that are on only for a sequence that is not in the batch?"
    else:
        hint = "every row is either on for this sequence or exactly zero; go through 0 to 6"
    return verdict(given == right, "off is zero, whoever else owns the sink", hint)


@graded
def check_before_gelu(answer: str) -> str:
    """Whether a 0/1 mask before the GELU gives the same loss and gradients ("same") as after it, or "different"."""
    if answer not in ("same", "different"):
        return verdict(False, "", 'answer with "same" or "different"')
    praise = "gelu(0) = 0, so a 0/1 mask may stand on either side; a factor like 0.4 may not"
    return verdict(
        answer == "same",
        praise,
        "what is gelu(0)? and what reaches W_in when pre is multiplied by 0?",
    )


@graded
def check_shared(n: float) -> str:
    """How many sinks two IDs of the headline share on average: 32 strata of 64 sinks, one drawn from each."""
    if isclose(n, 1 / 64, abs_tol=1e-4):
        hint = "that is the chance in one stratum; there are 32 of them"
    elif isclose(n, 32, abs_tol=1e-4):
        hint = "that is how many each of them owns; they meet only where both drew the same sink"
    elif isclose(n, 0, abs_tol=1e-4):
        hint = "they meet seldom, but not never: what is the chance that both draw the same of 64?"
    else:
        hint = "in one stratum both draw one of 64 sinks: how likely is the same one? then add up the strata"
    return verdict(
        isclose(n, 0.5, abs_tol=1e-4), "so most pairs of sequences share no sink at all", hint
    )
