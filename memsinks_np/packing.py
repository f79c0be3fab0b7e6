"""Packing: several documents in one row, every token with the ID of its document (paper, App. I).

The IDs travel with the tokens, in one stream of integers: a token, its ID, the next token, its ID, and so on.  A
row needs no ID of its own then, and the sinks are chosen token by token.  What a document computes in a packed row
is what it computes alone, because three things follow the document and not the row:

    attention    a token looks at earlier tokens AND only at those of its own document
    positions    start again at 0 with every document
    sinks        one mask per token, drawn from its ID when the batch is made

The released code's document mask is another one.  As we read it, and we have not trained with it, it hides the later
tokens of the same document and nothing else: other documents, even later ones, stay visible.  Ours follows the
stated aim, and tests/test_packing.py holds packed rows equal to documents on their own.

Masks per token exist for the masked pair of sinks alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np.config import ModelConfig, SinkConfig, require
from memsinks_np.ids import check_ids
from memsinks_np.model import Batch
from memsinks_np.sinks import Mask, Selection, mask_of, none

PADDING = -1  # the document number of what fills up a row


def interleave(documents: Sequence[Any], ids: Any) -> NDArray[np.int64]:  # D documents of n tokens, (D,) -> (2 sum n,)
    """Documents as one stream: even positions are tokens, odd ones the ID of the token before (paper, App. I).

    Raises ConfigError for IDs or tokens that are not integers, and where their numbers differ.
    """
    ids = check_ids(ids)
    require(len(documents) == len(ids), f"{len(documents)} documents with {len(ids)} IDs; give one ID to each")
    lengths = [len(document) for document in documents]
    stream = np.empty(2 * sum(lengths), np.int64)
    stream[0::2] = np.concatenate([check_ids(document) for document in documents])
    stream[1::2] = np.repeat(ids, lengths)
    return stream


def split(stream: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # (..., 2N) -> (..., N), (..., N)
    """The tokens and their IDs, by indexing (paper, App. I)."""
    return stream[..., 0::2], stream[..., 1::2]


class Packed(NamedTuple):
    """Rows of documents, token by token; short rows are filled up to the longest."""

    tokens: NDArray[np.int64]  # (B,T)
    ids: NDArray[np.int64]  # (B,T) the ID of the token's document
    document: NDArray[np.int64]  # (B,T) its number in the row, or PADDING
    position: NDArray[np.int64]  # (B,T) the token's place in its document


def pack(rows: Sequence[Sequence[Any]], ids: Sequence[Any]) -> Packed:
    """Rows of documents, and one ID for each document, token by token.

    What a document is follows from the lists, not from the IDs: two neighbours may be copies with the same ID.
    Raises ConfigError as `interleave`, for a row without documents, and where the numbers of rows differ.
    """
    require(len(rows) == len(ids), f"{len(rows)} rows of documents with {len(ids)} rows of IDs; give one to each")
    require(bool(rows) and all(len(row) for row in rows), "there is a row without documents; leave it out")
    width = max(sum(len(document) for document in row) for row in rows)
    tokens, token_ids, document, position = (np.full((len(rows), width), fill) for fill in (0, 0, PADDING, 0))
    for b, (row, row_ids) in enumerate(zip(rows, ids, strict=True)):
        lengths = [len(d) for d in row]
        here = slice(sum(lengths))
        tokens[b, here], token_ids[b, here] = split(interleave(row, row_ids))
        document[b, here] = np.repeat(np.arange(len(row)), lengths)
        position[b, here] = np.concatenate([np.arange(n) for n in lengths])
    return Packed(tokens, token_ids, document, position)


def own_per_token(cfg: SinkConfig | None, packed: Packed, n_layers: int) -> Selection:
    """Selection: every token with the sinks that its ID owns, a mask (B,T,S) per layer; padding has none on."""
    if cfg is None:
        return none(n_layers)
    real = (packed.document != PADDING)[..., None].astype(np.float32)
    shape = (*packed.ids.shape, cfg.n_sink)
    return tuple(Mask(mask_of(cfg, packed.ids.ravel(), layer).reshape(shape) * real) for layer in range(n_layers))


def packed_batch(
    cfg: ModelConfig, packed: Packed, sinks: Selection, dtype: Any = np.float32, share: float = 1.0
) -> Batch:
    """Packed rows and a selection of sinks -> Batch, on the host; every word that has a next one counts alike.

    The last token of a document and padding have no target: their weight is 0.  `share` is the part that these rows
    are of a whole batch.  Raises ConfigError for a token outside the vocabulary, a document longer than n_ctx, and
    rows in which no token has a next one.
    """
    tokens, _, document, position = packed
    outside = tokens[(tokens < 0) | (tokens >= cfg.n_vocab)]
    require(outside.size == 0, f"token {outside[:1]} is outside the vocabulary of {cfg.n_vocab}")
    longest = int(position.max()) + 1
    require(longest <= cfg.n_ctx, f"a document of {longest} tokens does not fit n_ctx={cfg.n_ctx}; cut it")
    T = tokens.shape[1]
    same = document[:, :, None] == document[:, None, :]  # (B,T,T)
    allowed = same & np.tri(T, dtype=bool)  # padding sees padding: a row of nothing but -inf has no softmax
    hidden = np.where(allowed, 0.0, -np.inf).astype(dtype)[:, None]  # (B,1,T,T), alike for all heads
    has_next = np.zeros(tokens.shape, dtype)
    has_next[:, :-1] = (document[:, 1:] == document[:, :-1]) & (document[:, :-1] != PADDING)
    require(bool(has_next.any()), "no document has two tokens, so there is nothing to predict; use longer ones")
    words = np.eye(cfg.n_vocab, dtype=dtype)
    targets = words[np.roll(tokens, -1, axis=1)]
    weights = (share / has_next.sum() * has_next).astype(dtype)
    return Batch(tokens, words[tokens], targets, weights, np.eye(cfg.n_ctx, dtype=dtype)[position], hidden, sinks)
