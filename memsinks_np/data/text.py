"""A text as tokens, one for each character, and its windows that occur only once.

Only the 95 most frequent characters have their own token. All others share one, which at most 10 %
of a text may need: alphabets fit, Chinese and Japanese do not.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.ids import hash_ints, integers
from memsinks_np.config import ConfigError, require

N_CHARS = 95  # the most frequent characters have their own token; UNUSUAL is for all others
CHUNK = 1 << 16  # characters of a text that are processed at once, to stay in the CPU's cache
UNUSUAL = "\N{REPLACEMENT CHARACTER}"
NOTED_UNUSUAL, MAX_UNUSUAL = 0.01, 0.1  # fractions of a text that may be replaced by UNUSUAL


def read_text(corpus: str) -> str:
    """Return a text: of `pydoc_data.topics` for "pydoc", else of the UTF-8 file at that path.

    Raises ConfigError if there is no such file or it is not UTF-8.
    """
    if corpus == "pydoc":
        from pydoc_data.topics import topics

        return "\n".join(topics[name] for name in sorted(topics))
    use = "use stories, domains, pydoc, or the path of a UTF-8 text file"
    try:
        require(Path(corpus).is_file(), f"corpus {corpus!r} not found; {use}")
        return Path(corpus).read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"corpus {corpus!r} cannot be read ({e.strerror}); {use}") from None
    except UnicodeDecodeError as e:
        remedy = "convert it, e.g. with iconv -t utf-8"
        raise ConfigError(f"corpus {corpus!r} is not UTF-8 (byte {e.start}); {remedy}") from None


def encode(text: str) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Return the vocabulary and the tokens of a text, one for each character.

    The 95 most frequent characters have their own token, all others share UNUSUAL. Between equally
    frequent ones, the smaller code point comes first.
    """
    chunks = [
        np.frombuffer(text[i : i + CHUNK].encode("utf-32-le", "surrogatepass"), "<i4")
        for i in range(0, len(text), CHUNK)
    ]
    counts = np.zeros(sys.maxunicode + 1, np.int64)
    for chunk in chunks:
        counts += np.bincount(chunk, minlength=len(counts))
    most = np.argsort(-counts, kind="stable")[:N_CHARS]
    frequent = sorted(c for c in most[counts[most] > 0].tolist() if c != ord(UNUSUAL))
    code = np.zeros(len(counts), np.uint8)
    code[frequent] = integers(len(frequent), 1)
    tokens = [code[chunk] for chunk in chunks]
    return (UNUSUAL, *map(chr, frequent)), np.concatenate([*tokens, np.zeros(0, np.uint8)])


def check_unusual(corpus: str, text: str, tokens: NDArray[np.uint8]) -> None:
    """Warn if more than 1 % of a text is replaced by UNUSUAL. ConfigError for more than 10 %."""
    replaced = int((tokens == 0).sum()) - text.count(UNUSUAL)
    fraction = replaced / max(1, len(text))
    message = (
        f"{fraction:.1%} of corpus {corpus!r} are characters beyond its {N_CHARS} most frequent, "
        "which share one token"
    )
    remedy = f"at most {MAX_UNUSUAL:.0%} may; use a text with fewer different characters"
    require(fraction <= MAX_UNUSUAL, f"{message}; {remedy}")
    if fraction > NOTED_UNUSUAL:
        warnings.warn(message, stacklevel=2)


def window_hashes(tokens: NDArray[np.integer[Any]], width: int) -> NDArray[np.uint64]:
    """Return a hash of the window that starts at each position, (...,N) -> (...,N-width+1).

    Hashes of windows of 1, 2, 4, ... tokens; the last step combines two that overlap.
    """
    h, w = tokens.astype(np.uint64), 1
    while 2 * w <= width:
        h, w = hash_ints(h[..., :-w], h[..., w:]), 2 * w
    return hash_ints(h[..., : h.shape[-1] - (width - w)], h[..., width - w :])


def occurrences(
    tokens: NDArray[np.integer[Any]], width: int, starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how often the window at each of `starts` occurs in the text, at any offset."""
    windows = tokens[starts[:, None] + integers(width)]
    known, which = np.unique(window_hashes(windows, width)[:, 0], return_inverse=True)
    counts = np.zeros(len(known), np.int64)
    likely = np.zeros(1 << 20, bool)  # by the upper 20 bits: a cheap test before the search
    likely[known >> np.uint64(44)] = True
    for i in range(0, len(tokens) - width + 1, CHUNK):
        h = window_hashes(tokens[i : i + CHUNK + width - 1], width)
        h = h[likely[h >> np.uint64(44)]]
        at = np.minimum(np.searchsorted(known, h), len(known) - 1)
        counts += np.bincount(at[known[at] == h], minlength=len(known))
    return counts[which]


def rare_windows(
    tokens: NDArray[np.integer[Any]], width: int, n: int, order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the first n windows of `order` whose text occurs once, at any offset.

    Window i starts at i * width. There may be fewer than n.
    """
    chosen, tried = order[:0], 0
    while tried < len(order) and len(chosen) < n:
        some = order[tried : 2 * (tried + n)]  # twice as many each time: few passes over the text
        chosen = np.concatenate([chosen, some[occurrences(tokens, width, some * width) == 1]])
        tried += len(some)
    return chosen[:n]
