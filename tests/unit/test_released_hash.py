"""The released hash: golden values, its flaws, and that our hash has none of them."""

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np._internal.released_hash import (
    BASE,
    MODULUS,
    MULTIPLIER,
    powers,
    released_mask,
    residues,
)
from memsinks_np.config import ConfigError, SinkConfig

S, P = 1228, 0.3
IDS = np.arange(1, 301)
OURS = SinkConfig(n_sink=S, scheme="bernoulli", p=P)
ARITHMETIC = pytest.mark.parametrize("arithmetic", ["exact", "int64", "int32"])
EXACT = [0, 2, 6, 8, 11, 12, 13, 14, 20]
WRAPPED = [0, 2, 5, 7, 9, 10, 12, 13, 15, 17, 18, 19, 22]


@pytest.mark.parametrize(
    ("arithmetic", "active"), [("exact", EXACT), ("int64", WRAPPED), ("int32", WRAPPED)]
)
def test_masks_have_their_golden_values(arithmetic, active):
    assert np.flatnonzero(released_mask([3], 24, P, arithmetic)).tolist() == active


@pytest.mark.parametrize("sequence", [1, 3, 40_000, 100_000, 2**32 + 17])
def test_exact_equals_python_integers(sequence):
    expected = [
        sequence * 2**16 * pow(MULTIPLIER, j, MODULUS) % MODULUS / MODULUS for j in range(50)
    ]
    np.testing.assert_array_equal(residues([sequence], 50, "exact")[0], expected)


@pytest.mark.parametrize(
    ("sequence", "equal"), [(32_767, 1.0), (32_768, 1.0), (40_000, 0.82), (100_000, 0.33)]
)
def test_product_overflows_for_large_ids(sequence, equal):
    """Only the last product differs here: both sides have the overflown powers."""
    based = sequence * BASE
    whole = [based * int(power) % MODULUS / MODULUS for power in powers(5000, "int64")]
    assert (residues([sequence], 5000)[0] == whole).mean() == pytest.approx(equal, abs=0.02)


@ARITHMETIC
def test_flaw_id_zero_has_every_sink(arithmetic):
    assert released_mask([0], S, P, arithmetic).all()


@ARITHMETIC
def test_flaw_every_small_id_has_sink_zero(arithmetic):
    has = released_mask(np.arange(65_536), 1, P, arithmetic)[:, 0]
    assert np.flatnonzero(has).tolist() == list(range(19_661))  # up to P * MODULUS / BASE


@ARITHMETIC
@pytest.mark.parametrize("factor", [2, 3])
def test_flaw_multiples_share_more_sinks(arithmetic, factor):
    a, b = (released_mask(ids, S, P, arithmetic) for ids in (IDS, factor * IDS))
    assert (a * b).mean() == pytest.approx(P / factor, abs=0.002)


@ARITHMETIC
def test_flaw_first_twenty_ids_leave_sinks_unused(arithmetic):
    used = released_mask(np.arange(1, 21), S, P, arithmetic).any(axis=0).mean()
    assert used == pytest.approx(0.945, abs=0.005)


@pytest.mark.parametrize(("first", "n_sink", "used"), [(181, 2458, 0.9736), (1, S, 0.943)])
def test_unions_equal_those_reported_elsewhere(first, n_sink, used):
    mask = released_mask(np.arange(first, first + 20), n_sink, P)
    assert mask.any(axis=0).mean() == pytest.approx(used, abs=5e-5)


def test_unrelated_ids_have_independent_masks():
    a, b = (released_mask(np.arange(300) * step + 10**6 + step, S, P) for step in (7_919, 104_729))
    shared = (a * b).mean(axis=1)
    assert shared.mean() == pytest.approx(P * P, abs=0.002)
    assert shared.std() == pytest.approx(0.0085, abs=0.001)
    assert a.sum(axis=1).std() == pytest.approx((S * P * (1 - P)) ** 0.5, abs=2)


@pytest.mark.parametrize("wraps", [65_536, 3 * 65_536, 2**32])
def test_32_bit_ids_repeat_after_65536(wraps):
    ids = np.array([1, 7, 40_000, 65_535])
    np.testing.assert_array_equal(residues(ids + wraps, 40, "int32"), residues(ids, 40, "int32"))
    assert (residues(ids + wraps, 40, "int64") != residues(ids, 40, "int64")).any()


def test_our_hash_has_none_of_the_flaws():
    """tests/unit/test_sinks.py has the overlap of related IDs."""
    ours = sinks.sink_mask(OURS, IDS)
    assert sinks.sink_mask(OURS, [0]).mean() == pytest.approx(P, abs=0.06)
    assert ours[:, 0].mean() == pytest.approx(P, abs=0.11)
    assert ours[:20].any(axis=0).mean() == pytest.approx(1 - 0.7**20, abs=0.003)


def test_scheme_is_the_int64_hash_for_any_seed():
    pool = SinkConfig(n_sink=40, scheme="released", p=0.2, seed=9)
    ids = np.array([5, -3, 2**40])
    expected = released_mask(ids, 40, 0.2, "int64")
    np.testing.assert_array_equal(sinks.own(pool, ids).value, expected)
    assert pool.density == 0.2


def test_scheme_refuses_a_zero_probability():
    with pytest.raises(ConfigError):
        SinkConfig(scheme="released", p=0.0)
