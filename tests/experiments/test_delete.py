"""Deletion and overlap: the numbers in a worker against the definition, the claims on results that break them."""

import copy

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import Context, delete, overlap
from memsinks_np.experiments.methods import PRESETS, quick, seeded
from memsinks_np.experiments.runner.grid import Grid, train_cached
from memsinks_np.metrics import mean_loss

PRESET = quick(PRESETS["stories"], steps=5)


def measured(job, then):
    """What a worker might return: numbers as the claims expect them, no training."""
    sinks_of, after = job.method.sinks, {}
    for m in then.keywords["sizes"]:
        gone = 1 - (1 - sinks_of.density) ** m
        disjoint = sinks_of.scheme == "disjoint" and sinks_of.n_sink == 64 * sinks_of.n_active
        numbers = {
            "pool_gone": gone,
            "sinks_gone": gone / 2,
            "memory_lost": gone,
            "not_erased": 0.0,
        }
        after[str(m)] = numbers | {"others_up": 0.0 if disjoint else gone / 3}
    content = 1 - sinks_of.n_active**-0.5 - sinks_of.density
    row = {"repeated_own": 0.0, "repeated_removed": 1 - sinks_of.density, "heldout_removed": 1.0}
    return row | {"content": content, "after": after}


def made_up(experiment, preset=PRESETS["stories"], quick=False):
    return experiment.run(
        Context(preset, 1, quick, lambda jobs, then: [measured(job, then) for job in jobs])
    )


@pytest.fixture
def result():
    return made_up(delete)


def test_after_deletion_the_deleted_own_nothing_and_the_others_what_is_left(tmp_path):
    """`measure` deletes rows; here the same is told as a selection: own sinks minus those of the deleted."""
    job = seeded(PRESET, delete.pools(PRESET)["small"], 0)
    trained, corpus = train_cached(job, tmp_path), load_corpus(job.settings.data)
    cfg, ids = job.settings.model(job.method, len(corpus.vocab)), corpus.repeated_ids
    one = delete.measure(job, trained, [3], draws=1)
    gone = delete.permutation(8, 0, delete.CHOICE, 0) < 3
    assert gone.sum() == 3
    loss = lambda selection: mean_loss(trained.params, cfg, corpus.repeated[~gone], selection)
    own = loss(sinks.own(cfg.sinks, ids[~gone]))
    left = loss(sinks.without(cfg.sinks, ids[~gone], ids[gone]))
    alone = loss(sinks.NO_SINKS)
    after = one["after"]["3"]
    assert after["others_up"] == pytest.approx(left - own, abs=1e-5)
    assert after["memory_lost"] == pytest.approx((left - own) / (alone - own), rel=1e-3)
    assert after["pool_gone"] == sinks.sink_mask(cfg.sinks, ids[gone]).max(axis=0).mean()
    assert 0 < after["sinks_gone"] < 1
    assert after["not_erased"] == 0  # to the last bit
    assert one["content"] == pytest.approx(one["repeated_removed"] - one["repeated_own"], abs=1e-5)


def test_pools_are_what_their_labels_say():
    methods = delete.pools(PRESETS["stories"])
    assert list(methods) == list(delete.POOLS)
    for name, density in (
        ("sinks", 1 / 64),
        ("small", 1 / 8),
        ("small_bernoulli", 1 / 8),
        ("paper_sinks", 0.3),
    ):
        assert methods[name].sinks.density == density
    assert {methods[n].sinks.n_sink for n in methods if n.startswith("small")} == {256}
    ids = np.arange(64)  # as many slices as sequences
    assert sinks.sink_mask(methods["disjoint"].sinks, ids).sum(axis=0).tolist() == [1] * 2048
    assert sinks.sink_mask(methods["small_disjoint"].sinks, ids).sum(axis=0).tolist() == [8] * 256


def test_delete_tells_and_draws(result, tmp_path):
    assert [p.name for p in delete.draw(result, tmp_path)] == ["delete.png", "delete.svg"]
    lines = delete.tabulate(result).splitlines()
    assert len(lines) == 2 + len(delete.POOLS)
    assert len(set(map(len, lines))) == 1


def test_half_lost_is_read_between_the_deletions():
    of = lambda lost: {
        "sizes": [1, 2, 4],
        "pools": [{"pool": "p", "after": dict(zip("124", lost, strict=True))}],
    }
    rows = lambda *lost: of([{"memory_lost": x} for x in lost])
    assert delete.half_lost(rows(0.1, 0.4, 0.6), "p") == 3
    assert delete.half_lost(rows(0.1, 0.2, 0.4), "p") is None


@pytest.mark.parametrize(
    ("field", "value", "pool", "which"),
    [
        ("pool_gone", 0.5, "sinks", 0),
        ("memory_lost", 0.5, "paper_sinks", 1),
        ("memory_lost", 0.0, "sinks", 2),
        ("others_up", 1e-6, "disjoint", 3),
        ("memory_lost", 0.0, "small_disjoint", 4),
        ("not_erased", 1e-9, "small", 5),
    ],
)
def test_every_claim_of_deletion_can_fail(result, field, value, pool, which):
    assert [c.holds for c in delete.claims(result)] == [True] * 6
    for one in result["pools"]:
        for after in one["after"].values():
            after |= {field: value} if one["pool"] == pool else {}
    assert [i for i, c in enumerate(delete.claims(result)) if not c.holds] == [which]


def test_deletion_asks_for_one_some_and_half(result):
    assert (result["few"], result["half"], result["sizes"]) == (5, 32, [1, 2, 5, 10, 20, 32])
    small = made_up(delete, quick(PRESETS["stories"]), True)
    assert (small["few"], small["half"], small["sizes"]) == (2, 4, [1, 2, 4])


def test_overlap_is_told_cell_by_cell(tmp_path):
    result = made_up(overlap)
    assert (result["few"], result["steps"], len(result["cells"])) == (5, 600, 18)
    for cell in result["cells"]:
        assert cell["content"] == pytest.approx(1 - cell["A"] ** -0.5 - cell["A"] / cell["S"])
        assert cell["others_up"] == pytest.approx((1 - (1 - cell["A"] / cell["S"]) ** 5) / 3)
    assert len({(c["G"], c["A"], c["S"]) for c in result["cells"]}) == 18
    assert len(overlap.tabulate(result).splitlines()) == 20
    assert [p.name for p in overlap.draw(result, tmp_path)] == ["overlap.png", "overlap.svg"]
    small = made_up(overlap, quick(PRESETS["stories"]), True)
    assert [(c["G"], c["A"], c["S"]) for c in small["cells"]] == [(128, 32, 256), (128, 32, 1024)]


def test_every_claim_of_overlap_can_fail():
    result = made_up(overlap)
    assert [c.holds for c in overlap.claims(result)] == [True] * 4
    for field, which in (("content", [0]), ("repeated_removed", [1]), ("others_up", [3])):
        bad = copy.deepcopy(result)
        bad["cells"][1][field] = bad["cells"][2][field] = bad["cells"][0][field]
        assert [i for i, c in enumerate(overlap.claims(bad)) if not c.holds] == which
    for cell in result["cells"]:
        cell["content"] = 1 - cell["A"] / cell["S"] - 1e-3 * cell["A"]  # more sinks on hold less
    assert [i for i, c in enumerate(overlap.claims(result)) if not c.holds] == [2]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [delete, overlap])
def test_every_claim_holds_at_full_length(experiment, tmp_path):
    result = experiment.run(Context(PRESETS["stories"], 1, False, Grid(tmp_path)))
    assert [claim for claim in experiment.claims(result) if not claim.holds] == []
