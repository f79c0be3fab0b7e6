"""Sequence IDs, and the hash that turns integers into random choices on every platform.

Everything drawn at random except the initial weights is a hash of the integers that name it: a
seed, a purpose, an ID, a position. There is no hidden state, so a batch, a mask or a story does not
depend on what was drawn before it, on the order, or on the NumPy version.
"""

from collections.abc import Hashable, Mapping, Sequence, Set
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.typing import Ids
from memsinks_np.config import ConfigError, require

# SplitMix64: the increment (2^64 / golden ratio), two multipliers, three shifts
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
M1, M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S1, S2, S3 = np.uint64(30), np.uint64(27), np.uint64(31)


class Purpose(IntEnum):
    """What a random number is for. It is hashed with the rest, so that draws are independent.

    Three values are used twice, by draws with different numbers of arguments. Give a new purpose a
    new value.
    """

    CANARY = 101
    OFFSET = 102  # of a once-seen window in a text
    WINDOW = 103  # order in which repeated and held-out windows are cut out
    ORDER = 104  # of the repeated sequences in one pass
    ID_NOISE = 105  # which repeated sequences get a wrong ID
    WRONG_ID = 106
    THINNING = 107  # in which pass a repeated sequence is shown
    RANDOM_SINKS = 201
    LABEL = 202  # which sequences have a label
    GOLDFISH = 203  # which tokens have no loss
    WRONG_LABEL = 204  # which sequences have a wrong label
    DELETED = 201  # which sequences are deleted
    GUESS = 206  # at a story: other words
    SINKS_LEFT = 207  # which of a sequence's sinks stay on
    PERSON = 401  # people, from here on: names
    FACT = 402  # which facts are in which group
    VALUE = 403
    PHRASE = 404
    DOCUMENT = 405  # which facts stand in one document
    ONCE = 406
    BOOTSTRAP = 407
    VARIANT = 408  # which words of a near-duplicate are changed, and to what
    MINHASH = 409
    RANDOM_SCORE = 301
    GATE_NOISE = 302
    POSITIVE = 301  # simulations, from here on
    GAUSS = 302
    WORD = 303
    GATE = 304
    PLACEBO = 0x5EED  # IDs that no sequence has


def hash_ints(*words: Any) -> NDArray[np.uint64]:
    """Hash integers, broadcast together, to uint64: SplitMix64's finalizer, once per word.

    h <- finalize(h XOR word + golden), from h = 0 (finalizer: Steele, Lea, Flood 2014; variant 13
    of Stafford). Each step is a bijection of h for a fixed word and of the word for a fixed h, so
    two calls that differ in one word never collide. The order of the words matters.
    """
    h = np.zeros(1, np.uint64)
    for word in words:
        z = (h ^ as_uint64(word)) + GOLDEN  # uint64 arrays wrap around modulo 2^64
        z = (z ^ (z >> S1)) * M1
        z = (z ^ (z >> S2)) * M2
        h = z ^ (z >> S3)
    return h


def as_uint64(word: Any) -> NDArray[np.uint64]:
    """Return integers as uint64, at least 1-d; negative ones in two's complement."""
    a = np.atleast_1d(np.asarray(word))
    return a if a.dtype == np.uint64 else a.astype(np.int64).view(np.uint64)


def integers(n: int, start: int = 0) -> NDArray[np.int64]:
    """Return start, ..., start+n-1 as int64, also where NumPy's default integer has 32 bits."""
    return np.arange(start, start + n, dtype=np.int64)


def uniform(*words: Any) -> NDArray[np.float64]:
    """Draw numbers in [0, 1): the upper 53 bits of `hash_ints`."""
    return (hash_ints(*words) >> np.uint64(11)) * np.float64(2.0**-53)


def permutation(n: int, *words: Any) -> NDArray[np.int64]:
    """Return the integers 0 to n-1 in an order drawn by `hash_ints`."""
    return np.argsort(hash_ints(*words, integers(n)), kind="stable").astype(np.int64)


def validate_ids(ids: Any) -> Ids:
    """Return IDs as a 1-d int64 array.

    Duplicates and negative IDs are legal. Raises ConfigError for a float, a bool, a scalar, an ID
    of 2**63 or more, and an array of another shape.
    """
    a = validate_ints(ids, "sequence IDs")
    if a.ndim != 1:
        raise ConfigError(
            f"sequence IDs have shape {a.shape}; give one ID per sequence, shape (B,)"
        )
    return a


def validate_ints(values: Any, what: str) -> NDArray[np.int64]:
    """Return integers as int64. Raises ConfigError, naming `what`, for anything else."""
    try:
        a = np.asarray(values)
    except ValueError:
        raise ConfigError(f"{what} must be integers, got lists of unequal lengths") from None
    if a.ndim == 0:
        raise ConfigError(f"{what} must be a list or an array, got {values!r}; use [{values!r}]")
    if a.size == 0:
        return a.astype(np.int64)
    if a.dtype.kind not in "iu":
        first = a.ravel()[0]
        raise ConfigError(f"{what} must be integers, got {first!r} ({a.dtype}); use int64")
    if a.dtype.kind == "u" and int(a.max()) > np.iinfo(np.int64).max:
        raise ConfigError(f"{int(a.max())} in {what} does not fit into int64; stay below 2**63")
    return a.astype(np.int64)


def owner_ids(owners: Sequence[Hashable]) -> Ids:
    """Return one ID per owner, (N,) int64: a hash of the owner's text.

    Owners are strings, integers, or tuples of them; equal owners share their ID, and so their
    sinks. Raises ConfigError for anything else, whose text may differ from run to run, and for
    owners without an order.
    """
    unordered = isinstance(owners, str | bytes | Set | Mapping) or not hasattr(owners, "__len__")
    require(
        not unordered, f"owners={owners!r} is not a list; give one owner per sequence in a list"
    )
    owners = [owner.item() if isinstance(owner, np.generic) else owner for owner in owners]
    for owner in owners:
        parts = owner if isinstance(owner, tuple) else (owner,)
        require(
            all(type(part) in (str, int) for part in parts),
            f"owner {owner!r} is not a string, an integer or a tuple of them; use its name",
        )
    texts = [list(repr(owner).encode()) for owner in owners]
    return np.concatenate([np.zeros(0, np.int64), *map(id_of, texts)])


def id_of(tokens: Any) -> Ids:
    """Return one ID per sequence, hashed from its tokens (paper, App. I): no labels are needed.

    (N,T) integers -> (N,) int64, never negative. Exact duplicates share their ID, and so their
    sinks; a sequence that differs in one token has another ID.
    """
    a = np.atleast_2d(validate_ints(tokens, "tokens"))
    h = hash_ints(*a.T) if a.shape[1] else hash_ints(np.zeros(len(a), np.int64))
    return (h >> np.uint64(1)).astype(np.int64)


def minhash_ids(tokens: Any, n: int = 5) -> Ids:
    """Return one ID per sequence: the smallest hash of its n-grams (Broder 1997).

    (N,T) integers -> (N,) int64, never negative. Two sequences have the same ID with a probability
    equal to the Jaccard similarity of their sets of n-grams: near-duplicates often share their
    sinks. Short n-grams also give unrelated sequences the same ID; long ones separate variants.
    """
    windows = np.lib.stride_tricks.sliding_window_view(validate_ints(tokens, "tokens"), n, axis=1)
    smallest = hash_ints(Purpose.MINHASH, *np.moveaxis(windows, -1, 0)).min(axis=1)
    ids: Ids = (smallest >> np.uint64(1)).astype(np.int64)
    return ids
