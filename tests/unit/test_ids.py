"""The hash: documented, golden, uniform; IDs that are not int64 are refused."""

import numpy as np
import pytest

from memsinks_np._internal.ids import (
    Purpose,
    hash_ints,
    id_of,
    integers,
    minhash_ids,
    permutation,
    uniform,
    validate_ids,
)
from memsinks_np.config import ConfigError

MASK = 2**64 - 1


def hash_reference(*words):
    """The docstring's formula with Python's unbounded integers."""
    h = 0
    for word in words:
        z = ((h ^ (word & MASK)) + 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        h = z ^ (z >> 31)
    return h


def test_golden_values():
    """SplitMix64's published first output for seed 0, then ours: these may never change."""
    assert hash_ints(0)[0] == 0xE220A8397B1DCDAF
    assert [int(v) for v in hash_ints(1, 2, np.array([3, -3]))] == [
        15020427595393229491,
        3342391662505519872,
    ]
    assert uniform(5, 6)[0] == pytest.approx(0.6540133728, abs=1e-9)
    assert permutation(7, 0).tolist() == [1, 4, 5, 6, 0, 3, 2]


@pytest.mark.parametrize("words", [(0,), (1, 0), (0, 1), (-1,), (2**63 - 1, -(2**63)), (7, 7, 7)])
def test_hash_is_the_documented_formula(words):
    assert int(hash_ints(*words)[0]) == hash_reference(*words)


def test_hash_does_not_depend_on_batch_or_order():
    i, j = np.arange(50)[:, None], np.arange(4)
    hashes = hash_ints(3, i, j)
    np.testing.assert_array_equal(hashes[7:9, 2], hash_ints(3, np.array([7, 8]), 2))
    np.testing.assert_array_equal(hashes[::-1], hash_ints(3, i[::-1], j))


def test_bits_are_balanced_and_an_input_bit_flips_half_of_them():
    x = integers(4096)
    changes = [hash_ints(x) ^ hash_ints(x ^ (1 << bit)) for bit in (0, 1, 31, 62)]
    for hashes in (hash_ints(x), *changes):
        bits = np.unpackbits(hashes.view(np.uint8)).reshape(4096, 64)
        assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.04  # 5 standard deviations


def test_draws_do_not_depend_on_the_integer_type():
    """On some platforms NumPy's default integer has 32 bits."""
    assert integers(3).dtype == permutation(3, 0).dtype == id_of([1, 2]).dtype == np.int64
    for dtype in (np.int32, np.int64, np.uint8):
        x = np.array([0, 3, 200], dtype)
        np.testing.assert_array_equal(hash_ints(x, 2), hash_ints(x.astype(np.int64), 2))
        np.testing.assert_array_equal(id_of(x), id_of([0, 3, 200]))


def test_uniform_and_permutation():
    u = uniform(1, np.arange(100_000))
    assert 0 <= u.min() < u.max() < 1
    assert np.abs(np.histogram(u, 10, (0, 1))[0] / 1e5 - 0.1).max() < 0.005
    assert sorted(permutation(100, 4).tolist()) == list(range(100))
    assert permutation(100, 4).tolist() != permutation(100, 5).tolist()


def test_duplicates_negative_and_unsigned_ids_are_legal():
    assert validate_ids([3, 3, -1, 2**63 - 1]).tolist() == [3, 3, -1, 2**63 - 1]
    assert validate_ids(np.array([7], np.uint8)).dtype == np.int64
    assert validate_ids([]).shape == (0,)


@pytest.mark.parametrize("too_large", [2**63, 2**64 - 1])
def test_ids_beyond_int64_are_refused(too_large):
    largest = np.array([2**63 - 1], np.uint64)
    assert validate_ids(largest).tolist() == [2**63 - 1]
    with pytest.raises(ConfigError, match=f"{too_large} in sequence IDs does not fit into int64"):
        validate_ids(np.array([0, too_large], np.uint64))


def test_an_empty_sequence_has_an_id_of_its_own():
    empty = id_of(np.zeros((3, 0), int))
    assert empty.tolist() == [hash_reference(0) >> 1] * 3


def test_no_further_purposes_share_a_number():
    aliases = {name for name, purpose in Purpose.__members__.items() if purpose.name != name}
    assert aliases == {"DELETED", "POSITIVE", "GAUSS"}


def test_id_of_tokens():
    a = np.array([[1, 2, 3], [1, 2, 4], [1, 2, 3], [3, 2, 1], [0, 0, 0]])
    ids = id_of(a)
    assert (ids >= 0).all()
    assert ids[0] == ids[2]
    assert len(set(ids.tolist())) == 4
    assert id_of(np.zeros((1, 4), int)) != id_of(np.zeros((1, 3), int))
    assert id_of([1, 2, 3]) == ids[:1]
    assert len(np.unique(id_of(integers(200_000)[:, None] // [[1, 500]]))) == 200_000


def test_minhashes_are_equal_as_often_as_ngrams_are_shared():
    """Pairs that share the first k of 24 tokens have k - 1 of 47 - k different pairs in common."""
    n = 20_000
    tokens = integers(n * 48).reshape(n, 48)  # no token occurs twice
    for shared in (0, 6, 12, 23, 24):
        a, b = tokens[:, :24], np.hstack([tokens[:, :shared], tokens[:, 24 : 48 - shared]])
        both = max(0, shared - 1)
        similarity = both / (46 - both)
        equal = (minhash_ids(a, n=2) == minhash_ids(b, n=2)).mean()
        assert abs(equal - similarity) <= 4 * np.sqrt(similarity * (1 - similarity) / n)


def test_minhash_reads_ngrams_and_not_their_places():
    a = np.array([[5, 6, 7, 8, 9], [1, 5, 6, 7, 8], [7, 5, 6, 8, 9]])
    ids = minhash_ids(np.hstack([a, a]), n=9)
    assert len(set(ids.tolist())) == 3
    loops = np.array([[1, 2, 3, 1, 2, 3, 1], [2, 3, 1, 2, 3, 1, 2], [2, 1, 3, 2, 1, 3, 2]])
    x, y, z = minhash_ids(loops, n=3)
    assert x == y != z
    assert min(x, y, z) >= 0
