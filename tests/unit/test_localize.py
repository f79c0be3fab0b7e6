"""Removal by localization, against the mistakes of published baselines: inverted masks, Integrated Gradients that
ignore their number of steps, means over the wrong axis, gates that do not open and close (TinyMem's stored code)."""

import json
from dataclasses import replace

import numpy as np
import pytest
from memsinks_np.posthoc import gates, localize, tradeoff

from memsinks_np import metrics
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np.baselines.tradeoff import path, within
from memsinks_np.config import (
    ConfigError,
    DataConfig,
    Method,
    ModelConfig,
    Settings,
    SinkConfig,
    TrainConfig,
)
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import Context, fig2, fig2_run
from memsinks_np.experiments.methods import PRESETS, quick
from memsinks_np.experiments.report.claims import to_json
from memsinks_np.experiments.runner.grid import Job, train_cached
from memsinks_np.gradcheck.cases import small_model
from memsinks_np.model import init_params, make_batch, model_forward
from memsinks_np.sinks import NO_SINKS, prune
from memsinks_np.train import Model
from plain import word_losses

RNG = np.random.default_rng(5)
CFG, PARAMS = small_model(True, RNG)
CFG, PARAMS = replace(CFG, sinks=None), prune(PARAMS)
TOKENS = RNG.integers(CFG.n_vocab, size=(5, 6))
ONES, ZEROS = np.ones((CFG.n_layers, CFG.n_shared)), np.zeros((CFG.n_layers, CFG.n_shared))


def loss(params):
    return metrics.mean_loss(params, CFG, TOKENS, NO_SINKS)


def hidden_probability(model):
    """The mean probability of the true next word, without the package's loss."""
    logits, _ = model_forward(np, model, make_batch(CFG, TOKENS, NO_SINKS, np.float64), CFG)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return np.take_along_axis(p, TOKENS[:, 1:, None], axis=-1).mean()


def erased(params, kept):
    """The model with all MLP neurons but `kept`, a set per layer, cut out of its arrays."""
    params = dict(params)
    for layer, some in enumerate(kept):
        for name, axis in (("W_in", 1), ("b_in", 0), ("W_out", 0)):
            params[f"h{layer}.mlp.{name}"] = np.take(params[f"h{layer}.mlp.{name}"], some, axis)
    return params


def test_gates_of_one_change_nothing_and_gates_of_zero_are_a_smaller_model():
    assert loss(localize.gated(PARAMS, ONES)) == loss(PARAMS)
    closed = ONES.copy()
    closed[0, 2] = closed[1, [0, 1]] = 0
    smaller = erased(PARAMS, [[0, 1, 3], [2, 3]])
    assert loss(localize.gated(PARAMS, closed)) == pytest.approx(loss(smaller), abs=1e-12)


@pytest.mark.parametrize("by", ["loss", "probability"])
def test_what_is_remembered_and_its_slope_against_differences(by):
    at = 0.3 + RNG.random(ONES.shape)
    known, slope = localize.remembered(PARAMS, CFG, TOKENS, at, by)
    model = localize.gated(PARAMS, at)
    assert known == pytest.approx(
        -loss(model) if by == "loss" else hidden_probability(model), rel=1e-12
    )
    for one in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[one] += 1e-6
        down[one] -= 1e-6
        rise = (
            localize.remembered(PARAMS, CFG, TOKENS, up, by)[0]
            - localize.remembered(PARAMS, CFG, TOKENS, down, by)[0]
        )
        assert slope[one] == pytest.approx(rise / 2e-6, abs=1e-8)


def test_what_is_remembered_does_not_depend_on_how_sequences_are_cut_into_chunks(monkeypatch):
    for by in ("loss", "probability"):
        whole = localize.remembered(PARAMS, CFG, TOKENS, ONES, by)
        monkeypatch.setattr(localize, "CHUNK", 2)
        parts = localize.remembered(PARAMS, CFG, TOKENS, ONES, by)
        monkeypatch.undo()
        assert parts[0] == pytest.approx(whole[0], rel=1e-12)
        np.testing.assert_allclose(parts[1], whole[1], rtol=1e-10, atol=1e-14)


def test_gate_gradients_find_their_layers_in_order_beyond_ten():
    shapes = {f"h{layer}.mlp.W_out": (2, 3) for layer in range(11)}
    params = {name: np.ones(shape) for name, shape in shapes.items()}
    grads = {name: np.full((2, 3), float(name[1:].split(".")[0])) for name in sorted(shapes)}
    np.testing.assert_array_equal(localize.gate_grads(np, params, grads)[:, 0], 3.0 * np.arange(11))


@pytest.mark.parametrize("by", ["loss", "probability"])
def test_integrated_gradients_are_complete_and_the_better_the_more_steps(by):
    total = (
        localize.remembered(PARAMS, CFG, TOKENS, ONES, by)[0]
        - localize.remembered(PARAMS, CFG, TOKENS, ZEROS, by)[0]
    )
    errors = [
        abs(localize.integrated_gradients(PARAMS, CFG, TOKENS, by, steps=steps).sum() - total)
        for steps in (8, 32, 128)
    ]
    assert (
        errors[0] > 4 * errors[1] > 16 * errors[2] > 0
    )  # sixteenfold each time, once the steps are fine enough
    assert errors[2] < 1e-3 * abs(total)


def test_integrated_gradients_layer_by_layer_are_complete_for_each_layer():
    scores = localize.integrated_gradients(PARAMS, CFG, TOKENS, "loss", together=False, steps=200)
    for layer in range(CFG.n_layers):
        shut = ONES.copy()
        shut[layer] = 0
        assert scores[layer].sum() == pytest.approx(
            loss(localize.gated(PARAMS, shut)) - loss(PARAMS), rel=1e-3
        )


def test_integrated_gradients_refuse_no_steps():
    with pytest.raises(ConfigError, match="steps=0"):
        localize.integrated_gradients(PARAMS, CFG, TOKENS, steps=0)


def test_zero_out_removes_the_tested_neuron_and_keeps_all_others():
    scores = localize.zero_out(PARAMS, CFG, TOKENS)
    for layer, neuron in np.ndindex(scores.shape):
        others = [
            np.delete(np.arange(CFG.n_shared), neuron) if at == layer else np.arange(CFG.n_shared)
            for at in (0, 1)
        ]
        assert scores[layer, neuron] == pytest.approx(
            loss(erased(PARAMS, others)) - loss(PARAMS), abs=1e-10
        )


def test_a_neuron_that_says_nothing_scores_nothing():
    silent = PARAMS | {"h1.mlp.W_out": PARAMS["h1.mlp.W_out"].copy()}
    silent["h1.mlp.W_out"][3] = 0
    for scores in (
        localize.zero_out(silent, CFG, TOKENS),
        localize.integrated_gradients(silent, CFG, TOKENS),
    ):
        assert scores[1, 3] == 0
        assert (scores != 0).sum() == scores.size - 1


def test_remove_takes_the_highest_scores_of_every_layer_and_leaves_its_argument_alone():
    before = {name: w.copy() for name, w in PARAMS.items()}
    scores = np.array(
        [[0.1, 9.0, 0.3, 0.2], [-4.0, -3.0, -2.0, -1.0]]
    )  # the highest over all layers: all in layer 0
    for share, kept in ((0, [[0, 1, 2, 3]] * 2), (0.5, [[0, 3], [0, 1]]), (0.75, [[0], [0]])):
        assert loss(localize.remove(PARAMS, scores, share)) == pytest.approx(
            loss(erased(PARAMS, kept)), abs=1e-12
        )
    cut = localize.remove(PARAMS, scores, 0.25)
    assert not cut["h0.mlp.W_out"][1].any()
    assert not cut["h0.mlp.W_in"][:, 1].any()
    assert cut["h0.mlp.b_in"][1] == 0
    assert all((PARAMS[name] == before[name]).all() for name in PARAMS)
    assert loss(localize.remove(PARAMS, scores, 1.0)) == pytest.approx(
        loss(localize.gated(PARAMS, ZEROS)), abs=1e-12
    )
    with pytest.raises(ConfigError, match=r"share=1\.5"):
        localize.remove(PARAMS, scores, 1.5)


def test_gates_open_with_their_number_and_with_the_noise_and_reach_both_ends():
    a, u = np.linspace(-6, 6, 61)[None], np.full((1, 61), 0.5)
    opened, _ = gates.hard_concrete_forward(np, a, u)
    assert (np.diff(opened[0]) >= 0).all()  # a higher score: more open, never less
    assert opened[0, 0] == 0
    assert opened[0, -1] == 1
    assert opened[0, 30] == pytest.approx(0.5)
    noise = np.linspace(0.001, 0.999, 61)[None]
    assert (np.diff(gates.hard_concrete_forward(np, 0 * a, noise)[0]) >= 0).all()


def test_the_penalty_is_the_share_of_gates_that_are_not_closed():
    u = (np.arange(100_000) + 0.5) / 100_000
    for a in (-3.0, 0.4, 2.0):
        opened, _ = gates.hard_concrete_forward(np, np.full((1, 100_000), a), u[None])
        share, _ = gates.open_share_forward(np, np.full((1, 1), a))
        assert (opened > 0).mean() == pytest.approx(share, abs=1e-4)


def test_learnt_gates_stay_open_where_the_sequences_need_the_neuron():
    """One neuron says the right thing loudly, the others whisper: it alone is worth an open gate."""
    cfg = ModelConfig(n_vocab=5, n_ctx=4, d_model=8, n_heads=2, n_layers=1, n_shared=6, tied=False)
    params = init_params(cfg, dtype=np.float64)
    loud = params["head"][3] - params["head"].mean(axis=0)
    params["h0.mlp.W_out"][2] = 40 * loud / (loud @ loud) ** 0.5
    params["h0.mlp.b_in"][2] = 3.0
    params["head"] *= 20
    tokens = np.full((3, 5), 3)
    few, many = gates.learn(params, cfg, tokens, penalty=1.0, keep=(1, 80))
    assert many[0].argmax() == 2
    assert many[0, 2] > 0.8
    assert np.delete(many[0], 2).max() < 0.5
    assert (few != many).all()
    closed = gates.learn(params, cfg, tokens, penalty=100.0, keep=(80,))[0]
    assert closed.max() < 0.3  # a dear enough gate is shut, needed or not
    free = gates.learn(params, cfg, tokens, penalty=0.0, keep=(80,), start=2)[0]
    assert free[0, 2] > 0.85


def test_curve_tells_stories_canaries_and_new_stories_apart():
    data = DataConfig(n_ctx=9, batch_size=4, n_repeated=3, n_canaries=2, n_heldout=7)
    corpus = load_corpus(data)
    cfg = ModelConfig(n_vocab=len(corpus.vocab), n_ctx=9, d_model=8, n_heads=2, n_shared=4)
    params = init_params(cfg, seed=1)
    scores = localize.random_scores(cfg)
    whole, half = localize.curve(params, cfg, corpus, scores, [0, 0.5])
    off = NO_SINKS
    assert whole["repeated"] == pytest.approx(
        metrics.mean_loss(params, cfg, corpus.repeated[:3], off), rel=1e-6
    )
    assert whole["canary"] == pytest.approx(
        metrics.mean_loss(params, cfg, corpus.repeated[3:], off), rel=1e-6
    )
    assert whole["heldout"] == metrics.mean_loss(params, cfg, corpus.heldout, off)
    cut = localize.remove(params, scores, 0.5)
    assert half["heldout"] == metrics.mean_loss(cut, cfg, corpus.heldout, off) != whole["heldout"]
    stories_alone = load_corpus(replace(data, n_canaries=0))
    row = localize.curve(params, cfg, stories_alone, scores, [0])[0]
    assert row["canary"] is row["canary_extraction"] is None
    assert row["repeated"] == pytest.approx(whole["repeated"], rel=1e-6)


def test_random_scores_are_a_control():
    cfg = ModelConfig(n_vocab=5, n_layers=2, n_shared=50)
    one, other = localize.random_scores(cfg), localize.random_scores(cfg, seed=1)
    assert one.shape == (2, 50)
    assert len(np.unique(np.concatenate([one, other]))) == 200


def test_most_forgotten_within_a_cost():
    points = np.array([[0.0, 0.0], [0.02, 0.1], [0.06, 0.5], [0.04, 0.2], [0.3, 9.0]])
    assert within(points, 0.02) == pytest.approx(0.1)
    assert within(points, 0.04) == pytest.approx(
        0.3
    )  # half of the way from the second to the third
    assert within(points, 0.06) == pytest.approx(
        0.2 + 8.8 * 0.02 / 0.26
    )  # past the third and back again
    assert within(points, 1.0) == 9.0
    assert (
        within(np.array([[0.0, 0.0], [0.1, -0.5]]), 0.05) == 0
    )  # removing nothing is always possible
    rows = [{"heldout": 1.0, "canary": 0.1}, {"heldout": 1.25, "canary": 0.6}]
    np.testing.assert_allclose(path(rows, "canary"), [[0, 0], [0.25, 0.5]])


def test_scores_are_those_of_the_memorized_sequences_and_the_contrast_takes_off_what_others_need(
    monkeypatch,
):
    monkeypatch.setattr(tradeoff, "ITERATIONS", (1, 3))
    once = RNG.integers(CFG.n_vocab, size=(5, 6))
    got = tradeoff.scored(PARAMS, CFG, TOKENS, once, seed=5)
    ways = {"all layers at once": True, "layer by layer": False}
    settings = {f"{by}, {way}": (by, ways[way]) for by in ("loss", "probability") for way in ways}
    needed, usual = (
        {
            name: localize.integrated_gradients(PARAMS, CFG, some, *how)
            for name, how in settings.items()
        }
        for some in (TOKENS, once)
    )
    want = {
        "gates": {
            f"penalty {penalty:g}, {n} iterations": gates.learn(
                PARAMS, CFG, TOKENS, penalty, (n,), seed=5
            )[0]
            for penalty in (0.5, 2, 10, 30)
            for n in (1, 3)
        },
        "integrated_gradients": needed,
        "contrast": {name: needed[name] - usual[name] for name in settings},
        "zero_out": {"loss": localize.zero_out(PARAMS, CFG, TOKENS)},
        "random": {"one draw": localize.random_scores(CFG, 5)},
    }
    assert {method: list(scores) for method, scores in got.items()} == {
        m: list(scores) for m, scores in want.items()
    }
    for method, scores in want.items():
        for name, score in scores.items():
            np.testing.assert_allclose(
                got[method][name], score, rtol=1e-12, err_msg=f"{method} {name}"
            )


FIG2 = Settings(
    data=DataConfig(n_ctx=9, batch_size=4, n_repeated=5, n_heldout=7, seed=3),
    train=TrainConfig(seed=3),
    d_model=8,
    n_heads=2,
)


@pytest.mark.parametrize(
    "data", [FIG2.data, fig2_run.atypical(FIG2.data)], ids=["stories", "canaries"]
)
def test_a_standard_arm_is_cut_by_what_it_memorized_and_as_many_once_seen_stories(
    data, monkeypatch
):
    corpus, method = load_corpus(data), Method(name="standard", n_shared=20)
    job = Job(method, replace(FIG2, data=data))
    cfg = FIG2.model(method, len(corpus.vocab))
    params, scores, asked = init_params(cfg, seed=1), localize.random_scores(cfg, 1), []
    monkeypatch.setattr(
        fig2_run, "scored", lambda *how: asked.append(how) or {"mine": {"first": scores}}
    )
    got = fig2_run.measure(job, Model(params, [{"step": 0}]), quick=True)
    (_, _, tokens, once, seed, quick), n = asked[0], 4 if data.n_canaries else 5
    assert (seed, quick) == (3, True)
    np.testing.assert_array_equal(tokens, corpus.repeated[-n:])
    np.testing.assert_array_equal(once, corpus.draw(np.arange(n))[0])
    curve = localize.curve(params, cfg, corpus, scores, [0, 8 / 128, 24 / 128, 40 / 128, 1])
    assert got["cuts"] == {"mine": {"first": curve}}
    assert len({row["heldout"] for row in curve}) == 5
    assert got["history"] == [{"step": 0}]
    assert got["floor"] == corpus.entropy(corpus.heldout)


def test_sinks_are_judged_removed_on_stories_and_on_canaries():
    method = Method(name="sinks", n_shared=4, sinks=SinkConfig(n_sink=6, n_active=2))
    kinds = {
        "stories": load_corpus(FIG2.data),
        "canaries": load_corpus(fig2_run.atypical(FIG2.data)),
    }
    cfg = FIG2.model(method, len(kinds["stories"].vocab))
    params = {name: w + 0.3 * RNG.standard_normal(w.shape) for name, w in init_params(cfg).items()}
    got = fig2_run.measure(Job(method, FIG2), Model(params, []), quick=True)
    loss = lambda some: pytest.approx(
        np.mean([word_losses(params, cfg, words, np.zeros(6)) for words in some])
    )
    for kind, corpus in kinds.items():
        n = len(corpus.repeated) - corpus.cfg.n_canaries
        assert got[kind]["repeated"] == loss(corpus.repeated[:n])
        assert got[kind]["canary"] == (loss(corpus.repeated[n:]) if kind == "canaries" else None)
        assert got[kind]["heldout"] == loss(corpus.heldout)


def test_while_memorizing_starts_where_half_of_the_final_gap_is_open():
    losses = [
        (5.0, 5.5),
        (3.0, 3.25),
        (2.0, 2.625),
        (1.25, 2.375),
        (0.75, 2.0),
    ]  # gaps 0.5, 0.25, 0.625, 1.125, 1.25
    history = [
        {"repeated_removed": repeated, "heldout_removed": heldout} for repeated, heldout in losses
    ]
    got = fig2_run.while_memorizing(history)
    assert got == {"repeated": 2.0 - 0.75, "heldout": 2.625 - 2.0, "share": 0.625 / 3.5}


@pytest.fixture(scope="module")
def quick_fig2(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    grid = lambda jobs, then: [then(job, train_cached(job, cache)) for job in jobs]
    with one_blas_thread():
        return fig2.run(
            Context(quick(PRESETS["stories"], steps=4)._replace(width=16), 2, True, grid)
        )


def test_fig2_runs_tells_and_draws(quick_fig2, tmp_path):
    result = json.loads(to_json(quick_fig2))
    assert fig2.claims(result) == fig2.claims(quick_fig2)
    assert all(type(claim.holds) is bool for claim in fig2.claims(result))
    assert fig2.tabulate(result).count("\n") == 1 + 2 * len(fig2.METHODS)
    assert [p.name for p in fig2.draw(result, tmp_path)] == ["fig2.png", "fig2.svg"]
    assert all(p.stat().st_size > 10_000 for p in tmp_path.iterdir())


def test_fig2_judges_every_method_by_its_best_setting(quick_fig2):
    for kind, method in (("stories", "gates"), ("canaries", "contrast")):
        settings = quick_fig2["seeds"][0][kind]["cuts"][method]
        means = [fig2_run.forgotten(quick_fig2, kind, method, setting=s).mean() for s in settings]
        assert fig2_run.forgotten(quick_fig2, kind, method).mean() == max(means)


def test_fig2_uses_the_gold_reference_of_the_same_seed(quick_fig2):
    gaps = fig2_run.gold_gap(quick_fig2, "canaries")
    for gap, seed in zip(gaps, quick_fig2["seeds"], strict=True):
        before = seed["canaries"]["cuts"]["zero_out"]["loss"][0]["canary"]
        assert gap == seed["gold"]["canaries"]["canary"] - before
    assert gaps[0] != gaps[1]
