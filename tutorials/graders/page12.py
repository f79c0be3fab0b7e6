"""Exercises of page 12: grow it."""

import numpy as np

from memsinks_np.experiments.methods import PRESETS
from memsinks_np.sinks import active
from tutorials.graders import graded, verdict

POOL = PRESETS["stories"].sinks


@graded
def check_doubled(gathered: float, masked: float) -> str:
    """The factors by which the multiplications grow where the pool doubles and A stays."""
    return verdict(
        (gathered, masked) == (1, 2),
        "what sleeps is not computed by the one, and computed for nothing by the other",
        "which letters stand in the cost of each pair? Only S has changed",
    )


@graded
def check_shared(number: float) -> str:
    """How many sinks of the stories preset two different IDs share on average."""
    rows = active(POOL, np.arange(4000))
    measured = float(np.mean(rows[0::2] == rows[1::2]) * POOL.n_active)  # one from each stratum
    return verdict(
        abs(number - POOL.n_active * POOL.density) < 1e-9,
        f"and 2,000 pairs of IDs share {measured:.2f} on average",
        "with which chance is one sink of the one also the other's, and how many sinks has the one?",
    )


@graded
def check_half(m: int) -> str:
    """The smallest number of deleted stories that erase, on average, more than half of the pool."""
    if m != int(m):
        return verdict(False, "", "give a whole number of stories")
    left = [(1 - POOL.density) ** n for n in (m - 1, m)]
    return verdict(
        left[0] >= 0.5 > left[1],
        f"{1 - left[1]:.1%} is erased, and {1 - left[0]:.1%} with one story fewer",
        f"{m} stories erase {1 - left[1]:.1%} on average, and one fewer {1 - left[0]:.1%}; find where half is passed",
    )
