"""The world of people: how often each fact is stated and shown, and exact probabilities."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import memsinks_np as ms
from memsinks_np.config import ConfigError, DataConfig, Method
from memsinks_np.data import people
from memsinks_np.data.corpus import load_corpus
from memsinks_np.data.people import GROUPS, N_FACTS, SHOWINGS, People, reversed_bits
from memsinks_np.experiments.methods import PRESETS
from memsinks_np.train import visible_sequences

N = 10  # facts in a group
SETTINGS = {"n_ctx": 29, "n_repeated": 254, "n_heldout": 40, "repeat_fraction": 7 / 32, "seed": 3}


def corpus(name="people", **settings):
    return load_corpus(DataConfig(corpus=name, **SETTINGS | settings))


def test_a_fact_of_group_k_is_stated_by_k_documents():
    facts = corpus().facts
    stated = Counter(facts.repeated.ravel().tolist())
    assert all(stated[i] == k for k in GROUPS for i in facts.world.facts_of(k))
    assert not any(stated[i] for i in facts.world.facts_of(0))
    assert all(len(set(row)) == N_FACTS for row in facts.repeated.tolist())
    assert len(np.unique(corpus().repeated_ids)) == len(facts.repeated) == 254


def test_every_fact_is_shown_64_times_in_one_pass():
    people = corpus()
    index, showing = people.shown(np.arange(sum(people.showings)))
    shown = Counter(people.facts.repeated[index].ravel().tolist())
    assert len(shown) == N * len(GROUPS)
    assert set(shown.values()) == {SHOWINGS}
    for i in (0, 100, 253):
        assert sorted(showing[index == i]) == list(range(people.showings[i]))
    again, later = people.shown(np.arange(sum(people.showings)) + sum(people.showings))
    assert (np.bincount(again) == np.bincount(index)).all()
    assert (again != index).any()
    assert later.min() == 1
    assert later.max() == 2 * SHOWINGS - 1


@pytest.mark.parametrize("cap", [1, 2, 4, 8])
def test_the_first_showings_are_spread_over_the_pass(cap):
    people = corpus()
    length = sum(people.showings)
    index, showing = people.shown(np.arange(length))
    for i in (0, 1):  # shown 64 times
        places = np.flatnonzero((index == i) & (showing < cap)) / length
        gaps = np.diff([*places, places[0] + 1])
        assert len(places) == cap
        assert np.abs(gaps - 1 / cap).max() < 0.05


def test_an_authors_documents_tell_the_same_facts():
    a = corpus("authors")
    facts, group = a.facts, a.facts.world.group
    authors = [a.repeated_ids[(facts.repeated == i).any(axis=1)] for i in range(N * len(GROUPS))]
    for k in GROUPS:
        n_authors = [len(set(authors[i].tolist())) for i in facts.world.facts_of(k)]
        assert n_authors == [1] * (N // 2) + [k] * (N // 2)
        assert all(len(authors[i]) == k for i in facts.world.facts_of(k))
    for author in a.repeated_ids:
        assert len(set(group[facts.repeated[a.repeated_ids == author]].ravel())) == 1


def test_new_documents_tell_each_fact_twice_in_new_company():
    people = corpus(n_repeated=2540)
    old = {frozenset(row) for row in people.facts.repeated.tolist()}
    for k, new in people.facts.new.items():
        assert set(Counter(new.ravel().tolist()).values()) == {2}
        assert (people.facts.world.group[new] == k).all()
        assert not old & {frozenset(row) for row in new.tolist()}


def test_documents_are_read_as_they_were_written():
    people = corpus()
    world = people.facts.world
    np.testing.assert_array_equal(world.read(people.repeated), people.facts.repeated)
    assert (world.group[world.read(people.heldout)] == 0).all()
    once = people.draw(np.arange(50, dtype=np.int64))[0]
    assert (world.group[world.read(once)] == 0).all()
    wrong = people.repeated[:1].copy()
    wrong[0, 4] = wrong[0, 0]
    assert world.read(wrong)[0].tolist() == [-1, *people.facts.repeated[0, 1:]]


def test_the_public_corpus_is_that_of_the_preset():
    preset = PRESETS["people"].settings.data
    assert ms.people().cfg == preset
    assert ms.people(seed=2).cfg == replace(preset, seed=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_repeated": 100}, "choose a multiple of 127"),
        ({"n_repeated": 126}, "choose a multiple of 127"),
        ({"n_ctx": 28}, "n_ctx=29"),
        ({"n_canaries": 1}, "n_canaries=0"),
        ({"shuffled": False}, "shuffled=True"),
        ({"n_repeated": 127 * 60}, "people are too many"),
    ],
)
def test_sizes_that_make_no_world_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        corpus(**settings)


def test_a_once_seen_document_depends_on_its_number_alone():
    draw = corpus().draw
    numbers = np.array([5, 900, 7], np.int64)
    np.testing.assert_array_equal(draw(numbers)[0][1], draw(numbers[1:])[0][0])


@pytest.mark.parametrize(("group", "known"), [(2, True), (2, False), (0, False)])
def test_log_prob_is_that_of_an_enumeration(monkeypatch, group, known):
    small = {phrases: " ".join(v.split()[:2]) for phrases, v in people.RELATIONS.items()}
    monkeypatch.setattr(people, "RELATIONS", small)
    monkeypatch.setattr(people, "COMMON", 1)
    world = People(5, 0)
    facts = world.facts_of(group)
    truth = world.value[facts]
    possible = [truth[None]] if known or not group else world.values[world.relation[facts]]
    worlds = [truth] if known or not group else list(itertools.product(*possible))
    orders = list(itertools.permutations(range(N_FACTS)))[::7]
    every, rest = [], Counter()
    for values in worlds:
        value = dict(zip(facts.tolist(), values, strict=True))
        for order in itertools.permutations(facts.tolist()):
            stems = [(world.first[f], world.last[f], world.relation[f], value[f]) for f in order]
            every.append(stems)
    for stems in every:  # phrasings are independent: count them once per sentence
        prefix = ()
        for first, last, relation, value in stems:
            for word in (first, last, relation, value):
                rest[prefix] += 1
                prefix = (*prefix, int(word))
        rest[prefix] += 1
    for order in orders:
        document = world.write(facts[list(order)][None], np.array([1], np.int64))
        got = world.log_prob(document, known=known)[0]
        prefix, want = (), []
        for f in facts[list(order)]:
            for word in (world.first[f], world.last[f], world.relation[f], world.value[f]):
                after = (*prefix, int(word))
                want.append(np.log(rest[after] / rest[prefix]))
                prefix = after
            want[-2:] = [want[-2] - np.log(2), 0.0, want[-1], 0.0]  # the phrasing, then its rest
        np.testing.assert_allclose(got, want[1:], atol=1e-12)


def test_reversed_bits_is_the_van_der_corput_sequence():
    want = [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]
    assert reversed_bits(np.arange(8)).tolist() == want


@pytest.mark.parametrize("cap", [0, 1, 2, 8, 100])
def test_capped_training_sees_each_document_at_most_so_often(cap):
    """A pass of 128 steps shows all of its documents."""
    people, method = corpus(), Method(name="x", n_shared=4, max_showings=cap)
    batches = [visible_sequences(method, people.batch(step), step, 0) for step in range(128)]
    assert all((batch.showing == -1).sum() == 25 for batch in batches)
    shown = np.concatenate([batch.ids[batch.repeated] for batch in batches])
    counts = np.bincount(shown, minlength=254)[people.repeated_ids]
    np.testing.assert_array_equal(counts, np.minimum(people.showings, cap))
