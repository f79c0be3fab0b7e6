"""Sequence IDs, and the mixer that turns IDs into choices: host-side integers, the same on every platform.

Everything that a training or a measurement draws at random, except the initial weights, is drawn by `mix` from
the numbers that name it (a seed, an ID, a position).  There is no hidden state: a batch, a mask or a story
does not depend on what was drawn before it, on the order, or on the NumPy version.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsinks_np.config import ConfigError

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
M1, M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S1, S2, S3 = np.uint64(30), np.uint64(27), np.uint64(31)


def mix(*words: Any) -> NDArray[np.uint64]:
    """Hash integers, broadcast together, to uint64: SplitMix64's finalizer, once for each word.

    h <- finalize(h XOR word + golden), from h = 0 (finalizer: Steele, Lea, Flood 2014; variant 13 of Stafford).
    Each step is a bijection of h for a fixed word and of the word for a fixed h, so two calls that differ in
    one word never collide.  The order of the words matters.
    """
    h = np.zeros(1, np.uint64)
    for word in words:
        z = (h ^ as_uint64(word)) + GOLDEN  # arrays wrap around modulo 2^64, silently and by definition
        z = (z ^ (z >> S1)) * M1
        z = (z ^ (z >> S2)) * M2
        h = z ^ (z >> S3)
    return h


def as_uint64(word: Any) -> NDArray[np.uint64]:
    """Integers as uint64, at least 1-d; a negative one by its two's complement."""
    a = np.atleast_1d(np.asarray(word))
    return a if a.dtype == np.uint64 else a.astype(np.int64).view(np.uint64)


def uniform(*words: Any) -> NDArray[np.float64]:
    """Numbers in [0, 1) drawn by `mix`: its upper 53 bits."""
    return (mix(*words) >> np.uint64(11)) * np.float64(2.0**-53)


def permutation(n: int, *words: Any) -> NDArray[np.int64]:
    """The numbers 0 to n-1 in an order drawn by `mix`."""
    return np.argsort(mix(*words, np.arange(n)), kind="stable")


def check_ids(ids: Any) -> NDArray[np.int64]:
    """IDs as int64.  Duplicates and negative IDs are legal; a float, a bool or 2**63 raises ConfigError."""
    try:
        a = np.asarray(ids)
    except ValueError:
        raise ConfigError("sequence IDs must be integers, got lists of unequal lengths; use one ID each") from None
    if a.ndim == 0:
        raise ConfigError(f"sequence IDs must be a list or an array, got {ids!r}; use [{ids!r}]")
    if a.size == 0:
        return a.astype(np.int64)
    if a.dtype.kind not in "iu":
        raise ConfigError(
            f"sequence IDs must be integers, got {a.ravel()[0]!r} ({a.dtype}); use int64 IDs or id_of(tokens)"
        )
    if a.dtype.kind == "u" and int(a.max()) > np.iinfo(np.int64).max:
        raise ConfigError(f"sequence ID {int(a.max())} does not fit into int64; use IDs below 2**63")
    return a.astype(np.int64)


def id_of(tokens: Any) -> NDArray[np.int64]:
    """One ID per sequence, hashed from its tokens (paper, App. I): nobody has to label anything.

    (N,T) integers -> (N,) int64, never negative.  Exact duplicates share their ID, and so their sinks; a
    sequence that differs in one token has another ID.
    """
    a = check_ids(np.atleast_2d(tokens))
    h = mix(*a.T) if a.shape[1] else mix(np.zeros(len(a), np.int64))
    return (h >> np.uint64(1)).astype(np.int64)
