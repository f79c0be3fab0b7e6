"""Corpora: roles do not mix, batches are pure functions of their step."""

import numpy as np
import pytest

from memsinks_np.config import ConfigError, DataConfig
from memsinks_np.data.corpus import AHEAD, load_corpus, n_vocab
from memsinks_np.data.stories import domains

SMALL = {"n_ctx": 15, "batch_size": 16, "n_repeated": 10, "n_heldout": 20}


@pytest.fixture(scope="module", params=["stories", "pydoc"])
def corpus(request):
    return load_corpus(DataConfig(corpus=request.param, **SMALL))


def rows(tokens):
    return {tuple(row) for row in tokens.tolist()}


def test_batch_is_a_pure_function_of_its_step(corpus):
    again = load_corpus(corpus.cfg)
    for step in (3, 0, 77):
        for a, b in zip(corpus.batch(step), again.batch(step), strict=True):
            np.testing.assert_array_equal(a, b)
    other = load_corpus(DataConfig(**{**SMALL, "corpus": corpus.cfg.corpus, "seed": 1}))
    assert not rows(corpus.batch(0).tokens) & rows(other.batch(0).tokens)


@pytest.mark.parametrize("n_once", [0, 30])
def test_drawing_ahead_changes_no_batch(corpus, n_once):
    ahead = load_corpus(DataConfig(**{**SMALL, "corpus": corpus.cfg.corpus, "n_once": n_once}))
    for step in (0, AHEAD - 1, AHEAD, 5, 3 * AHEAD + 1):
        numbers = step * 12 + np.arange(12)
        tokens, ids = ahead.draw(numbers % n_once if n_once else numbers)
        np.testing.assert_array_equal(ahead.batch(step).tokens[4:], tokens)
        np.testing.assert_array_equal(ahead.batch(step).ids[4:], ids)


def test_a_quarter_of_every_batch_is_repeated_and_every_repeat_comes_equally_often(corpus):
    seen = [corpus.batch(step) for step in range(50)]
    assert all(b.repeated.tolist() == [True] * 4 + [False] * 12 for b in seen)
    ids, counts = np.unique(np.concatenate([b.ids[b.repeated] for b in seen]), return_counts=True)
    assert set(ids) == set(corpus.repeated_ids)
    assert set(counts) == {20}
    first_pass = np.concatenate([b.ids[:4] for b in seen[:5]])
    assert len(set(first_pass[:10])) == 10
    orders = np.concatenate([b.ids[:4] for b in seen]).reshape(20, 10)
    assert len({tuple(o) for o in orders.tolist()}) == 20  # each pass in another order


def test_ids_name_their_sequences(corpus):
    named = dict(
        zip(corpus.repeated_ids.tolist(), map(tuple, corpus.repeated.tolist()), strict=True)
    )
    for step in range(5):
        batch = corpus.batch(step)
        for tokens, i in zip(batch.tokens[:4].tolist(), batch.ids[:4].tolist(), strict=True):
            assert named[i] == tuple(tokens)
    once = np.concatenate([corpus.batch(step).ids[4:] for step in range(100)])
    assert len(set(once.tolist())) >= 0.9 * len(once)  # a text repeats itself here and there


def test_heldout_and_repeated_sequences_are_never_seen_once(corpus):
    once = rows(np.concatenate([corpus.batch(step).tokens[4:] for step in range(200)]))
    assert not once & rows(corpus.heldout)
    assert not once & rows(corpus.repeated)
    assert not rows(corpus.heldout) & rows(corpus.repeated)


@pytest.mark.parametrize("name", ["stories", "domains", "pydoc"])
def test_n_vocab_is_that_of_the_corpus(name):
    cfg = DataConfig(corpus=name, **SMALL)
    assert n_vocab(cfg) == len(load_corpus(cfg).vocab)


def test_finite_set_of_once_seen_sequences_comes_in_turn(corpus):
    finite = load_corpus(DataConfig(**{**SMALL, "corpus": corpus.cfg.corpus, "n_once": 30}))
    ids = np.concatenate([finite.batch(step).ids[4:] for step in range(5)])
    np.testing.assert_array_equal(ids[:30], ids[30:])
    assert len(set(ids.tolist())) == 30


def test_id_noise_gives_a_wrong_id_of_its_own(corpus):
    noisy = load_corpus(DataConfig(**{**SMALL, "corpus": corpus.cfg.corpus, "id_noise": 0.3}))
    wrong = []
    for step in range(300):
        a, b = noisy.batch(step), corpus.batch(step)
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.ids[4:], b.ids[4:])
        wrong += a.ids[:4][a.ids[:4] != b.ids[:4]].tolist()
    assert len(wrong) / 1200 == pytest.approx(0.3, abs=0.04)
    assert len(set(wrong)) == len(wrong)
    assert not set(wrong) & set(corpus.repeated_ids.tolist())


def test_canaries_are_uniformly_random_words(corpus):
    with_canaries = load_corpus(
        DataConfig(**{**SMALL, "corpus": corpus.cfg.corpus, "n_canaries": 300})
    )
    np.testing.assert_array_equal(with_canaries.repeated[:10], corpus.repeated)
    canaries = with_canaries.repeated[10:]
    assert canaries.shape == (300, 16)
    V = len(corpus.vocab)
    counts = np.bincount(canaries.ravel(), minlength=V)
    assert len(counts) == V
    assert np.abs(counts - 4800 / V).max() < 6 * np.sqrt(4800 / V)
    assert len(set(with_canaries.repeated_ids.tolist())) == 310


def test_floor_is_known_for_stories_alone(corpus):
    if corpus.cfg.corpus == "stories":
        assert 0.8 < corpus.entropy(corpus.heldout) < 1.2
        assert corpus.text(corpus.repeated[0][:3]).count(" ") == 2
    else:
        assert corpus.entropy is None


@pytest.mark.parametrize(
    "bad",
    [
        {"n_ctx": 0},
        {"n_repeated": 0},
        {"n_canaries": -1},
        {"repeat_fraction": 1.5},
        {"repeat_fraction": 1.0},
        {"id_noise": -0.1},
    ],
)
def test_impossible_data_is_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        DataConfig(**bad)


def test_second_world_repeats_and_is_held_out_while_the_first_goes_on():
    cfg = DataConfig(corpus="domains", n_repeated=8, n_heldout=4)
    corpus, (first, second) = load_corpus(cfg), domains()
    assert first.vocab == second.vocab == corpus.vocab
    batch = corpus.batch(3)
    for tokens, language, other in (
        (corpus.repeated, second, first),
        (corpus.heldout, second, first),
        (batch.tokens[~batch.repeated], first, second),
    ):
        assert np.isfinite(language.log_prob(tokens)).all()
        assert not np.isfinite(other.log_prob(tokens)).all(axis=1).any()


@pytest.mark.parametrize("every", [1, 2, 4])
def test_thinned_repeats_appear_in_one_pass_of_so_many_and_fresh_stories_stand_in(every):
    cfg = DataConfig(n_repeated=16, show_every_n_passes=every)  # 8 in a batch: a pass takes 2 steps
    batches = [load_corpus(cfg).batch(step) for step in range(16)]
    seen = np.concatenate([b.ids[b.repeated] for b in batches])
    np.testing.assert_array_equal(np.bincount(seen), np.full(16, 8 // every))
    once = np.concatenate([b.ids[~b.repeated] for b in batches])
    assert len(np.unique(once)) == len(once) == 16 * 32 - len(seen)


def test_unshuffled_repeats_return_in_the_same_order():
    corpus = load_corpus(DataConfig(n_repeated=12, shuffled=False))
    again = np.concatenate([corpus.batch(step).ids[:8] for step in range(6)])
    np.testing.assert_array_equal(again, np.arange(48) % 12)
