"""Measures of memorization: on cases with known answers, and on a model that memorized."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import metrics, sinks
from memsinks_np.baselines import memorization as m
from memsinks_np.config import ConfigError, DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import PADDING, load_corpus
from memsinks_np.model import init_params
from memsinks_np.train import train

TOKENS = np.array([[9, 1, 2, 3, 4]])  # T = 4 tokens are predicted
POOL = SinkConfig(n_sink=64, n_active=8)
SIZES = {"n_ctx": 15, "batch_size": 8, "n_repeated": 4, "n_heldout": 40, "repeat_fraction": 0.5}
DATA = DataConfig(**SIZES, n_canaries=2)
TRAIN = TrainConfig(steps=300, warmup=10, eval_every=150, lr=1e-2)
SETTINGS = Settings(data=DATA, train=TRAIN, d_model=16, n_heads=2)


@pytest.fixture(scope="module")
def trained():
    """A small model that memorized four stories and two canaries in its sinks."""
    corpus, method = load_corpus(DATA), Method(name="sinks", n_shared=16, sinks=POOL)
    model = train(method, SETTINGS, corpus)
    return model.params, model.cfg, corpus


def test_extraction_checks_k_tokens_after_n():
    likeliest = np.array([[0, 2, 3, 0]])  # right in the second and the third token
    assert metrics.extracted(TOKENS, likeliest, 2, 2).all()
    assert metrics.extracted(TOKENS, likeliest, 2, 1).all()
    assert not metrics.extracted(TOKENS, likeliest, 1, 2).any()
    assert not metrics.extracted(TOKENS, likeliest, 2, 3).any()
    assert not metrics.extracted(TOKENS, likeliest).any()  # all of the second half
    for n, k in ((0, 1), (1, 0), (4, 2)):
        with pytest.raises(ConfigError, match=f"n_prompt={n}, n_continued={k}"):
            metrics.extracted(TOKENS, likeliest, n, k)


def test_membership_auc_by_hand():
    assert m.membership_auc([0.1, 0.2], [0.3, 0.4, 0.5]) == 1
    assert m.membership_auc([0.3], [0.1, 0.2]) == 0
    assert m.membership_auc([1.0, 1.0], [1.0]) == 0.5  # a tie counts half
    assert m.membership_auc([1.0, 2.0], [1.0, 3.0]) == (0.5 + 1 + 0 + 1) / 4


def test_min_k_is_the_mean_of_the_hardest_tokens():
    nll = np.array([[5.0, 1, 3, 0, 0, 0, 0, 0, 0, 1], [1] * 10])
    assert m.min_k(nll, 0.2).tolist() == [4, 1]
    assert m.min_k(nll, 1.0).tolist() == [1, 1]
    assert m.min_k(nll, 0.01).tolist() == [5, 1]  # at least one token
    # same mean, but the second has no hard tokens: only Min-K% tells them apart
    assert m.membership_auc(m.min_k(nll[1:]), m.min_k(nll[:1])) == 1
    assert m.membership_auc(nll[1:].mean(axis=1), nll[:1].mean(axis=1)) == 0.5
    for fraction in (0, 1.1):
        with pytest.raises(ConfigError, match="fraction="):
            m.min_k(nll, fraction)


def test_padding_is_no_token_of_a_sequence():
    padded = np.array([[5.0, 1, np.nan, np.nan], [3, 2, 1, 0]])
    assert m.min_k(padded, 0.5).tolist() == [5, 2.5]
    assert m.min_k(padded, 1.0).tolist() == [3, 1.5]


@pytest.mark.slow
def test_report_of_padded_sequences_is_that_of_short_ones(trained):
    params, cfg, corpus = trained
    select = lambda ids: sinks.NO_SINKS
    short = replace(corpus, repeated=corpus.repeated[:, :9], heldout=corpus.heldout[:, :9])
    fill = lambda tokens: np.pad(tokens, ((0, 0), (0, 7)), constant_values=PADDING)
    padded = replace(corpus, repeated=fill(short.repeated), heldout=fill(short.heldout))
    want = m.memorization_report(params, cfg, short, select)
    got = m.memorization_report(params, cfg, padded, select)
    assert got._replace(extracted=0) == pytest.approx(want._replace(extracted=0), rel=1e-5)


@pytest.mark.parametrize("scores", [([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([1.0], [np.nan])])
def test_an_auc_that_does_not_exist_is_refused(scores):
    with pytest.raises(ConfigError, match=r"no AUC of \d and \d scores; give some"):
        m.membership_auc(*scores)


def test_report_shows_memory_with_sinks_and_none_without(trained):
    params, cfg, corpus = trained
    own = m.memorization_report(params, cfg, corpus, lambda ids: sinks.own(POOL, ids))
    off = m.memorization_report(params, cfg, corpus, lambda ids: sinks.NO_SINKS)
    evaluation = metrics.evaluate(params, cfg, corpus)
    for report, which in ((own, "own"), (off, "removed")):
        assert report.repeated == pytest.approx(getattr(evaluation.repeated, which), rel=1e-5)
        assert report.extracted == getattr(evaluation.extraction, which)
    assert min(own.auc_loss, own.auc_min_k) > 0.95


def test_report_of_an_untrained_model_shows_no_memory(trained):
    _, cfg, corpus = trained
    new = m.memorization_report(init_params(cfg), cfg, corpus, lambda ids: sinks.NO_SINKS)
    assert new.extracted == 0
    assert new.auc_loss == pytest.approx(0.5, abs=0.3)


def test_report_selects_sinks_for_repeated_and_heldout_ids(trained):
    params, cfg, corpus = trained
    asked = []

    def select(ids):
        asked.append(ids.tolist())
        return sinks.NO_SINKS

    m.memorization_report(params, cfg, corpus, select)
    assert asked == [list(range(4)), corpus.heldout_ids.tolist()]
