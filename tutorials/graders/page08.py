"""Exercises of page 08: give every sequence its own neurons."""

from collections.abc import Iterable

import numpy as np

from memsinks_np.sinks import sink_mask
from tutorials.graders import grade_choice, grade_number, grader, verdict
from tutorials.toy import TINY_IDS, TINY_POOL


@grader
def check_zero_rows(rows: Iterable[int]) -> str:
    """Grade the rows of dW_in that are zero when the batch holds the second tiny sequence alone."""
    given = set(rows)
    other, own = (set(np.flatnonzero(mask).tolist()) for mask in sink_mask(TINY_POOL, TINY_IDS))
    right = set(range(TINY_POOL.n_sink)) - own
    hint = "every row is either active for this sequence or exactly zero; go through 0 to 6"
    if given == own:
        hint = "these are active for the sequence: they get a gradient; which rows are left?"
    elif given & own:
        hint = "at least one of these is active for the sequence itself; "
        hint += "sharing a sink does not deactivate it"
    elif given == other - own:
        hint = "you found the other sequence's sinks; do sinks of no sequence get a gradient?"
    elif given == right - other:
        hint = "those are inactive for both; what about sinks that are active only for a sequence "
        hint += "that is not in the batch?"
    return verdict(given == right, "inactive means zero, even if another ID owns the sink", hint)


@grader
def check_before_gelu(answer: str) -> str:
    """Grade whether a 0/1 mask before the GELU gives the "same" loss and gradients as after it."""
    hint = "what is gelu(0)? and what reaches W_in when pre is multiplied by 0?"
    praise = "gelu(0) = 0, so a 0/1 mask can be on either side; a factor like 0.4 cannot"
    return grade_choice(answer, "same", praise, {"different": hint})


@grader
def check_shared(n: float) -> str:
    """Grade how many sinks two IDs share on average: 32 strata of 64 sinks, one drawn from each."""
    mistakes = {
        1 / 64: "that is the probability in one stratum; there are 32 of them",
        32: "that is how many each of them has; an ID shares one only if both drew the same",
        0: "it is rare, but not impossible: how likely is it that both draw the same of 64?",
    }
    hint = "in one stratum both draw one of 64 sinks: how likely is it the same one? "
    hint += "then add up the strata"
    praise = "so most pairs of sequences share no sink at all"
    return grade_number(n, 0.5, praise, mistakes, hint, tol=1e-4)
