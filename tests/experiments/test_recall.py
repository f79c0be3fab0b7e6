"""Recall, its curve of capped training, and the claims about facts, on planted numbers."""

import numpy as np
import pytest

from memsinks_np.config import DataConfig, ModelConfig, SinkConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.data.people import GROUPS
from memsinks_np.experiments import headline, knowledge, recall
from memsinks_np.experiments.methods import PRESETS, label
from memsinks_np.experiments.recall import CAPS, KS, MANY, Measured, RecallResult
from memsinks_np.experiments.registry import Context
from memsinks_np.experiments.report import samples
from memsinks_np.model import init_params
from memsinks_np.sinks import active
from memsinks_np.trained import Model

N_FACTS = 10
RECALL = {  # at k = 1, 2, 4, 8; 16, 32 and 64; of common facts
    "standard": [0.99, 0.99, 0.99, 0.99, 0.99, 0.99],
    "retrained": [0.05, 0.05, 0.05, 0.05, 0.05, 0.99],
    "deduplicated": [0.1, 0.2, 0.4, 0.7, 0.95, 0.99],
    "capped_2": [0.28, 0.4, 0.5, 0.8, 0.96, 0.99],
    "capped_4": [0.6, 0.7, 0.7, 0.9, 0.97, 0.99],
    "capped_8": [0.85, 0.9, 0.95, 0.98, 0.98, 0.99],
    "gradient_masking": [0.04, 0.04, 0.04, 0.04, 0.04, 0.04],
    "sgtm": [0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
    "narrow": [0.9, 0.9, 0.9, 0.9, 0.9, 0.99],
    "random_sinks": [0.9, 0.9, 0.9, 0.9, 0.9, 0.99],
    "paper_sinks": [0.4, 0.6, 0.8, 0.95, 0.97, 0.99],
    "sinks": [0.19, 0.4, 0.66, 0.9, 0.97, 0.99],
    "large_pool": [0.08, 0.2, 0.5, 0.85, 0.97, 0.99],
}
LOSS = {"standard": 1.0, "retrained": 1.5, "deduplicated": 1.3}


def made_up(job, changes):
    """Return what a worker might return, with some numbers changed: (method, field) -> value.

    A field is some k, or a name.
    """
    name = job.method.name
    if job.measure is knowledge.measure_deletion:
        numbers = {"itself": 0.1, "other": 0.99, "rest": 0.99}
        return list((numbers | changes.get("deletion", {})).values())
    if job.measure is knowledge.measure_authors:
        numbers = {"alone": 0.1, "many": 0.97, "deleted": 0.2, "others": 0.99}
        numbers |= changes.get("authors", {})
        alone, many = ([numbers[field]] * 7 for field in ("alone", "many"))
        return [alone, many, numbers["deleted"], numbers["others"]]
    if job.measure is samples.complete:
        return [[1, "anna stone lives in", "rome", ["rome", 0.9], ["oslo", 0.1]]]
    if job.measure is headline.token_losses:
        return {"own": [[0.1]], "removed": [[0.2]]}
    changes = changes.get(name, {})
    one, two, four, eight, many, common = RECALL.get(name, RECALL["sinks"])
    at = dict(zip(KS, [one, two, four, eight, many, many, many, common], strict=True))
    for field, value in changes.items():
        ks = field if isinstance(field, tuple) else (field,)
        at |= {k: value for k in ks if k in KS}
    end = [at[k] for k in GROUPS]
    top = [changes.get("top", 0.5), *end[1:]]
    losses = [[3.0, 4.0, 5.0], [3.0, 4.0, 5.0]]
    rows = zip((0, 80, 160), ([0.0] * 7, top, end), strict=True)
    history = [[step, 1.0, *losses, [], recalls] for step, recalls in rows]
    own = [changes.get("own", 0.99)] * 7
    loss = [changes.get("loss", LOSS.get(name, 1.1))] * 8
    return [[[at[k]] * N_FACTS for k in KS], own, loss, history]


def run(experiment, changes, seeds=1):
    context = Context(PRESETS["people"], seeds)
    jobs = experiment.jobs(context)
    return experiment.result(context, {key: made_up(job, changes) for key, job in jobs.items()})


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "n"), [(headline, 8), (knowledge, 13)])
def test_claims_hold_table_fits_and_figure_is_drawn(experiment, n, tmp_path):
    result = run(experiment, {}, seeds=3)
    claims = experiment.claims(result)
    assert [claim for claim in claims if not claim.holds] == []
    assert len(claims) == n
    lines = experiment.tabulate(result).splitlines()
    assert len(lines) == 2 + len(result.methods)
    assert [line for line in lines if len(line) != len(lines[0]) or len(line) > 80] == []
    assert all(any(line.startswith(f"| {label(m)} ") for line in lines) for m in result.methods)
    name = experiment.__name__.split(".")[-1]
    assert [p.name for p in experiment.draw(result, tmp_path)] == [f"{name}.png", f"{name}.svg"]


FAILURES = [
    (headline, "standard", 1, 0.6, [0]),
    (headline, "deduplicated", "loss", 0.9, [1, 6]),
    (headline, "deduplicated", "loss", 1.05, [6]),
    (headline, "paper_sinks", "own", 0.97, [2]),
    (headline, "large_pool", 1, 0.2, [3]),
    (headline, "sinks", 32, 0.85, [4]),
    (headline, "sinks", 1, 0.25, [5]),
    (headline, "sinks", 4, 0.6, [5]),
    (headline, "gradient_masking", 0, 0.6, [7]),
    (knowledge, "standard", 8, 0.8, [0]),
    (knowledge, "sinks", "own", 0.97, [1]),
    (knowledge, "large_pool", 1, 0.15, [2]),
    (knowledge, "large_pool", 16, 0.8, [2]),
    (knowledge, "sinks", 1, 0.21, [3]),
    (knowledge, "sinks", 4, 0.43, [3, 4]),
    (knowledge, "capped_2", 4, 0.99, [4]),
    (knowledge, "gradient_masking", 0, 0.6, [5]),
    (knowledge, "sgtm", MANY, 0.6, [6]),
    (knowledge, "narrow", 1, 0.4, [7]),
    (knowledge, "random_sinks", 1, 0.4, [7]),
    (knowledge, "deduplicated", 1, 0.2, [8]),  # effective showings: < 1
    (knowledge, "sinks", 1, 0.5, [3, 8, 9]),  # more than 3
    (knowledge, "sinks", "top", 0.2, [9]),
    (knowledge, "deletion", "other", 0.8, [10]),
    (knowledge, "deletion", "rest", 0.8, [10]),
    (knowledge, "authors", "alone", 0.3, [11]),
    (knowledge, "authors", "many", 0.8, [11]),
    (knowledge, "authors", "deleted", 0.6, [12]),
    (knowledge, "authors", "others", 0.9, [12]),
]


@pytest.mark.parametrize(("experiment", "method", "field", "value", "fail"), FAILURES)
def test_claim_fails_by_its_number(experiment, method, field, value, fail):
    claims = experiment.claims(run(experiment, {method: {field: value}}))
    assert [i for i, claim in enumerate(claims) if not claim.holds] == fail


# Parts


def planted(recalls, losses=(), n_facts=1):
    """Return a result in which a method has some recall, the same or (seeds, facts), at each k."""
    methods = {}
    for name, by_k in recalls.items():
        values = [np.broadcast_to(np.asarray(by_k.get(k, 0.0)), (3, n_facts)) for k in KS]
        loss = dict(losses).get(name, [0.0] * 3)
        methods[name] = [
            Measured([v[seed].tolist() for v in values], [], [loss[seed]] * 8, [])
            for seed in range(3)
        ]
    return RecallResult(methods)


@pytest.mark.parametrize(
    ("curve", "value", "n"),
    [
        ([0.1, 0.2, 0.4, 0.8], 0.1, 1),
        ([0.1, 0.2, 0.4, 0.8], 0.2, 2),
        ([0.1, 0.2, 0.4, 0.8], 0.3, 2**1.5),
        ([0.1, 0.2, 0.4, 0.8], 0.8, 8),
        ([0.1, 0.2, 0.4, 0.8], 0.09, 0),
        ([0.1, 0.2, 0.4, 0.8], 0.81, float("inf")),
        ([0.1, 0.3, 0.2, 0.8], 0.2, 2**0.5),  # it is made to rise
        ([0.1, 0.3, 0.2, 0.8], 0.55, 2**2.5),
    ],
)
def test_recall_is_found_on_a_logarithmic_curve(curve, value, n):
    assert recall.on_curve(np.array(curve), value) == pytest.approx(n)


def capped_and(model, n_facts=60):
    """Return capped training and a model: facts recalled or not, at random, under three seeds."""
    rng = np.random.default_rng(5)
    chances = dict(zip(CAPS.values(), (0.1, 0.3, 0.6, 0.9), strict=True)) | {"model": model}
    draws = {name: {1: rng.random((3, n_facts)) < p} for name, p in chances.items()}
    return planted(draws, n_facts=n_facts)


@pytest.mark.parametrize(("model", "n"), [(0.2, 2**0.5), (0.3, 2), (0.45, 2**1.5), (0.75, 2**2.5)])
def test_effective_showings_recover_a_planted_number(model, n):
    showings = recall.effective_showings(capped_and(model), "model")
    assert showings.low < showings.n < showings.high
    assert showings.low <= n <= showings.high
    assert showings.high < 2.5 * showings.low
    assert showings.n == pytest.approx(n, rel=0.2)


def test_effective_showings_off_the_curve_are_named():
    below, above = (recall.effective_showings(capped_and(p), "model") for p in (0.0, 1.0))
    assert str(below) == "< 1 [< 1, < 1]"
    assert str(above) == "> 8 [> 8, > 8]"
    assert str(recall.Showings(1.44, 0.0, float("inf"))) == "1.4 [< 1, > 8]"


@pytest.mark.parametrize("vary", ["facts", "seeds"])
def test_interval_of_showings_is_over_facts_and_seeds(vary):
    """A model that differs only between facts, or only between seeds, has an interval."""
    curve = {name: {1: p} for name, p in zip(CAPS.values(), (0.1, 0.3, 0.6, 0.9), strict=True)}
    model = np.linspace(0.2, 0.4, 3)
    model = np.tile(model, (3, 1)) if vary == "facts" else np.tile(model[:, None], 3)
    showings = recall.effective_showings(planted(curve | {"model": {1: model}}, n_facts=3), "model")
    assert showings.low < showings.n < showings.high


CAPPED = ("retrained", *CAPS.values(), "standard")


def on_the_plane(one, four):
    """Return capped training on a curve in the plane of k=1 and k=4, and a method beside it."""
    x, y = [0.0, 0.1, 0.2, 0.4, 0.6, 0.8], [0.0, 0.4, 0.5, 0.7, 0.9, 1.0]
    higher = np.array([[0.0], [0.1], [0.2]])  # each seed has a curve of its own
    points = {name: {1: a, 4: b + higher} for name, a, b in zip(CAPPED, x, y, strict=True)}
    return planted(points | {"model": {1: one, 4: four + higher}})


@pytest.mark.parametrize("method", CAPPED)
def test_capped_training_gains_nothing_over_itself(method):
    gains = recall.gain_over_capping(on_the_plane(0.5, 0.5), method)
    assert gains == pytest.approx([0, 0, 0])


def test_gain_over_capping_is_the_height_above_its_curve():
    seeds = np.array([[0.05], [0.3], [0.5]])  # the curve is at 0.2, 0.6, 0.8 there
    gains = recall.gain_over_capping(on_the_plane(seeds, 0.7), "model")
    assert gains == pytest.approx([0.5, 0.1, -0.1])


def test_benefit_kept_is_1_for_standard_and_0_for_retrained():
    losses = {"standard": [1.0, 1.5, 2.0], "retrained": [2.0, 2.5, 2.25], "model": [1.25, 3, 2]}
    result = planted({name: {} for name in losses}, losses)
    assert result.benefit_kept("standard", 16) == [1, 1, 1]
    assert result.benefit_kept("retrained", 16) == [0, 0, 0]
    assert result.benefit_kept("model", *MANY) == [0.75, -0.5, 1]


def test_without_a_benefit_none_is_kept_and_the_claim_fails():
    changes = {name: {"loss": 1.0} for name in ("standard", "retrained")}
    result = run(headline, changes, seeds=2)
    assert result.benefit_kept("sinks", *MANY) == [None, None]
    claims = headline.claims(result)
    assert not claims[6].holds
    assert "sinks -" in claims[6].here


def test_recall_is_the_mean_over_facts_then_over_k():
    first = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 1.0]])
    result = planted({"model": {1: first, 4: 0.25}, "base": {1: 0.5}}, n_facts=2)
    assert result.recall("model", 1) == [0.5, 0.5, 1.0]
    assert result.recall("model", 1, 4) == [0.375, 0.375, 0.625]
    assert result.rise("model", "base", 1) == [0.0, 0.0, 0.5]


# Deletion


def untrained(corpus_name):
    """Return an untrained model of a small world, in which no two documents share a sink."""
    settings = {"n_ctx": 29, "n_repeated": 254, "n_heldout": 8, "repeat_fraction": 7 / 32}
    corpus = load_corpus(DataConfig(corpus=corpus_name, **settings))
    pool = SinkConfig(n_sink=512, n_active=2, scheme="disjoint")
    cfg = ModelConfig(n_vocab=len(corpus.vocab), n_ctx=29, d_model=4, n_heads=1, sinks=pool)
    params = {name: w + 1 for name, w in init_params(cfg).items()}
    return Model(params, cfg, corpus.vocab, " ", [], corpus)


def recalled_with_its_sinks(model, params, rows):
    """Return that a document recalls all of its facts unless its sinks are erased."""
    index = active(model.cfg.sinks, model.corpus.repeated_ids[rows])
    erased = (params["h0.sink.W_out"][index] == 0).all(axis=(1, 2))
    return np.repeat(~erased[:, None], 5, axis=1)


def test_deletion_is_measured_in_each_kind_of_document(monkeypatch):
    monkeypatch.setattr(knowledge, "own_recall", recalled_with_its_sinks)
    assert knowledge.measure_deletion(untrained("people")) == [0, 1, 1]


def test_single_and_several_authors_are_measured_apart(monkeypatch):
    model = untrained("authors")
    ids, stated = model.corpus.repeated_ids, model.corpus.facts.repeated

    def authors_of(params, cfg, facts, k):
        rows = [(stated == fact).any(axis=1) for fact in facts.world.facts_of(k)]
        return np.array([len(set(ids[row])) for row in rows], float)

    monkeypatch.setattr(knowledge, "own_recall", recalled_with_its_sinks)
    monkeypatch.setattr(knowledge.metrics, "recall", authors_of)
    alone, many, deleted, others = knowledge.measure_authors(model)
    assert (alone, many) == ([1.0] * len(GROUPS), list(map(float, GROUPS)))
    assert (deleted, others) == (0, 1)
