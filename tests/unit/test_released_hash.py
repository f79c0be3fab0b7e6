"""The released hash, number by number: its golden values, its flaws, and that ours have none of them."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np._internal.released_hash import (
    BASE,
    MODULUS,
    MULTIPLIER,
    powers,
    released_mask,
    residues,
)
from memsinks_np.config import ConfigError, SinkConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import Context, hash_run
from memsinks_np.experiments import hash as experiment
from memsinks_np.experiments.methods import PRESETS, quick, seeded
from memsinks_np.experiments.runner.grid import train_cached
from memsinks_np.metrics import predict
from memsinks_np.model import init_params
from plain import word_losses

S, P = 1228, 0.3
FEW = np.arange(1, 301)
OURS = SinkConfig(n_sink=S, scheme="bernoulli", p=P)


def test_golden_values():
    def on(arithmetic):
        return np.flatnonzero(released_mask([3], 24, P, arithmetic)).tolist()

    assert on("exact") == [0, 2, 6, 8, 11, 12, 13, 14, 20]
    assert on("int64") == on("int32") == [0, 2, 5, 7, 9, 10, 12, 13, 15, 17, 18, 19, 22]
    assert powers(6, "exact").tolist() == [
        1,
        1588635695,
        3795633075,
        1359842614,
        1160701697,
        702013896,
    ]
    assert powers(6, "int64").tolist() == [
        1,
        1588635695,
        3795633075,
        221140205,
        1169418494,
        2293457364,
    ]


@pytest.mark.parametrize("sequence", [1, 3, 40_000, 100_000, 2**32 + 17])
def test_exact_is_the_formula_in_whole_numbers(sequence):
    whole = [sequence * 2**16 * pow(MULTIPLIER, j, MODULUS) % MODULUS / MODULUS for j in range(50)]
    np.testing.assert_array_equal(residues([sequence], 50, "exact")[0], whole)


@pytest.mark.parametrize(
    ("sequence", "equal"), [(32_767, 1.0), (32_768, 1.0), (40_000, 0.82), (100_000, 0.33)]
)
def test_from_32768_on_the_product_overflows_too(sequence, equal):
    """Only the last product differs here: both sides have the overflown powers."""
    whole = np.array(
        [sequence * BASE * int(power) % MODULUS / MODULUS for power in powers(5000, "int64")]
    )
    assert (residues([sequence], 5000)[0] == whole).mean() == pytest.approx(equal, abs=0.02)


def test_overflow_of_the_power_makes_another_mask():
    exact, wrapped = (released_mask(FEW, S, P, arithmetic) for arithmetic in ("exact", "int64"))
    assert (exact[:, :3] == wrapped[:, :3]).all()
    assert (exact * wrapped).sum() / exact.sum() == pytest.approx(
        P, abs=0.02
    )  # as alike as two draws


@pytest.mark.parametrize("arithmetic", ["exact", "int64", "int32"])
class TestFlaws:
    def test_id_zero_has_every_sink(self, arithmetic):
        assert released_mask([0], S, P, arithmetic).all()

    def test_sink_zero_is_on_for_every_small_id(self, arithmetic):
        last = int(P * MODULUS / BASE)
        assert last == 19_660
        on = released_mask(np.arange(65_536), 1, P, arithmetic)[:, 0]
        assert np.flatnonzero(on).tolist() == list(range(last + 1))

    @pytest.mark.parametrize(("factor", "overlap"), [(2, P / 2), (3, P / 3)])
    def test_multiples_overlap(self, arithmetic, factor, overlap):
        a, b = (released_mask(ids, S, P, arithmetic) for ids in (FEW, factor * FEW))
        assert (a * b).mean() == pytest.approx(overlap, abs=0.002)

    def test_first_twenty_leave_many_sinks_unused(self, arithmetic):
        ids = np.arange(1, 21)
        assert released_mask(ids, S, P, arithmetic).any(axis=0).mean() == pytest.approx(
            0.945, abs=0.005
        )
        assert sinks.sink_mask(OURS, ids).any(axis=0).mean() == pytest.approx(
            1 - 0.7**20, abs=0.003
        )


def test_unions_that_others_have_reported():
    assert released_mask(np.arange(181, 201), 2458, P).any(axis=0).mean() == pytest.approx(
        0.9736, abs=5e-5
    )
    assert released_mask(np.arange(1, 21), S, P).any(axis=0).mean() == pytest.approx(
        0.943, abs=5e-5
    )


def test_unrelated_ids_are_as_independent_as_they_should_be():
    a, b = (released_mask(np.arange(300) * step + 10**6 + step, S, P) for step in (7_919, 104_729))
    shared = (a * b).mean(axis=1)
    assert shared.mean() == pytest.approx(P * P, abs=0.002)
    assert shared.std() == pytest.approx(0.0085, abs=0.001)
    assert a.sum(axis=1).std() == pytest.approx((S * P * (1 - P)) ** 0.5, abs=2)


def test_32_bit_ids_have_65536_masks():
    ids = np.array([1, 7, 40_000, 65_535])
    for wraps in (65_536, 3 * 65_536, 2**32):
        np.testing.assert_array_equal(
            residues(ids + wraps, 40, "int32"), residues(ids, 40, "int32")
        )
        assert (residues(ids + wraps, 40, "int64") != residues(ids, 40, "int64")).any()
    assert released_mask([65_536, 2 * 65_536], S, P, "int32").all()
    assert len(np.unique(residues(np.arange(65_536), 3, "int32"), axis=0)) == 65_536
    assert len(np.unique(residues(np.arange(100_000), 3, "int32"), axis=0)) == 65_536
    assert len(np.unique(residues(np.arange(100_000), 3, "int64"), axis=0)) == 100_000


def test_ours_have_none_of_it():
    two, three = (sinks.sink_mask(OURS, factor * FEW) for factor in (2, 3))
    ours = sinks.sink_mask(OURS, FEW)
    assert (ours * two).mean() == pytest.approx(P * P, abs=0.002)
    assert (ours * three).mean() == pytest.approx(P * P, abs=0.002)
    assert sinks.sink_mask(OURS, [0]).mean() == pytest.approx(P, abs=0.06)
    assert ours[:, 0].mean() == pytest.approx(P, abs=0.11)


# As a scheme


def test_scheme_is_the_hash_of_64_bit_ids_whatever_the_seed():
    pool = SinkConfig(n_sink=40, scheme="released", p=0.2, seed=9)
    ids = np.array([5, -3, 2**40])
    np.testing.assert_array_equal(sinks.sink_mask(pool, ids), released_mask(ids, 40, 0.2, "int64"))
    (first, second) = sinks.own(pool, ids)
    assert first is second
    assert isinstance(first, sinks.Mask)
    assert pool.density == 0.2


@pytest.mark.parametrize("bad", [{"per_layer": True}, {"p": 0.0}])
def test_scheme_refuses_what_it_cannot_do(bad):
    with pytest.raises(ConfigError):
        SinkConfig(scheme="released", **bad)


# The experiment


@pytest.fixture
def one_thread():
    with one_blas_thread():
        yield


@pytest.mark.usefixtures("one_thread")
def test_experiment_says_what_the_masks_are_and_what_deletion_does(tmp_path):
    grid = lambda jobs, then: [then(job, train_cached(job, tmp_path)) for job in jobs]
    result = experiment.run(Context(quick(PRESETS["stories"], steps=2), 1, True, grid))
    assert [claim.holds for claim in experiment.claims(result)][:3] == [False, True, False]
    one = result["methods"]["sparse_released"][0]
    assert one["everyones"] >= 1
    assert one["owners"][0] == 7  # IDs 1 to 7 of 8
    assert {"others", "pairs", "spared_others", "gap_closed"} <= set(one)
    assert "sparse, released" in experiment.tabulate(result)
    assert len(experiment.draw(result, tmp_path)) == 2


@pytest.mark.usefixtures("one_thread")
def test_collateral_is_that_of_deleting_rows():
    """Against `sinks.delete`, which erases weights, one pair at a time."""
    preset = quick(PRESETS["stories"], steps=1)
    job = seeded(preset, hash_run.arms_of(preset)["sparse_ours"], 0)
    params, corpus = (
        init_params(job.settings.model(job.method, 100)),
        load_corpus(job.settings.data),
    )
    params |= {name: 5 * w for name, w in params.items() if ".sink." in name}
    model = job.settings.model(job.method, len(corpus.vocab))
    mask = sinks.sink_mask(model.sinks, corpus.repeated_ids)
    up = hash_run.rise(params, model, corpus, mask, 0 * mask[0])
    own = sinks.own(model.sinks, corpus.repeated_ids)
    loss = lambda params: predict(params, model, corpus.repeated, own)[0].mean(axis=1)
    np.testing.assert_allclose(
        up[3], loss(sinks.delete(params, model.sinks, [3])) - loss(params), atol=1e-6
    )
    assert np.abs(up[3]).max() > 1e-3
    assert np.abs(hash_run.rise(params, model, corpus, mask, 0 * mask[0] + 1)).max() == 0


@pytest.mark.usefixtures("one_thread")
def test_collateral_is_a_mean_over_pairs_of_sequences_told_as_sets():
    """One pair at a time: what i owns leaves the sinks of j, all of it or all but what everyone owns."""
    preset = quick(PRESETS["stories"], steps=1)
    job = seeded(preset, hash_run.arms_of(preset)["sparse_released"], 0)
    corpus = load_corpus(job.settings.data)
    model = job.settings.model(job.method, len(corpus.vocab))
    params = {
        name: w * (5 if ".sink." in name else 1)
        for name, w in init_params(model, dtype=np.float64).items()
    }
    owns = [
        set(np.flatnonzero(mask).tolist())
        for mask in sinks.sink_mask(model.sinks, corpus.repeated_ids)
    ]
    everyones, pool = (
        set.intersection(*owns[1:]),
        range(model.sinks.n_sink),
    )  # ID 0 owns the whole pool

    def loss(j, on):
        return word_losses(
            params, model, corpus.repeated[j], np.array([s in on for s in pool])
        ).mean()

    pairs = [(i, j) for i in range(8) for j in range(8) if i and j and (i == 2 * j or j == 2 * i)]
    others = [(i, j) for i in range(1, 8) for j in range(1, 8) if i != j and (i, j) not in pairs]
    want = {
        "everyones": len(everyones),
        "owners": sorted(sum(s in of for of in owns[1:]) for s in pool)[::-1],
    }
    for name, spared in (("", set()), ("spared_", everyones)):
        for kind, some in (("others", others), ("pairs", pairs)):
            up = [loss(j, owns[j] - (owns[i] - spared)) - loss(j, owns[j]) for i, j in some]
            want[name + kind] = pytest.approx(np.mean(up))
    assert hash_run.collateral(params, model, corpus) == want
    hashed = replace(corpus, repeated_ids=np.array([3, 5, 7, 11, 13, 17, 19, 23]))
    assert hash_run.collateral(params, model, hashed)["pairs"] is None
