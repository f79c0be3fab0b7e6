"""Measures of memorization on cases whose answer a person can work out, and on a model that memorized."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import metrics, sinks
from memsinks_np._internal.ids import uniform
from memsinks_np.baselines import memorization as m
from memsinks_np.config import ConfigError, DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.model import init_params
from memsinks_np.train import train

TOKENS = np.array([[9, 1, 2, 3, 4]])  # T = 4 words are predicted
POOL = SinkConfig(n_sink=64, n_active=8)
DATA = DataConfig(
    n_ctx=15, batch_size=8, n_repeated=4, n_canaries=2, n_heldout=40, repeat_fraction=0.5
)
SETTINGS = Settings(
    data=DATA,
    train=TrainConfig(steps=300, warmup=10, eval_every=150, lr=1e-2),
    d_model=16,
    n_heads=2,
)


@pytest.fixture(scope="module")
def trained():
    """A small model that knows four stories and two canaries by heart, with its sinks on."""
    corpus, method = load_corpus(DATA), Method(name="sinks", n_shared=16, sinks=POOL)
    return corpus, SETTINGS.model(method, len(corpus.vocab)), train(method, SETTINGS).params


@pytest.mark.parametrize(
    ("said", "exact", "strength"),
    [
        ([1, 2, 3, 4], 1, 1),  # nothing need be given: k = 0
        ([0, 2, 3, 4], 3 / 4, 3 / 4),  # k = 1
        ([1, 2, 0, 4], 3 / 4, 1 / 4),  # right words before the last wrong one do not count
        ([1, 2, 3, 0], 3 / 4, 0),  # the last word is wrong: no k; open-unlearning says 1/T
        ([0, 0, 0, 0], 0, 0),
    ],
)
def test_extraction_strength_and_exact_memorization_by_hand(said, exact, strength):
    likeliest = np.array([said, [1, 2, 3, 4]])
    tokens = np.repeat(TOKENS, 2, axis=0)
    assert m.exact_memorization(tokens, likeliest).tolist() == [exact, 1]
    assert m.extraction_strength(tokens, likeliest).tolist() == [strength, 1]


def test_extraction_strength_is_its_formula_literally():
    tokens = (uniform(1, np.arange(200)[:, None], np.arange(10)) * 3).astype(int)
    likeliest = np.where(uniform(2, np.arange(200)[:, None], np.arange(9)) < 0.7, tokens[:, 1:], -1)
    right = likeliest == tokens[:, 1:]
    first = [
        next(k for k in range(10) if r[k:].all()) for r in right
    ]  # at k = T nothing is left to be wrong
    assert len(set(first)) > 5
    np.testing.assert_allclose(m.extraction_strength(tokens, likeliest), 1 - np.array(first) / 9)


def test_extraction_of_k_words_after_n():
    said = np.array([[0, 2, 3, 0]])  # right in the second and the third word
    assert metrics.extracted(TOKENS, said, 2, 2).all()
    assert metrics.extracted(TOKENS, said, 2, 1).all()
    assert not metrics.extracted(TOKENS, said, 1, 2).any()
    assert not metrics.extracted(TOKENS, said, 2, 3).any()
    assert not metrics.extracted(TOKENS, said).any()  # all of the second half
    for n, k in ((0, 1), (1, 0), (4, 2)):
        with pytest.raises(ConfigError, match=f"given={n}, said={k}"):
            metrics.extracted(TOKENS, said, n, k)


def test_perplexity_ratio_is_of_means_and_not_a_mean_of_ratios():
    repeated, heldout = np.array([[0.0, np.log(4)], [0, 0]]), np.full((3, 2), np.log(8))
    assert m.perplexity_ratio(repeated, heldout) == pytest.approx(8 / 4**0.25)
    assert m.perplexity_ratio(repeated, repeated) == 1
    by_row = np.exp(repeated.mean(axis=1)).mean()  # 1.5: the mean of batch perplexities
    assert m.perplexity_ratio(repeated, heldout) != pytest.approx(8 / by_row)


def test_exposure_by_hand():
    references = np.arange(1, 8) / 10  # |R| = 8
    assert m.exposure(0.0, references) == 3  # rank 1: the largest that a sample of 7 can say
    assert m.exposure(0.15, references) == 2  # rank 2
    assert m.exposure(0.35, references) == 1  # rank 4
    assert m.exposure(9.0, references) == 0  # rank 8
    assert m.exposure(0.3, references) == pytest.approx(3 - np.log2(3.5))  # two before it, one tie


def test_exposure_of_a_canary_that_nobody_has_seen_is_not_0():
    loss = uniform(7, np.arange(2000)[:, None], np.arange(256))
    bits = [m.exposure(row[0], row[1:]) for row in loss]
    assert np.mean(bits) == pytest.approx(1 / np.log(2), abs=0.1)


def test_membership_auc_by_hand():
    assert m.membership_auc([0.1, 0.2], [0.3, 0.4, 0.5]) == 1
    assert m.membership_auc([0.3], [0.1, 0.2]) == 0
    assert m.membership_auc([1.0, 1.0], [1.0]) == 0.5  # a tie counts half
    assert m.membership_auc([1.0, 2.0], [1.0, 3.0]) == (0.5 + 1 + 0 + 1) / 4


def test_min_k_takes_the_hardest_words():
    nll = np.array([[5.0, 1, 3, 0, 0, 0, 0, 0, 0, 1], [1] * 10])
    assert m.min_k(nll, 0.2).tolist() == [4, 1]
    assert m.min_k(nll, 1.0).tolist() == [1, 1]
    assert m.min_k(nll, 0.01).tolist() == [5, 1]  # one word at least
    # the second is easier in its hardest words, though both have the same mean: LOSS is blind, Min-K% sees
    assert m.membership_auc(m.min_k(nll[1:]), m.min_k(nll[:1])) == 1
    assert m.membership_auc(nll[1:].mean(axis=1), nll[:1].mean(axis=1)) == 0.5
    for share in (0, 1.1):
        with pytest.raises(ConfigError, match="share="):
            m.min_k(nll, share)


def test_benefit_of_repetition_kept():
    assert metrics.benefit_kept(once=2.76, many=2.12, loss=2.37) == pytest.approx(
        0.61, abs=0.005
    )  # Fig. 6, 360M
    assert metrics.benefit_kept(once=2.29, many=1.98, loss=2.22) == pytest.approx(
        0.23, abs=0.005
    )  # Fig. 6, 1.7B
    assert metrics.benefit_kept(once=3.0, many=2.0, loss=1.5) == 1.5
    assert metrics.benefit_kept(once=2.0, many=2.0, loss=1.0) is None  # nothing to keep


def test_share_deleted():
    slices = SinkConfig(n_sink=12, n_active=4, scheme="disjoint")
    ids = np.arange(4)  # slices 0, 1, 2 and 0 again
    assert metrics.fraction_deleted(slices, ids, [0], 2).tolist() == [1, 0, 0, 1]
    assert metrics.fraction_deleted(slices, ids, [0, 1], 2).tolist() == [1, 1, 0, 1]
    assert metrics.fraction_deleted(slices, ids, [], 2).tolist() == [0, 0, 0, 0]
    ids = np.arange(1000)
    for cfg in (
        SinkConfig(n_sink=256, n_active=32),
        SinkConfig(n_sink=256, n_active=32, per_layer=True),
        SinkConfig(n_sink=256, scheme="bernoulli", p=1 / 8),
    ):
        share = np.mean(
            [
                metrics.fraction_deleted(cfg, ids, 5000 + 5 * d + np.arange(5), 2).mean()
                for d in range(40)
            ]
        )
        assert share == pytest.approx(1 - (1 - 1 / 8) ** 5, abs=0.02)
    layers = SinkConfig(n_sink=256, n_active=32, per_layer=True)
    assert (
        metrics.fraction_deleted(layers, ids, [7], 2)
        != metrics.fraction_deleted(layers, ids, [7], 1)
    ).any()


def test_slice_content_is_split_into_content_and_interference(trained):
    corpus, cfg, params = trained
    got = m.slice_content(params, cfg, corpus.repeated, corpus.repeated_ids)
    np.testing.assert_allclose(got["mixed"], got["content"] + got["interference"])
    assert (got["content"] > 0.5).all()  # the memory lies in the sequence's own sinks
    # new text owns nothing: its sinks are as foreign as any, and what they do is interference alone
    new = m.slice_content(params, cfg, corpus.heldout, corpus.heldout_ids)
    assert abs(new["mixed"].mean()) < 0.3 * new["interference"].mean()
    assert new["content"].mean() == pytest.approx(-new["interference"].mean(), rel=0.3)


def test_report_of_a_model_that_memorized_and_of_the_same_without_its_sinks(trained):
    corpus, cfg, params = trained
    own = m.memorization_report(params, cfg, corpus, lambda ids: sinks.own(POOL, ids))
    off = m.memorization_report(params, cfg, corpus, lambda ids: sinks.NO_SINKS)
    row = metrics.measure(params, cfg, corpus)
    for report, which in ((own, "own"), (off, "removed")):
        assert report["repeated"] == pytest.approx(row[f"repeated_{which}"], rel=1e-5)
        assert report["heldout"] == pytest.approx(row[f"heldout_{which}"], rel=1e-5)
        assert report["extracted"] == row[f"extraction_{which}"]
        assert report["perplexity_ratio"] == pytest.approx(
            np.exp(report["heldout"] - report["repeated"])
        )
    assert own["extraction_strength"] > 0.9 > off["extraction_strength"]
    assert own["exact_memorization"] > 0.9 > off["exact_memorization"]
    assert own["auc_loss"] > 0.95
    assert own["auc_min_k"] > 0.95
    assert own["exposure"] == 8  # the most that 255 references can say
    new = m.memorization_report(init_params(cfg), cfg, corpus, lambda ids: sinks.NO_SINKS)
    assert new["exposure"] < 5
    assert new["extraction_strength"] < 0.1


def test_report_without_canaries_has_no_exposure():
    corpus, method = load_corpus(replace(DATA, n_canaries=0)), Method(name="standard", n_shared=8)
    cfg = SETTINGS.model(method, len(corpus.vocab))
    report = m.memorization_report(init_params(cfg), cfg, corpus, lambda ids: sinks.NO_SINKS)
    assert report["exposure"] is None
    assert report["auc_loss"] == pytest.approx(
        0.5, abs=0.3
    )  # four against forty, of a model that knows nothing
    assert report["extraction_strength"] < 0.2


def test_report_asks_every_candidate_under_the_canarys_own_id(trained):
    corpus, cfg, params = trained
    asked = []

    def select(ids):
        asked.append(ids.tolist())
        return sinks.NO_SINKS

    m.memorization_report(params, cfg, corpus, select)
    assert asked == [list(range(4)), corpus.heldout_ids.tolist(), [4] * 256, [5] * 256]
