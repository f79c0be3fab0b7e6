"""A toy story language whose next-word probabilities are known exactly.

    lily found a red ball . she kicked the ball slowly . her aunt hid the ball near the barn . lily

A story opens with a name, an adjective and a noun, and continues with sentences about them. Two
agreements span many words: the name decides she/he and her/his; the noun, which returns, decides
the verbs (a ball is kicked, an apple is eaten). The words so far determine the state of the
generator. In each state all possible next words are equally likely, so every probability is exact:
no model that has not seen a story can have a lower expected loss on it than `log_prob`, given its
first word.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.ids import integers, uniform
from memsinks_np._internal.typing import Floats, Tokens


class Grammar(NamedTuple):
    """Rules of a language. Small words are literal, CAPITALS are choices, `@` refers back."""

    pronouns: dict[str, tuple[str, str]]  # NAME -> @they, @their
    verbs: dict[str, str]  # NOUN -> the slot that VERB becomes
    opening: str
    sentences: tuple[str, ...]  # follow in any order; each starts with a different word
    slots: dict[str, tuple[str, ...]]  # slot -> options of one or more words, likewise


SHE, HE, IT = ("she", "her"), ("he", "his"), ("it", "its")
STORIES = Grammar(
    pronouns=dict.fromkeys(("lily", "anna", "mia", "rosa"), SHE)
    | dict.fromkeys(("tom", "ben", "max", "sam"), HE),
    verbs=dict.fromkeys(("ball", "kite", "drum"), "PLAY")
    | dict.fromkeys(("dog", "bird", "pony"), "CARE")
    | dict.fromkeys(("apple", "cake", "pie"), "EAT"),
    opening="NAME FOUND a ADJ NOUN WHERE",
    sentences=(
        "@they VERB the @noun HOW",
        "then @they WENT to the PLACE with @their FRIEND .",
        "@their FRIEND LIKED the @noun WHERE",
        "the @noun was LOOKS ADJ .",
        "@name was FELT and ACTED .",
    ),
    slots={
        "FOUND": ("found", "saw", "got", "wanted", "drew"),
        "ADJ": ("red", "blue", "big", "tiny", "round", "new", "soft", "strange"),
        "WHERE": (".", "in the PLACE .", "near the PLACE ."),
        "PLACE": ("park", "garden", "house", "forest", "school", "beach", "market", "barn"),
        "PLAY": ("kicked", "shook", "fixed", "lost"),
        "CARE": ("fed", "petted", "washed", "chased"),
        "EAT": ("ate", "shared", "cut", "smelled"),
        "HOW": (".", "again .", "slowly .", "gently .", "with @their FRIEND ."),
        "WENT": ("ran", "walked", "rode", "drove", "raced"),
        "FRIEND": (
            "mother",
            "father",
            "sister",
            "brother",
            "aunt",
            "teacher",
            "cousin",
            "neighbor",
        ),
        "LIKED": ("liked", "loved", "hid", "hated", "painted"),
        "LOOKS": ("very", "so", "too", "really"),
        "FELT": ("happy", "tired", "sad", "proud", "hungry", "calm"),
        "ACTED": ("sang", "danced", "slept", "laughed", "cried"),
    },
)

VOYAGES = Grammar(  # the second domain: other words and sentences, the same agreements
    pronouns=dict.fromkeys(("robot", "ghost", "dragon", "wizard", "giant", "fox"), IT),
    verbs=dict.fromkeys(("sword", "lamp", "crown"), "CRAFT")
    | dict.fromkeys(("star", "comet", "moon"), "WATCH")
    | dict.fromkeys(("map", "letter", "song"), "READ"),
    opening="long ago one NAME with an ADJ NOUN VISITED a PLANET",
    sentences=(
        "there @they VERB the @noun BECAUSE",
        "every NIGHT @they PASSED @their MATE , SILENT .",
        "nobody KNEW why the @name KEPT flying .",
        "@name and MATE BUILT ships of STUFF .",
        "if CLOUDS came , the @name ROSE above them .",
    ),
    slots={
        "VISITED": ("visited", "reached", "circled", "ruled"),
        "ADJ": ("icy", "empty", "ancient", "orange", "endless"),
        "PLANET": ("planet .", "river .", "desert .", "valley ."),
        "CRAFT": ("forged", "polished", "stole", "hung"),
        "WATCH": ("watched", "chased", "greeted", "counted"),
        "READ": ("studied", "whispered", "copied", "forgot"),
        "BECAUSE": ("because CLOUDS came .", "until NIGHT .", "."),
        "NIGHT": ("night", "dawn", "winter", "dusk"),
        "PASSED": ("passed", "followed", "warned", "called"),
        "MATE": ("captain", "queen", "stranger", "twin"),
        "SILENT": ("silent", "dreaming", "humming", "awake"),
        "KNEW": ("knew", "asked", "said"),
        "KEPT": ("kept", "stopped", "began"),
        "BUILT": ("built", "burned", "sold"),
        "STUFF": ("glass", "stone", "light", "paper", "gold"),
        "CLOUDS": ("clouds", "storms", "waves", "shadows"),
        "ROSE": ("rose", "hovered", "slid"),
    },
)


def next_words(g: Grammar, context: tuple[str, str], rest: tuple[str, ...]) -> list[Any]:
    """Return every possible next word as (word, context after it, rest of the sentence after it).

    `context` is the name and the noun of the story so far; `rest` is what remains of its sentence.
    """
    if not rest:  # the sentence is over: any sentence may follow
        return [w for s in g.sentences for w in next_words(g, context, tuple(s.split()))]
    (head, *tail), (name, noun) = rest, context
    if head == "NAME":
        return [(n, (n, ""), tuple(tail)) for n in g.pronouns]
    if head == "NOUN":
        return [(n, (name, n), tuple(tail)) for n in g.verbs]
    if head == "VERB":
        head = g.verbs[noun]
    if head in g.slots:
        options = [(*option.split(), *tail) for option in g.slots[head]]
        return [w for option in options for w in next_words(g, context, option)]
    references = {"@name": name, "@noun": noun}
    references |= dict(zip(("@they", "@their"), g.pronouns.get(name, ()), strict=False))
    return [(references.get(head, head), context, tuple(tail))]


class Language:
    """A grammar compiled to tables.

    In state s, `count[s]` words are possible, `word[s]`; they lead to the states `next[s]`.
    """

    def __init__(self, grammar: Grammar = STORIES, extra_vocab: tuple[str, ...] = ()) -> None:
        """Compile a grammar; `extra_vocab` are further words of its vocabulary.

        Raises ValueError for an ambiguous grammar.
        """
        start = (("", ""), tuple(grammar.opening.split()))
        states, options = {start: 0}, []
        for state in (queue := [start]):  # grows in the loop
            choices = []
            for word, *after in next_words(grammar, *state):
                if tuple(after) not in states:
                    states[tuple(after)] = len(states)
                    queue.append(tuple(after))
                choices.append((word, states[tuple(after)]))
            if len({word for word, _ in choices}) < len(choices):
                raise ValueError(f"two options start with the same word in state {state}")
            options.append(choices)
        words = {word for choices in options for word, _ in choices}
        self.vocab = tuple(sorted(words | set(extra_vocab)))
        code = {word: i for i, word in enumerate(self.vocab)}
        self.count = np.array([len(choices) for choices in options], np.int64)
        self.word = np.full((len(options), self.count.max()), -1, np.int64)
        self.next = np.zeros_like(self.word)
        for s, choices in enumerate(options):
            self.word[s, : len(choices)] = [code[word] for word, _ in choices]
            self.next[s, : len(choices)] = [state for _, state in choices]

    def sample(self, n_words: int, seed: int, stories: NDArray[np.int64]) -> Tokens:
        """Return stories by their numbers, (N,) -> (N, n_words).

        A story depends only on the seed and its number.
        """
        u = uniform(seed, stories[:, None], integers(n_words))
        state = np.zeros(len(u), np.int64)
        words = np.empty(u.shape, np.int64)
        for t in range(n_words):
            choice = (u[:, t] * self.count[state]).astype(np.int64)
            words[:, t], state = self.word[state, choice], self.next[state, choice]
        return words

    def vary(self, words: Tokens, n_changed: Any, *draw: Any) -> Tokens:
        """Return stories with `n_changed` words replaced, (N,T), (N,) -> (N,T): near-duplicates.

        A word is replaced by another that could stand there and after which the story goes on in
        the same way, so a variant is exactly as likely as its story. `draw` names the choice.
        """
        state, varied = np.zeros(len(words), np.int64), words.copy()
        score = np.empty(words.shape)  # words to replace: the smallest
        for t in range(words.shape[1]):
            here, after = self.word[state], self.next[state]
            chosen = (here == words[:, t, None]).argmax(axis=1)
            state = after[integers(len(words)), chosen]
            other = (here >= 0) & (after == state[:, None]) & (here != words[:, t, None])
            u = uniform(*draw, t, integers(here.shape[1])[:, None]).T
            varied[:, t] = here[integers(len(words)), np.where(other, u, 2.0).argmin(axis=1)]
            score[:, t] = np.where(other.any(axis=1), uniform(*draw, t, -1), 2.0)
        rank = score.argsort(axis=1).argsort(axis=1)
        replaced = (rank < np.reshape(n_changed, (-1, 1))) & (score < 2)
        return np.where(replaced, varied, words)

    def log_prob(self, words: Tokens) -> Floats:
        """Return the log-probability of each word but the first given those before, in nats.

        (N,T+1) -> (N,T), minus infinity from the first impossible word on.
        """
        state, possible = np.zeros(len(words), np.int64), np.ones(len(words), bool)
        out = np.empty(words.shape)
        for t in range(words.shape[1]):
            match = self.word[state] == words[:, t, None]
            possible &= match.any(axis=1)
            out[:, t] = np.where(possible, -np.log(self.count[state]), -np.inf)
            state = self.next[state, match.argmax(axis=1)]
        return out[:, 1:]


@lru_cache
def stories() -> Language:
    """Return the language of the headline."""
    return Language(STORIES)


@lru_cache
def domains() -> tuple[Language, Language]:
    """Return two story domains over one vocabulary, a common and a rare one (paper, 5.2)."""
    vocab = Language(STORIES).vocab + Language(VOYAGES).vocab
    return Language(STORIES, vocab), Language(VOYAGES, vocab)
