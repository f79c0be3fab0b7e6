"""The story language, against an enumeration that does not use its tables."""

import itertools

import numpy as np
import pytest

from memsinks_np._internal.ids import integers
from memsinks_np.data.stories import STORIES, Grammar, Language, stories

SMALL = Grammar(
    pronouns={"ann": ("she", "her"), "bob": ("he", "his")},
    verbs={"cat": "CARE", "pie": "EAT"},
    opening="NAME saw a NOUN END",
    sentences=("@they VERB the @noun .", "@their HOME was big END"),
    slots={"CARE": ("fed", "lost"), "EAT": ("ate",), "HOME": ("hut",), "END": (".", "at sea .")},
)


def enumerate_stories(length):
    """Return all beginnings of stories of `length` words with their probabilities.

    Rewrites the leftmost choice until none is left.
    """
    pending, done = [(1.0, SMALL.opening, None, None)], {}
    while pending:
        p, text, name, noun = pending.pop()
        words = text.split()
        at = next((i for i, w in enumerate(words) if w.isupper()), len(words))
        if at >= length:
            done[tuple(words[:length])] = done.get(tuple(words[:length]), 0.0) + p
        elif at == len(words):
            they, their = SMALL.pronouns[name]
            values = {"@they": they, "@their": their, "@noun": noun, "@name": name}
            for sentence in SMALL.sentences:
                new = " ".join(values.get(w, w) for w in sentence.split())
                pending.append((p / len(SMALL.sentences), f"{text} {new}", name, noun))
        else:
            slot = words[at]
            options = {"NAME": list(SMALL.pronouns), "NOUN": list(SMALL.verbs)}.get(slot)
            options = options or SMALL.slots[SMALL.verbs[noun] if slot == "VERB" else slot]
            for option in options:
                new = " ".join([*words[:at], option, *words[at + 1 :]])
                name = option if slot == "NAME" else name
                noun = option if slot == "NOUN" else noun
                pending.append((p / len(options), new, name, noun))
    return done


def codes(language):
    return {word: i for i, word in enumerate(language.vocab)}


@pytest.mark.parametrize("length", [2, 5, 6, 9, 14])
def test_log_prob_is_that_of_the_enumeration(length):
    language, want = Language(SMALL), enumerate_stories(length)
    assert sum(want.values()) == pytest.approx(1)
    code = codes(language)
    words = np.array([[code[w] for w in story] for story in want])
    first = 1 / len(SMALL.pronouns)  # the first word is given
    got = first * np.exp(language.log_prob(words).sum(axis=1))
    np.testing.assert_allclose(got, list(want.values()), rtol=1e-12)


def test_all_other_stories_are_impossible():
    language = Language(SMALL)
    code = codes(language)
    stories = {tuple(code[w] for w in story) for story in enumerate_stories(5)}
    rest = itertools.product(range(len(code)), repeat=4)
    every = np.array([(code["ann"], *words) for words in rest])
    possible = np.isfinite(language.log_prob(every))
    assert (possible[:, 1:] <= possible[:, :-1]).all()  # never again after an impossible word
    finite = possible.all(axis=1)
    want = {words for words in stories if words[0] == code["ann"]}
    assert {tuple(words) for words in every[finite].tolist()} == want


def test_samples_have_the_probabilities_of_the_enumeration():
    language, n = Language(SMALL), 40_000
    found, counts = np.unique(language.sample(9, 0, integers(n)), axis=0, return_counts=True)
    want = enumerate_stories(9)
    assert len(found) == len(want)
    for story, count in zip(found, counts, strict=True):
        p = want[tuple(language.vocab[i] for i in story)]
        assert count / n == pytest.approx(p, abs=5 * np.sqrt(p / n))


def test_a_story_depends_only_on_seed_and_number():
    language = stories()
    whole = language.sample(20, 3, integers(10))
    np.testing.assert_array_equal(language.sample(20, 3, np.array([7, 2])), whole[[7, 2]])
    np.testing.assert_array_equal(language.sample(12, 3, integers(10)), whole[:, :12])
    assert (language.sample(20, 4, integers(10)) != whole).any()


def test_stories_have_few_words_and_many_beginnings():
    language = stories()
    words = language.sample(33, 0, integers(5000))
    assert len(language.vocab) <= 100
    assert 0.8 <= -language.log_prob(words).mean() <= 2.0
    assert len(np.unique(words[:, :17], axis=0)) > 4990


def test_pronouns_and_verbs_agree_over_ten_words():
    language = stories()
    text = [[language.vocab[i] for i in row] for row in language.sample(33, 1, integers(3000))]
    slots = {w: slot for slot in set(STORIES.verbs.values()) for w in STORIES.slots[slot]}
    far = 0
    for words in text:
        they, their = STORIES.pronouns[words[0]]
        assert not {"she", "he", "her", "his"} - {they, their} & set(words)
        verbs = [t for t, w in enumerate(words) if w in slots]
        assert {slots[words[t]] for t in verbs} <= {STORIES.verbs[words[4]]}
        far += sum(t > 14 for t in verbs)
    assert far > 500


def test_an_ambiguous_grammar_is_refused():
    with pytest.raises(ValueError, match="same word"):
        Language(SMALL._replace(slots=SMALL.slots | {"END": ("at sea .", "at home .")}))


@pytest.mark.parametrize("n_changed", [0, 1, 8])
def test_a_variant_is_exactly_as_likely_as_its_story(n_changed):
    language, number = stories(), integers(200)
    story = language.sample(33, 5, number)
    variant = language.vary(story, np.full(200, n_changed), 5, number)
    assert ((variant != story).sum(axis=1) == n_changed).all()
    np.testing.assert_allclose(language.log_prob(variant), language.log_prob(story))
    assert not (variant != story)[:, [0, 2, 4]].any()  # the name, "a", the noun: all else agrees


def test_variants_use_every_other_word_of_a_choice():
    """36 variants of one story that differ in all choices: each of 8 adjectives but its own."""
    language = stories()
    story = language.sample(5, 0, np.zeros(1, np.int64)).repeat(2000, axis=0)
    variant = language.vary(story, 5, 0, integers(2000))
    words, counts = np.unique(variant[:, 3], return_counts=True)
    assert len(words) == len(STORIES.slots["ADJ"]) - 1
    assert story[0, 3] not in words
    assert counts.min() > 2000 / 7 * 0.8
