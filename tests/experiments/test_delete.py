"""Deletion and overlap: measured effects against the definition, and claims that can fail."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np._internal.ids import Purpose, permutation
from memsinks_np.data.corpus import load_corpus
from memsinks_np.data.stories import stories
from memsinks_np.experiments import delete, overlap
from memsinks_np.experiments.methods import PRESETS, job, quick
from memsinks_np.experiments.registry import Context
from memsinks_np.experiments.runner.cache import train_cached
from memsinks_np.metrics import mean_loss
from memsinks_np.trained import Model

STORIES = Context(PRESETS["stories"])
QUICK = Context(quick(PRESETS["stories"], steps=5), quick=True)


def fake_output(job):
    """Numbers as the claims expect them, without training."""
    if job.measure is delete.measure_left:  # loss, recited, AUC, exposure by eighths of the sinks
        at = np.arange(9) / 8
        rows = zip(
            4 * np.arange(9), 1 - at, at, 0.5 + at / 2 + 0.2 * (at == 0.25), 7 * at, strict=True
        )
        return [list(map(float, row)) for row in rows]
    if job.measure is overlap.measure_pool:  # own loss, recited, leak
        load = job.settings.data.n_repeated * job.method.sinks.density
        recited = 1 / (1 + load**2 / 12) * (1 - 1 / job.method.sinks.n_active)
        return [1 - recited, recited, job.method.n_shared / 1000 + load / 1000]
    pool, effects = job.method.sinks, []
    exact = pool.scheme == "disjoint" and pool.n_sink == 64 * pool.n_active
    for m in job.measure.keywords["sizes"]:
        erased = 1 - (1 - pool.density) ** m
        up = 0.0 if exact else erased / 3
        effects.append(delete.Effect(erased, erased / 2, up, erased, 0.0))
    removed = 1 - pool.density
    evaluation = [[pool.n_active**-0.5, removed], [1.0, 1.0], [0.0, 0.0]]
    return (evaluation, [None, None], [], [None, None]), effects


def fake_result(experiment, context=STORIES):
    jobs = experiment.jobs(context)
    return experiment.result(context, {key: fake_output(job) for key, job in jobs.items()})


def failures(experiment, result):
    return [i for i, claim in enumerate(experiment.claims(result)) if not claim.holds]


@pytest.mark.slow
def test_deletion_equals_leaving_sinks_out(tmp_path):
    """`measure` zeroes rows; here the same is a selection: own sinks minus the deleted ones."""
    measured = job(QUICK.preset, delete.pools(QUICK.preset)["small"], 0, delete.measure)
    model = train_cached(measured, tmp_path)
    pool, ids, tokens = model.cfg.sinks, model.corpus.repeated_ids, model.corpus.repeated
    evaluation, (effect,) = delete.measure(model, [3], draws=1)
    gone = permutation(8, 0, Purpose.DELETED, 0) < 3
    loss = lambda selection: mean_loss(model.params, model.cfg, tokens[~gone], selection)
    own, removed = loss(sinks.own(pool, ids[~gone])), loss(sinks.NO_SINKS)
    left = loss(sinks.own_except(pool, ids[~gone], ids[gone]))
    assert effect.others_up == pytest.approx(left - own, abs=1e-5)
    assert effect.memory_lost == pytest.approx((left - own) / (removed - own), rel=1e-3)
    assert effect.pool_erased == sinks.sink_mask(pool, ids[gone]).max(axis=0).mean()
    assert 0 < effect.sinks_erased < 1
    assert effect.residue == 0  # to the last bit
    assert evaluation[0].heldout.removed > 0


def test_exposure_is_the_rank_of_the_first_in_bits():
    losses = np.array([[0.1, 0.2, 0.3, 0.4], [0.2, 0.1, 0.3, 0.4], [0.4, 0.1, 0.3, 0.4]])
    assert delete.exposure(losses).tolist() == [2, 1, 0]  # a tie counts against the secret


def test_fewer_sinks_are_among_more_of_a_storys_own():
    pool, ids = QUICK.preset.sinks, np.arange(5)
    everything = [set(row) for row in sinks.active(pool, ids).tolist()]
    assert delete.some_of_own(pool, ids, 0) is sinks.NO_SINKS
    before = [set() for _ in ids]
    for n in (1, 7, 32):
        rows = [set(row) for row in delete.some_of_own(pool, ids, n).index.tolist()]
        assert [len(row) for row in rows] == [n] * 5
        assert all(a <= b <= c for a, b, c in zip(before, rows, everything, strict=True))
        before = rows
    assert before == everything


def planted(corpus, n_active):
    """Return a model's `predict` that knows a repeated story in proportion to its own sinks on.

    It says its words with more than half of them.
    """
    known = set(map(tuple, corpus.repeated.tolist()))

    def predict(params, cfg, tokens, selection):
        on = 0 if selection is None else selection.index.shape[1] / n_active
        knows = np.array([[tuple(row) in known] for row in tokens.tolist()])
        loss = np.where(knows, 1 - on, 1.0) * np.ones(tokens[:, 1:].shape)
        return loss, np.where(knows & (on > 0.5), tokens[:, 1:], -1)

    return predict


def test_half_a_deletion_is_measured(monkeypatch):
    made = job(QUICK.preset, delete.pools(QUICK.preset)["sinks"], 0, delete.measure_left)
    corpus = load_corpus(made.settings.data)
    cfg = made.settings.model(made.method, len(corpus.vocab))
    monkeypatch.setattr(delete, "predict", planted(corpus, cfg.sinks.n_active))
    rows = delete.measure_left(Model({}, cfg, corpus.vocab, " ", [], corpus))
    n_on, loss, recited, auc, exposure = zip(*rows, strict=True)
    assert n_on == tuple(range(0, 33, 4))
    assert loss == pytest.approx([1 - n / 32 for n in n_on])
    assert recited == (0,) * 5 + (1,) * 4
    assert auc == (0.5,) + (1,) * 8
    assert exposure == (0,) + (7,) * 8


def test_guesses_are_as_likely_as_their_story():
    corpus = load_corpus(QUICK.preset.settings.data)
    guesses = delete.guesses(corpus).reshape(8, delete.N_CANDIDATES, 33)
    np.testing.assert_array_equal(guesses[:, 0], corpus.repeated)
    assert ((guesses[:, 1:] != guesses[:, :1]).sum(axis=2) >= 9).all()
    losses = -stories().log_prob(guesses.reshape(-1, 33)).sum(axis=1).reshape(8, -1)
    np.testing.assert_allclose(losses, losses[:, :1].repeat(delete.N_CANDIDATES, axis=1))
    assert delete.guesses(replace(corpus, cfg=replace(corpus.cfg, corpus="own data"))) is None


def test_pools_have_the_densities_of_their_labels():
    methods = delete.pools(PRESETS["stories"])
    labels = ["stratified, 1/64", "disjoint, 1/64", "stratified, 1/8", "Bernoulli, 1/8"]
    labels += ["disjoint, 1/8", "paper's setting, 0.3"]
    assert list(delete.labels(fake_result(delete)).values()) == labels
    ids = np.arange(64)  # as many slices as sequences
    for name, owners in (("disjoint_sinks", [1] * 2048), ("small_disjoint", [8] * 256)):
        assert sinks.sink_mask(methods[name].sinks, ids).sum(axis=0).tolist() == owners


CHANGES = [
    ("pool_erased", 0.5, "sinks"),
    ("memory_lost", 0.5, "paper_sinks"),
    ("memory_lost", 0.0, "sinks"),
    ("others_up", 1e-6, "disjoint_sinks"),
    ("memory_lost", 0.0, "small_disjoint"),
    ("residue", 1e-9, "small"),
]


LEFT_CHANGES = [("recited", 4, 0.0), ("auc", 2, 0.6), ("exposure", 0, 3.0)]


@pytest.mark.parametrize("which", range(3))
def test_every_claim_of_half_a_deletion_can_fail(which):
    result, (field, eighths, value) = fake_result(delete), LEFT_CHANGES[which]
    result.left[0][eighths] = result.left[0][eighths]._replace(**{field: value})
    assert failures(delete, result) == [6 + which]


def test_without_guesses_the_test_of_membership_decides():
    """A text has no exposure."""
    result = fake_result(delete)
    for auc, fails in ((0.5, []), (0.7, [8])):
        left = result.left[0][0]
        result.left[0][0] = left._replace(exposure=None, auc=auc)
        assert failures(delete, result) == fails
        last = delete.claims(result)[8]
        assert "membership" in last.text
        assert "exposure" not in last.here


@pytest.mark.parametrize("which", range(6))
def test_every_claim_of_deletion_can_fail(which):
    result, (field, value, pool) = fake_result(delete), CHANGES[which]
    assert failures(delete, result) == []
    (effects,) = result.effects[pool]
    result.effects[pool] = [[effect._replace(**{field: value}) for effect in effects]]
    assert failures(delete, result) == [which]


def test_deletion_covers_one_some_and_half():
    for context, sizes in (STORIES, (5, 32, [1, 2, 5, 10, 20, 32])), (QUICK, (2, 4, [1, 2, 4])):
        result = fake_result(delete, context)
        assert (result.some, result.half, result.sizes) == sizes


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "n_rows"), [(delete, [6, 9]), (overlap, [18, 10])])
def test_tables_have_a_row_per_pool_and_a_figure(experiment, n_rows, tmp_path):
    result = fake_result(experiment)
    tables = [text.splitlines() for text in experiment.tabulate(result).split("\n\n")]
    assert [len(lines) - 2 for lines in tables] == n_rows
    assert [len(set(map(len, lines))) for lines in tables] == [1] * len(tables)
    assert {p.suffix for p in experiment.draw(result, tmp_path)} == {".png", ".svg"}


def test_overlap_result_has_a_cell_per_model():
    result = fake_result(overlap)
    assert (result.some, result.steps) == (5, 600)
    pools = lambda result: [(c.n_shared, c.n_active, c.n_sink) for c in result.cells]
    assert len(set(pools(result))) == 18
    for c in result.cells:
        density = c.n_active / c.n_sink
        assert c.repeated == pytest.approx(1 - density)
        assert c.held == pytest.approx(1 - density - c.n_active**-0.5)
        assert c.others_up == pytest.approx((1 - (1 - density) ** 5) / 3)
    assert pools(fake_result(overlap, QUICK)) == [(128, 32, 256), (128, 32, 1024)]


@pytest.mark.parametrize("which", range(4))
def test_every_claim_of_overlap_can_fail(which):
    result = fake_result(overlap)
    assert failures(overlap, result) == []
    if which == 2:  # less is held with more active sinks
        held = lambda c: 1 - c.n_active / c.n_sink - 1e-3 * c.n_active
        result.cells[:] = [replace(c, held=held(c)) for c in result.cells]
    else:  # the same along the pool's size
        field = {0: "held", 1: "repeated", 3: "others_up"}[which]
        constant = {field: getattr(result.cells[0], field)}
        result.cells[1:3] = [replace(c, **constant) for c in result.cells[1:3]]
    assert failures(overlap, result) == [which]


POOL_CHANGES = [  # pools: four loads, two other A, two other G, by the rule, too small
    (0, "recited", 0.1),
    (5, "recited", 0.1),
    (3, "leak", 0.3),
    (8, "recited", 0.6),
    (9, "recited", 0.7),
]


@pytest.mark.parametrize("which", range(5))
def test_every_claim_about_pools_can_fail(which):
    result, (pool, field, value) = fake_result(overlap), POOL_CHANGES[which]
    assert failures(overlap, result) == []
    (kept,) = result.pools[pool].kept
    result.pools[pool].kept[:] = [kept._replace(**{field: value})]
    assert failures(overlap, result) == [4 + which]


def test_pools_have_the_loads_of_their_claims():
    pools = fake_result(overlap).pools
    assert [p.load for p in pools] == [0.5, 2, 8, 32, 2, 2, 2, 2, 2, 8]
    assert {(p.n_documents, p.n_active) for p in pools[-2:]} == {(256, 16)}
    steps = {j.settings.train.steps for j in overlap.pool_jobs(STORIES).values()}
    assert steps == {64 * 64 // 8, 256 * 64 // 8}


def test_a_pool_is_measured_by_what_it_knows(monkeypatch):
    """Own sinks know a story, and half of it is still known when they are removed."""
    made = next(iter(overlap.pool_jobs(QUICK).values()))
    corpus = load_corpus(made.settings.data)
    cfg = made.settings.model(made.method, len(corpus.vocab))
    predict = planted(corpus, cfg.sinks.n_active)
    monkeypatch.setattr(overlap, "predict", predict)
    loss = {len(corpus.heldout): 2.0, len(corpus.repeated): 1.5}
    monkeypatch.setattr(overlap, "mean_loss", lambda p, c, tokens, s: loss[len(tokens)])
    model = Model({}, cfg, corpus.vocab, " ", [], corpus)
    own, recited, leak = overlap.measure_pool(model)
    assert (own, recited) == (0, 1)
    harder = corpus.entropy(corpus.repeated) - corpus.entropy(corpus.heldout)
    assert leak == pytest.approx(2.0 + harder - 1.5)
