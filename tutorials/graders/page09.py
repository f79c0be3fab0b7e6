"""Exercises of page 09: give every sequence its own neurons."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from memsinks_np.ops import flatten_positions, gelu_backward
from memsinks_np.sinks import masked_sink_backward, masked_sink_forward, sink_mask
from tutorials.graders import grade_choice, grade_number, grader, verdict
from tutorials.graders.lines import Line, grade_lines
from tutorials.toy import TINY_IDS, TINY_POOL


@grader
def compare_sinks(backward: Callable[..., Any]) -> str:
    """Grade the lines of a backward(xp, dy, cache) with masked_sink_forward's cache.

    All sizes but the batch are 5: a wrong transpose reaches the comparison, not NumPy's error.
    """
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 2, 5, 5))
    W_in, W_out = rng.standard_normal((2, 5, 5))
    mask = np.array([[1.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0]])
    _, cache = masked_sink_forward(np, x, mask, W_in, rng.standard_normal(5), W_out)
    *_, c_act, kept = cache
    dx, dW_in, db_in, dW_out = masked_sink_backward(np, dy, cache)
    dpost = (dy @ W_out.T) * mask[:, None]
    dpre = gelu_backward(np, dpost, c_act)
    flat_x, flat_dy, flat_dpre = (flatten_positions(np, z) for z in (x, dy, dpre))
    lines = [
        Line(
            "dW_out",
            dW_out,
            "kept, transposed, times dy, both with all positions as rows",
            {"this is the transpose: a sink is a row": flat_dy.T @ flatten_positions(np, kept)},
        ),
        Line(
            "dpost",
            dpost,
            "dy times W_out, transposed, then what the forward does to post",
            {
                "the mask is missing: an inactive sink has no influence": dy @ W_out.T,
                "W_out is not transposed": (dy @ W_out) * mask[:, None],
            },
        ),
        Line("dpre", dpre, "as in an MLP", {"the slope of GELU is missing": dpost}),
        Line(
            "dx",
            dx,
            "the forward multiplies by W_in, transposed",
            {"W_in is transposed in the forward, so it is not in dx": dpre @ W_in.T},
        ),
        Line(
            "dW_in",
            dW_in,
            "dpre, transposed, times x, both with all positions as rows",
            {"this is the transpose: a sink is a row": flat_x.T @ flat_dpre},
        ),
        Line(
            "db_in",
            db_in,
            "the bias is added at every position of every sequence: sum over them",
            {
                "sum over all positions: one number for each sink": dpre,
                "sum over the sequences, too": dpre.sum(axis=1),
                "a sum, not a mean": dpre.mean(axis=(0, 1)),
            },
        ),
    ]
    return grade_lines(
        backward,
        (np, dy, cache),
        lines,
        "the backward of the sinks is yours",
        ("dx", "dW_in", "db_in", "dW_out"),
    )


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
