"""Exercises of page 14: delete one sequence, and break the rest."""

from collections.abc import Callable
from typing import Any

import numpy as np

from memsinks_np.config import SinkConfig
from memsinks_np.metrics import fraction_deleted
from tutorials.graders import AnswerError, grade_choice, grader, verdict

CASES = (
    (SinkConfig(n_sink=12, n_active=4), np.arange(5), np.array([7, 8, 9])),
    (SinkConfig(n_sink=20, scheme="bernoulli", p=0.4), np.arange(3, 9), np.array([0, 1])),
)


@grader
def check_half_gone(m: float) -> str:
    """Grade how many random deletions erase half of a pool, of which a story activates 1/64."""
    left = (1 - 1 / 64) ** m
    hint = f"{'more' if left > 0.5 else 'less'} of the pool is left than half: {left:.2f}"
    if m == 32:
        hint = "that is half of 64 slices, but random stories also delete what is deleted already"
    ok = abs(left - 0.5) <= 0.01  # the nearest whole number or a neighbour
    return verdict(ok, "log(1/2) / log(1 - 1/64)", hint)


@grader
def check_collateral_sign(sign: str) -> str:
    """Grade the sign of the collateral's change where only the pool doubles: "+", "-" or "0"."""
    hints = {
        "+": "which fraction of its sinks does another story lose? A/S, and S has grown",
        "0": "as many sinks are erased as before; but how many of them does another story have?",
    }
    return grade_choice(sign, "-", "the overlap A/S is half of what it was", hints)


MISTAKES: dict[str, Callable[..., Any]] = {
    "that is the fraction of the pool; count only the sinks that the ID has": (
        lambda p, i, d: np.full(len(i), fraction_deleted(p, np.arange(5000), d).mean())
    ),
    "a sink that two deleted IDs share is erased only once; take the union, not the sum": (
        lambda p, i, d: sum(fraction_deleted(p, i, [one]) for one in d)
    ),
    "that is the fraction that remains": lambda p, i, d: 1 - fraction_deleted(p, i, d),
}


@grader
def check_fraction_lost(fraction_lost: Callable[..., Any]) -> str:
    """Grade fraction_lost(pool, ids, deleted) -> (N,) the fraction of each ID's sinks erased."""
    got = [np.asarray(fraction_lost(*case)) for case in CASES]
    if any(g.shape != ids.shape for g, (_, ids, _) in zip(got, CASES, strict=True)):
        raise AnswerError("return one fraction for each of `ids`")

    def close(function: Callable[..., Any], tol: float) -> bool:
        pairs = zip(got, CASES, strict=True)
        return all(np.allclose(g, function(*case), atol=tol) for g, case in pairs)

    hints = [hint for hint, mistake in MISTAKES.items() if close(mistake, 0.02)]
    hint = (hints or ["sink_mask gives 1 where a sink is active, 0 elsewhere"])[0]
    return verdict(close(fraction_deleted, 1e-8), "the same as metrics.fraction_deleted", hint)
