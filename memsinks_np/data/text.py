"""A text as tokens, one for each character, and the windows of it that stand nowhere else."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.ids import hash_ints
from memsinks_np.config import ConfigError, require

N_CHARS = 95  # a text keeps its most frequent characters; UNUSUAL stands for all others
PIECE = (
    1 << 16
)  # characters of a text that are worked on at once: they stay in the processor's cache
UNUSUAL = "\N{REPLACEMENT CHARACTER}"


def read_text(corpus: str) -> str:
    """The English of `pydoc_data.topics` for "pydoc", else the UTF-8 file at that path."""
    if corpus == "pydoc":
        from pydoc_data.topics import topics

        return "\n".join(topics[name] for name in sorted(topics))
    known = f"stories, domains, pydoc, or the path of a UTF-8 text file, not {corpus!r}"
    try:
        require(Path(corpus).is_file(), f"the corpus must be {known}, which is not a file")
        return Path(corpus).read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(
            f"the corpus must be {known}, which cannot be read ({e.strerror})"
        ) from None
    except UnicodeDecodeError as e:
        raise ConfigError(
            f"corpus {corpus!r} is not UTF-8 (byte {e.start}); convert it, e.g. with iconv -t utf-8"
        ) from None


def encode(text: str) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Characters as tokens.  Rule: the 95 most frequent keep their own token, all others share UNUSUAL.

    Of two that are as frequent, the one with the smaller code point goes first.
    """
    pieces = [
        text[i : i + PIECE].encode("utf-32-le", "surrogatepass") for i in range(0, len(text), PIECE)
    ]
    counts = np.zeros(sys.maxunicode + 1, np.int64)
    for piece in pieces:
        counts += np.bincount(np.frombuffer(piece, np.uint32), minlength=len(counts))
    most = np.argsort(-counts, kind="stable")[:N_CHARS]
    frequent = sorted(c for c in most[counts[most] > 0].tolist() if c != ord(UNUSUAL))
    code = np.zeros(len(counts), np.uint8)
    code[frequent] = np.arange(1, len(frequent) + 1)
    tokens = [code[np.frombuffer(piece, np.uint32)] for piece in pieces]
    return (UNUSUAL, *map(chr, frequent)), np.concatenate([*tokens, np.zeros(0, np.uint8)])


def hashes(tokens: NDArray[np.uint8], width: int) -> NDArray[np.uint64]:
    """(...,N) -> (...,N-width+1) a hash of the window that starts at each place, made of two that overlap in it."""
    h, w = tokens.astype(np.uint64), 1
    while 2 * w <= width:
        h, w = hash_ints(h[..., :-w], h[..., w:]), 2 * w
    return hash_ints(h[..., : h.shape[-1] - (width - w)], h[..., width - w :])


def occurrences(
    tokens: NDArray[np.uint8], width: int, starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How often the window that starts at each of `starts` stands in the text, at any offset."""
    windows = tokens[starts[:, None] + np.arange(width)]
    known, place = np.unique(hashes(windows, width)[:, 0], return_inverse=True)
    counts = np.zeros(len(known), np.int64)
    likely = np.zeros(1 << 20, bool)  # a cheap first look, by the upper bits
    likely[known >> np.uint64(44)] = True
    for i in range(0, len(tokens) - width + 1, PIECE):
        h = hashes(tokens[i : i + PIECE + width - 1], width)
        h = h[likely[h >> np.uint64(44)]]
        at = np.minimum(np.searchsorted(known, h), len(known) - 1)
        counts += np.bincount(at[known[at] == h], minlength=len(known))
    return counts[place]


def rare_windows(
    tokens: NDArray[np.uint8], width: int, n: int, drawn: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The first n of the windows drawn, by number, whose text stands nowhere else, at any offset, or all of those."""
    chosen, tried = drawn[:0], 0
    while tried < len(drawn) and len(chosen) < n:
        some = drawn[
            tried : 2 * (tried + n)
        ]  # twice as many every time: a text is read through a few times at most
        chosen = np.concatenate([chosen, some[occurrences(tokens, width, some * width) == 1]])
        tried += len(some)
    return chosen[:n]
