"""Near-duplicates: numbers of planted sinks, and claims that can fail."""

import json

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np.data.corpus import CHANGED, load_corpus
from memsinks_np.experiments import duplicates
from memsinks_np.experiments.methods import PRESETS
from memsinks_np.experiments.registry import Context
from memsinks_np.trained import Model

CONTEXT = Context(PRESETS["stories"])


def perfect(corpus, pool):
    """Return a `predict` whose sinks hold their documents word for word, and nothing else does.

    The parameters are a column of ones, one for each sink. With the sinks of an ID the model says
    the first document that has this ID, unless they were deleted; without, it says nothing.
    """
    sets = list(map(tuple, sinks.active(pool, corpus.repeated_ids).tolist()))
    held = dict(zip(reversed(sets), reversed(corpus.repeated.tolist()), strict=True))

    def predict(params, cfg, tokens, selection):
        says = np.full(tokens.shape, -1)
        chosen = [[]] * len(tokens) if selection is None else selection.index.tolist()
        for row, index in zip(says, chosen, strict=True):
            if tuple(index) in held and params["h0.sink.W_in"][index].any():
                row[:] = held[tuple(index)]
        return (says != tokens)[:, 1:].astype(float), says[:, 1:]

    return predict


def measured(rule, monkeypatch):
    """Return a corpus, and the numbers of a perfect pool, without training."""
    job = duplicates.jobs(CONTEXT)[rule, 0]
    corpus = load_corpus(job.settings.data)
    cfg = job.settings.model(job.method, len(corpus.vocab))
    monkeypatch.setattr(duplicates, "predict", perfect(corpus, cfg.sinks))
    params = {"h0.sink.W_in": np.ones((cfg.sinks.n_sink, 1))}
    model = Model(params, cfg, corpus.vocab, " ", [], corpus)
    return corpus, json.loads(json.dumps(duplicates.measure(model)))


def test_hashed_ids_hold_each_variant_apart(monkeypatch):
    """A neighbour's sinks say its own words: the differing ones are the loss of the others."""
    corpus, n = measured("variants_hashed", monkeypatch)
    assert n["n_ids"] == [1, 4, 4, 4]
    assert n["loss.own"] == [0] * 4
    assert n["recited.own"] == [1] * 4
    assert n["loss.removed"] == n["loss.prompt"] == [1] * 4  # the first half is nobody's
    assert n["recited.removed"] == n["words.removed"] == n["served.own"] == [0] * 4
    assert n["words.neighbour"] == [0, 1, 1, 1]
    assert n["words.own"] == [0] * 4
    different = n["loss.neighbour"]
    assert different[0] == 0 < different[1] < different[2] < different[3] < 0.6
    assert different[1] == pytest.approx(2 / 32, abs=0.02)  # one word of either
    second = corpus.repeated[:, 16:].reshape(4, 4, 4, 17)  # round, words changed, variant
    same = (second == np.roll(second, -1, axis=2)).all(axis=3).mean(axis=0)
    assert n["recited.neighbour"] == same.mean(axis=1).tolist()
    first, neighbour = corpus.repeated.reshape(4, 4, 4, 33)[:, :, :2, 1:].swapaxes(0, 2)
    equal = (first == neighbour).mean(axis=(1, 2))  # by words changed
    assert n["deleted.recited"] == [0, *same[1:, 0].tolist()]  # exact duplicates have one ID
    assert n["deleted.memory"] == pytest.approx([0, *equal[1:]])
    assert n["siblings"] == [0, 1, 1, 1]
    assert n["loss.stranger"][0] > 0.5


def test_one_id_holds_one_variant_and_is_deleted_at_once(monkeypatch):
    _, n = measured("variants", monkeypatch)
    assert n["n_ids"] == n["served.own"] == [1] * 4
    assert n["loss.own"] == n["loss.neighbour"] == n["loss.prompt"]
    assert n["recited.own"][0] == 1 > n["recited.own"][3] >= 0.25  # the first of four
    assert n["deleted.recited"] == n["deleted.memory"] == n["siblings"] == [0] * 4
    assert n["served.neighbour"] == [0] * 4


def test_a_minhash_finds_the_sinks_of_some_prompts(monkeypatch):
    _, n = measured("variants_minhash", monkeypatch)
    assert 1 == n["n_ids"][0] < n["n_ids"][3]
    assert 0.1 < np.mean(n["served.own"]) < 0.7
    assert n["served.neighbour"][0] == 0 < sum(n["served.neighbour"])


def fake_result():
    """Numbers as most claims expect them."""
    numbers = {f"loss.{w}": [0.0] * 4 for w in ("own", "neighbour")}
    numbers |= {"loss.removed": [0.95] * 4, "loss.stranger": [1.2] * 4, "n_ids": [1.0] * 4}
    numbers |= {f"recited.{w}": [1.0] * 4 for w in ("own", "neighbour", "prompt")}
    numbers |= {name: [0.0] * 4 for name in ("recited.removed", "siblings")}
    numbers |= {f"deleted.{name}": [0.0] * 4 for name in ("recited", "memory")}
    numbers |= {f"words.{w}": [0.1] * 4 for w in ("own", "neighbour", "removed")}
    numbers |= {"served.own": [1.0] * 4, "served.neighbour": [0.0] * 4}
    jobs = duplicates.jobs(CONTEXT)
    outputs = {key: {k: list(v) for k, v in numbers.items()} for key in jobs}
    outputs["variants_hashed", 0]["siblings"] = [1.0] * 4
    outputs["variants_minhash", 0]["loss.removed"] = [0.96] * 4
    outputs["retrained", 0] = {"loss": [1.0] * 4, "recited": [0.0] * 4}
    return duplicates.result(CONTEXT, outputs)


CHANGES = [
    ("variants_minhash", "loss.removed", [0.8, 0.96, 0.96, 0.96], [0]),
    ("variants", "loss.removed", [0.95, 0.8, 0.8, 0.95], [1]),
    ("variants_hashed", "loss.removed", [0.95, 0.5, 0.5, 0.95], [2]),
    ("variants_minhash", "loss.removed", [0.95, 0.5, 0.5, 0.95], [3]),
    ("variants_hashed", "deleted.memory", [0, 0.3, 0.3, 0], [4]),
    ("variants_hashed", "siblings", [1, 0.5, 0.5, 1], [5]),
    ("variants_hashed", "words.neighbour", [0, 0.9, 0.9, 0.9], [6]),
    ("variants_hashed", "loss.stranger", [0.9] * 4, [7]),
    ("served", "served.own", [0.4] * 4, [8]),
]


@pytest.mark.parametrize(("rule", "field", "values", "fails"), CHANGES)
def test_every_claim_about_near_duplicates_can_fail(rule, field, values, fails):
    result = fake_result()
    for name in duplicates.RULES if rule == "served" else [rule]:
        result.numbers[name][0][field] = values
    claims = duplicates.claims(result)
    assert [i for i, claim in enumerate(claims) if not claim.holds] == fails
    assert len(claims) == len(CHANGES)


def test_forgotten_is_a_fraction_of_what_the_sinks_know():
    result = fake_result()
    result.numbers["variants"][0] |= {"loss.own": [0.2] * 4, "loss.removed": [0.6, 0.2, 1.0, 0.6]}
    assert [result.forgotten("variants", [n])[0] for n in CHANGED] == pytest.approx(
        [0.5, 0, 1, 0.5]
    )


@pytest.mark.slow
def test_table_and_figure_cover_every_rule(tmp_path):
    lines = duplicates.tabulate(fake_result()).splitlines()
    assert len(lines) == 2 + 3 * 4
    assert len(set(map(len, lines))) == 1
    assert len(duplicates.draw(fake_result(), tmp_path)) == 2
