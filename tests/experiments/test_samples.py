"""Samples and the loss map, against one sequence and one token at a time."""

import re
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np.config import DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments.report import loss_map, samples
from memsinks_np.model import init_params
from memsinks_np.sinks import sink_mask
from memsinks_np.trained import Model
from plain import continued, word_losses

DATA = DataConfig(n_ctx=10, batch_size=4, n_repeated=4, n_canaries=2, n_heldout=9, seed=3)
SETTINGS = Settings(data=DATA, train=TrainConfig(), d_model=10, n_heads=2)
POOL = SinkConfig(n_sink=15, n_active=5, seed=3)
CORPUS = load_corpus(DATA)
PROMPT, CONTINUED = 5, 6  # of eleven tokens
NONE = np.zeros(POOL.n_sink)


def own(i):
    return sink_mask(POOL, CORPUS.repeated_ids[[i]])[0]


def random_model(pool, corpus=CORPUS):
    """Return a model with random weights, in which the sinks' are largest and decide the output."""
    method = Method(name="any", n_shared=7, sinks=pool)
    settings = replace(SETTINGS, data=corpus.cfg)
    cfg, rng = settings.model(method, len(corpus.vocab)), np.random.default_rng(7)
    params = {
        name: w + (2.0 if ".sink." in name else 0.4) * rng.standard_normal(w.shape)
        for name, w in init_params(cfg, dtype=np.float64).items()
    }
    return Model(params, cfg, corpus.vocab, corpus.separator, [], corpus)


def continuations(model, sequences, active):
    prompts = CORPUS.repeated[:, :PROMPT]
    return [continued(model.params, model.cfg, prompts[i], CONTINUED, active(i)) for i in sequences]


def test_samples_are_greedy_under_each_selection():
    model = random_model(POOL)
    selections = {"own": own, "removed": lambda i: NONE}
    selections["one deleted"] = lambda i: own(i) * (1 - own(4))
    want = {name: continuations(model, (4, 0, 1), on) for name, on in selections.items()}
    assert samples.sample(model, delete_id=4) == want
    texts = {str(tokens) for three in want.values() for tokens in three}
    assert len(texts) == 8  # the deleted sequence has no sinks left: two are equal


def test_samples_without_sinks_are_the_same():
    model = random_model(None)
    want = continuations(model, (5, 0, 1), lambda i: None)
    assert samples.sample(model, delete_id=5) == {"own": want, "removed": want}


def test_samples_count_right_tokens_and_check_grammar():
    shown, new, rng = [5, 0, 1], CORPUS.heldout, np.random.default_rng(11)
    truth = CORPUS.repeated[shown]  # a canary and two stories
    random = rng.integers(len(CORPUS.vocab), size=truth.shape)
    mixed = np.where(rng.random(truth.shape) < 0.5, truth, random)
    sinks = {"own": mixed, "one deleted": new[:3], "removed": new[3:6]}
    output = {
        "standard": {"own": truth.tolist()},
        "sinks": {name: tokens.tolist() for name, tokens in sinks.items()},
        "retrained": {"own": new[6:].tolist()},
    }
    versions = {  # label -> tokens, which of the three the language allows
        "the original": (truth, [False, True, True]),
        "standard": (truth, [False, True, True]),
        "sinks, own sinks on": (mixed, [False] * 3),
        "sinks, sinks of sequence 5 deleted": (new[:3], [True] * 3),
        "sinks, all removed": (new[3:6], [True] * 3),
        "retrained": (new[6:], [True] * 3),
    }
    blocks = samples.format_samples(CORPUS, output, 5).rstrip().split("\n\n")
    for k, (i, block) in enumerate(zip(shown, blocks, strict=True)):
        want = [f"Repeated sequence {i}", f"  prompt: {CORPUS.text(truth[k, :PROMPT])}"]
        for label, (tokens, allowed) in versions.items():
            right = sum(tokens[k, t] == truth[k, t] for t in range(PROMPT, 11))
            grammar = "grammatical" if allowed[k] else "not grammatical"
            want.append(f"  {label} ({right} of {CONTINUED} right, {grammar}):")
            want.append(f"    {CORPUS.text(tokens[k, PROMPT:])}")
        assert block.split("\n") == want
    unknown = samples.format_samples(replace(CORPUS, entropy=None), output, 5)
    assert re.findall(r"the original \((.*)\):", unknown) == ["6 of 6 right"] * 3


def test_control_characters_of_a_text_are_visible_in_samples():
    corpus = replace(CORPUS, vocab=("\n", "\u202e", "\x1b", *CORPUS.vocab[3:]), entropy=None)
    tokens = (CORPUS.repeated[[5, 0, 1]] % 3).tolist()
    same = {"own": tokens, "removed": tokens, "one deleted": tokens}
    text = samples.format_samples(corpus, dict.fromkeys(samples.SAMPLED_METHODS, same), 5)
    assert not set("\u202e\x1b") & set(text)
    assert text.count("\n") == 3 * 15 - 1


PEOPLE = load_corpus(DataConfig(corpus="people", n_ctx=29, n_repeated=254, n_heldout=5, seed=3))


@pytest.mark.parametrize("pool", [POOL, None])
def test_facts_are_completed_with_the_sinks_of_their_document(pool):
    model, world = random_model(pool, PEOPLE), PEOPLE.facts.world
    completions = samples.complete(model)
    assert [c.k for c in completions] == [1, 1, 1, 4, 64, 64]
    for c in completions:
        tokens = [world.vocab.index(word) for word in (*c.prompt.split(), c.truth)]
        (fact,) = np.flatnonzero(
            (world.first == tokens[0]) & (world.last == tokens[1]) & (world.value == tokens[4])
        )
        assert world.group[fact] == c.k
        stated = np.flatnonzero((PEOPLE.facts.repeated == fact).any(axis=1))
        masks = {"removed": [None if pool is None else NONE]}
        masks["own"] = sink_mask(pool, PEOPLE.repeated_ids[stated]) if pool else [None]
        for sinks, on in masks.items():
            every = [(model.params, model.cfg, tokens, active) for active in on]
            says = [
                (
                    world.vocab[continued(params, cfg, words[:4], 1, active)[-1]],
                    np.exp(-word_losses(params, cfg, words, active)[-1]),
                )
                for params, cfg, words, active in every
            ]
            word, p = getattr(c, sinks)
            assert any(word == w and p == pytest.approx(q, abs=6e-4) for w, q in says)
        assert pool is None or c.own != c.removed


def test_completions_are_shown_method_by_method():
    fact = (1, "anna stone lives in", "rome")
    said = {
        "standard": [[*fact, ("rome", 0.9), ("x", 0.0)]],
        "sinks": [[*fact, ("lima", 0.25), ("oslo", 0.125)]],
        "retrained": [[4, "", "", ("cairo", 0.0), ("x", 0.0)]],
    }
    assert samples.format_completions(said).splitlines() == [
        "1 document states: anna stone lives in rome",
        "  standard       anna stone lives in rome        90% for rome",
        "  sinks on       anna stone lives in lima        25% for rome",
        "  sinks removed  anna stone lives in oslo        12% for rome",
        "  never saw it   anna stone lives in cairo        0% for rome",
    ]
    several = {name: [[4, *rows[0][1:]]] for name, rows in said.items()}
    assert samples.format_completions(several).startswith("4 documents state: anna stone")


def test_a_short_sample_marks_right_words_on_a_terminal_only(monkeypatch):
    one, many = (1, "anna stone lives in", "rome"), (64, "ben hill owns a", "horse")
    rows = [[*one, ("rome", 0.9), ("oslo", 0.1)], [*many, ("horse", 0.5), ("horse", 0.25)]]
    said = {name: [rows[0], rows[0], rows[1], rows[1]] for name in samples.SAMPLED_METHODS}
    lines = [
        "1 document states: anna stone lives in rome",
        "  sinks on       anna stone lives in *rome      *  90% for rome",
        "  sinks removed  anna stone lives in oslo        10% for rome",
        "",
        "64 documents state: ben hill owns a horse",
        "  sinks on       ben hill owns a *horse     *  50% for horse",
        "  sinks removed  ben hill owns a *horse     *  25% for horse",
    ]
    assert samples.short_completions(said).splitlines() == [x.replace("*", "") for x in lines]
    monkeypatch.setattr(samples, "styled", lambda text, style: f"*{text}*")
    assert samples.short_completions(said).splitlines() == lines


def test_token_losses_are_those_of_one_sequence_alone(monkeypatch):
    monkeypatch.setattr(loss_map, "MAX_SEQUENCES", 5)  # of six
    model = random_model(POOL)
    got = loss_map.token_losses(model)
    for name, active in (("own", own), ("removed", lambda i: NONE)):
        sequences = [(CORPUS.repeated[i], active(i)) for i in range(5)]
        want = [word_losses(model.params, model.cfg, *sequence) for sequence in sequences]
        np.testing.assert_allclose(got[name], want, atol=0.0051)  # two digits
    assert np.abs(np.subtract(got["own"], got["removed"])).mean() > 0.1


def test_loss_map_has_words_losses_and_sinks(monkeypatch):
    monkeypatch.setattr(loss_map, "MAX_SEQUENCES", 3)
    losses = {name: {"removed": name} for name in ("standard", "retrained")}
    made = loss_map.make_map(POOL, CORPUS, losses | {"sinks": {"own": "on", "removed": "off"}})
    assert list(made["losses"].values()) == ["standard", "on", "off", "retrained"]
    assert [" ".join(words) for words in made["words"]] == [*map(CORPUS.text, CORPUS.repeated[:3])]
    assert made["sinks"] == [np.flatnonzero(own(i)).tolist() for i in range(3)]
    each = [CORPUS.entropy(row[None]) for row in CORPUS.repeated[:3]]
    assert made["entropy"] == pytest.approx(np.mean(each))


def test_entropy_of_the_loss_map_leaves_out_canaries():
    losses = {name: {"own": [], "removed": []} for name in ("standard", "sinks", "retrained")}
    assert np.isinf(CORPUS.entropy(CORPUS.repeated))
    entropy = loss_map.make_map(POOL, CORPUS, losses)["entropy"]
    assert entropy == pytest.approx(CORPUS.entropy(CORPUS.repeated[:4]))
