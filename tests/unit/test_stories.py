"""The story language: exact probabilities, held against an enumeration that knows nothing of its tables."""

import itertools

import numpy as np
import pytest

from memsinks_np.data.stories import STORIES, Grammar, Language, stories

SMALL = Grammar(
    pronouns={"ann": ("she", "her"), "bob": ("he", "his")},
    verbs={"cat": "CARE", "pie": "EAT"},
    opening="NAME saw a NOUN END",
    sentences=("@they VERB the @noun .", "@their HOME was big END"),
    slots={
        "CARE": ("fed", "lost"),
        "EAT": ("ate",),
        "HOME": ("hut",),
        "END": (".", "at sea ."),
        "SEA": (),
    },
)


def rewrite(text, length):
    """All beginnings of stories of `length` words with their probabilities, by rewriting the leftmost choice."""
    pending, done = [(1.0, text, None, None)], {}
    while pending:
        p, text, name, noun = pending.pop()
        words = text.split()
        at = next((i for i, w in enumerate(words) if w.isupper()), None)
        if at is None and len(words) < length:
            for sentence in SMALL.sentences:
                they, their = SMALL.pronouns[name]
                for old, new in (
                    ("@they", they),
                    ("@their", their),
                    ("@noun", noun),
                    ("@name", name),
                ):
                    sentence = sentence.replace(old, new)
                pending.append((p / len(SMALL.sentences), f"{text} {sentence}", name, noun))
        elif at is None or at >= length:
            done[tuple(words[:length])] = done.get(tuple(words[:length]), 0.0) + p
        else:
            slot = words[at]
            options = {"NAME": list(SMALL.pronouns), "NOUN": list(SMALL.verbs)}.get(slot)
            options = options or SMALL.slots[SMALL.verbs[noun] if slot == "VERB" else slot]
            for option in options:
                new = " ".join([*words[:at], option, *words[at + 1 :]])
                pending.append(
                    (
                        p / len(options),
                        new,
                        option if slot == "NAME" else name,
                        option if slot == "NOUN" else noun,
                    )
                )
    return done


@pytest.mark.parametrize("length", [2, 5, 6, 9, 14])
def test_log_prob_is_that_of_the_enumeration(length):
    language = Language(SMALL)
    want = rewrite(SMALL.opening, length)
    assert sum(want.values()) == pytest.approx(1)
    code = {w: i for i, w in enumerate(language.vocab)}
    words = np.array([[code[w] for w in story] for story in want])
    got = np.exp(language.log_prob(words).sum(axis=1)) / len(
        SMALL.pronouns
    )  # the first word is given
    np.testing.assert_allclose(got, list(want.values()), rtol=1e-12)


def test_everything_else_is_impossible():
    language = Language(SMALL)
    code = {w: i for i, w in enumerate(language.vocab)}
    possible = {tuple(code[w] for w in story) for story in rewrite(SMALL.opening, 5)}
    every = np.array(
        [w for w in itertools.product(range(len(code)), repeat=5) if w[0] == code["ann"]]
    )
    finite = np.isfinite(language.log_prob(every).sum(axis=1))
    assert {tuple(w) for w in every[finite].tolist()} == {
        w for w in possible if w[0] == code["ann"]
    }


def test_samples_have_the_probabilities_of_the_enumeration():
    language, n = Language(SMALL), 40_000
    words = language.sample(9, 0, np.arange(n))
    stories_, counts = np.unique(words, axis=0, return_counts=True)
    want = rewrite(SMALL.opening, 9)
    assert len(stories_) == len(want)
    for story, count in zip(stories_, counts, strict=True):
        p = want[tuple(language.vocab[i] for i in story)]
        assert count / n == pytest.approx(p, abs=5 * np.sqrt(p / n))


def test_story_i_is_always_the_same():
    language = stories()
    whole = language.sample(20, 3, np.arange(10))
    np.testing.assert_array_equal(language.sample(20, 3, np.array([7, 2])), whole[[7, 2]])
    np.testing.assert_array_equal(language.sample(12, 3, np.arange(10)), whole[:, :12])
    assert (language.sample(20, 4, np.arange(10)) != whole).any()


def test_size_and_entropy_are_those_of_the_plan():
    language = stories()
    assert len(language.vocab) <= 100
    words = language.sample(33, 0, np.arange(5000))
    log_prob = language.log_prob(words)
    assert 0.8 <= -log_prob.mean() <= 2.0
    assert len(np.unique(words[:, :17], axis=0)) > 4990  # first halves name their story


def test_agreements_reach_back():
    """The pronoun follows the name, the verb the noun, over more than ten words."""
    language = stories()
    text = [[language.vocab[i] for i in row] for row in language.sample(33, 1, np.arange(3000))]
    verbs = {w: noun for noun, slot in STORIES.verbs.items() for w in STORIES.slots[slot]}
    far = 0
    for words in text:
        they, their = STORIES.pronouns[words[0]]
        assert not {"she", "he", "her", "his"} - {they, their} & set(words)
        noun = words[4]
        for t, w in enumerate(words):
            if w in verbs:
                assert STORIES.verbs[verbs[w]] == STORIES.verbs[noun]
                far += t - 4 > 10
    assert far > 500


def test_ambiguous_grammar_is_refused():
    with pytest.raises(ValueError, match="same word"):
        Language(SMALL._replace(slots=SMALL.slots | {"END": ("at sea .", "at home .")}))
