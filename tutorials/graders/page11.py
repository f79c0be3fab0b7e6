"""Exercises of page 11: delete one sequence, and break the rest."""

from collections.abc import Callable
from typing import Any

import numpy as np

from memsinks_np.config import SinkConfig
from memsinks_np.metrics import fraction_deleted
from tutorials.graders import graded, verdict


@graded
def check_half_gone(m: float) -> str:
    """After how many random deletions half of a pool is gone, of which 1/64 is on for a story."""
    left = (1 - 1 / 64) ** m
    ok = abs(left - 0.5) <= 0.01  # the nearest whole number or a neighbour
    if m == 32:
        hint = "that is half of 64 slices, but random stories also delete what is gone already"
    elif left > 0.5:
        hint = f"more of the pool is left than half: {left:.2f}"
    else:
        hint = f"less of the pool is left than half: {left:.2f}"
    return verdict(ok, "log(1/2) / log(1 - 1/64)", hint)


@graded
def check_collateral_sign(sign: str) -> str:
    """The sign of the collateral's change where the pool gets twice as large and as many sinks are on as before."""
    if sign not in ("+", "-", "0"):
        return verdict(False, "", 'answer with "+", "-" or "0"')
    hint = {
        "+": "which share of its sinks does another story lose? A/S, and S has grown",
        "0": "as many sinks go as before; but how many of them does another story own?",
    }
    return verdict(sign == "-", "the overlap A/S is half of what it was", hint.get(sign, ""))


@graded
def check_share_lost(share_lost: Callable[..., Any]) -> str:
    """share_lost(pool, ids, deleted) -> (N,) share of each ID's sinks that go with the deleted IDs' sinks."""
    wrong: dict[str, Callable[..., Any]] = {
        "that is the share of the pool; count only the sinks that the ID owns": lambda p, i, d: (
            np.full(len(i), fraction_deleted(p, np.arange(5000), d, 1).mean())
        ),
        "a sink that two deleted IDs own is gone once; take the union, not the sum": lambda p, i, d: (
            sum(fraction_deleted(p, i, [one], 1) for one in d)
        ),
        "that is the share which stays": lambda p, i, d: 1 - fraction_deleted(p, i, d, 1),
    }
    cases = [
        (SinkConfig(n_sink=12, n_active=4), np.arange(5), np.array([7, 8, 9])),
        (SinkConfig(n_sink=20, scheme="bernoulli", p=0.4), np.arange(3, 9), np.array([0, 1])),
    ]
    got = [np.asarray(share_lost(*case)) for case in cases]
    if any(g.shape != ids.shape for g, (_, ids, _) in zip(got, cases, strict=True)):
        return verdict(False, "", "return one share for each of `ids`")
    alike: Callable[[Callable[..., Any]], bool] = lambda f: all(
        np.allclose(g, f(*case), atol=0.02) for g, case in zip(got, cases, strict=True)
    )
    ok = all(np.allclose(g, fraction_deleted(*case, 1)) for g, case in zip(got, cases, strict=True))
    hint = next(
        (hint for hint, f in wrong.items() if alike(f)),
        "sink_mask gives 1 where a sink is on, 0 elsewhere",
    )
    return verdict(ok, "the same as metrics.fraction_deleted", hint)
