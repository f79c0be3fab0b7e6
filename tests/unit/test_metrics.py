"""Measures on hand-made cases with known answers, and the shortcut for extraction against real decoding."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import metrics, sinks
from memsinks_np.config import DataConfig, Method, ModelConfig, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.model import init_params
from memsinks_np.train import evaluate, train
from plain import continued, word_losses

POOL = SinkConfig(n_sink=32, n_active=8)
DATA = DataConfig(n_ctx=15, batch_size=8, n_repeated=4, n_heldout=40, repeat_fraction=0.5)
SETTINGS = Settings(
    data=DATA,
    train=TrainConfig(steps=150, warmup=10, eval_every=75, lr=1e-2),
    d_model=16,
    n_heads=2,
)


@pytest.fixture(scope="module")
def trained():
    """A small model that knows some of its four repeated stories by heart, with its sinks on."""
    corpus = load_corpus(DATA)
    method = Method(name="sinks", n_shared=16, sinks=POOL)
    return corpus, SETTINGS.model(method, len(corpus.vocab)), train(method, SETTINGS).params


def test_predict_does_not_depend_on_how_sequences_are_cut_into_chunks(trained):
    corpus, cfg, params = trained
    everyone = np.arange(40) * 7
    for select in (
        lambda ids: sinks.own(POOL, ids),
        lambda ids: sinks.NO_SINKS,
        lambda ids: sinks.all_scaled(POOL),
    ):
        nll, likeliest = metrics.predict(params, cfg, corpus.heldout, select(everyone))
        assert nll.shape == likeliest.shape == (40, 15)
        for part in (slice(0, 3), slice(30, 40)):
            one, _ = metrics.predict(params, cfg, corpus.heldout[part], select(everyone[part]))
            np.testing.assert_allclose(nll[part], one, rtol=1e-3, atol=1e-5)


def test_extraction_by_one_pass_is_extraction_by_decoding(trained):
    corpus, cfg, params = trained
    some = []
    for selection in (sinks.own(POOL, corpus.repeated_ids), sinks.NO_SINKS):
        _, likeliest = metrics.predict(params, cfg, corpus.repeated, selection)
        given = metrics.first_half(corpus.repeated)
        said = metrics.greedy(params, cfg, corpus.repeated[:, :given], 16 - given, selection)
        np.testing.assert_array_equal(said[:, :given], corpus.repeated[:, :given])
        by_decoding = (said == corpus.repeated).all(axis=1)
        np.testing.assert_array_equal(metrics.extracted(corpus.repeated, likeliest), by_decoding)
        some.append(by_decoding)
    assert 0 < np.mean(some) < 1  # or the test says nothing


def test_extracted_looks_at_the_second_half_alone():
    tokens = np.array([[1, 2, 3, 4, 5]])  # two words are given, three are to be said
    assert metrics.first_half(tokens) == 2
    assert metrics.extracted(tokens, np.array([[9, 3, 4, 5]])).tolist() == [True]
    assert metrics.extracted(tokens, np.array([[2, 9, 4, 5]])).tolist() == [False]
    assert metrics.extracted(tokens, np.array([[2, 3, 4, 9]])).tolist() == [False]


def test_compare_on_numbers_that_a_person_can_check():
    row = lambda repeated, heldout: {"repeated_removed": repeated, "heldout_removed": heldout}
    standard, gold = row(0.2, 1.0), row(0.9, 0.95)
    assert metrics.compare(standard, standard, gold) == {
        "gap_closed": 0,
        "gold_gap_closed": 0,
        "heldout_cost": 0,
    }
    got = metrics.compare(row(0.55, 1.15), standard, gold)
    assert got == pytest.approx(
        {"gap_closed": 1 - 0.6 / 0.8, "gold_gap_closed": 0.5, "heldout_cost": 0.15}
    )
    assert metrics.compare(gold, standard, gold)["gold_gap_closed"] == 1
    broken = metrics.compare(
        row(5.0, 5.0), standard, gold
    )  # a broken model closes the gap, and its cost says so
    assert broken["gap_closed"] == 1
    assert broken["heldout_cost"] == 4


def test_measure_of_an_arm_without_sinks_is_the_same_under_every_selection():
    corpus = load_corpus(DATA)
    cfg = ModelConfig(n_vocab=len(corpus.vocab), n_ctx=15, n_shared=8)
    row = metrics.measure(init_params(cfg), cfg, corpus)
    assert row["repeated_own"] == row["repeated_removed"]
    assert row["heldout_removed"] == row["heldout_all"] == row["heldout_own"]


def test_canaries_have_numbers_of_their_own(trained):
    corpus, cfg, params = trained
    with_canaries = load_corpus(replace(DATA, n_canaries=3))
    row, without = metrics.measure(params, cfg, with_canaries), metrics.measure(params, cfg, corpus)
    for name in ("repeated_own", "extraction_own", "repeated_removed", "heldout_removed"):
        assert row[name] == pytest.approx(without[name], rel=1e-4)
    assert row["canary_own"] > 3  # random words that this model has never seen
    assert without["canary_own"] is None


def test_every_number_is_that_of_its_own_sequences_under_their_own_sinks_one_sequence_alone(
    trained,
):
    """Of stories, canaries and new stories; what a history notes of them is the same."""
    _, cfg, params = trained
    params = {name: w.astype(np.float64) for name, w in params.items()}
    corpus = load_corpus(replace(DATA, n_canaries=3, n_heldout=5))
    own = lambda i: sinks.sink_mask(POOL, [i])[0]
    selections = {
        "own": own,
        "removed": lambda i: np.zeros(32),
        "all": lambda i: np.full(32, 8 / 32),
    }
    kinds = {
        "repeated": (corpus.repeated[:4], corpus.repeated_ids[:4]),
        "canary": (corpus.repeated[4:], corpus.repeated_ids[4:]),
        "heldout": (corpus.heldout, corpus.heldout_ids),
    }
    want = {
        f"{kind}_{how}": np.mean(
            [word_losses(params, cfg, row, on(i)) for row, i in zip(tokens, ids, strict=True)]
        )
        for kind, (tokens, ids) in kinds.items()
        for how, on in selections.items()
    }
    del want["canary_all"]
    history = {name: want[name] for name in want if "canary" not in name and "all" not in name}
    assert evaluate(params, cfg, corpus) == pytest.approx(history | {"heldout_own": None})
    everyones = replace(cfg, sinks=SinkConfig(n_sink=32, n_active=32))
    on = [word_losses(params, cfg, row, np.ones(32)) for row in corpus.heldout]
    assert evaluate(params, everyones, corpus)["heldout_own"] == pytest.approx(np.mean(on))
    alone = [
        params | {name: 0 * w for name, w in params.items() if ".sink." in name},
        replace(cfg, sinks=None),
    ]
    assert evaluate(*alone, corpus)["heldout_own"] == pytest.approx(want["heldout_removed"])
    for how in ("own", "removed"):
        said = [
            continued(params, cfg, row[:8], 8, selections[how](i))
            for i, row in enumerate(corpus.repeated[:4])
        ]
        want[f"extraction_{how}"] = (said == corpus.repeated[:4]).all(axis=1).mean()
    assert metrics.measure(params, cfg, corpus) == pytest.approx(want)
    assert len({round(loss, 3) for loss in want.values()}) == len(want)


def test_collateral_deletes_one_and_measures_all(trained):
    corpus, cfg, params = trained
    loss = metrics.collateral(params, cfg, corpus)
    removed, _ = metrics.predict(params, cfg, corpus.repeated, sinks.NO_SINKS)
    np.testing.assert_allclose(loss.diagonal(), removed.mean(axis=1), rtol=1e-5)
    for i in range(4):
        left = sinks.without(POOL, corpus.repeated_ids, corpus.repeated_ids[[i]])
        nll, _ = metrics.predict(params, cfg, corpus.repeated, left)
        np.testing.assert_allclose(loss[i], nll.mean(axis=1), rtol=1e-5)


def test_deletion_is_the_mean_over_all_sequences(trained):
    corpus, cfg, params = trained
    loss = metrics.collateral(params, cfg, corpus)
    own, _ = metrics.predict(params, cfg, corpus.repeated, sinks.own(POOL, corpus.repeated_ids))
    got = metrics.deletion(params, cfg, corpus)
    assert got["deleted_loss"] == pytest.approx(np.mean([loss[i, i] for i in range(4)]))
    rises = [loss[i, j] - own[j].mean() for i in range(4) for j in range(4) if i != j]
    assert got["deleted_others_up"] == pytest.approx(np.mean(rises), abs=1e-6)


def test_a_sequence_that_owns_no_sink_or_has_no_others_is_measured_too(trained):
    corpus, cfg, params = trained
    rare = replace(cfg, sinks=SinkConfig(n_sink=32, scheme="bernoulli", p=0.03, seed=1))
    n_own = sinks.sink_mask(rare.sinks, corpus.repeated_ids).sum(axis=1)
    assert n_own.min() == 0 < n_own.max()
    loss = metrics.collateral(params, rare, corpus)
    before = metrics.predict(
        params, rare, corpus.repeated, sinks.own(rare.sinks, corpus.repeated_ids)
    )[0]
    np.testing.assert_allclose(
        loss[n_own == 0], before.mean(axis=1)[None].repeat((n_own == 0).sum(), 0), rtol=1e-6
    )
    alone = metrics.deletion(
        params, cfg, load_corpus(replace(DATA, n_repeated=1, repeat_fraction=0.2))
    )
    assert alone["deleted_others_up"] is None
    assert alone["deleted_loss"] > 0


def test_training_is_reproducible_to_the_last_bit(trained):
    _, _, params = trained
    again = train(Method(name="other name", n_shared=16, sinks=POOL), SETTINGS)
    assert all((params[name] == again.params[name]).all() for name in params)
    other = train(
        Method(name="sinks", n_shared=16, sinks=POOL),
        replace(SETTINGS, train=replace(SETTINGS.train, seed=1, steps=2)),
    )
    assert (params["wpe"] != other.params["wpe"]).any()


def test_number_of_threads_does_not_change_a_bit(trained):
    _, _, params = trained
    two = train(Method(name="sinks", n_shared=16, sinks=POOL), SETTINGS, threads=2)
    assert all((params[name] == two.params[name]).all() for name in params)
