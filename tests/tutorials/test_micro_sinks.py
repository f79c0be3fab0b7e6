"""tutorials/micro_sinks.py agrees with the package, stays short and shows what sinks are for."""

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest

from memsinks_np.config import ModelConfig, SinkConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.model import init_params, loss_and_grads
from memsinks_np.sinks import Mask
from plain import strong_params
from tutorials import micro_sinks

SOURCE = Path(micro_sinks.__file__).read_text(encoding="utf-8")
TREE = ast.parse(SOURCE)

B, T, S, H, V = 3, 5, 10, 2, 11
POOL = SinkConfig(n_sink=S, n_active=5)
CFG = ModelConfig(n_vocab=V, n_ctx=T, d_model=6, n_heads=H, n_layers=3, n_shared=7, sinks=POOL)
PARAMS = strong_params(CFG, 11)
TOKENS = np.random.default_rng(12).integers(0, V, (B, T + 1))
FRACTIONS = np.random.default_rng(13).random((B, S))
MASKS = {"binary": FRACTIONS.round(), "fractional": FRACTIONS, "zero": 0 * FRACTIONS, "none": None}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_loss_and_gradients_are_those_of_the_package(mask):
    batch = make_batch(CFG, TOKENS, None if mask is None else Mask(mask), np.float64)
    expected, expected_grads = loss_and_grads(np, PARAMS, batch, CFG)
    before = {name: w.copy() for name, w in PARAMS.items()}
    loss, backward = micro_sinks.model(PARAMS, TOKENS, mask, H)
    grads = backward()
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    assert grads.keys() == expected_grads.keys()
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, expected_grads[name], rtol=1e-10, atol=1e-14, err_msg=name)
        np.testing.assert_array_equal(PARAMS[name], before[name], err_msg=f"{name} was written to")


def test_initial_parameters_are_like_those_of_the_package():
    m = micro_sinks
    pool, V = SinkConfig(n_sink=m.S, n_active=m.A), len(m.VOCAB)
    sizes = {"n_vocab": V, "n_ctx": m.T, "d_model": m.C, "n_heads": m.H, "n_layers": m.L}
    cfg = ModelConfig(**sizes, n_shared=m.G, sinks=pool)
    ours, theirs = m.init_params(np.random.default_rng(0)), init_params(cfg)
    assert ours.keys() == theirs.keys()
    for name, w in theirs.items():
        assert (ours[name].shape, ours[name].dtype) == (w.shape, w.dtype), name
        if w.ndim == 1:
            np.testing.assert_array_equal(ours[name], w, err_msg=name)


def test_pruning_equals_switching_all_sinks_off():
    pruned = micro_sinks.prune(PARAMS)
    assert pruned.keys() == {name for name in PARAMS if ".sink." not in name}
    off, _ = micro_sinks.model(PARAMS, TOKENS, np.zeros((B, S)), H)
    assert micro_sinks.model(pruned, TOKENS, None, H)[0] == off


def test_an_id_owns_one_sink_of_each_stratum_in_any_batch():
    S, A = micro_sinks.S, micro_sinks.A
    ids = np.arange(2000)
    masks = micro_sinks.masks_of(ids)
    assert masks.shape == (2000, S)
    assert set(np.unique(masks)) == {0, 1}
    assert (masks.reshape(2000, A, S // A).sum(axis=2) == 1).all()
    np.testing.assert_array_equal(micro_sinks.masks_of(ids[[7, 1999, 7]]), masks[[7, 1999, 7]])
    overlap = (masks[:1000] * masks[1000:]).sum(axis=1)  # of two IDs: A*A/S on average, binomial
    assert abs(overlap.mean() - A * A / S) < 4 * (A * A / S / 1000) ** 0.5
    assert np.abs(masks.mean(axis=0) - A / S).max() < 5 * (A / S / 2000) ** 0.5


def test_stories_have_one_name_and_a_word_of_each_slot():
    words = np.array(micro_sinks.VOCAB)[micro_sinks.stories(np.random.default_rng(0), 50)]
    sentences = words.reshape(50, -1, len(micro_sinks.SLOTS))
    assert words.shape == (50, micro_sinks.T + 1)
    assert (sentences[:, :, 0] == sentences[:, :1, 0]).all()
    for i, slot in enumerate(micro_sinks.SLOTS):
        assert set(sentences[:, :, i].ravel()) == set(slot)


def optimizer_inputs():
    p = {name: w.copy() for name, w in PARAMS.items()}
    mask = np.zeros((B, S))
    mask[0, [1, 4]] = mask[2, [4, 7]] = 1
    return p, {name: np.zeros((3, *w.shape)) for name, w in p.items()}, mask


def test_a_step_leaves_inactive_sinks_bit_identical():
    p, state, mask = optimizer_inputs()
    everyone = np.ones((B, S))
    for active in (everyone, mask):  # a first step gives every sink moments that could move it
        before = {name: (p[name].copy(), state[name].copy()) for name in p}
        grads = micro_sinks.model(p, TOKENS, active, H)[1]()
        micro_sinks.adamw_step(p, grads, state, active, 0.01)
    rows = np.isin(np.arange(S), [1, 4, 7])
    for name, w in p.items():
        weights, moments = before[name]
        on = rows if ".sink." in name else np.full(len(w), True)
        assert w[~on].tobytes() == weights[~on].tobytes(), name
        assert state[name][:, ~on].tobytes() == moments[:, ~on].tobytes(), name
        assert (w[on] != weights[on]).any(axis=tuple(range(1, w.ndim))).all(), name


def test_steps_are_those_of_adamw():
    p, state, mask = optimizer_inputs()
    rng = np.random.default_rng(0)
    grads = [{name: rng.standard_normal(w.shape) for name, w in p.items()} for _ in range(3)]
    for g in grads:
        micro_sinks.adamw_step(p, g, state, mask, 0.01, 0.8, 0.95)
    # Loshchilov & Hutter 2019, algorithm 2
    for name in ("wte", "lnf.g", "h1.sink.W_in", "h1.sink.b_in"):
        w, m, v = PARAMS[name].copy(), 0, 0
        decay = micro_sinks.DECAY if w.ndim == 2 else 0
        for t, g in enumerate(grads, 1):
            m, v = 0.8 * m + 0.2 * g[name], 0.95 * v + 0.05 * g[name] ** 2
            w = w - 0.01 * (m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8) + decay * w)
        rows = [1, 4, 7] if ".sink." in name else slice(None)
        np.testing.assert_allclose(p[name][rows], w[rows], rtol=1e-12, err_msg=name)


def test_it_has_at_most_150_lines_and_imports_numpy_alone():
    silent = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER"}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(SOURCE).readline):
        if tokenize.tok_name[token.type] not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(TREE):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    assert len(lines) <= 150
    assert max(map(len, SOURCE.splitlines())) <= 100
    imports = [node for node in ast.walk(TREE) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["import numpy as np"]
    assert "__import__" not in SOURCE


@pytest.mark.slow
def test_it_prints_what_sinks_are_for():
    command = [sys.executable, micro_sinks.__file__]
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *_, header, standard, own, removed, _, bounds = done.stdout.splitlines()
    assert header.split() == ["nats", "per", "token", "repeated", "new"]
    assert [line[:8] for line in (standard, own, removed)] == ["standard", "with own", "sinks re"]
    losses = [map(float, line.split()[-2:]) for line in (standard, own, removed)]
    (standard, standard_new), (own, own_new), (removed, removed_new) = losses
    guessing, entropy = map(float, re.findall(r"\d+\.\d+", bounds))
    assert standard < 0.3  # memorized,
    assert own < 0.1  # with sinks, too;
    assert abs(removed - removed_new) < 0.05  # without them as if never seen,
    assert removed > 10 * own
    assert abs(removed_new - standard_new) < 0.05  # at no cost for what is new,
    assert abs(own_new - removed_new) < 0.05
    assert entropy < removed_new < guessing / 2  # which can be predicted well above chance
