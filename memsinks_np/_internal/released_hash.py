"""How the paper's released code turns sequence IDs into masks: its formula, with its flaws.

    sink j is active for an ID  if and only if  ((ID * 2^16 * (a^j mod M)) mod M) / M < p

The paper describes it as a tensorized linear congruential generator (App. I): it needs no table and
no seed per row. But ID 0 has every sink, small IDs and multiples of each other have overlapping
masks, and since its products overflow, an ID's mask depends on the integer type. Our own schemes
use `ids.hash_ints` instead (sinks.py).
"""

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MULTIPLIER, MODULUS, BASE = 1588635695, 4294967291, 1 << 16  # a, M = 2^32 - 5

Arithmetic = Literal["exact", "int64", "int32"]


@lru_cache
def powers(n_sink: int, arithmetic: Arithmetic) -> NDArray[np.int64]:  # -> (S,)
    """Return a^j mod M for every sink j. In int64, a^j overflows from j = 3 on, before `mod M`."""
    word = MODULUS if arithmetic == "exact" else 1 << 64
    power, out = 1, []
    for _ in range(n_sink):
        out.append((power - (1 << 64) if power >= 1 << 63 else power) % MODULUS)
        power = power * MULTIPLIER % word
    return np.array(out, np.int64)


def residues(ids: Any, n_sink: int, arithmetic: Arithmetic = "int64") -> NDArray[np.float64]:
    # (B,) -> (B,S)
    """Return (ID * 2^16 * (a^j mod M)) mod M, divided by M: numbers in [0, 1).

    "exact" computes without overflow. "int64" wraps around; the product does so for IDs from 2^15
    on. "int32" is the result for 32-bit IDs: ID * 2^16 wraps around, so only ID mod 65,536 counts.
    """
    i = np.asarray(ids, np.int64)[:, None]
    power = powers(n_sink, arithmetic)
    if arithmetic == "exact":
        modulus = np.uint64(MODULUS)
        based = (i % np.int64(MODULUS)).astype(np.uint64) * np.uint64(BASE) % modulus
        return based * power.astype(np.uint64) % modulus / np.float64(MODULUS)
    wrapped = i * np.int64(BASE)  # int64 arrays wrap around without a warning
    if arithmetic == "int32":
        wrapped = wrapped.astype(np.int32).astype(np.int64)
    return wrapped * power % np.int64(MODULUS) / np.float64(MODULUS)


def released_mask(
    ids: Any, n_sink: int, p: float, arithmetic: Arithmetic = "int64"
) -> NDArray[np.float32]:  # (B,) -> (B,S)
    """Return the mask of each ID, of 0.0 and 1.0."""
    return (residues(ids, n_sink, arithmetic) < p).astype(np.float32)
