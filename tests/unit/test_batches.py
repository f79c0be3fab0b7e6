"""Batches: a padded or packed sequence computes what it computes alone."""

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig
from memsinks_np.data import batches
from memsinks_np.data.batches import make_batch
from memsinks_np.data.corpus import Corpus
from memsinks_np.data.own import PADDING, pad
from memsinks_np.model import loss_and_grads, model_forward, token_loss
from memsinks_np.optim import densify
from memsinks_np.train import merge
from plain import strong_params

POOL = SinkConfig(n_sink=20, n_active=5)
BERNOULLI = SinkConfig(n_sink=20, scheme="bernoulli")
CFG = ModelConfig(n_vocab=13, n_ctx=9, d_model=6, n_heads=2, n_layers=2, n_shared=7, sinks=POOL)
LENGTHS = [[5, 3, 7], [9, 3]]  # rows of 15 and 12 tokens: longer than n_ctx, the second one padded
DOCUMENTS = [
    [np.random.default_rng([b, d]).integers(13, size=n) for d, n in enumerate(row)]
    for b, row in enumerate(LENGTHS)
]
IDS = [[4, -9, 2**62], [7, 4]]
FLAT, FLAT_IDS = [d for row in DOCUMENTS for d in row], [i for row in IDS for i in row]
N_TARGETS = sum(len(d) - 1 for d in FLAT)


@pytest.fixture(scope="module")
def params():
    return strong_params(CFG, 11)


def alone(params, pool=POOL):
    """Yield the logits of each document alone, and its part of the loss and of the gradients."""
    for document, i in zip(FLAT, FLAT_IDS, strict=True):
        fraction = (len(document) - 1) / N_TARGETS
        batch = make_batch(CFG, document[None], sinks.own(pool, [i]), np.float64, fraction)
        loss, grads = loss_and_grads(np, params, batch, CFG)
        yield model_forward(np, params, batch, CFG)[0][0], loss, dense(params, grads, batch)


def dense(params, grads, batch):
    """Return gradients with those of the pool as full arrays."""
    return {
        name: densify(np, params[name], g) if isinstance(g, sinks.RowGrad) else g
        for name, g in merge(np, CFG, [grads], [batch.sinks]).items()
    }


def assert_sum_of(params, batch, single):
    """Check that loss and gradients of a batch are the sums over its documents."""
    loss, grads = loss_and_grads(np, params, batch, CFG)
    assert loss == pytest.approx(sum(part for _, part, _ in single), rel=1e-13)
    for name, g in dense(params, grads, batch).items():
        want = sum(of[name] for *_, of in single)
        np.testing.assert_allclose(g, want, rtol=0, atol=1e-12, err_msg=name)
        assert np.abs(want).max() > 1e-3


# Padding


@pytest.mark.parametrize("pool", [POOL, BERNOULLI], ids=lambda pool: pool.scheme)
def test_padded_rows_compute_what_the_sequences_do_alone(params, pool):
    """The logits, the losses and the gradients."""
    tokens = pad(FLAT, 10)
    batch = make_batch(CFG, tokens, sinks.own(pool, FLAT_IDS), np.float64)
    logits, _ = model_forward(np, params, batch, CFG)
    single = list(alone(params, pool))
    for row, (want, *_) in zip(logits, single, strict=True):
        np.testing.assert_allclose(row[: len(want)], want, rtol=0, atol=1e-12)
    assert_sum_of(params, batch, single)


def test_padding_has_no_weight_and_real_tokens_equal_ones(params):
    tokens = pad([[1, 2, 3, 4], [5, 6]], 5)
    batch = make_batch(CFG, tokens, sinks.NO_SINKS, np.float64, 0.5)
    assert batch.weights.tolist() == [[0.125, 0.125, 0.125, 0], [0.125, 0, 0, 0]]
    assert batches.n_targets(tokens) == 4
    loss, _ = loss_and_grads(np, params, batch, CFG)
    losses = token_loss(np, params, batch, CFG)
    assert loss == pytest.approx(losses[batch.weights > 0].mean() / 2, rel=1e-12)


# A corpus of one's own arrays


def test_from_sequences_with_a_background_fills_batches():
    rng = np.random.default_rng(0)
    tokens, background = rng.integers(9, size=(6, 5)), rng.integers(9, size=(40, 5))
    corpus = Corpus.from_sequences(tokens, range(6), background=background, heldout=tokens[:2])
    np.testing.assert_array_equal(corpus.repeated, tokens)
    np.testing.assert_array_equal(corpus.heldout, tokens[:2])
    assert corpus.vocab == tuple("012345678")
    steps = [corpus.batch(step) for step in range(5)]
    assert all(b.repeated.tolist() == [True] * 8 + [False] * 24 for b in steps)
    for b in steps:
        np.testing.assert_array_equal(b.tokens[:8], tokens[b.ids[:8]])
    once = np.concatenate([b.tokens[8:] for b in steps])
    np.testing.assert_array_equal(once, np.tile(background, (3, 1)))  # each is shown in turn


def test_from_sequences_alone_fills_whole_batches():
    tokens = np.random.default_rng(0).integers(9, size=(20, 5))
    corpus = Corpus.from_sequences(tokens, heldout=0.1, batch_size=6)
    assert len(corpus.repeated) == 18
    assert corpus.batch(0).repeated.all()
    every = np.concatenate([corpus.repeated, corpus.heldout])
    assert sorted(every.tolist()) == sorted(tokens.tolist())
    shown = np.concatenate([corpus.batch(step).tokens for step in range(3)])
    assert sorted(shown.tolist()) == sorted(corpus.repeated.tolist())
    assert corpus.cfg.seed == 0, "by default, as everywhere"


def test_from_sequences_pads_unequal_lengths():
    rows, heldout = [[1, 2, 3, 4], [5, 6], [7, 8, 0]], [[1, 2]]
    more = {"vocab": "abcdefghi", "separator": ""}
    corpus = Corpus.from_sequences(rows, [1, 1, 2], heldout=heldout, **more)
    assert corpus.repeated.tolist() == [[1, 2, 3, 4], [5, 6, -1, -1], [7, 8, 0, -1]]
    assert corpus.repeated_ids.tolist() == [1, 1, 2]  # one ID per author
    assert corpus.cfg.n_ctx == 3
    assert corpus.text(corpus.repeated[2]) == "hia"


def test_ids_default_to_a_hash_of_the_real_tokens():
    a, b = ([[1, 2, 3], [4, 5], [1, 2, 3]], [[1, 2, 3], [4, 5], [6, 7, 8, 9]])
    first, second = (Corpus.from_sequences(rows, heldout=[[1, 1]]) for rows in (a, b))
    assert first.repeated_ids[0] == first.repeated_ids[2] != first.repeated_ids[1]
    assert first.repeated_ids[:2].tolist() == second.repeated_ids[:2].tolist()  # padding apart


@pytest.mark.parametrize(
    ("tokens", "kwargs", "message"),
    [
        ([], {}, "no sequences"),
        ([[1, 2], [3]], {}, r"tokens\[1\] has shape \(1,\)"),
        ([[1, 2], [3, -1]], {}, r"tokens\[1\] holds token -1"),
        ([[1, 2], [3, 0.5]], {}, r"tokens\[1\] must be integers"),
        ([[1, 2]] * 4, {"ids": [1, 2]}, "4 sequences with 2 IDs"),
        ([[1, 2]] * 4, {"ids": [[1, 2]] * 4}, "one ID per sequence"),
        ([[1, 2]] * 4, {"heldout": 1.5}, "heldout=1.5 is not a fraction"),
        ([[1, 2]], {"heldout": 0.5}, "cannot be split"),
        ([[1, 2]] * 4, {"vocab": ["a", "b"]}, "outside the vocabulary of 2"),
        ([[1, 2]] * 4, {"repeat_fraction": 0.5}, "needs background"),
        ([[1, 2]] * 4, {"background": [[1]]}, r"background\[0\]"),
    ],
)
def test_from_sequences_refuses_in_one_line(tokens, kwargs, message):
    with pytest.raises(ConfigError, match=message) as e:
        Corpus.from_sequences(tokens, **{"heldout": [[1, 2]]} | kwargs)
    assert "\n" not in str(e.value)


# Packing


def packed_batch_of(pool):
    packed = batches.pack(DOCUMENTS, IDS)
    return batches.packed_batch(CFG, packed, batches.own_per_token(pool, packed), np.float64)


def split(row, lengths):
    return np.split(row, np.cumsum(lengths))[: len(lengths)]


@pytest.mark.parametrize("pool", [POOL, BERNOULLI], ids=lambda pool: pool.scheme)
def test_packed_rows_compute_what_documents_do_alone(params, pool):
    batch, single = packed_batch_of(pool), list(alone(params, pool))
    rows, _ = model_forward(np, params, batch, CFG)
    documents = [d for row, n in zip(rows, LENGTHS, strict=True) for d in split(row, n)]
    for packed, (logits, *_) in zip(documents, single, strict=True):
        np.testing.assert_allclose(packed[:-1], logits, rtol=0, atol=1e-12)
    assert_sum_of(params, batch, single)


def test_only_the_rows_of_the_documents_get_gradients(params):
    batch = packed_batch_of(POOL)
    _, grads = loss_and_grads(np, params, batch, CFG)
    rows, values = merge(np, CFG, [grads], [batch.sinks])["h1.sink.W_in"]
    assert set(rows) == set(sinks.active(POOL, FLAT_IDS).ravel()) < set(range(20))
    np.testing.assert_array_equal(values, grads["h1.sink.W_in"][rows])


def test_stream_alternates_tokens_and_ids():
    stream = batches.interleave([[1, 2, 3], [4, 5]], [7, -8])
    assert stream.tolist() == [1, 7, 2, 7, 3, 7, 4, -8, 5, -8]
    tokens, ids = batches.split_stream(stream)
    assert (tokens.tolist(), ids.tolist()) == ([1, 2, 3, 4, 5], [7, 7, 7, -8, -8])


def test_packed_layout_by_hand():
    """Neighbours with the same ID stay two documents; padding has no weight and no sinks."""
    packed = batches.pack([[[1, 2, 3], [4, 5]], [[6, 7]]], [[7, 7], [8]])
    assert packed.tokens.tolist() == [[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]]
    assert packed.document.tolist() == [[0, 0, 0, 1, 1], [0, 0, PADDING, PADDING, PADDING]]
    assert packed.position.tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 0, 0]]
    batch = batches.packed_batch(CFG, packed, batches.own_per_token(POOL, packed), fraction=0.5)
    assert batch.weights.tolist() == [[0.125, 0.125, 0, 0.125, 0], [0.125, 0, 0, 0, 0]]
    assert batch.targets[0, [0, 1, 3]].tolist() == [2, 3, 5]
    assert batch.sinks.value.sum(-1).tolist() == [[5, 5, 5, 5, 5], [5, 5, 0, 0, 0]]
    assert batch.tokens is packed.tokens
    assert {a.dtype for a in batch[2:5]} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        ([[[1, 2]]], [[1, 2]], "1 documents with 2 IDs"),
        ([[[1, 2]]], [[1], [2]], "1 rows of documents with 2 rows"),
        ([[[1, 2]]], [[0.5]], "must be integers"),
        ([[[1.0, 2.0]]], [[1]], "must be integers"),
        ([[[1, 13]]], [[1]], "outside the vocabulary"),
        ([[[1, -1]]], [[1]], "outside the vocabulary"),
        ([[[1] * 10]], [[1]], "n_ctx=9"),
        ([[[1], [2]]], [[1, 2]], "nothing to predict"),
        ([[[1, 2]], []], [[1], []], "a row without documents"),
        ([], [], "a row without documents"),
    ],
)
def test_what_cannot_be_packed_is_refused(rows, ids, message):
    with pytest.raises(ConfigError, match=message):
        batches.packed_batch(CFG, batches.pack(rows, ids), sinks.NO_SINKS)


@pytest.mark.parametrize("width", [1, CFG.n_ctx + 2])
def test_tokens_that_do_not_fit_the_context_are_refused(width):
    make_batch(CFG, np.zeros((2, CFG.n_ctx + 1), np.int64), sinks.NO_SINKS)
    with pytest.raises(ConfigError, match=f"{width} tokens per sequence do not fit n_ctx"):
        make_batch(CFG, np.zeros((2, width), np.int64), sinks.NO_SINKS)
