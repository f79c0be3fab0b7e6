"""Batches for the model: one sequence per row, padded; or several documents per row, packed.

In a packed row every token has the ID of its document (paper, App. I). IDs travel with the tokens
in one stream of integers: a token, its ID, the next token, its ID, and so on. A packed document has
the same outputs as it has alone, because three things depend on the document and not on the row:

    attention    a token looks only at earlier tokens of its own document
    positions    start at 0 in every document
    sinks        one mask per token, from the ID of its document

The document mask of the released code differs. As we read it (we have not trained with it), it
hides the later tokens of the same document and nothing else: other documents, even later ones,
stay visible. Ours follows the stated aim; a test holds packed rows equal to single documents.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.ids import validate_ids, validate_ints
from memsinks_np._internal.typing import Tokens
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig, require
from memsinks_np.data.corpus import PADDING
from memsinks_np.model import Batch
from memsinks_np.sinks import NO_SINKS, Mask, Selection, sink_mask


def make_batch(
    cfg: ModelConfig,
    tokens: Any,
    sinks: Selection,
    dtype: Any = np.float32,
    fraction: float = 1.0,
    counted: NDArray[np.bool_] | None = None,
) -> Batch:
    """Return (B,T+1) tokens and a selection of sinks as a Batch, on the host.

    Every next token has the same weight; padding has none. `fraction` is how much of a whole batch
    these sequences are. Only the `counted` tokens, (B,T), have a loss. Raises ConfigError for
    tokens outside the vocabulary and sinks outside the pool, which would silently wrap around on a
    device.
    """
    tokens = check_tokens(cfg, tokens)
    T = tokens.shape[1] - 1
    check_selection(cfg, sinks, len(tokens), T)
    real = tokens[:, 1:] != PADDING
    if counted is not None:
        real &= counted
    tokens = np.where(tokens == PADDING, 0, tokens)
    weights = (real * (fraction / max(1, real.sum()))).astype(dtype)
    attn_mask = np.triu(np.full((T, T), -np.inf, dtype), k=1)
    positions = np.eye(T, cfg.n_ctx, dtype=dtype)
    return Batch(tokens[:, :-1], tokens[:, 1:], weights, positions, attn_mask, sinks)


def check_tokens(cfg: ModelConfig, given: Any) -> Tokens:
    """Return (B,T+1) tokens as an array. Raises ConfigError for invalid tokens."""
    tokens: Tokens = validate_ints(given, "tokens")
    require(tokens.ndim == 2, f"the tokens have shape {tokens.shape}; give (B,T+1), rows of tokens")
    T, V = tokens.shape[1] - 1, cfg.n_vocab
    require(
        0 < T <= cfg.n_ctx,
        f"{T + 1} tokens per sequence do not fit n_ctx={cfg.n_ctx}; use 2 to {cfg.n_ctx + 1}",
    )
    require(len(tokens) > 0, "there are no sequences; give at least one")
    low, high = tokens.min(), tokens.max()
    if not (PADDING <= low and high < V):
        raise ConfigError(f"token {low} or {high} is outside the vocabulary of {V}")
    if low == PADDING and not (tokens[:, 1] != PADDING).all():
        raise ConfigError("a sequence has fewer than two tokens; leave it out")
    return tokens


def check_selection(cfg: ModelConfig, sinks: Selection, B: int, T: int) -> None:
    """Raise ConfigError unless a selection fits B sequences of T tokens and the pool."""
    if sinks is None:
        return
    S = cfg.sinks.n_sink if cfg.sinks else 0
    shape = sinks[0].shape
    for_all = isinstance(sinks, Mask) and len(shape) == 1
    if not for_all and shape[:1] != (B,):
        raise ConfigError(f"sinks are chosen for {(*shape, 0)[0]} sequences, but there are {B}")
    if isinstance(sinks, Mask):
        fits = shape in ((S,), (B, S), (B, T, S))
        require(fits, f"a mask of shape {shape} does not fit ({B},{S}), or ({B},{T},{S}) by token")
    else:
        index = validate_ints(sinks.index, "active sinks")
        require(index.ndim == 2, f"active sinks have shape {shape}; give (B,A), a row per sequence")
        low, high = index.min(initial=0), index.max(initial=0)
        require(0 <= low and high < S, f"sink {low} or {high} is outside the pool of {S}")


def n_targets(tokens: Tokens) -> int:
    """Return the number of tokens that have a loss: all but the first of each row and padding."""
    return int((tokens[:, 1:] != PADDING).sum())


# Packing


def interleave(documents: Sequence[Any], ids: Any) -> NDArray[np.int64]:
    """Return documents as one stream, D documents of n tokens and (D,) IDs -> (2 sum n,).

    Even positions hold tokens, odd ones the ID of the token before (paper, App. I). Raises
    ConfigError for IDs or tokens that are not integers, and if their numbers differ.
    """
    ids = validate_ids(ids)
    n = len(documents)
    require(n == len(ids), f"{n} documents with {len(ids)} IDs; give one ID to each")
    lengths = [len(document) for document in documents]
    stream = np.empty(2 * sum(lengths), np.int64)
    stream[0::2] = np.concatenate([validate_ints(document, "tokens") for document in documents])
    stream[1::2] = np.repeat(ids, lengths)
    return stream


def split_stream(stream: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tokens and the IDs of a stream, (..., 2N) -> (..., N), (..., N)."""
    return stream[..., 0::2], stream[..., 1::2]


class Packed(NamedTuple):
    """Rows of documents, token by token; short rows are padded to the longest."""

    tokens: NDArray[np.int64]  # (B,T)
    ids: NDArray[np.int64]  # (B,T) ID of the token's document
    document: NDArray[np.int64]  # (B,T) number of the document in its row, or PADDING
    position: NDArray[np.int64]  # (B,T) position of the token in its document


def pack(rows: Sequence[Sequence[Any]], ids: Sequence[Any]) -> Packed:
    """Pack rows of documents, with one ID for each document.

    The lists separate documents, not the IDs: adjacent documents may have the same ID. Raises
    ConfigError like `interleave`, for a row without documents, and if the numbers of rows differ.
    """
    n = len(rows)
    require(n == len(ids), f"{n} rows of documents with {len(ids)} rows of IDs; give one to each")
    require(bool(rows) and all(map(len, rows)), "there is a row without documents; leave it out")
    width = max(sum(map(len, row)) for row in rows)
    fills = (0, 0, PADDING, 0)
    tokens, token_ids, document, position = (np.full((n, width), f, np.int64) for f in fills)
    for b, (row, row_ids) in enumerate(zip(rows, ids, strict=True)):
        lengths = [len(d) for d in row]
        used = slice(sum(lengths))
        tokens[b, used], token_ids[b, used] = split_stream(interleave(row, row_ids))
        document[b, used] = np.repeat(np.arange(len(row)), lengths)
        position[b, used] = np.concatenate([np.arange(n) for n in lengths])
    return Packed(tokens, token_ids, document, position)


def own_per_token(cfg: SinkConfig | None, packed: Packed) -> Selection:
    """Select for each token the sinks of its ID: a mask (B,T,S). Padding has none."""
    if cfg is None:
        return NO_SINKS
    real = (packed.document != PADDING)[..., None].astype(np.float32)
    mask = sink_mask(cfg, packed.ids.ravel()).reshape(*packed.ids.shape, cfg.n_sink)
    return Mask(mask * real)


def packed_batch(
    cfg: ModelConfig,
    packed: Packed,
    sinks: Selection,
    dtype: Any = np.float32,
    fraction: float = 1.0,
) -> Batch:
    """Return packed rows and a selection of sinks as a Batch, on the host.

    The last token of a document and padding have no target: their weight is 0. `fraction` is
    how much of a whole batch these rows are. Raises ConfigError for a token outside the vocabulary,
    a document longer than n_ctx, a selection of another size, and rows without any target.
    """
    tokens, _, document, position = packed
    outside = tokens[(tokens < 0) | (tokens >= cfg.n_vocab)]
    require(outside.size == 0, f"token {outside[:1]} is outside the vocabulary of {cfg.n_vocab}")
    longest = int(position.max()) + 1
    require(longest <= cfg.n_ctx, f"a document of {longest} tokens does not fit n_ctx={cfg.n_ctx}")
    T = tokens.shape[1]
    check_selection(cfg, sinks, len(tokens), T)
    same = document[:, :, None] == document[:, None, :]  # (B,T,T)
    visible = same & np.tri(T, dtype=bool)  # padding sees padding: softmax needs one finite score
    attn_mask = np.where(visible, 0.0, -np.inf).astype(dtype)[:, None]  # (B,1,T,T)
    has_next = np.zeros(tokens.shape, dtype)
    next_is_same = document[:, 1:] == document[:, :-1]
    has_next[:, :-1] = next_is_same & (document[:, :-1] != PADDING)
    require(bool(has_next.any()), "no document has two tokens, so there is nothing to predict")
    targets = np.roll(tokens, -1, axis=1)
    weights = (fraction / has_next.sum() * has_next).astype(dtype)
    positions = np.eye(cfg.n_ctx, dtype=dtype)[position]
    return Batch(tokens, targets, weights, positions, attn_mask, sinks)
