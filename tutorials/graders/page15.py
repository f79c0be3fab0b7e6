"""Exercises of page 15: grow it."""

import numpy as np

from memsinks_np.experiments.methods import PRESETS
from memsinks_np.sinks import active
from tutorials.graders import grader, verdict

POOL = PRESETS["stories"].sinks


@grader
def check_doubled(gathered: float, masked: float) -> str:
    """Grade the factors by which the multiplications grow where the pool doubles and A stays."""
    return verdict(
        (gathered, masked) == (1, 2),
        "the gathered op skips inactive sinks, the masked op computes them for nothing",
        "which letters are in the cost of each op? Only S has changed",
    )


@grader
def check_shared(number: float) -> str:
    """Grade how many sinks of the stories preset two different IDs share on average."""
    rows = active(POOL, np.arange(4000))
    measured = float(np.mean(rows[0::2] == rows[1::2]) * POOL.n_active)  # one from each stratum
    return verdict(
        abs(number - POOL.n_active * POOL.density) < 1e-9,
        f"and 2,000 pairs of IDs share {measured:.2f} on average",
        "how likely is one ID to have a given sink of the other, and how many sinks has it?",
    )


@grader
def check_half(m: int) -> str:
    """Grade the smallest number of deleted stories that erase on average over half of the pool."""
    if m != int(m):
        return verdict(False, "", "give a whole number of stories")
    left = [(1 - POOL.density) ** n for n in (m - 1, m)]
    erased = f"{1 - left[1]:.2%}"  # 44 stories: 49.99%
    fewer = f"{1 - left[0]:.2%}"
    return verdict(
        left[0] >= 0.5 > left[1],
        f"{erased} is erased, and {fewer} with one story fewer",
        f"{m} stories erase {erased} on average, and one fewer {fewer}; find where half is passed",
    )
