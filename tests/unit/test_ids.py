"""The mixer: documented, golden, uniform; IDs that are not int64 are refused."""

import numpy as np
import pytest

from memsinks_np._internal.ids import hash_ints, id_of, permutation, uniform, validate_ids
from memsinks_np.config import ConfigError

MASK = 2**64 - 1


def naive_mix(*words):
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
def test_mix_is_the_documented_formula(words):
    assert int(hash_ints(*words)[0]) == naive_mix(*words)


def test_mix_broadcasts_without_regard_to_batch_or_order():
    whole = hash_ints(3, np.arange(50)[:, None], np.arange(4))
    np.testing.assert_array_equal(whole[7:9, 2], hash_ints(3, np.array([7, 8]), 2))
    np.testing.assert_array_equal(
        whole[::-1], hash_ints(3, np.arange(50)[::-1, None], np.arange(4))
    )


def test_bits_are_balanced_and_one_flipped_input_bit_flips_half_of_the_output():
    x = np.arange(4096)
    bits = np.unpackbits(hash_ints(x).view(np.uint8)).reshape(4096, 64)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.04  # 5 standard deviations
    for bit in (0, 1, 31, 62):
        flipped = np.unpackbits((hash_ints(x) ^ hash_ints(x ^ (1 << bit))).view(np.uint8)).reshape(
            4096, 64
        )
        assert np.abs(flipped.mean(axis=0) - 0.5).max() < 0.04


def test_uniform_and_permutation():
    u = uniform(1, np.arange(100_000))
    assert 0 <= u.min() < u.max() < 1
    assert np.abs(np.histogram(u, 10, (0, 1))[0] / 1e5 - 0.1).max() < 0.005
    assert sorted(permutation(100, 4).tolist()) == list(range(100))
    assert permutation(100, 4).tolist() != permutation(100, 5).tolist()


@pytest.mark.parametrize(
    "ids", [[1.0], [True], np.array([2**63], np.uint64), [2**63], [2**70], ["3"], [None], [0.5, 1]]
)
def test_what_is_not_an_int64_id_is_refused(ids):
    with pytest.raises(ConfigError, match=r"int64|integers"):
        validate_ids(ids)


def test_duplicates_negative_and_unsigned_ids_are_legal():
    assert validate_ids([3, 3, -1, 2**63 - 1]).tolist() == [3, 3, -1, 2**63 - 1]
    assert validate_ids(np.array([7], np.uint8)).dtype == np.int64
    assert validate_ids([]).shape == (0,)


def test_id_of_tokens():
    a = np.array([[1, 2, 3], [1, 2, 4], [1, 2, 3], [3, 2, 1], [0, 0, 0]])
    ids = id_of(a)
    assert ids.dtype == np.int64
    assert (ids >= 0).all()
    assert ids[0] == ids[2]
    assert len(set(ids.tolist())) == 4
    assert id_of(np.zeros((1, 4), int)) != id_of(np.zeros((1, 3), int))
    assert id_of([1, 2, 3]) == ids[:1]
    assert len(np.unique(id_of(np.arange(200_000)[:, None] // [[1, 500]]))) == 200_000
