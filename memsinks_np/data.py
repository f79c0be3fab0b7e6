"""Corpora: which sequences return again and again, which are seen once, which are never trained on.

A corpus is the toy language of `language.py`, the English of Python's own documentation ("pydoc"), or any UTF-8
text file, the last two by characters.  Every batch is a pure function of (configuration, step).
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np.arrays import Tokens
from memsinks_np.config import ConfigError, DataConfig, require
from memsinks_np.ids import id_of, mix, permutation, uniform
from memsinks_np.language import Language, stories, worlds

Tell = Callable[[], tuple[Language, Language]]  # of most stories, of the others
TOLD: dict[str, Tell] = {"stories": lambda: (stories(), stories()), "worlds": worlds}  # toy languages
N_CHARS = 95  # a text keeps its most frequent characters; UNUSUAL stands for all others
PIECE = 1 << 16  # characters of a text that are worked on at once: they stay in the processor's cache
UNUSUAL = "\N{REPLACEMENT CHARACTER}"
HELDOUT, ONCE = 1 << 31, 1 << 32  # stories are numbered: repeated from 0, held-out and once-seen from here
STAND_IN = 1 << 40  # and once-seen ones in the place of repeated ones from here
AHEAD = 16  # steps whose once-seen sequences are drawn at once: the loop over words costs as much for one as for many
CANARY, OFFSET, WINDOW, ORDER, NOISE, WRONG, THINNED = range(101, 108)  # salts: each kind of draw has its own


class Sequences(NamedTuple):
    """What one training step sees."""

    tokens: Tokens  # (B,T+1)
    ids: NDArray[np.int64]  # (B,)
    repeated: NDArray[np.bool_]  # (B,)


@dataclass(frozen=True)
class Corpus:
    """Sequences by role, and the batches made of them."""

    cfg: DataConfig
    vocab: tuple[str, ...]
    separator: str  # between two tokens of a text
    repeated: Tokens  # (R,T+1), canaries last
    repeated_ids: NDArray[np.int64]
    heldout: Tokens  # (N,T+1)
    heldout_ids: NDArray[np.int64]  # used for nothing but sinks that were never trained
    draw: Callable[[NDArray[np.int64]], tuple[Tokens, NDArray[np.int64]]]  # numbers -> once-seen tokens, IDs
    floor: Callable[[Tokens], float] | None  # entropy of a sample in nats per word, where it is known
    # the once-seen sequences of AHEAD steps, by the number of that block: kept for the next step, never a result
    drawn: dict[int, tuple[Tokens, NDArray[np.int64]]] = field(default_factory=dict, repr=False, compare=False)

    def batch(self, step: int) -> Sequences:
        """The sequences of one step: repeated ones, in turn, then once-seen ones."""
        cfg, n = self.cfg, self.cfg.n_in_batch
        places = step * n + np.arange(n)
        again = self.in_turn(places)
        wrong = uniform(cfg.seed, NOISE, step, np.arange(n)) < cfg.id_noise
        fresh = mix(cfg.seed, WRONG, step, np.arange(n)).view(np.int64)
        once, once_ids = self.once_seen(step)
        tokens = np.concatenate([self.repeated[again], once])
        ids = np.concatenate([np.where(wrong, fresh, self.repeated_ids[again]), once_ids])
        repeated = np.arange(cfg.batch_size) < n
        if cfg.one_pass_of > 1:
            turn = mix(cfg.seed, THINNED, again) % np.uint64(cfg.one_pass_of)
            absent = np.flatnonzero(places // len(self.repeated) % cfg.one_pass_of != turn)
            tokens[absent], ids[absent] = self.draw(STAND_IN + places[absent])
            repeated[absent] = False
        return Sequences(tokens, ids, repeated)

    def once_seen(self, step: int) -> tuple[Tokens, NDArray[np.int64]]:
        """Tokens and IDs of the once-seen sequences of a step; those of AHEAD steps are drawn together."""
        cfg, n = self.cfg, self.cfg.batch_size - self.cfg.n_in_batch
        block, i = divmod(step, AHEAD)
        together = self.drawn.get(block)
        if together is None:
            numbers = block * AHEAD * n + np.arange(AHEAD * n)
            together = self.draw(numbers % cfg.n_once if cfg.n_once else numbers)
            self.drawn.clear()
            self.drawn[block] = together
        tokens, ids = together
        return tokens[i * n : (i + 1) * n], ids[i * n : (i + 1) * n]

    def in_turn(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which repeated sequence stands at each place of the endless row of passes over all of them."""
        R = len(self.repeated)
        if not self.cfg.shuffled:
            return places % R
        return np.array([order(R, self.cfg.seed, p // R)[p % R] for p in places.tolist()], np.int64)

    def text(self, tokens: NDArray[np.int64]) -> str:
        """Tokens as a person reads them."""
        return self.separator.join(self.vocab[i] for i in tokens)


@lru_cache(maxsize=4)
def order(n: int, seed: int, turn: int) -> NDArray[np.int64]:
    """The order of the repeated sequences in one pass over them; not to be written to."""
    return permutation(n, seed, ORDER, turn)


def load_corpus(cfg: DataConfig) -> Corpus:
    """The corpus that a configuration names.  ConfigError where a text is missing, unreadable or too short."""
    return story_corpus(cfg) if cfg.corpus in TOLD else text_corpus(cfg)


def canaries(cfg: DataConfig, n_vocab: int) -> Tokens:
    """(n_canaries, T+1) tokens, each uniformly random: nothing but memory can predict them (ln V nats)."""
    u = uniform(cfg.seed, CANARY, np.arange(cfg.n_canaries)[:, None], np.arange(cfg.n_ctx + 1))
    return (u * n_vocab).astype(np.int64)


def story_corpus(cfg: DataConfig) -> Corpus:
    """Stories of the toy language; the number of a story is its ID.

    "worlds" has two: what repeats, and what is held out, is told of a second world, all else of the first.
    """
    common, language = TOLD[cfg.corpus]()

    def tell(numbers: NDArray[np.int64]) -> Tokens:
        return language.sample(cfg.n_ctx + 1, cfg.seed, numbers)

    heldout_ids = HELDOUT + np.arange(cfg.n_heldout)
    return Corpus(
        cfg=cfg,
        vocab=language.vocab,
        separator=" ",
        repeated=np.concatenate([tell(np.arange(cfg.n_repeated)), canaries(cfg, len(language.vocab))]),
        repeated_ids=np.arange(cfg.n_repeated + cfg.n_canaries),
        heldout=tell(heldout_ids),
        heldout_ids=heldout_ids,
        draw=lambda numbers: (common.sample(cfg.n_ctx + 1, cfg.seed, ONCE + numbers), ONCE + numbers),
        floor=lambda tokens: float(-language.log_prob(tokens).mean()),
    )


def read_text(corpus: str) -> str:
    """The English of `pydoc_data.topics` for "pydoc", else the UTF-8 file at that path."""
    if corpus == "pydoc":
        from pydoc_data.topics import topics

        return "\n".join(topics[name] for name in sorted(topics))
    known = f"stories, worlds, pydoc, or the path of a UTF-8 text file, not {corpus!r}"
    try:
        require(Path(corpus).is_file(), f"the corpus must be {known}, which is not a file")
        return Path(corpus).read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"the corpus must be {known}, which cannot be read ({e.strerror})") from None
    except UnicodeDecodeError as e:
        raise ConfigError(
            f"corpus {corpus!r} is not UTF-8 (byte {e.start}); convert it, e.g. with iconv -t utf-8"
        ) from None


def n_vocab(cfg: DataConfig) -> int:
    """V, the number of different tokens."""
    return len(TOLD[cfg.corpus]()[0].vocab if cfg.corpus in TOLD else encode(read_text(cfg.corpus))[0])


def encode(text: str) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Characters as tokens.  Rule: the 95 most frequent keep their own token, all others share UNUSUAL.

    Of two that are as frequent, the one with the smaller code point goes first.
    """
    pieces = [text[i : i + PIECE].encode("utf-32-le", "surrogatepass") for i in range(0, len(text), PIECE)]
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
        h, w = mix(h[..., :-w], h[..., w:]), 2 * w
    return mix(h[..., : h.shape[-1] - (width - w)], h[..., width - w :])


def occurrences(tokens: NDArray[np.uint8], width: int, starts: NDArray[np.int64]) -> NDArray[np.int64]:
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


def rare_windows(tokens: NDArray[np.uint8], width: int, n: int, seed: int) -> NDArray[np.int64]:
    """The numbers of n windows, drawn at random, whose text stands nowhere else, at any offset; of all there are."""
    drawn = permutation(len(tokens) // width, seed, WINDOW)
    chosen, tried = drawn[:0], 0
    while tried < len(drawn) and len(chosen) < n:
        some = drawn[tried : 2 * (tried + n)]  # twice as many every time: a text is read through a few times at most
        chosen = np.concatenate([chosen, some[occurrences(tokens, width, some * width) == 1]])
        tried += len(some)
    return chosen[:n]


def text_corpus(cfg: DataConfig) -> Corpus:
    """Windows of T+1 characters of a text; a window's ID is the hash of its characters (paper, App. I).

    Repeated and held-out windows are cut out; once-seen ones start anywhere in what remains.
    """
    vocab, tokens = encode(read_text(cfg.corpus))
    width, n = cfg.n_ctx + 1, cfg.n_repeated + cfg.n_heldout
    need = 2 * n * width
    require(
        len(tokens) >= need,
        f"corpus {cfg.corpus!r} has {len(tokens)} characters but at least {need} are needed; use a longer text",
    )
    chosen = rare_windows(tokens, width, n, cfg.seed)
    require(
        len(chosen) == n,
        f"corpus {cfg.corpus!r} has only {len(chosen)} windows of {width} characters that occur once, "
        f"but {n} are needed; use a longer or more varied text",
    )
    windows = tokens[: len(tokens) // width * width].reshape(-1, width)
    rest = np.delete(windows, chosen, axis=0).ravel()
    cut = windows[chosen].astype(np.int64)
    repeated, heldout = np.concatenate([cut[: cfg.n_repeated], canaries(cfg, len(vocab))]), cut[cfg.n_repeated :]

    def draw(numbers: NDArray[np.int64]) -> tuple[Tokens, NDArray[np.int64]]:
        start = (uniform(cfg.seed, OFFSET, numbers) * (len(rest) - width)).astype(np.int64)
        crops = rest[start[:, None] + np.arange(width)].astype(np.int64)
        return crops, id_of(crops)

    return Corpus(cfg, vocab, "", repeated, id_of(repeated), heldout, id_of(heldout), draw, floor=None)
