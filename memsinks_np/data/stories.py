"""A toy story language whose next-word probabilities are known exactly.

    lily found a red ball . she kicked the ball slowly . her aunt hid the ball near the barn . lily was ...

A story opens with a name, an adjective and a noun, and goes on with sentences about them.  Two agreements
reach back many words: the name decides she/he and her/his, and the noun, which returns, decides the verbs
(nobody eats a ball).  The words so far determine the state of the generator, and in each state all possible
next words are equally likely, so every probability is exact: given the first word, no model that is
independent of a story can be expected to predict it better than `log_prob` does.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.ids import uniform


class Grammar(NamedTuple):
    """How stories are made: small words stand for themselves, CAPITALS are choices, `@` refers back."""

    pronouns: dict[str, tuple[str, str]]  # NAME -> @they, @their
    verbs: dict[str, str]  # NOUN -> the slot that VERB becomes
    opening: str
    sentences: tuple[str, ...]  # follow in any order; each starts with another word
    slots: dict[
        str, tuple[str, ...]
    ]  # options of a slot, in one or more words; each starts with another word


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

VOYAGES = (
    Grammar(  # the second world: other words and other sentences, but the same way to refer back
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
)


def next_words(
    g: Grammar, context: tuple[str, str], rest: tuple[str, ...]
) -> list[tuple[Any, ...]]:
    """Every word that may come next, as (word, context after it, what the sentence still holds after it)."""
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
        return [
            w for option in g.slots[head] for w in next_words(g, context, (*option.split(), *tail))
        ]
    refer = {"@name": name, "@noun": noun}
    refer |= dict(zip(("@they", "@their"), g.pronouns.get(name, ()), strict=False))
    return [(refer.get(head, head), context, tuple(tail))]


class Language:
    """A grammar compiled to tables: state s offers `count[s]` words, `word[s]`, and leads to `next[s]`."""

    def __init__(self, grammar: Grammar = STORIES, beside: tuple[str, ...] = ()) -> None:
        """`beside`: words of other languages that share this one's vocabulary."""
        start = (("", ""), tuple(grammar.opening.split()))
        states, offers = {start: 0}, []
        for state in (queue := [start]):  # grows while it is read
            offer = []
            for word, *after in next_words(grammar, *state):
                if tuple(after) not in states:
                    states[tuple(after)] = len(states)
                    queue.append(tuple(after))
                offer.append((word, states[tuple(after)]))
            if len({word for word, _ in offer}) < len(offer):
                raise ValueError(f"two options start with the same word in state {state}")
            offers.append(offer)
        self.vocab = tuple(sorted({word for offer in offers for word, _ in offer} | set(beside)))
        code = {word: i for i, word in enumerate(self.vocab)}
        self.count = np.array([len(offer) for offer in offers])
        self.word = np.full((len(offers), self.count.max()), -1)
        self.next = np.zeros_like(self.word)
        for s, offer in enumerate(offers):
            self.word[s, : len(offer)] = [code[word] for word, _ in offer]
            self.next[s, : len(offer)] = [state for _, state in offer]

    def sample(self, n_words: int, seed: int, stories: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) story numbers -> (N, n_words) words; story i of a seed is always the same."""
        u = uniform(seed, np.asarray(stories)[:, None], np.arange(n_words))
        state = np.zeros(len(u), np.int64)
        words = np.empty(u.shape, np.int64)
        for t in range(n_words):
            choice = (u[:, t] * self.count[state]).astype(np.int64)
            words[:, t], state = self.word[state, choice], self.next[state, choice]
        return words

    def log_prob(self, words: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N,T+1) words -> (N,T) exact log-probabilities in nats of all but the first word, given those before.

        Minus infinity from the first word on that the language does not allow.
        """
        state, allowed = np.zeros(len(words), np.int64), np.ones(len(words), bool)
        out = np.empty(words.shape)
        for t in range(words.shape[1]):
            match = self.word[state] == words[:, t, None]
            allowed &= match.any(axis=1)
            out[:, t] = np.where(allowed, -np.log(self.count[state]), -np.inf)
            state = self.next[state, match.argmax(axis=1)]
        return out[:, 1:]


@lru_cache
def stories() -> Language:
    """The language of the headline run."""
    return Language(STORIES)


@lru_cache
def domains() -> tuple[Language, Language]:
    """Return two story domains over one vocabulary: the first is common, the second rare
    (paper, section 5.2)."""
    vocab = Language(STORIES).vocab + Language(VOYAGES).vocab
    return Language(STORIES, vocab), Language(VOYAGES, vocab)
