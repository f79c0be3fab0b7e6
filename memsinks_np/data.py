"""Corpora: which sequences return again and again, which are seen once, which are never trained on.

A corpus is the toy language of `language.py`, the English of Python's own documentation ("pydoc"), or any UTF-8
text file, the last two by characters.  Every batch is a pure function of (configuration, step).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np.arrays import Tokens
from memsinks_np.config import DataConfig, require
from memsinks_np.ids import id_of, mix, permutation, uniform
from memsinks_np.language import Language, stories, worlds
from memsinks_np.text import encode, rare_windows, read_text

Tell = Callable[[], tuple[Language, Language]]  # of most stories, of the others
TOLD: dict[str, Tell] = {"stories": lambda: (stories(), stories()), "worlds": worlds}  # toy languages
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
    heldout_ids: NDArray[np.int64]  # no training sees them; others may have trained the sinks that they own
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


def n_vocab(cfg: DataConfig) -> int:
    """V, the number of different tokens."""
    return len(TOLD[cfg.corpus]()[0].vocab if cfg.corpus in TOLD else encode(read_text(cfg.corpus))[0])


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
    chosen = rare_windows(tokens, width, n, permutation(len(tokens) // width, cfg.seed, WINDOW))
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
