"""What samples.txt and the memory map show of a sequence, against one sequence and one word at a time."""

import re
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np.config import DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments.report import loss_map as memory_map
from memsinks_np.experiments.report import samples
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.model import init_params
from memsinks_np.sinks import sink_mask
from memsinks_np.train import Model
from plain import continued, word_losses

DATA = DataConfig(n_ctx=10, batch_size=4, n_repeated=4, n_canaries=2, n_heldout=9, seed=3)
SETTINGS = Settings(data=DATA, train=TrainConfig(), d_model=10, n_heads=2, tied=False)
POOL = SinkConfig(n_sink=15, n_active=5, seed=3)
CORPUS = load_corpus(DATA)
SINKS, STANDARD = Method(name="sinks", n_shared=7, sinks=POOL), Method(name="standard", n_shared=7)
GIVEN, SAID = 5, 6  # of eleven words
OFF = np.zeros(POOL.n_sink)


def own(i):
    return sink_mask(POOL, CORPUS.repeated_ids[[i]])[0]


def job_of(method):
    """A method whose weights are all random, those of its sinks the largest: what is on decides what it says."""
    cfg = SETTINGS.model(method, len(CORPUS.vocab))
    start, rng = init_params(cfg, dtype=np.float64), np.random.default_rng(7)
    size = {name: 2.0 if ".sink." in name else 0.4 for name in start}
    params = {name: w + size[name] * rng.standard_normal(w.shape) for name, w in start.items()}
    return Job(method, SETTINGS), cfg, params


def test_an_arm_goes_on_word_by_word_with_its_own_sinks_with_those_of_one_deleted_and_with_none():
    job, cfg, params = job_of(SINKS)
    got = samples.speak(job, Model(params, []), deleted=4)
    versions = {
        "own": own,
        "removed": lambda i: OFF,
        "one deleted": lambda i: own(i) * (1 - own(4)),
    }
    want = {
        who: [continued(params, cfg, CORPUS.repeated[i, :GIVEN], SAID, on(i)) for i in (4, 0, 1)]
        for who, on in versions.items()
    }
    assert got == want
    assert (
        len({str(said) for three in want.values() for said in three}) == 8
    )  # two are those of the deleted one


def test_an_arm_without_sinks_says_one_thing():
    job, cfg, params = job_of(STANDARD)
    said = [continued(params, cfg, CORPUS.repeated[i, :GIVEN], SAID) for i in (5, 0, 1)]
    assert samples.speak(job, Model(params, []), deleted=5) == {"own": said, "removed": said}


def test_samples_tell_whose_words_they_are_how_many_are_right_and_whether_the_language_allows_them():
    shown, new = [5, 0, 1], CORPUS.heldout
    truth = CORPUS.repeated[shown]  # a canary and two stories
    rng = np.random.default_rng(11)
    mixed = np.where(
        rng.random(truth.shape) < 0.5, truth, rng.integers(len(CORPUS.vocab), size=truth.shape)
    )
    said = {
        "standard": dict.fromkeys(("own", "removed"), truth.tolist()),
        "sinks": {
            "own": mixed.tolist(),
            "one deleted": new[:3].tolist(),
            "removed": new[3:6].tolist(),
        },
        "retrained": dict.fromkeys(("own", "removed"), new[6:].tolist()),
    }
    versions = {  # heading -> words, which of the three the language allows
        "the truth": (truth, [False, True, True]),
        "standard": (truth, [False, True, True]),
        "memsinks, its own sinks on": (mixed, [False] * 3),
        "memsinks, sinks of sequence 5 deleted": (new[:3], [True] * 3),
        "memsinks, all sinks removed": (new[3:6], [True] * 3),
        "retrained without": (new[6:], [True] * 3),
    }
    text = lambda words: " ".join(CORPUS.vocab[word] for word in words)
    blocks = samples.tell(CORPUS, said, deleted=5).rstrip().split("\n\n")
    for k, (i, block) in enumerate(zip(shown, blocks, strict=True)):
        first, given, *lines = block.split("\n")
        assert (first, given) == (f"Repeated sequence {i}", f"  given: {text(truth[k][:GIVEN])}")
        assert len(lines) == 2 * len(versions)
        for (who, (words, allowed)), head, line in zip(
            versions.items(), lines[::2], lines[1::2], strict=True
        ):
            right = sum(words[k][t] == truth[k][t] for t in range(GIVEN, 11))
            assert (
                head
                == f"  {who} ({right} of {SAID} right, {'grammatical' if allowed[k] else 'not grammatical'}):"
            )
            assert line.strip() == text(words[k][GIVEN:])
    told = samples.tell(
        replace(CORPUS, floor=None), said, deleted=5
    )  # of a language that nobody knows
    assert re.findall(r"the truth \((.*)\):", told) == ["6 of 6 right"] * 3


def test_word_losses_are_those_of_one_sequence_alone_with_its_own_sinks_and_without(monkeypatch):
    monkeypatch.setattr(memory_map, "MOST", 5)  # of six
    job, cfg, params = job_of(SINKS)
    got = memory_map.word_losses(job, Model(params, []))
    for name, on in (("own", own), ("removed", lambda i: OFF)):
        want = [word_losses(params, cfg, CORPUS.repeated[i], on(i)) for i in range(5)]
        np.testing.assert_allclose(got[name], want, atol=0.0051)  # two digits
    assert np.abs(np.subtract(got["own"], got["removed"])).mean() > 0.1


def test_the_memory_map_shows_each_version_its_words_and_who_owns_which_sinks(monkeypatch):
    monkeypatch.setattr(memory_map, "MOST", 3)
    found = {name: dict.fromkeys(("own", "removed"), name) for name in ("standard", "retrained")}
    shown = memory_map.memory_map(
        Job(SINKS, SETTINGS), CORPUS, found | {"sinks": {"own": "on", "removed": "off"}}
    )
    assert list(shown["losses"].values()) == ["standard", "on", "off", "retrained"]
    assert [" ".join(words) for words in shown["words"]] == [
        CORPUS.text(row) for row in CORPUS.repeated[:3]
    ]
    assert shown["sinks"] == [[np.flatnonzero(own(i)).tolist() for i in range(3)]] * 2
    assert shown["floor"] == pytest.approx(
        np.mean([CORPUS.floor(row[None]) for row in CORPUS.repeated[:3]])
    )


def test_canaries_have_no_part_in_the_floor():
    """They are no stories: their entropy under the language is infinite."""
    found = {method: {"own": [], "removed": []} for method in ("standard", "sinks", "retrained")}
    assert np.isinf(CORPUS.floor(CORPUS.repeated))
    floor = memory_map.memory_map(Job(SINKS, SETTINGS), CORPUS, found)["floor"]
    assert floor == pytest.approx(CORPUS.floor(CORPUS.repeated[:4]))
