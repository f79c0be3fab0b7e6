"""Measures on cases with known answers; one-pass extraction against real decoding."""

import json
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import metrics, sinks
from memsinks_np.config import (
    ConfigError,
    DataConfig,
    Method,
    ModelConfig,
    Settings,
    SinkConfig,
    TrainConfig,
)
from memsinks_np.data.corpus import PADDING, load_corpus
from memsinks_np.metrics import BySinks, Evaluation
from memsinks_np.model import init_params
from memsinks_np.train import history_row, train
from plain import continued, word_losses

POOL = SinkConfig(n_sink=32, n_active=8)
DATA = DataConfig(n_ctx=15, batch_size=8, n_repeated=4, n_heldout=40, repeat_fraction=0.5)
TRAIN = TrainConfig(steps=150, warmup=10, eval_every=75, lr=1e-2)
SETTINGS = Settings(data=DATA, train=TRAIN, d_model=16, n_heads=2)
METHOD = Method(name="sinks", n_shared=16, sinks=POOL)


@pytest.fixture(scope="module")
def trained():
    """A small model that has memorized some of its four repeated stories."""
    corpus = load_corpus(DATA)
    model = train(METHOD, SETTINGS, corpus)
    return corpus, model.cfg, model.params


# Losses and predictions


@pytest.mark.parametrize(
    "select",
    [
        lambda ids: sinks.own(POOL, ids),
        lambda ids: sinks.own(SinkConfig(n_sink=32, scheme="bernoulli"), ids),
        lambda ids: sinks.all_scaled(POOL),
    ],
    ids=["rows", "a mask per sequence", "a mask for all"],
)
def test_predict_does_not_depend_on_chunks(trained, select):
    corpus, cfg, params = trained
    ids = np.arange(40) * 7
    nll, likeliest = metrics.predict(params, cfg, corpus.heldout, select(ids))
    assert nll.shape == likeliest.shape == (40, 15)
    for part in (slice(0, 3), slice(30, 40)):
        one, _ = metrics.predict(params, cfg, corpus.heldout[part], select(ids[part]))
        np.testing.assert_allclose(nll[part], one, rtol=1e-3, atol=1e-5)


def test_padding_has_no_loss_and_changes_none(trained):
    corpus, cfg, params = trained
    tokens, own = corpus.heldout[:3].copy(), sinks.own(POOL, [1, 2, 3])
    tokens[0, 9:], tokens[2, 2:] = PADDING, PADDING
    nll, _ = metrics.predict(params, cfg, tokens, own)
    np.testing.assert_array_equal(np.isnan(nll), tokens[:, 1:] == PADDING)
    alone = [
        metrics.predict(params, cfg, tokens[[i], :n], sinks.Rows(own.index[[i]]))[0][0]
        for i, n in enumerate((9, 16, 2))
    ]
    np.testing.assert_allclose(nll[~np.isnan(nll)], np.concatenate(alone), rtol=1e-4)
    got = metrics.sequence_losses(params, cfg, tokens, own)
    np.testing.assert_allclose(got, [np.mean(losses) for losses in alone], rtol=1e-4)
    want = np.concatenate(alone).mean()
    assert metrics.mean_loss(params, cfg, tokens, own) == pytest.approx(want, rel=1e-4)


BERNOULLI = SinkConfig(n_sink=32, scheme="bernoulli")
MISFITS = {  # selections for 3 sequences of 15 tokens
    "one ID": (lambda pool: sinks.own(pool, [5]), "chosen for 1 sequences, but there are 3"),
    "two IDs": (lambda pool: sinks.own(pool, [5, 6]), "chosen for 2 sequences, but there are 3"),
    "four IDs": (lambda pool: sinks.own(pool, range(4)), "chosen for 4 sequences, but there are 3"),
    "chunks": (lambda pool: sinks.own(pool, range(99)), "chosen for 99 sequences, but there are 3"),
    "narrow mask": (
        lambda pool: sinks.Mask(np.ones((3, 7))),
        r"mask of shape \(3, 7\) does not fit",
    ),
    "narrow for all": (lambda pool: sinks.Mask(np.ones(31)), r"\(31,\) does not fit \(3,32\)"),
    "short mask": (lambda pool: sinks.Mask(np.ones((3, 2, 32))), r"\(3, 2, 32\) does not fit"),
    "1-d rows": (lambda pool: sinks.Rows(np.ones(3, int)), r"shape \(3,\); give \(B,A\)"),
    "real rows": (lambda pool: sinks.Rows(np.ones((3, 2))), "active sinks must be integers"),
}


@pytest.mark.parametrize("pool", [POOL, BERNOULLI], ids=lambda pool: pool.scheme)
@pytest.mark.parametrize("what", MISFITS)
def test_a_selection_of_another_size_is_refused(what, pool, trained):
    corpus, cfg, params = trained
    select, message = MISFITS[what]
    for n, tokens in ((3, corpus.heldout[:3]), (33, corpus.heldout[:33])):
        if n == 3 or what == "one ID":
            with pytest.raises(ConfigError, match=message.replace("are 3", f"are {n}")):
                metrics.mean_loss(params, replace(cfg, sinks=pool), tokens, select(pool))


def test_a_model_without_a_pool_takes_no_selection(trained):
    corpus, cfg, params = trained
    plain = replace(cfg, sinks=None), corpus.heldout[:1]
    for pool, message in ((POOL, "outside the pool of 0"), (BERNOULLI, "does not fit")):
        with pytest.raises(ConfigError, match=message):
            metrics.mean_loss(params, *plain, sinks.own(pool, [1]))


@pytest.mark.parametrize("measure", [metrics.mean_loss, metrics.sequence_losses, metrics.predict])
def test_no_sequences_are_refused_in_one_line(measure, trained):
    corpus, cfg, params = trained
    for pool in (POOL, BERNOULLI):
        with pytest.raises(ConfigError, match="there are no sequences; give at least one"):
            measure(params, replace(cfg, sinks=pool), corpus.heldout[:0], sinks.own(pool, []))


def test_a_model_that_computes_nan_has_an_infinite_loss(trained):
    corpus, cfg, params = trained
    broken = params | {"wpe": params["wpe"] * np.nan}
    with np.errstate(invalid="ignore"):
        assert metrics.mean_loss(broken, cfg, corpus.heldout, sinks.NO_SINKS) == np.inf


# Extraction


def test_extracted_reads_the_continuation_only():
    tokens = np.array([[1, 2, 3, 4, 5]])
    assert metrics.first_half(tokens) == 2
    for likeliest, sizes, want in (
        ([9, 3, 4, 5], (), True),  # of five tokens, two are the prompt
        ([2, 9, 4, 5], (), False),
        ([2, 3, 4, 9], (), False),
        ([2, 3, 9, 9], (2, 1), True),
        ([9, 9, 4, 9], (3, 1), True),
        ([9, 3, 4, 9], (1, 2), False),
    ):
        assert metrics.extracted(tokens, np.array([likeliest]), *sizes).tolist() == [want]
    for n, k in ((0, 1), (1, 0), (4, 2)):
        with pytest.raises(ConfigError, match=f"n_prompt={n}, n_continued={k}"):
            metrics.extracted(tokens, tokens[:, 1:], n, k)
    padded, likeliest = np.array([[1, 2, 3, PADDING]]), np.array([[2, 3, 0]])
    assert metrics.extracted(padded, likeliest).tolist() == [True]


# Evaluations


def test_compare_on_numbers_that_one_can_check():
    def row(repeated, heldout):
        losses = (BySinks(None, repeated), BySinks(None, heldout))
        return Evaluation(*losses, extraction=BySinks(None, None))

    standard, retrained = row(0.2, 1.0), row(0.9, 0.95)
    compare = lambda model: metrics.compare(model, standard, retrained)
    assert compare(standard) == (0, 0, 0)
    assert compare(row(0.55, 1.15)) == pytest.approx((1 - 0.6 / 0.8, 0.5, 0.15))
    assert compare(retrained).gold_gap_closed == 1
    broken = compare(row(5.0, 5.0))  # closes the gap, and its cost shows how
    assert (broken.gap_closed, broken.heldout_cost) == (1, 4)
    nothing_learned = metrics.compare(retrained, row(0.9, 0.9), row(0.9, 0.95))
    assert nothing_learned == (None, None, pytest.approx(0.05))


def test_without_a_pool_all_selections_are_equal():
    corpus = load_corpus(DATA)
    cfg = ModelConfig(n_vocab=len(corpus.vocab), n_ctx=15, n_shared=8)
    row = metrics.evaluate(init_params(cfg), cfg, corpus)
    for numbers in (row.repeated, row.heldout):
        assert numbers.own == numbers.removed == numbers.all


def test_evaluation_is_that_of_single_sequences(trained):
    """Each number against the slow reference; the history's numbers are the same."""
    _, cfg, params = trained
    params = {name: w.astype(np.float64) for name, w in params.items()}
    corpus = load_corpus(replace(DATA, n_canaries=3, n_heldout=5))
    masks = [
        lambda i: sinks.sink_mask(POOL, [i])[0],
        lambda i: np.zeros(32),
        lambda i: np.full(32, 8 / 32),
    ]

    def mean(tokens, ids, mask):
        rows = zip(tokens, ids, strict=True)
        return np.mean([word_losses(params, cfg, row, mask(i)) for row, i in rows])

    repeated = BySinks(*(mean(corpus.repeated[:4], range(4), mask) for mask in masks))
    heldout = BySinks(*(mean(corpus.heldout, corpus.heldout_ids, mask) for mask in masks))
    decoded = [
        [continued(params, cfg, row[:8], 8, mask(i)) for i, row in enumerate(corpus.repeated[:4])]
        for mask in masks[:2]
    ]
    extraction = [(d == corpus.repeated[:4]).all(axis=1).mean() for d in decoded]
    row = metrics.evaluate(params, cfg, corpus)
    assert row.repeated._asdict() == pytest.approx(repeated._asdict())
    assert row.heldout._asdict() == pytest.approx(heldout._asdict())
    assert row.extraction[:2] == pytest.approx(extraction)
    numbers = [*repeated, *heldout]
    assert len({round(number, 3) for number in numbers}) == len(numbers)
    history = history_row(3, 0.5, params, cfg, corpus)
    assert (history.step, history.train, history.heldout.own) == (3, 0.5, None)
    assert history.repeated[:2] == pytest.approx(repeated[:2])
    assert history.heldout.removed == pytest.approx(heldout.removed)


def test_history_has_a_heldout_own_loss_if_all_share_the_pool(trained):
    corpus, cfg, params = trained
    shared = replace(cfg, sinks=SinkConfig(n_sink=32, n_active=32))
    on = [word_losses(params, cfg, row, np.ones(32)) for row in corpus.heldout]
    got = history_row(0, None, params, shared, corpus).heldout.own
    assert got == pytest.approx(np.mean(on), rel=1e-5)
    pruned = history_row(0, None, sinks.prune(params), replace(cfg, sinks=None), corpus).heldout
    assert pruned.own == pruned.removed


def test_evaluations_survive_json(trained):
    corpus, cfg, params = trained
    row = metrics.evaluate(params, cfg, corpus)
    assert metrics.to_evaluation([list(numbers) for numbers in row]) == row
    history = history_row(0, None, params, cfg, corpus)._replace(
        first_sequence=(0.5,), recall=(1.0,)
    )
    stored = json.loads(json.dumps([history]))
    assert metrics.to_history(stored) == [history]
    of_0_2_0 = [row[:5] for row in stored]
    assert metrics.to_history(of_0_2_0) == [history._replace(recall=())]


# Deletion


def test_collateral_deletes_one_and_measures_all(trained):
    corpus, cfg, params = trained
    loss = metrics.collateral(params, cfg, corpus)
    removed = metrics.sequence_losses(params, cfg, corpus.repeated, sinks.NO_SINKS)
    np.testing.assert_allclose(loss.diagonal(), removed, rtol=1e-5)
    for i in range(4):
        left = sinks.own_except(POOL, corpus.repeated_ids, corpus.repeated_ids[[i]])
        want = metrics.sequence_losses(params, cfg, corpus.repeated, left)
        np.testing.assert_allclose(loss[i], want, rtol=1e-5)
    own = metrics.sequence_losses(params, cfg, corpus.repeated, sinks.own(POOL, range(4)))
    got = metrics.deletion(params, cfg, corpus)
    assert got.deleted_loss == pytest.approx(np.mean(removed))
    rises = [loss[i, j] - own[j] for i in range(4) for j in range(4) if i != j]
    assert got.deleted_others_up == pytest.approx(np.mean(rises), abs=1e-6)
    assert metrics.deletion(params, replace(cfg, sinks=None), corpus) == (None, None)


@pytest.mark.parametrize("n_sink", [8, 32, 512])  # others share all, some, rarely any sinks
def test_deletion_reaches_whoever_shares_a_sink(n_sink, trained):
    _, cfg, params = trained
    pool = SinkConfig(n_sink=n_sink, n_active=8)
    wide = replace(cfg, sinks=pool)
    rng = np.random.default_rng(3)
    grown = {
        name: 0.3 * rng.standard_normal((n_sink, *w.shape[1:])) if sinks.is_sink(name) else w
        for name, w in params.items()
    }
    six = load_corpus(replace(DATA, n_canaries=2))
    own = sinks.own(pool, six.repeated_ids)
    active = [set(row) for row in own.index.tolist()]
    before = metrics.sequence_losses(grown, wide, six.repeated, own)
    loss = metrics.collateral(grown, wide, six)
    n_shared = np.array([[len(a & b) for b in active] for a in active])
    changed = np.abs(loss - before) > 1e-6
    np.testing.assert_array_equal(changed, n_shared > 0)
    others = n_shared[~np.eye(6, dtype=bool)]
    assert {8: others.min() == 8, 32: others.max() < 8, 512: 0 < (others > 0).mean() < 0.3}[n_sink]


def test_deletion_of_a_sequence_without_sinks_or_others(trained):
    corpus, cfg, params = trained
    rare = replace(cfg, sinks=SinkConfig(n_sink=32, scheme="bernoulli", p=0.03, seed=1))
    n_own = sinks.sink_mask(rare.sinks, corpus.repeated_ids).sum(axis=1)
    assert n_own.min() == 0 < n_own.max()
    loss = metrics.collateral(params, rare, corpus)
    own = sinks.own(rare.sinks, corpus.repeated_ids)
    before = metrics.sequence_losses(params, rare, corpus.repeated, own)
    for row in loss[n_own == 0]:
        np.testing.assert_allclose(row, before, rtol=1e-6)
    single = load_corpus(replace(DATA, n_repeated=1, repeat_fraction=0.2))
    alone = metrics.deletion(params, cfg, single)
    assert alone.deleted_others_up is None
    assert alone.deleted_loss > 0


def test_fraction_deleted_counts_shared_sinks():
    shared = metrics.fraction_deleted(POOL, [0, 1], [1, 2])
    index = [set(sinks.active(POOL, [i])[0].tolist()) for i in range(3)]
    assert shared.tolist() == [len(index[0] & (index[1] | index[2])) / 8, 1.0]
    disjoint = replace(POOL, scheme="disjoint")
    assert metrics.fraction_deleted(disjoint, [0], [1, 2, 3]).tolist() == [0.0]
    assert metrics.fraction_deleted(POOL, [0], []).tolist() == [0.0]
    single, one = SinkConfig(n_sink=4, n_active=1), [[0], [0]]
    assert metrics.fraction_deleted(single, *one).tolist() == [1.0]
    rare = SinkConfig(n_sink=4, scheme="bernoulli", p=0.01)  # none is active
    assert metrics.fraction_deleted(rare, *one).tolist() == [0.0]
    mean = np.mean([metrics.fraction_deleted(POOL, range(999), [i, -i]) for i in range(999, 1040)])
    assert mean == pytest.approx(1 - (1 - 8 / 32) ** 2, abs=0.02)


def test_the_seed_and_not_the_name_decides_the_weights(trained):
    corpus, _, params = trained
    again = train(replace(METHOD, name="another name"), SETTINGS, corpus)
    assert all((params[name] == again.params[name]).all() for name in params)
    other = replace(SETTINGS, train=replace(SETTINGS.train, seed=1, steps=2))
    assert (params["wpe"] != train(METHOD, other, corpus).params["wpe"]).any()


# Facts


def test_values_are_the_fifth_words_of_sentences():
    tokens = np.arange(60).reshape(2, 30)
    likeliest = tokens[:, 1:].copy()  # all right
    assert metrics.values_right(tokens, likeliest).all()
    likeliest[0, [3, 4, 9, 28]] = -1  # the first two values; a full stop, the last word
    right = [[False, False, True, True, True], [True] * 5]
    assert metrics.values_right(tokens, likeliest).tolist() == right


@pytest.mark.parametrize("k", [0, 4])
def test_recall_is_the_fraction_of_right_tellings_of_each_fact(k, monkeypatch):
    data = DataConfig(corpus="people", n_ctx=29, n_repeated=254, n_heldout=5)
    facts = load_corpus(data).facts
    wanted = {fact: i % 3 for i, fact in enumerate(facts.world.facts_of(k).tolist())}
    left = dict(wanted)

    def predict(params, cfg, tokens, selection):
        assert (params, cfg, selection) == ("params", "cfg", sinks.NO_SINKS)
        likeliest = np.full((len(tokens), 29), -1)
        for row, document in enumerate(facts.world.read(tokens).tolist()):
            for i, fact in enumerate(document):
                if left[fact]:
                    likeliest[row, 6 * i + 3] = tokens[row, 6 * i + 4]
                    left[fact] -= 1
        return np.zeros(likeliest.shape), likeliest

    monkeypatch.setattr(metrics, "predict", predict)
    got = metrics.recall("params", "cfg", facts, k)
    assert got.tolist() == [n / 2 for n in wanted.values()]
