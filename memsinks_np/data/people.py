"""A toy world of facts about people, in which the number of documents that state a fact is known.

    anna stone lives in rome . ben hill owns a horse . rosa lake loves the harp . ...

A document states five different facts, one sentence each. A fact is a person, named by two words, a
relation and a value. Every word is part of many names and every value belongs to many facts, so no
single word gives a fact away: it must be learned, or guessed (1 of 24).

Facts are in groups. A fact of group k (1, 2, 4, ..., 64) is stated in k documents, and each of them
is shown 64/k times in one pass. So every fact is shown 64 times; only the number of documents
differs. Common facts (group 0) are stated in documents that are seen once. A document states facts
of one group, drawn uniformly, in random order; the phrasing of each sentence is random too. So all
probabilities are exact.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.ids import Purpose, hash_ints, integers, permutation, uniform
from memsinks_np._internal.typing import Floats, Ids, Tokens
from memsinks_np.config import require

FIRST = "anna ben clara david emma felix greta henry ivy jack kate leo "
FIRST += "mia noah olga paul rosa sam tina uma victor wendy yara zoe"
LAST = "stone hill lake wood field brook marsh forest shore cliff vale moss "
LAST += "frost snow rain storm cloud winter summer day knight king page cook"
# relation -> its phrasings of two words, and its values
RELATIONS = {
    ("lives in", "moved to"): "rome paris oslo cairo lima tokyo delhi quito dublin madrid athens "
    "berlin vienna prague lisbon havana boston denver seoul milan geneva kyoto tunis riga",
    ("owns a", "found a"): "horse cat dog goat pony parrot rabbit turtle duck goose hen lamb fox "
    "mouse crow snake frog beetle camel donkey hamster pigeon lizard spider",
    ("plays the", "loves the"): "harp drum flute piano violin trumpet cello banjo oboe lute organ "
    "guitar viola tuba fiddle horn lyre bugle gong zither clarinet bassoon sitar bell",
    ("cooks only", "eats only"): "rice beans soup fish corn figs peas eggs bread plums cheese "
    "pasta lentils pears carrots onions dates turnips olives nuts leeks apples grapes honey",
}
GROUPS = (1, 2, 4, 8, 16, 32, 64)  # k, the number of documents that state a fact
SHOWINGS = 64  # of every fact that repeated documents state, in one pass
N_FACTS = 5  # in a document
N_WORDS = 6  # in a sentence
LENGTH = N_FACTS * N_WORDS  # tokens in a document
VALUE_PLACES = tuple(range(4, LENGTH, N_WORDS))  # of the values in a document
PLACES_PER_FACT = sum(GROUPS)  # documents that state one fact of each group
COMMON = 2  # common facts for each fact of a group


class People:
    """All facts of one world, by number: `n` of each group, then the common ones.

    first, last   (F,) words of the person's name
    relation      (F,) number of the relation
    value         (F,) word that completes the sentence
    group         (F,) k, the number of repeated documents that state the fact; 0 for common facts
    """

    def __init__(self, n: int, seed: int) -> None:
        """Draw a world with `n` facts in each group. Raises ConfigError if it is too large."""
        n_facts = n * (len(GROUPS) + COMMON)
        n_people = -(-n_facts // len(RELATIONS))
        firsts, lasts = FIRST.split(), LAST.split()
        n_names = len(firsts) * len(lasts)
        require(n_people <= n_names, f"{n_people} people are too many; there are {n_names} names")
        require(n % N_FACTS == 0, f"{n} facts in each group; choose a multiple of {N_FACTS}")
        values = [words.split() for words in RELATIONS.values()]
        phrases = [[phrase.split() for phrase in phrasings] for phrasings in RELATIONS]
        words = {w for group in [firsts, lasts, *values] for w in group}
        words |= {w for phrasings in phrases for phrase in phrasings for w in phrase}
        self.n, self.seed = n, seed
        self.vocab = tuple(sorted({*words, "."}))
        code = {word: i for i, word in enumerate(self.vocab)}
        people = permutation(n_names, seed, Purpose.PERSON)
        fact = permutation(n_people * len(RELATIONS), seed, Purpose.FACT)[:n_facts]
        person, self.relation = people[fact // len(RELATIONS)], fact % len(RELATIONS)
        self.first = np.array([code[w] for w in firsts], np.int64)[person // len(lasts)]
        self.last = np.array([code[w] for w in lasts], np.int64)[person % len(lasts)]
        self.phrases = np.array(
            [[[code[w] for w in p] for p in each] for each in phrases], np.int64
        )
        self.values = np.array([[code[w] for w in each] for each in values], np.int64)
        u = uniform(seed, Purpose.VALUE, integers(n_facts))
        self.value = self.values[self.relation, (u * self.values.shape[1]).astype(np.int64)]
        self.group = np.repeat(np.array([*GROUPS, 0], np.int64), [n] * len(GROUPS) + [n * COMMON])
        self.stop = code["."]

    def facts_of(self, group: int) -> NDArray[np.int64]:
        """Return the numbers of the facts of a group."""
        return np.flatnonzero(self.group == group).astype(np.int64)

    def write(self, facts: NDArray[np.int64], numbers: NDArray[np.int64]) -> Tokens:
        """Return documents that state these facts, (N,5) -> (N,30).

        The number of a document, (N,), draws its phrasings.
        """
        u = uniform(self.seed, Purpose.PHRASE, numbers[:, None], integers(N_FACTS))
        phrase = self.phrases[self.relation[facts], (u * self.phrases.shape[1]).astype(np.int64)]
        parts = [self.first[facts], self.last[facts], phrase[..., 0], phrase[..., 1]]
        parts += [self.value[facts], np.full(facts.shape, self.stop)]
        return np.stack(parts, axis=-1).reshape(-1, LENGTH).astype(np.int64)

    def split(self, facts: NDArray[np.int64], *key: int) -> NDArray[np.int64]:
        """Return facts in random order, five to a document, (5 N,) -> (N,5)."""
        order = permutation(len(facts), self.seed, Purpose.DOCUMENT, *key)
        return facts[order].reshape(-1, N_FACTS)

    def repeated(self, by_author: bool = False) -> tuple[NDArray[np.int64], Ids]:
        """Return the facts (R,5) and the IDs (R,) of the repeated documents, by group.

        The documents of a group state all of its facts in k ways; each has an ID of its own. If
        `by_author`, each of the first `n_alone` facts has a single author, whose k documents state
        the same five facts and share one ID. The other facts have k authors with one document each.
        """
        n_documents = self.n // N_FACTS
        n_alone = self.n_alone // N_FACTS if by_author else 0
        documents: list[NDArray[np.int64]] = []
        ids: list[Ids] = []
        for k in GROUPS:
            alone, rest = np.split(self.facts_of(k), [n_alone * N_FACTS])
            for way in range(k):
                parts = [
                    self.split(five, k, way, i)
                    for i, five in enumerate(np.split(alone, n_alone or 1))
                ]
                documents.append(np.concatenate([*parts, self.split(rest, k, way)]))
                ids.append(integers(n_documents, n_documents * len(ids)))
                ids[-1][:n_alone] = ids[-1 - way][:n_alone]
        return np.concatenate(documents), np.concatenate(ids)

    @property
    def n_alone(self) -> int:
        """Facts of each group with a single author, where IDs are by author."""
        return self.n // N_FACTS // 2 * N_FACTS

    def new(self, group: int, n: int) -> NDArray[np.int64]:
        """Return the facts (N,5) of new documents that state every fact of a group `n` times."""
        facts = self.facts_of(group)
        return np.concatenate([self.split(facts, group, -1 - way) for way in range(n)])

    def once(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the facts of once-seen documents by their numbers, (N,) -> (N,5)."""
        facts = self.facts_of(0)
        h = hash_ints(self.seed, Purpose.ONCE, numbers[:, None], integers(len(facts)))
        return facts[np.argsort(h, axis=1)[:, :N_FACTS]]

    def read(self, documents: Tokens) -> NDArray[np.int64]:
        """Return the facts that documents state, (N,30) -> (N,5); -1 for what is not true."""
        stated = documents.reshape(-1, N_FACTS, N_WORDS)
        match = stated[..., None, 0] == self.first
        match &= stated[..., None, 1] == self.last
        match &= stated[..., None, 4] == self.value
        phrase = (stated[..., None, None, 2:4] == self.phrases).all(axis=-1).any(axis=-1)
        match &= phrase[..., self.relation] & (stated[..., None, 5] == self.stop)
        return np.where(match.any(axis=-1), match.argmax(axis=-1), -1)

    def log_prob(self, documents: Tokens, known: bool = True) -> Floats:
        """Return the log-probability of each word but the first given those before, in nats.

        (N,30) -> (N,29), for a reader who knows all facts, or with known=False only the common
        ones. Either reader knows the group of the document. Documents state true facts.
        """
        facts = self.read(documents)
        out = np.zeros((len(facts), N_FACTS, N_WORDS))
        left = self.group == self.group[facts[:, :1]]  # (N,F) facts that may come next
        for i in range(N_FACTS):
            fact = facts[:, i, None]
            first = left & (self.first == self.first[fact])
            both = first & (self.last == self.last[fact])
            this = both & (self.relation == self.relation[fact])
            counts = np.log([m.sum(axis=1) for m in (left, first, both, this)])
            out[:, i, :3] = np.diff(counts, axis=0).T
            out[:, i, 2] -= np.log(self.phrases.shape[1])
            if not known:
                out[:, i, 4] = np.where(self.group[fact[:, 0]], -np.log(self.values.shape[1]), 0)
            left = left & ~this
        return out.reshape(len(facts), LENGTH)[:, 1:]


@lru_cache(maxsize=4)
def showing_order(showings: tuple[int, ...], seed: int, turn: int) -> NDArray[np.int64]:
    """Return one pass, as rows (sequence, showing): (sum of showings, 2). Do not write to it.

    The showings of a sequence are spread evenly over the pass, and so are its first 1, 2, 4, ... of
    them: showing j is at a fraction of the pass that is j with its bits reversed, as in a van der
    Corput sequence, from a random start.
    """
    times = np.array(showings)
    sequence = np.repeat(np.arange(len(times)), times)
    showing = np.concatenate([integers(n) for n in showings])
    place = reversed_bits(showing) + uniform(seed, Purpose.ORDER, turn, sequence)
    jitter = uniform(seed, Purpose.ORDER, turn, sequence, showing) / times[sequence]
    order = np.argsort((place + jitter) % 1, kind="stable")
    return np.stack([sequence, showing], axis=1)[order].astype(np.int64)


def reversed_bits(numbers: NDArray[np.int64]) -> Floats:
    """Return the van der Corput sequence in base 2: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    out, step = np.zeros(numbers.shape), 0.5
    while numbers.any():
        out += step * (numbers & 1)
        numbers, step = numbers >> 1, step / 2
    return out


@lru_cache(maxsize=8)
def world(n: int, seed: int) -> People:
    """Return a world with `n` facts in each group."""
    return People(n, seed)
