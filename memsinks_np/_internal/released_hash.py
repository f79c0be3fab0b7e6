"""An exhibit: how the released code turns sequence IDs into masks, written from its formula, with its flaws.

    sink j is on for an ID  if and only if  ((ID * 2^16 * (a^j mod M)) mod M) / M < p

The paper describes it as a tensorized linear congruential generator (App. I): it needs no table and no seed per
row.  It also gives ID 0 every sink, and IDs that are small or multiples of each other overlapping masks; and since
its products overflow, the integer type decides which mask an ID has.  `sinks.sink_mask` draws ours by `ids.mix`.
"""

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MULTIPLIER, MODULUS, BASE = 1588635695, 4294967291, 1 << 16  # a, M = 2^32 - 5

Arithmetic = Literal["exact", "int64", "int32"]


@lru_cache
def powers(n_sink: int, arithmetic: Arithmetic) -> NDArray[np.int64]:  # -> (S,)
    """a^j mod M for every sink j.  In 64 bits a^j overflows from j = 3 on, before `mod M` can see it."""
    word = MODULUS if arithmetic == "exact" else 1 << 64
    power, out = 1, []
    for _ in range(n_sink):
        out.append((power - (1 << 64) if power >= 1 << 63 else power) % MODULUS)
        power = power * MULTIPLIER % word
    return np.array(out, np.int64)


def residues(
    ids: Any, n_sink: int, arithmetic: Arithmetic = "int64"
) -> NDArray[np.float64]:  # (B,) -> (B,S)
    """(ID * 2^16 * (a^j mod M)) mod M, divided by M: numbers in [0, 1).

    "exact" computes without overflow.  "int64" wraps around: for IDs from 2^15 on, the product too.  "int32" is what
    32-bit IDs give: ID * 2^16 wraps around, so that nothing but ID mod 65,536 counts.
    """
    i = np.asarray(ids, np.int64)[:, None]
    power = powers(n_sink, arithmetic)
    if arithmetic == "exact":
        exact = (i % MODULUS).astype(np.uint64) * np.uint64(BASE) % np.uint64(MODULUS)
        return exact * power.astype(np.uint64) % np.uint64(MODULUS) / MODULUS
    based = i * BASE  # an array wraps around silently
    if arithmetic == "int32":
        based = based.astype(np.int32).astype(np.int64)
    return based * power % MODULUS / MODULUS


def released_mask(
    ids: Any, n_sink: int, p: float, arithmetic: Arithmetic = "int64"
) -> NDArray[np.float32]:
    """(B,) IDs -> (B,S) of 0.0 and 1.0."""
    return (residues(ids, n_sink, arithmetic) < p).astype(np.float32)
