"""Output-vector editing against a pseudo-inverse, differences, and a planted neuron."""

from dataclasses import replace

import numpy as np

from memsinks_np.baselines.edit import SETTINGS, directions, edited, output_edit, output_edits
from memsinks_np.config import ModelConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.model import model_forward
from memsinks_np.sinks import NO_SINKS
from plain import strong_params

CFG = ModelConfig(n_vocab=7, n_ctx=5, d_model=4, n_heads=2, n_layers=2, n_shared=4)
PARAMS = strong_params(CFG, 5)
TOKENS = np.random.default_rng(6).integers(CFG.n_vocab, size=(2, 6))
SCORES = np.array([[0.1, 9.0, 0.3, 0.2], [-4.0, -3.0, -2.0, -1.0]])


def leads(params, tokens=TOKENS):
    """How far the true word is ahead of the one that is best before the edit, (N*T,)."""
    first, now = (
        model_forward(np, p, make_batch(CFG, tokens, NO_SINKS, np.float64), CFG)[0].reshape(-1, 7)
        for p in (PARAMS, params)
    )
    true, rows = tokens[:, 1:].ravel(), np.arange(tokens[:, 1:].size)
    first[rows, true] = -np.inf
    d = first.argmax(axis=1)
    return now[rows, true] - now[rows, d]


def test_directions_are_the_slopes_of_the_last_layer():
    at = directions(PARAMS, CFG, TOKENS)
    np.testing.assert_allclose(at.lead, leads(PARAMS))
    change = np.zeros((2, 4, 4))
    change[1] = np.random.default_rng(0).normal(size=(4, 4))
    up, down = (leads(edited(PARAMS, change, s)) for s in (1e-6, -1e-6))
    slope = np.einsum("tg,gc,tc->t", at.post[1], change[1], at.v)
    np.testing.assert_allclose(slope, (down - up) / 2e-6, rtol=1e-6, atol=1e-8)


def test_the_edit_is_the_smallest_that_draws_level():
    at = directions(PARAMS, CFG, TOKENS)
    edit = output_edit(at, SCORES, 0.5, ridge=1e-13)
    located = [[1, 2], [2, 3]]
    a = np.concatenate([at.post[layer][:, j] for layer, j in enumerate(located)], axis=1)
    constraints = np.einsum("tj,tc->tjc", a, at.v).reshape(10, 16)
    smallest = (np.linalg.pinv(constraints) @ at.lead).reshape(2, 2, 4)
    for layer, j in enumerate(located):
        np.testing.assert_allclose(edit[layer, j], smallest[layer], rtol=1e-3, atol=1e-6)
        assert not np.delete(edit[layer], j, axis=0).any()
    assert np.linalg.norm(output_edit(at, SCORES, 0.5, ridge=1.0)) < 0.1 * np.linalg.norm(edit)


def test_an_edit_can_change_least_on_other_text():
    at = directions(PARAMS, CFG, TOKENS[:1, :4])  # few enough to be met exactly
    other = np.random.default_rng(1).integers(CFG.n_vocab, size=(9, 6))
    keep = directions(PARAMS, CFG, other).post
    changes = {}
    for name, usual in (("smallest", None), ("least change", keep)):
        edit = output_edit(at, SCORES, 1.0, 1e-12, usual)
        np.testing.assert_allclose(np.einsum("ltj,ljc,tc->t", at.post, edit, at.v), at.lead, 1e-3)
        written = np.einsum("ltj,ljc->tc", keep, edit)
        changes[name] = np.linalg.norm(written), np.linalg.norm(edit)
    assert changes["least change"][0] < changes["smallest"][0]
    assert changes["least change"][1] > changes["smallest"][1]


def test_all_edits_are_those_of_their_settings():
    cfg = replace(CFG, n_shared=8)
    params, once = strong_params(cfg, 1), np.random.default_rng(1).integers(7, size=(9, 6))
    first, other = np.random.default_rng(2).normal(size=(2, 2, 8))
    got = output_edits(params, cfg, TOKENS, once, {"first": first, "other": other})
    at, keep = (directions(params, cfg, t) for t in (TOKENS, once))
    assert len(got) == len(SETTINGS)
    for edit, (fraction, ridge, least) in zip(got.values(), SETTINGS, strict=True):
        want = output_edit(at, first, fraction, ridge, keep.post if least else None)
        np.testing.assert_array_equal(edit, want)


def test_an_edit_moves_output_vectors_alone():
    edit = np.random.default_rng(0).normal(size=(2, 4, 4))
    now = edited(PARAMS, edit, 0.5)
    for name, w in PARAMS.items():
        layer = int(name[1]) if name.endswith("mlp.W_out") else None
        want = w if layer is None else w + 0.5 * edit[layer]
        np.testing.assert_allclose(now[name], want)
