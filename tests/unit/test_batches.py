"""Packing: a document computes in a packed row what it computes alone, and never sees another one."""

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig
from memsinks_np.data import batches as packing
from memsinks_np.gradcheck.cases import densify
from memsinks_np.model import init_params, loss_and_grads, make_batch, model_forward
from memsinks_np.train import merge

RNG = np.random.default_rng(11)
POOL = SinkConfig(n_sink=20, n_active=5)
CFG = ModelConfig(n_vocab=13, n_ctx=9, d_model=6, n_heads=2, n_layers=2, n_shared=7, sinks=POOL)
PARAMS = {
    k: w + 0.3 * RNG.standard_normal(w.shape) for k, w in init_params(CFG, dtype=np.float64).items()
}
LENGTHS = [
    [5, 3, 7],
    [9, 3],
]  # 15 and 12 tokens: rows longer than n_ctx, the second one with padding
DOCUMENTS = [[RNG.integers(13, size=n) for n in row] for row in LENGTHS]
IDS = [[4, -9, 2**62], [7, 4]]
WORDS = sum(n - 1 for row in LENGTHS for n in row)


def batch_of(documents, pool=POOL, dtype=np.float64):
    packed = packing.pack(documents, IDS)
    return packing.packed_batch(CFG, packed, packing.own_per_token(pool, packed, 2), dtype)


def logits_of(batch):
    """Logits of every document, cut out of its row."""
    logits, _ = model_forward(np, PARAMS, batch, CFG)
    return [
        part
        for b, row in enumerate(LENGTHS)
        for part in np.split(logits[b], np.cumsum(row))[: len(row)]
    ]


def alone(pool=POOL):
    """Every document as a batch of its own: its logits, and its part of the packed loss with the gradient.

    Where the scheme allows it this is the gathered pair, so that two ways of computing meet.
    """
    documents = [
        (d, i)
        for row, ids in zip(DOCUMENTS, IDS, strict=True)
        for d, i in zip(row, ids, strict=True)
    ]
    for document, i in documents:
        batch = make_batch(
            CFG, document[None], sinks.own(pool, [i]), np.float64, (len(document) - 1) / WORDS
        )
        loss, grads = loss_and_grads(np, PARAMS, batch, CFG)
        grads = {name: densify(g, PARAMS[name]) for name, g in grads.items()}
        yield model_forward(np, PARAMS, batch, CFG)[0][0], loss, grads


def difference(batch):
    """The largest difference between packed and unpacked logits, over all positions that have a target."""
    return max(
        np.abs(p[:-1] - a).max() for p, (a, *_) in zip(logits_of(batch), alone(), strict=True)
    )


POOLS = [POOL, SinkConfig(n_sink=20, scheme="bernoulli", per_layer=True)]


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.scheme)
def test_packed_logits_and_gradients_are_those_of_the_documents_alone(pool):
    batch, single = batch_of(DOCUMENTS, pool), list(alone(pool))
    for packed, (logits, *_) in zip(logits_of(batch), single, strict=True):
        np.testing.assert_allclose(packed[:-1], logits, rtol=0, atol=1e-12)
    loss, grads = loss_and_grads(np, PARAMS, batch, CFG)
    assert loss == pytest.approx(sum(part for _, part, _ in single), rel=1e-13)
    for name in PARAMS:
        want = sum(of[name] for _, _, of in single)
        np.testing.assert_allclose(grads[name], want, rtol=0, atol=1e-12, err_msg=name)
        assert np.abs(want).max() > 1e-3


def test_the_optimizer_gets_the_rows_that_a_document_owns_and_no_other():
    batch = batch_of(DOCUMENTS)
    _, grads = loss_and_grads(np, PARAMS, batch, CFG)
    rows, values = merge(np, CFG, [grads], [batch.sinks])["h1.sink.W_in"]
    assert (
        set(rows)
        == set(sinks.active(POOL, [i for row in IDS for i in row]).ravel())
        < set(range(20))
    )
    np.testing.assert_array_equal(values, grads["h1.sink.W_in"][rows])


def test_the_comparison_sees_what_a_row_must_not_share():
    """The equality above fails without each of the three things that follow the document and not the row."""
    batch, packed = batch_of(DOCUMENTS), packing.pack(DOCUMENTS, IDS)
    ongoing = np.eye(CFG.n_ctx)[np.arange(15) % CFG.n_ctx]
    one_id = packed._replace(ids=np.repeat(packed.ids[:, :1], 15, axis=1))
    assert difference(batch) < 1e-12
    assert difference(batch._replace(attn_mask=np.triu(np.full((15, 15), -np.inf), k=1))) > 1e-2
    assert difference(batch._replace(positions=ongoing)) > 1e-2
    assert difference(batch._replace(sinks=packing.own_per_token(POOL, one_id, 2))) > 1e-2


@pytest.mark.parametrize("changed", range(5))
def test_a_document_never_sees_another(changed):
    """Every bit of the others stays, before and after the one that changes."""
    flat = [d for row in DOCUMENTS for d in row]
    flat[changed] = (flat[changed] + 1) % 13
    before, after = logits_of(batch_of(DOCUMENTS)), logits_of(batch_of([flat[:3], flat[3:]]))
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        assert (a != b).all() if i == changed else (a == b).all()


def test_stream_alternates_tokens_and_ids_and_splits_again():
    stream = packing.interleave([[1, 2, 3], [4, 5]], [7, -8])
    assert stream.tolist() == [1, 7, 2, 7, 3, 7, 4, -8, 5, -8]
    tokens, ids = packing.split(stream)
    assert (tokens.tolist(), ids.tolist()) == ([1, 2, 3, 4, 5], [7, 7, 7, -8, -8])


def test_layout_by_hand():
    """Two neighbours with the same ID stay two documents; padding has no weight, no document and no sinks."""
    packed = packing.pack([[[1, 2, 3], [4, 5]], [[6, 7]]], [[7, 7], [8]])
    assert packed.tokens.tolist() == [[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]]
    assert packed.document.tolist() == [[0, 0, 0, 1, 1], [0, 0, -1, -1, -1]]
    assert packed.position.tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 0, 0]]
    batch = packing.packed_batch(CFG, packed, packing.own_per_token(POOL, packed, 2), share=0.5)
    assert batch.weights.tolist() == [[0.125, 0.125, 0, 0.125, 0], [0.125, 0, 0, 0, 0]]
    assert batch.targets.argmax(-1)[0, [0, 1, 3]].tolist() == [2, 3, 5]
    assert batch.sinks[0].value.sum(-1).tolist() == [[5, 5, 5, 5, 5], [5, 5, 0, 0, 0]]
    assert batch.words is packed.tokens
    assert {a.dtype for a in batch[1:6]} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        ([[[1, 2]]], [[1, 2]], "1 documents with 2 IDs"),
        ([[[1, 2]]], [[1], [2]], "1 rows of documents with 2 rows"),
        ([[[1, 2]], []], [[1], []], "row without documents"),
        ([[[1, 2]]], [[0.5]], "must be integers"),
        ([[[1.0, 2.0]]], [[1]], "must be integers"),
        ([[[1, 13]]], [[1]], "outside the vocabulary"),
        ([[[1, -1]]], [[1]], "outside the vocabulary"),
        ([[[1] * 10]], [[1]], "n_ctx=9"),
        ([[[1], [2]]], [[1, 2]], "nothing to predict"),
    ],
)
def test_what_cannot_be_packed_is_refused(rows, ids, message):
    with pytest.raises(ConfigError, match=message):
        packing.packed_batch(CFG, packing.pack(rows, ids), sinks.NO_SINKS)
