"""Corpora: which sequences repeat, which are seen once, which are held out.

A corpus is a toy language (stories.py, people.py), a text by characters ("pydoc" or a UTF-8 file),
or your own data (own.py). Each batch is a pure function of (configuration, step).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.ids import (
    Purpose,
    hash_ints,
    id_of,
    integers,
    minhash_ids,
    permutation,
    uniform,
)
from memsinks_np._internal.typing import Ids, Tokens
from memsinks_np.config import DataConfig, require
from memsinks_np.data import people as worlds
from memsinks_np.data import stories as languages
from memsinks_np.data.own import PADDING as PADDING
from memsinks_np.data.own import numbered, sequence_fields, to_tokens
from memsinks_np.data.people import (
    GROUPS,
    LENGTH,
    N_FACTS,
    PLACES_PER_FACT,
    SHOWINGS,
    People,
    showing_order,
)
from memsinks_np.data.stories import Language
from memsinks_np.data.text import check_unusual, encode, rare_windows, read_text

# the language of once-seen stories, and that of repeated and held-out ones
STORIES: dict[str, Callable[[], tuple[Language, Language]]] = {
    "stories": lambda: (languages.stories(), languages.stories()),
    "domains": languages.domains,
}
# near-duplicates: variants of each story, and in how many words they differ from it
N_VARIANTS, CHANGED = 4, (0, 1, 3, 8)
# who assigns IDs: someone who knows the story (None), a hash of the tokens, their similarity
ID_RULES: dict[str, Callable[[Tokens], Ids] | None] = {
    "variants": None,
    "variants_hashed": id_of,
    "variants_minhash": minhash_ids,
}
STORIES |= dict.fromkeys(ID_RULES, STORIES["stories"])
# people: one ID per document; authors: one ID per author
TOY_LANGUAGES = (*STORIES, "people", "authors")
# stories are numbered: repeated ones from 0, held-out, once-seen and replacement ones from here
HELDOUT_OFFSET, ONCE_OFFSET, REPLACEMENT_OFFSET = 1 << 31, 1 << 32, 1 << 40
NEW_OFFSET = 1 << 33  # of new documents about people
# 14 documents of single facts; shown in 7 of 32 places of a batch, a pass takes 896 steps
PEOPLE_SIZES: dict[str, Any] = {"n_ctx": LENGTH - 1, "n_repeated": 1778, "repeat_fraction": 7 / 32}
N_NEW = 2  # new documents that state each fact
PREFETCH_STEPS = 16  # once-seen sequences are drawn for this many steps at once, for speed

Draw = Callable[[NDArray[np.int64]], tuple[Tokens, Ids]]


class Sequences(NamedTuple):
    """The sequences of one training step."""

    tokens: Tokens  # (B,T+1)
    ids: Ids  # (B,)
    showing: NDArray[np.int64]  # (B,) how often it was shown before; -1 for once-seen sequences

    @property
    def repeated(self) -> NDArray[np.bool_]:
        """Which sequences are shown repeatedly, (B,)."""
        mask: NDArray[np.bool_] = self.showing >= 0
        return mask


class Facts(NamedTuple):
    """What the documents of a world of people state."""

    world: People
    repeated: NDArray[np.int64]  # (R,5) facts of each repeated document
    new: dict[int, NDArray[np.int64]]  # k, 0 for common facts -> (N,5) facts of new documents

    def documents(self, k: int) -> Tokens:
        """Return new documents about the facts of one group."""
        return self.world.write(self.new[k], integers(len(self.new[k]), NEW_OFFSET + (k << 20)))


@dataclass(frozen=True)
class Corpus:
    """Sequences by role, and the batches made from them."""

    cfg: DataConfig
    vocab: tuple[str, ...]
    separator: str  # between two tokens of a text
    repeated: Tokens  # (R,T+1), canaries last
    repeated_ids: Ids
    heldout: Tokens  # (N,T+1)
    heldout_ids: Ids  # never trained on; their sinks may be shared with trained sequences
    draw: Draw  # numbers -> tokens and IDs of once-seen sequences
    entropy: Callable[[Tokens], float] | None  # exact loss of a perfect model, where it is known
    n_evaluated: int  # the first repeated sequences, which are evaluated
    showings: tuple[int, ...] | None = None  # of each repeated sequence in one pass; None: one
    facts: Facts | None = None  # in a world of people
    # cache: block number -> once-seen sequences of the next PREFETCH_STEPS steps
    prefetched: dict[int, tuple[Tokens, Ids]] = field(default_factory=dict, repr=False)

    @classmethod
    def from_sequences(
        cls,
        tokens: Sequence[Any],
        ids: Any = None,
        *,
        owners: Sequence[Hashable] | None = None,
        heldout: Sequence[Any] | float,
        background: Sequence[Any] = (),
        vocab: Sequence[str] | None = None,
        separator: str = " ",
        batch_size: int = 32,
        repeat_fraction: float | None = None,
        seed: int = 0,
    ) -> "Corpus":
        """Make a corpus from your own token arrays.

        tokens      the sequences to memorize or remove: integer arrays of equal or unequal lengths
        ids         an integer ID for each: one per sequence, or one per author; by default a hash
                    of the tokens (paper, App. I)
        owners      instead of ids: an owner for each, such as the author's name
        heldout     sequences that are never trained on, or the fraction of `tokens` to split off
        background  further sequences, shown in turn, again from the first when all were shown;
                    without them a batch is made of `tokens` only
        vocab       the tokens as text; by default their numbers

        Short sequences are padded; padding has no loss. With a background, `repeat_fraction` of
        each batch comes from `tokens` (default 0.25). Raises ConfigError.
        """
        fields = sequence_fields(
            tokens, ids, owners, heldout, background, vocab, batch_size, repeat_fraction, seed
        )
        return cls(**fields, separator=separator)

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[str],
        owners: Sequence[Hashable] | None = None,
        *,
        heldout: Sequence[str] | float,
        background: Sequence[str] = (),
        by: Literal["characters", "words"] = "characters",
        **settings: Any,
    ) -> "Corpus":
        """Make a corpus from your own documents, strings of equal or unequal lengths.

        owners   who owns each document, such as the author's name: an owner's documents share their
                 sinks; by default each document has sinks of its own
        by       what a token is; words are separated by white space

        The vocabulary is what occurs. `heldout`, `background` and the other arguments are those of
        `from_sequences`. Raises ConfigError.
        """
        require(by in ("characters", "words"), f"by={by!r} is unknown; use 'characters' or 'words'")
        held = isinstance(heldout, float | int)
        texts: Any = {"documents": documents, "heldout": [] if held else heldout}
        (docs, new, once), vocab = numbered(texts | {"background": background}, by)
        return cls.from_sequences(
            docs,
            owners=owners,
            heldout=heldout if held else new,
            background=once,
            vocab=vocab,
            separator=" " if by == "words" else "",
            **settings,
        )

    def __repr__(self) -> str:
        n_ids = len(np.unique(self.repeated_ids))
        return (
            f"Corpus({len(self.repeated)} repeated sequences, {n_ids} IDs, "
            f"{len(self.heldout)} held out, n_ctx={self.cfg.n_ctx}, {len(self.vocab)} tokens)"
        )

    def batch(self, step: int) -> Sequences:
        """Return the sequences of one step: repeated ones in turn, then once-seen ones."""
        cfg, n = self.cfg, self.cfg.n_repeated_per_batch
        places = integers(n, step * n)
        index, showing = self.shown(places)
        wrong = uniform(cfg.seed, Purpose.ID_NOISE, step, integers(n)) < cfg.id_noise
        wrong_ids = hash_ints(cfg.seed, Purpose.WRONG_ID, step, integers(n)).view(np.int64)
        once, once_ids = self.once_seen(step)
        tokens = np.concatenate([self.repeated[index], once])
        ids = np.concatenate([np.where(wrong, wrong_ids, self.repeated_ids[index]), once_ids])
        showing = np.concatenate([showing, np.full(len(once), -1)])
        if cfg.show_every_n_passes > 1:
            turns = np.uint64(cfg.show_every_n_passes)
            turn = hash_ints(cfg.seed, Purpose.THINNING, index) % turns
            absent = np.flatnonzero(showing[:n].astype(np.uint64) % turns != turn)
            tokens[absent], ids[absent] = self.draw(REPLACEMENT_OFFSET + places[absent])
            showing //= cfg.show_every_n_passes  # -1 stays
            showing[absent] = -1
        return Sequences(tokens, ids, showing)

    def once_seen(self, step: int) -> tuple[Tokens, Ids]:
        """Return tokens and IDs of the once-seen sequences of a step."""
        n = self.cfg.batch_size - self.cfg.n_repeated_per_batch
        block, i = divmod(step, PREFETCH_STEPS)
        drawn = self.prefetched.get(block)
        if drawn is None:
            drawn = self.draw(integers(PREFETCH_STEPS * n, block * PREFETCH_STEPS * n))
            self.prefetched.clear()
            self.prefetched[block] = drawn
        tokens, ids = drawn
        return tokens[i * n : (i + 1) * n], ids[i * n : (i + 1) * n]

    def shown(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the repeated sequence at each place in the endless series of passes.

        Also return how often it was shown before. That is the number of the pass, or its number in
        `showing_order` if a pass shows some sequences more than once.
        """
        R, seed = len(self.repeated), self.cfg.seed
        if self.showings is not None:
            turn, place = np.divmod(places, sum(self.showings))
            each = zip(turn.tolist(), place.tolist(), strict=True)
            rows = [showing_order(self.showings, seed, t)[p] for t, p in each]
            index, showing = np.array(rows, np.int64).reshape(-1, 2).T
            return index, showing + np.array(self.showings)[index] * turn
        turn, index = np.divmod(places, R)
        if self.cfg.shuffled:
            each = zip(turn.tolist(), index.tolist(), strict=True)
            index = np.array([pass_order(R, seed, t)[i] for t, i in each], np.int64)
        return index, turn

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return a text as tokens. Raises ConfigError for one outside the vocabulary."""
        return to_tokens(text, self.vocab, self.separator)

    def text(self, tokens: NDArray[np.int64]) -> str:
        """Return tokens as text, without padding."""
        return self.separator.join(self.vocab[i] for i in tokens if i != PADDING)


@lru_cache(maxsize=4)
def pass_order(n: int, seed: int, turn: int) -> NDArray[np.int64]:
    """Return the order of the repeated sequences in one pass. Do not write to it."""
    return permutation(n, seed, Purpose.ORDER, turn)


def stories(**settings: Any) -> Corpus:
    """Return a corpus of toy stories; `settings` are fields of DataConfig, such as seed=1."""
    return load_corpus(DataConfig(corpus="stories", **settings))


def people(**settings: Any) -> Corpus:
    """Return a corpus about people (people.py); train for 896 steps to show each fact 64 times.

    `settings` are fields of DataConfig, such as seed=1. n_repeated is a multiple of 127.
    """
    return load_corpus(DataConfig(corpus="people", **PEOPLE_SIZES | settings))


def text(path: str, **settings: Any) -> Corpus:
    """Return a corpus of a UTF-8 file by characters; "pydoc" is the text of Python's help.

    Only its 95 most frequent characters have their own token; at most 10 % may be others.
    `settings` are fields of DataConfig; windows have n_ctx=64 characters by default.
    """
    return load_corpus(DataConfig(corpus=path, **{"n_ctx": 64, **settings}))


def load_corpus(cfg: DataConfig) -> Corpus:
    """Return the corpus of a configuration.

    Raises ConfigError if a text is missing, unreadable or too short.
    """
    if cfg.corpus in STORIES:
        return story_corpus(cfg)
    return people_corpus(cfg) if cfg.corpus in TOY_LANGUAGES else text_corpus(cfg)


def make_canaries(cfg: DataConfig, n_vocab: int) -> Tokens:
    """Return (n_canaries, T+1) uniformly random tokens, which can only be memorized."""
    i, t = integers(cfg.n_canaries)[:, None], integers(cfg.n_ctx + 1)
    return (uniform(cfg.seed, Purpose.CANARY, i, t) * n_vocab).astype(np.int64)


def variants(cfg: DataConfig, language: Language) -> tuple[Tokens, Ids]:
    """Return near-duplicates, and the number of the story that each is a variant of.

    A story has N_VARIANTS variants; CHANGED gives how many of its words differ in each, story by
    story in turn.
    """
    number = integers(cfg.n_repeated)
    story = number // N_VARIANTS
    n_changed = np.array(CHANGED)[story % len(CHANGED)]
    tokens = language.sample(cfg.n_ctx + 1, cfg.seed, story)
    return language.vary(tokens, n_changed, cfg.seed, Purpose.VARIANT, number), story


def story_corpus(cfg: DataConfig) -> Corpus:
    """Return a corpus of stories; the number of a story is its ID.

    In "domains", repeated and held-out stories belong to a second domain, all others to the first.
    In "variants", repeated stories are near-duplicates, and the ID is that of their story; in the
    other ID_RULES, every ID follows from the tokens.
    """
    once_language, language = STORIES[cfg.corpus]()
    rule = ID_RULES.get(cfg.corpus)

    def sample(language: Language, numbers: NDArray[np.int64]) -> tuple[Tokens, Ids]:
        tokens = language.sample(cfg.n_ctx + 1, cfg.seed, numbers)
        return tokens, rule(tokens) if rule else numbers

    natural, ids = sample(language, integers(cfg.n_repeated))
    if cfg.corpus in ID_RULES:
        natural, ids = variants(cfg, language)
    canaries = make_canaries(cfg, len(language.vocab))
    repeated = np.concatenate([natural, canaries])
    ids = np.concatenate([ids, integers(cfg.n_canaries, cfg.n_repeated)])
    heldout, heldout_ids = sample(language, integers(cfg.n_heldout, HELDOUT_OFFSET))
    return Corpus(
        cfg=cfg,
        vocab=language.vocab,
        separator=" ",
        repeated=repeated,
        repeated_ids=rule(repeated) if rule else ids,
        heldout=heldout,
        heldout_ids=heldout_ids,
        draw=lambda numbers: sample(once_language, ONCE_OFFSET + numbers),
        entropy=lambda tokens: float(-language.log_prob(tokens).mean()),
        n_evaluated=cfg.n_repeated,
    )


def people_corpus(cfg: DataConfig) -> Corpus:
    """Return a corpus of documents about people. Documents of single facts come first.

    In "people" each document has an ID of its own, in "authors" an author has one ID for all of
    them. Held-out documents state common facts. Raises ConfigError for sizes that do not fit.
    """
    docs, rest = divmod(cfg.n_repeated, PLACES_PER_FACT)
    require(
        rest == 0,
        f"n_repeated={cfg.n_repeated} does not make a world of people; choose a multiple of "
        f"{PLACES_PER_FACT}",
    )
    require(
        cfg.n_ctx == LENGTH - 1 and cfg.n_canaries == 0 and cfg.shuffled,
        f"documents about people have n_ctx={LENGTH - 1}, n_canaries=0, shuffled=True; set these",
    )
    world = worlds.world(docs * N_FACTS, cfg.seed)
    facts, ids = world.repeated(by_author=cfg.corpus == "authors")
    heldout_ids = integers(cfg.n_heldout, HELDOUT_OFFSET)

    def draw(numbers: NDArray[np.int64]) -> tuple[Tokens, Ids]:
        numbers = ONCE_OFFSET + numbers
        return world.write(world.once(numbers), numbers), numbers

    return Corpus(
        cfg=cfg,
        vocab=world.vocab,
        separator=" ",
        repeated=world.write(facts, integers(len(facts))),
        repeated_ids=ids,
        heldout=world.write(world.once(heldout_ids), heldout_ids),
        heldout_ids=heldout_ids,
        draw=draw,
        entropy=lambda tokens: float(-world.log_prob(tokens).mean()),
        n_evaluated=docs,
        showings=tuple((SHOWINGS // world.group[facts[:, 0]]).tolist()),
        facts=Facts(world, facts, {k: world.new(k, N_NEW) for k in (0, *GROUPS)}),
    )


def text_corpus(cfg: DataConfig) -> Corpus:
    """Return windows of T+1 characters of a text."""
    content = read_text(cfg.corpus)
    vocab, tokens = encode(content)
    check_unusual(cfg.corpus, content, tokens)
    return windows_corpus(cfg, tokens, vocab, "characters")


def windows_corpus(
    cfg: DataConfig,
    tokens: NDArray[np.integer[Any]],
    vocab: tuple[str, ...],
    unit: str = "tokens",
) -> Corpus:
    """Return windows of T+1 tokens of a text; an ID is the hash of the tokens (App. I).

    Repeated and held-out windows are cut out; once-seen ones start anywhere in the rest. Raises
    ConfigError, which counts in `unit`, if the text is too short.
    """
    width, n = cfg.n_ctx + 1, cfg.n_repeated + cfg.n_heldout
    need = 2 * n * width
    require(
        len(tokens) >= need,
        f"corpus {cfg.corpus!r} has {len(tokens)} {unit} but at least {need} are needed; "
        "use a longer text",
    )
    order = permutation(len(tokens) // width, cfg.seed, Purpose.WINDOW)
    chosen = rare_windows(tokens, width, n, order)
    require(
        len(chosen) == n,
        f"corpus {cfg.corpus!r} has only {len(chosen)} windows of {width} {unit} that occur "
        f"once, but {n} are needed; use a longer or more varied text",
    )
    windows = tokens[: len(tokens) // width * width].reshape(-1, width)
    rest = np.delete(windows, chosen, axis=0).ravel()
    cut = windows[chosen].astype(np.int64)
    natural, heldout = cut[: cfg.n_repeated], cut[cfg.n_repeated :]
    repeated = np.concatenate([natural, make_canaries(cfg, len(vocab))])

    def draw(numbers: NDArray[np.int64]) -> tuple[Tokens, Ids]:
        u = uniform(cfg.seed, Purpose.OFFSET, numbers)
        start = (u * (len(rest) - width)).astype(np.int64)
        crops = rest[start[:, None] + np.arange(width)].astype(np.int64)
        return crops, id_of(crops)

    return Corpus(
        cfg=cfg,
        vocab=vocab,
        separator="",
        repeated=repeated,
        repeated_ids=id_of(repeated),
        heldout=heldout,
        heldout_ids=id_of(heldout),
        draw=draw,
        entropy=None,
        n_evaluated=cfg.n_repeated,
    )
