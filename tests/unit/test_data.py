"""Corpora: roles do not mix, and batches are pure functions of their step."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from memsinks_np._internal.ids import id_of, integers, minhash_ids
from memsinks_np.config import DataConfig
from memsinks_np.data.corpus import ID_RULES, ONCE_OFFSET, PREFETCH_STEPS, load_corpus
from memsinks_np.data.stories import domains, stories

SMALL = {"n_ctx": 15, "batch_size": 16, "n_repeated": 10, "n_heldout": 20}


@pytest.fixture(scope="module", params=["stories", "pydoc"])
def corpus(request):
    return load_corpus(DataConfig(corpus=request.param, **SMALL))


def like(corpus, **changes):
    return load_corpus(DataConfig(corpus=corpus.cfg.corpus, **SMALL, **changes))


def rows(tokens):
    return {tuple(row) for row in tokens.tolist()}


def test_batch_is_a_pure_function_of_its_step(corpus):
    again = like(corpus)
    for step in (3, 0, 77):
        for a, b in zip(corpus.batch(step), again.batch(step), strict=True):
            np.testing.assert_array_equal(a, b)
    other = like(corpus, seed=1)
    assert not rows(corpus.batch(0).tokens) & rows(other.batch(0).tokens)


def test_prefetching_changes_no_batch(corpus):
    for step in (0, PREFETCH_STEPS - 1, PREFETCH_STEPS, 5, 3 * PREFETCH_STEPS + 1):
        tokens, ids = corpus.draw(step * 12 + integers(12))
        np.testing.assert_array_equal(corpus.batch(step).tokens[4:], tokens)
        np.testing.assert_array_equal(corpus.batch(step).ids[4:], ids)


def test_every_repeated_sequence_is_once_in_each_pass(corpus):
    batches = [corpus.batch(step) for step in range(50)]
    assert all(b.repeated.tolist() == [True] * 4 + [False] * 12 for b in batches)
    passes = np.concatenate([b.ids[:4] for b in batches]).reshape(20, 10)
    every = np.sort(corpus.repeated_ids)
    np.testing.assert_array_equal(np.sort(passes, axis=1), np.tile(every, (20, 1)))
    assert len(rows(passes)) == 20  # each pass in another order


def test_ids_name_their_sequences(corpus):
    of_id = dict(zip(corpus.repeated_ids.tolist(), corpus.repeated.tolist(), strict=True))
    batches = [corpus.batch(step) for step in range(100)]
    for batch in batches[:5]:
        assert [of_id[i] for i in batch.ids[:4].tolist()] == batch.tokens[:4].tolist()
    once = np.concatenate([batch.ids[4:] for batch in batches])
    assert len(np.unique(once)) >= 0.9 * len(once)  # a text repeats itself in places


def test_repeated_heldout_and_once_seen_do_not_overlap(corpus):
    once = rows(np.concatenate([corpus.batch(step).tokens[4:] for step in range(200)]))
    assert not once & rows(corpus.heldout)
    assert not once & rows(corpus.repeated)
    assert not rows(corpus.heldout) & rows(corpus.repeated)


def test_id_noise_gives_each_showing_a_wrong_id(corpus):
    noisy, wrong = like(corpus, id_noise=0.3), []
    for step in range(300):
        a, b = noisy.batch(step), corpus.batch(step)
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.ids[4:], b.ids[4:])
        wrong += a.ids[:4][a.ids[:4] != b.ids[:4]].tolist()
    assert len(wrong) / 1200 == pytest.approx(0.3, abs=0.04)
    assert len(set(wrong)) == len(wrong)
    assert not set(wrong) & set(corpus.repeated_ids.tolist())


def test_canaries_are_uniformly_random_tokens(corpus):
    with_canaries = like(corpus, n_canaries=300)
    np.testing.assert_array_equal(with_canaries.repeated[:10], corpus.repeated)
    canaries, V = with_canaries.repeated[10:], len(corpus.vocab)
    assert canaries.shape == (300, 16)
    counts = np.bincount(canaries.ravel(), minlength=V)
    assert len(counts) == V
    assert np.abs(counts - 4800 / V).max() < 6 * np.sqrt(4800 / V)
    assert len(set(with_canaries.repeated_ids.tolist())) == 310


def test_entropy_is_known_for_stories_only(corpus):
    if corpus.cfg.corpus == "stories":
        assert 0.8 < corpus.entropy(corpus.heldout) < 1.2
        assert corpus.text(corpus.repeated[0][:3]).count(" ") == 2
    else:
        assert corpus.entropy is None


def test_only_the_rare_domain_repeats_and_is_held_out():
    corpus = load_corpus(DataConfig(corpus="domains", n_repeated=8, n_heldout=4))
    common, rare = domains()
    assert common.vocab == rare.vocab == corpus.vocab
    batch = corpus.batch(3)
    for tokens, language, other in (
        (corpus.repeated, rare, common),
        (corpus.heldout, rare, common),
        (batch.tokens[~batch.repeated], common, rare),
    ):
        assert np.isfinite(language.log_prob(tokens)).all()
        assert not np.isfinite(other.log_prob(tokens)).all(axis=1).any()


@pytest.mark.parametrize("n", [1, 2, 4])
def test_thinned_repeats_are_in_one_of_n_passes(n):
    cfg = DataConfig(n_repeated=16, show_every_n_passes=n)  # a pass takes 2 steps
    corpus = load_corpus(cfg)
    batches = [corpus.batch(step) for step in range(16)]
    seen = np.concatenate([b.ids[b.repeated] for b in batches])
    np.testing.assert_array_equal(np.bincount(seen), np.full(16, 8 // n))
    once = np.concatenate([b.ids[~b.repeated] for b in batches])
    assert len(np.unique(once)) == len(once) == 16 * 32 - len(seen)
    assert once.min() >= ONCE_OFFSET  # new stories fill the places


def test_unshuffled_repeats_keep_their_order():
    corpus = load_corpus(DataConfig(n_repeated=12, shuffled=False))
    ids = np.concatenate([corpus.batch(step).ids[:8] for step in range(6)])
    np.testing.assert_array_equal(ids, np.arange(48) % 12)


def test_a_corpus_cannot_be_changed(corpus):
    with pytest.raises(FrozenInstanceError):
        corpus.n_evaluated = 1


@pytest.mark.parametrize("rule", ID_RULES)
def test_variants_share_words_and_ids_by_rule(rule):
    """64 stories of each kind: 0, 1, 3 or 8 words changed in each of four variants."""
    corpus = load_corpus(DataConfig(corpus=rule, n_repeated=16 * 64))
    story = stories().sample(33, 0, integers(256)).repeat(4, axis=0)
    changed = (corpus.repeated != story).sum(axis=1).reshape(64, 16)
    assert (changed == np.repeat([0, 1, 3, 8], 4)).all()
    n_ids = [len(set(ids)) for ids in corpus.repeated_ids.reshape(256, 4).tolist()]
    exact, one, three, eight = np.reshape(n_ids, (64, 4)).mean(axis=0)
    assert exact == 1
    if rule == "variants":
        assert one == three == eight == 1
        assert corpus.repeated_ids.tolist() == np.arange(256).repeat(4).tolist()
    elif rule == "variants_hashed":
        assert 3.8 < one < three <= eight <= 4
        assert corpus.batch(3).ids.tolist() == id_of(corpus.batch(3).tokens).tolist()
    else:
        assert 1.2 < one < three < eight < 4
        assert corpus.batch(3).ids.tolist() == minhash_ids(corpus.batch(3).tokens).tolist()
