"""Removal by localization: gates, scores, cuts, and how a curve of cuts is read."""

import json

import numpy as np
import pytest

from memsinks_np import metrics
from memsinks_np.baselines import gates, localize
from memsinks_np.baselines.gates import gate_grads, gated, known_and_grad
from memsinks_np.baselines.tradeoff import (
    Ablation,
    ablation_curve,
    edit_curve,
    max_forgetting,
    tradeoff_curve,
)
from memsinks_np.config import ConfigError, DataConfig, ModelConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import fig2
from memsinks_np.experiments.methods import PRESETS, quick
from memsinks_np.experiments.registry import Context
from memsinks_np.experiments.report.claims import to_json
from memsinks_np.metrics import BySinks, HistoryRow
from memsinks_np.model import init_params, model_forward
from memsinks_np.sinks import NO_SINKS
from memsinks_np.trained import Model
from plain import run_jobs, strong_params

CFG = ModelConfig(n_vocab=7, n_ctx=5, d_model=4, n_heads=2, n_layers=2, n_shared=4)
ONES, ZEROS = np.ones((2, 4)), np.zeros((2, 4))
OBJECTIVES = pytest.mark.parametrize("objective", ["loss", "probability"])


@pytest.fixture(scope="module")
def params():
    return strong_params(CFG, 5)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(6).integers(CFG.n_vocab, size=(5, 6))


def without(params, removed):
    """Delete MLP neurons, a list per layer, from the arrays."""
    params = dict(params)
    for layer, neurons in enumerate(removed):
        for name, axis in (("W_in", 1), ("b_in", 0), ("W_out", 0)):
            name = f"h{layer}.mlp.{name}"
            params[name] = np.delete(params[name], neurons, axis)
    return params


def loss(params, tokens):
    return metrics.mean_loss(params, CFG, tokens, NO_SINKS)


def mean_probability(params, tokens):
    """The mean probability of the true next token, without the package's loss."""
    batch = make_batch(CFG, tokens, NO_SINKS, np.float64)
    logits, _ = model_forward(np, params, batch, CFG)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return np.take_along_axis(p, tokens[:, 1:, None], axis=-1).mean()


def test_a_gate_of_one_keeps_and_of_zero_removes_a_neuron(params, tokens):
    assert loss(gated(params, ONES), tokens) == loss(params, tokens)
    closed = ONES.copy()
    closed[0, 2] = closed[1, [0, 1]] = 0
    smaller = loss(without(params, [[2], [0, 1]]), tokens)
    assert loss(gated(params, closed), tokens) == pytest.approx(smaller, abs=1e-12)


@OBJECTIVES
def test_gate_gradient_agrees_with_differences(params, tokens, objective):
    at = 0.3 + np.random.default_rng(0).random(ONES.shape)
    known, grad = known_and_grad(params, CFG, tokens, at, objective)
    model = gated(params, at)
    want = -loss(model, tokens) if objective == "loss" else mean_probability(model, tokens)
    assert known == pytest.approx(want, rel=1e-12)
    for i in np.ndindex(at.shape):
        step = np.zeros(at.shape)
        step[i] = 1e-6
        up, down = (
            known_and_grad(params, CFG, tokens, at + s, objective)[0] for s in (step, -step)
        )
        assert grad[i] == pytest.approx((up - down) / 2e-6, abs=1e-8)


@OBJECTIVES
def test_chunks_do_not_change_the_gate_gradient(params, tokens, objective, monkeypatch):
    whole = known_and_grad(params, CFG, tokens, ONES, objective)
    monkeypatch.setattr(gates, "CHUNK", 2)
    parts = known_and_grad(params, CFG, tokens, ONES, objective)
    assert parts[0] == pytest.approx(whole[0], rel=1e-12)
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-10, atol=1e-14)


def test_gate_gradients_are_in_the_order_of_layers_beyond_ten():
    layers = {f"h{layer}.mlp.W_out": layer for layer in range(11)}
    params = {name: np.ones((2, 3)) for name in layers}
    grads = {name: np.full((2, 3), float(layers[name])) for name in sorted(layers)}
    np.testing.assert_array_equal(gate_grads(np, params, grads)[:, 0], 3.0 * np.arange(11))


@OBJECTIVES
def test_integrated_gradients_are_complete(params, tokens, objective):
    known = [known_and_grad(params, CFG, tokens, at, objective)[0] for at in (ONES, ZEROS)]
    total = known[0] - known[1]
    scores = [
        localize.integrated_gradients(params, CFG, tokens, objective, steps=n) for n in (8, 32, 128)
    ]
    errors = [abs(s.sum() - total) for s in scores]
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0  # the error falls with steps^2
    assert errors[2] < 1e-3 * abs(total)


def test_integrated_gradients_are_complete_in_each_layer(params, tokens):
    scores = localize.integrated_gradients(params, CFG, tokens, "loss", together=False, steps=200)
    for layer in range(CFG.n_layers):
        closed = ONES.copy()
        closed[layer] = 0
        rise = loss(gated(params, closed), tokens) - loss(params, tokens)
        assert scores[layer].sum() == pytest.approx(rise, rel=1e-3)


def test_zero_out_is_the_loss_without_the_neuron(params, tokens):
    scores = localize.zero_out(params, CFG, tokens)
    for layer, neuron in np.ndindex(scores.shape):
        removed = [[neuron] if at == layer else [] for at in (0, 1)]
        rise = loss(without(params, removed), tokens) - loss(params, tokens)
        assert scores[layer, neuron] == pytest.approx(rise, abs=1e-10)


def test_remove_erases_the_highest_scores_of_every_layer(params, tokens):
    before = {name: w.copy() for name, w in params.items()}
    scores = np.array([[0.1, 9.0, 0.3, 0.2], [-4.0, -3.0, -2.0, -1.0]])
    for fraction, removed in ((0, [[]] * 2), (0.5, [[1, 2], [2, 3]]), (0.75, [[1, 2, 3]] * 2)):
        want = loss(without(params, removed), tokens)
        cut = localize.remove(params, scores, fraction)
        assert loss(cut, tokens) == pytest.approx(want, abs=1e-12)
    cut = localize.remove(params, scores, 0.25)
    assert not cut["h0.mlp.W_out"][1].any()
    assert not cut["h0.mlp.W_in"][:, 1].any()
    assert cut["h0.mlp.b_in"][1] == 0
    assert all((params[name] == before[name]).all() for name in params)  # caller's arrays


def test_impossible_settings_are_rejected(params, tokens):
    with pytest.raises(ConfigError, match="steps=0"):
        localize.integrated_gradients(params, CFG, tokens, steps=0)
    with pytest.raises(ConfigError, match=r"fraction=1\.5"):
        localize.remove(params, ONES, 1.5)
    with pytest.raises(ConfigError, match="penalty=-1"):
        gates.learn(params, CFG, tokens, penalty=-1)


def test_gates_grow_with_parameter_and_noise_to_both_ends():
    a, u = np.linspace(-6, 6, 61)[None], np.full((1, 61), 0.5)
    g, _ = gates.hard_concrete_forward(np, a, u)
    assert (np.diff(g[0]) >= 0).all()
    assert g[0, [0, 30, 60]].tolist() == pytest.approx([0, 0.5, 1])
    noise = np.linspace(0.001, 0.999, 61)[None]
    assert (np.diff(gates.hard_concrete_forward(np, 0 * a, noise)[0]) >= 0).all()


def test_the_penalty_is_the_fraction_of_open_gates():
    u = (np.arange(100_000) + 0.5) / 100_000
    for a in (-3.0, 0.4, 2.0):
        g, _ = gates.hard_concrete_forward(np, np.full((1, 100_000), a), u[None])
        fraction, _ = gates.open_fraction_forward(np, np.full((1, 1), a))
        assert (g > 0).mean() == pytest.approx(fraction, abs=1e-4)


def test_learned_gates_stay_open_only_for_the_needed_neuron():
    """One neuron predicts the only token loudly, the others hardly matter."""
    cfg = ModelConfig(n_vocab=5, n_ctx=4, d_model=8, n_heads=2, n_layers=1, n_shared=6)
    params = init_params(cfg, dtype=np.float64)
    params["wte"] *= 20
    loud = params["wte"][3] - params["wte"].mean(axis=0)
    params["h0.mlp.W_out"][2] = 40 * loud / (loud @ loud) ** 0.5
    params["h0.mlp.b_in"][2] = 3.0
    params["h0.mlp.W_in"][:, 2] = 0
    params["wpe"] *= 0
    tokens = np.full((3, 5), 3)
    tokens[:, 0] = 0
    few, many = gates.learn(params, cfg, tokens, penalty=1.0, iterations=(1, 80))
    assert many[0].argmax() == 2
    assert many[0, 2] > 0.8
    assert np.delete(many[0], 2).max() < 0.5
    assert (few != many).all()
    closed = gates.learn(params, cfg, tokens, penalty=100.0, iterations=(80,))[0]
    assert closed.max() < 0.3


def test_random_scores_differ_by_neuron_and_seed():
    cfg = ModelConfig(n_vocab=5, n_layers=2, n_shared=50)
    scores = [localize.random_scores(cfg, seed) for seed in (0, 1)]
    assert scores[0].shape == (2, 50)
    assert len(np.unique(scores)) == 200


def test_ablation_curve_evaluates_each_cut(params, tokens):
    heldout = np.random.default_rng(1).integers(CFG.n_vocab, size=(7, 6))
    scores = localize.random_scores(CFG)
    rows = ablation_curve(params, CFG, tokens, heldout, scores, [0, 0.5])
    for fraction, row in zip((0, 0.5), rows, strict=True):
        cut = localize.remove(params, scores, fraction)
        losses = [pytest.approx(loss(cut, some)) for some in (tokens, heldout)]
        _, likeliest = metrics.predict(cut, CFG, tokens, NO_SINKS)
        extraction = metrics.extracted(tokens, likeliest).mean()
        assert row == Ablation(fraction, *losses, extraction)
    assert rows[0] != rows[1]


def test_max_forgetting_interpolates_within_the_cost():
    points = np.array([[0.0, 0.0], [0.02, 0.1], [0.06, 0.5], [0.04, 0.2], [0.3, 9.0]])
    cases = {0.02: 0.1, 0.04: 0.3, 0.06: 0.2 + 8.8 * 0.02 / 0.26, 1.0: 9.0}
    for cost, want in cases.items():
        assert max_forgetting(points, cost) == pytest.approx(want)
    assert max_forgetting([[0.0, 0.0], [0.1, -0.5]], 0.05) == 0  # remove nothing


def test_tradeoff_curve_is_the_rise_of_both_losses():
    rows = [Ablation(0, 0.1, 1.0, 1), Ablation(0.5, 0.6, 1.25, 0)]
    np.testing.assert_allclose(tradeoff_curve(rows), [[0, 0], [0.25, 0.5]])


def test_all_scores_are_those_of_the_methods_by_setting(params, tokens, monkeypatch):
    monkeypatch.setattr(localize, "ITERATIONS", (1, 3))
    once = np.random.default_rng(2).integers(CFG.n_vocab, size=(5, 6))
    got = localize.all_scores(params, CFG, tokens, once, seed=5)
    sizes = {"gates": 8, "integrated_gradients": 4, "contrast": 4, "zero_out": 1, "random": 1}
    assert {method: len(settings) for method, settings in got.items()} == sizes
    gradients = {
        f"{objective}, {text}": [
            localize.integrated_gradients(params, CFG, some, objective, together)
            for some in (tokens, once)
        ]
        for objective in ("loss", "probability")
        for text, together in (("all layers at once", True), ("layer by layer", False))
    }
    for name, (needed, usual) in gradients.items():
        np.testing.assert_allclose(got["integrated_gradients"][name], needed)
        np.testing.assert_allclose(got["contrast"][name], needed - usual)
    learned = gates.learn(params, CFG, tokens, 10, (3,), seed=5)[0]
    np.testing.assert_allclose(got["gates"]["penalty 10, 3 iterations"], learned)
    np.testing.assert_allclose(got["zero_out"]["loss"], localize.zero_out(params, CFG, tokens))
    np.testing.assert_allclose(got["random"]["one draw"], localize.random_scores(CFG, 5))


def test_ablation_ends_where_repeated_reaches_heldout(monkeypatch):
    """On a model whose repeated loss is the fraction that was removed."""
    corpus = load_corpus(DataConfig(n_ctx=9, batch_size=4, n_repeated=3, n_heldout=7))
    once, _ = corpus.draw(np.arange(3))
    scores = []

    def mean_loss(params, cfg, tokens, sinks):
        return params["fraction"] if len(tokens) == 3 else 0.3

    def first_token(params, cfg, tokens, *args, **kwargs):
        return np.float64(tokens[0, 0])

    def remove(params, score, fraction):
        scores.append(score)
        return {"fraction": fraction}

    for function in (mean_loss, remove):
        monkeypatch.setattr(localize, function.__name__, function)
    monkeypatch.setattr(localize, "integrated_gradients", first_token)
    assert localize.ablate_until_forgotten({}, CFG, corpus) == {"fraction": 10 / 32}
    assert set(scores) == {corpus.repeated[0, 0] - once[0, 0]}


# Figure 2

DATA = DataConfig(n_ctx=9, batch_size=4, n_repeated=5, n_heldout=7, seed=3)


@pytest.mark.parametrize("data", [DATA, fig2.canary_data(DATA)], ids=["stories", "canaries"])
def test_fig2_cuts_by_what_was_memorized(data, monkeypatch):
    corpus, calls = load_corpus(data), []
    cfg = ModelConfig(n_vocab=len(corpus.vocab), n_ctx=9, d_model=8, n_heads=2, n_shared=20)
    params, scores = init_params(cfg, seed=1), localize.random_scores(cfg, 1)

    def all_scores(*args):
        calls.append(args)
        return {"contrast": {"setting": scores}}

    def output_edits(*args):
        calls.append(args)
        return {"edit": edit}

    edit = np.random.default_rng(0).normal(size=(2, 20, 8))
    for function in (all_scores, output_edits):
        monkeypatch.setattr(fig2, function.__name__, function)
    got = fig2.ablate(Model(params, cfg, corpus.vocab, " ", [], corpus), quick=True)
    n = 4 if data.n_canaries else 5
    _, _, tokens, once, seed, quick = calls[0]
    assert (seed, quick) == (3, True)
    np.testing.assert_array_equal(tokens, corpus.repeated[-n:])
    np.testing.assert_array_equal(once, corpus.draw(np.arange(n))[0])
    fractions = [0, 8 / 128, 24 / 128, 40 / 128, 1]
    curve = ablation_curve(params, cfg, tokens, corpus.heldout, scores, fractions)
    edited = edit_curve(params, cfg, tokens, corpus.heldout, edit, [0, 0.2, 0.5])
    assert got == {"contrast": {"setting": curve}, "output_edit": {"edit": edited}}
    assert edited[0] == curve[0]
    for was, now in zip(calls[0][2:4], calls[1][2:4], strict=True):
        np.testing.assert_array_equal(now, was)


def test_late_falls_begin_at_half_of_the_final_gap():
    losses = [(5.0, 5.5), (3.0, 3.25), (2.0, 2.625), (1.25, 2.375), (0.75, 2.0)]  # last gap 1.25
    history = [
        HistoryRow(step, None, BySinks(None, repeated), BySinks(None, new))
        for step, (repeated, new) in enumerate(losses)
    ]
    assert fig2.late_falls(history) == (2.0 - 0.75, 2.625 - 2.0, 0.625 / 3.5)


@pytest.fixture(scope="module")
def quick_fig2():
    preset = quick(PRESETS["stories"], steps=4)._replace(baseline_width=16)
    context = Context(preset, seeds=2, quick=True)
    return run_jobs(fig2, context)


@pytest.mark.slow
def test_fig2_tabulates_claims_and_draws(quick_fig2, tmp_path):
    json.loads(to_json(quick_fig2))
    claims = fig2.claims(quick_fig2)
    assert [type(claim.holds) for claim in claims] == [bool] * 8
    assert fig2.tabulate(quick_fig2).count("\n") == 1 + 2 * len(fig2.METHODS)
    assert [p.name for p in fig2.draw(quick_fig2, tmp_path)] == ["fig2.png", "fig2.svg"]


def test_fig2_shows_a_method_under_its_best_setting():
    curves = [  # the second setting forgets most within the cost, mean over seeds
        {name: [[0, 1, 1, 1], [0.5, 1 + up, 1.04, 0]] for name, up in zip("abc", ups, strict=True)}
        for ups in ((0.5, 0.4, 0.2), (0.1, 0.3, 0.2))
    ]
    cut = fig2.best_cut(curves)
    assert (cut.setting, cut.curves[1][1]) == ("b", Ablation(0.5, 1.3, 1.04, 0))
    assert fig2.forgotten(cut) == pytest.approx([0.4, 0.3])
    assert fig2.residual_extraction(cut).tolist() == [0, 0]


@pytest.mark.slow
def test_fig2_gold_gap_is_that_of_the_same_seed(quick_fig2):
    for kind in fig2.KINDS:
        unseen = quick_fig2.unseen_canaries
        if kind == "stories":
            unseen = quick_fig2.stories.values("retrained", "repeated.removed")
        before = [rows[0].repeated for rows in quick_fig2.cuts[kind]["zero_out"].curves]
        gaps = fig2.gold_gap(quick_fig2, kind)
        assert gaps == pytest.approx(np.subtract(unseen, before), abs=1e-6)
        assert gaps[0] != gaps[1]
