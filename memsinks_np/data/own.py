"""Your own data: token arrays and documents of any lengths, with an ID or an owner for each.

`Corpus.from_sequences` and `Corpus.from_documents` (corpus.py) call these functions.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.ids import (
    Purpose,
    id_of,
    owner_ids,
    permutation,
    validate_ids,
    validate_ints,
)
from memsinks_np._internal.typing import Ids, Tokens
from memsinks_np.config import ConfigError, DataConfig, require

OWN_DATA = "own data"  # the name of such a corpus
PADDING = -1  # fills rows up to the longest sequence
Rows = list[NDArray[np.int64]]  # sequences of unequal lengths


def as_rows(sequences: Sequence[Any], what: str) -> Rows:
    """Return token sequences as int64 arrays. Raises ConfigError, naming the sequence."""
    require(len(sequences) > 0, f"{what}: there are no sequences; give at least one")
    rows = [validate_ints(row, f"{what}[{i}]") for i, row in enumerate(sequences)]
    for i, row in enumerate(rows):
        if row.ndim != 1 or len(row) < 2:
            raise ConfigError(
                f"{what}[{i}] has shape {row.shape}; give at least two tokens in a row"
            )
        if row.min() < 0:
            raise ConfigError(f"{what}[{i}] holds token {row.min()}; tokens are 0 or more")
    return rows


def pad(rows: Sequence[NDArray[np.int64]], width: int) -> Tokens:
    """Return sequences as one array, short ones filled up with PADDING."""
    padded = np.full((len(rows), width), PADDING, np.int64)
    for out, row in zip(padded, rows, strict=True):
        out[: len(row)] = row
    return padded


def hash_rows(rows: Sequence[NDArray[np.int64]]) -> Ids:
    """Return one ID per sequence, hashed from its tokens."""
    return np.concatenate([np.zeros(0, np.int64), *(id_of(row) for row in rows)])


def choose_ids(ids: Any, owners: Sequence[Hashable] | None) -> Ids | None:
    """Return IDs, given as such or by owners, or None if neither is given."""
    require(ids is None or owners is None, "give either ids or owners, not both")
    if owners is not None:
        return owner_ids(owners)
    return None if ids is None else validate_ids(ids)


def split_off(rows: Rows, ids: Ids, fraction: float, seed: int) -> tuple[Rows, Ids, Rows]:
    """Hold out a fraction of the sequences, at least one. Return the others, their IDs, and it."""
    require(0 < fraction < 1, f"heldout={fraction} is not a fraction; choose 0 < heldout < 1")
    n = max(1, round(fraction * len(rows)))
    require(n < len(rows), f"{len(rows)} sequences cannot be split; give heldout sequences")
    order = permutation(len(rows), seed, Purpose.WINDOW)
    rest = np.sort(order[n:])
    return [rows[i] for i in rest], ids[rest], [rows[i] for i in order[:n]]


def sequence_fields(
    tokens: Sequence[Any],
    ids: Any,
    owners: Sequence[Hashable] | None,
    heldout: Sequence[Any] | float,
    background: Sequence[Any],
    vocab: Sequence[str] | None,
    batch_size: int,
    repeat_fraction: float | None,
    seed: int,
) -> dict[str, Any]:
    """Return the fields of a Corpus of token arrays; see `Corpus.from_sequences`."""
    rows, chosen = as_rows(tokens, "tokens"), choose_ids(ids, owners)
    own_ids = hash_rows(rows) if chosen is None else chosen
    require(
        len(own_ids) == len(rows),
        f"{len(rows)} sequences with {len(own_ids)} IDs; give one ID per sequence",
    )
    if isinstance(heldout, float | int):
        rows, own_ids, new = split_off(rows, own_ids, heldout, seed)
    else:
        new = as_rows(heldout, "heldout")
    once = as_rows(background, "background") if len(background) else []
    width = max(len(row) for row in (*rows, *new, *once))
    fraction = (0.25 if once else 1.0) if repeat_fraction is None else repeat_fraction
    cfg = DataConfig(
        corpus=OWN_DATA,
        n_ctx=width - 1,
        batch_size=batch_size,
        repeat_fraction=fraction,
        n_repeated=len(rows),
        n_heldout=len(new),
        seed=seed,
    )
    require(
        bool(once) or cfg.n_repeated_per_batch == batch_size,
        f"repeat_fraction={fraction} needs background sequences; give some or leave it out",
    )
    once_tokens, once_ids = pad(once, width), hash_rows(once)

    def draw(numbers: NDArray[np.int64]) -> tuple[Tokens, Ids]:
        i = numbers % max(1, len(once))
        return once_tokens[i], once_ids[i]

    return {
        "cfg": cfg,
        "vocab": words_of([*rows, *new, *once], vocab),
        "repeated": pad(rows, width),
        "repeated_ids": own_ids,
        "heldout": pad(new, width),
        "heldout_ids": hash_rows(new),
        "draw": draw,
        "entropy": None,
        "n_evaluated": len(rows),
    }


def words_of(rows: Rows, vocab: Sequence[str] | None) -> tuple[str, ...]:
    """Return the tokens as text, by default their numbers. Raises ConfigError if one has none."""
    n_vocab = 1 + max(int(row.max()) for row in rows)
    words = tuple(map(str, range(n_vocab))) if vocab is None else tuple(vocab)
    require(
        len(words) >= n_vocab,
        f"token {n_vocab - 1} is outside the vocabulary of {len(words)}; give more words",
    )
    return words


# Texts as tokens


def split_text(text: str, separator: str) -> list[str]:
    """Return the words of a text, or its characters if there is no separator."""
    if not separator:
        return list(text)
    return text.split() if separator == " " else text.split(separator)


def to_tokens(text: str, vocab: Sequence[str], separator: str) -> NDArray[np.int64]:
    """Return a text as tokens, (T,). Raises ConfigError for one outside the vocabulary."""
    number, words = {word: i for i, word in enumerate(vocab)}, split_text(text, separator)
    unknown = list(dict.fromkeys(word for word in words if word not in number))
    require(not unknown, f"{', '.join(map(repr, unknown[:3]))} not in the vocabulary")
    return np.array([number[word] for word in words], np.int64)


def numbered(texts: dict[str, Sequence[str]], by: str) -> tuple[list[list[list[int]]], list[str]]:
    """Return each list of texts as token lists, and the vocabulary of all of them.

    Raises ConfigError, naming the text.
    """
    parts: dict[str, list[list[str]]] = {}
    for name, each in texts.items():
        require(not isinstance(each, str), f"{name} is one string; give a list of strings")
        parts[name] = []
        for i, text in enumerate(each):
            require(isinstance(text, str), f"{name}[{i}] is {text!r}, not a string")
            words = split_text(text, " " if by == "words" else "")
            require(len(words) > 1, f"{name}[{i}] is shorter than two {by}; leave it out")
            parts[name].append(words)
    require(bool(parts["documents"]), "documents is empty; give at least one")
    vocab = sorted({word for part in parts.values() for words in part for word in words})
    number = {word: i for i, word in enumerate(vocab)}
    tokens = [[[number[word] for word in words] for words in part] for part in parts.values()]
    return tokens, vocab
