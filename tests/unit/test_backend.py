"""One forward, many backends: the same numbers wherever the arrays live, and nothing that a backend lacks."""

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest

import fakecupy
from memsinks_np import metrics, optim, sinks
from memsinks_np import train as training
from memsinks_np._internal import backend
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
from memsinks_np.model import init_params, loss_and_grads, make_batch

RNG = np.random.default_rng(11)
POOL = SinkConfig(n_sink=12, n_active=3)
CFG = ModelConfig(n_vocab=11, n_ctx=7, d_model=6, n_heads=2, n_shared=5, sinks=POOL)
TOKENS = RNG.integers(11, size=(3, 7))
IDS = np.array([3, -1, 3])
MASKS = (sinks.Mask(sinks.sink_mask(POOL, IDS)),) * 2


def one_step(xp, put, dtype):
    """Loss, gradients and updated parameters of one training step on the reference path, as host arrays."""
    params = {name: put(w) for name, w in init_params(CFG, dtype=dtype).items()}
    batch = make_batch(CFG, TOKENS, MASKS, dtype)
    on = put(batch.sinks[0].value.max(axis=0))
    moved = {
        field: put(getattr(batch, field))
        for field in ("words", "inputs", "targets", "weights", "positions", "hidden")
    }
    batch = batch._replace(**moved, sinks=tuple(sinks.Mask(put(m.value)) for m in batch.sinks))
    state = optim.init_state(xp, params)
    loss, grads = loss_and_grads(xp, params, batch, CFG)
    cfg = TrainConfig(clip=0.1)
    sparse = {name: (sinks.Mask(on), g) if ".sink." in name else g for name, g in grads.items()}
    norm, _ = optim.clip_scale(xp, grads, cfg.clip)
    optim.update(xp, params, sparse, state, cfg, 0.01, cfg.clip / norm)
    return float(loss), grads, params


@pytest.mark.parametrize("device", ["device1", "device1 in float64", "no_float64"])
def test_reference_path_is_portable(device):
    """array_api_strict's devices refuse implicit conversion and fancy indices; the second has no float64 at all."""
    strict = pytest.importorskip("array_api_strict")
    device, _, wide = device.partition(" in ")
    dtype = np.dtype(wide or np.float32)
    put = lambda a: strict.asarray(a, device=strict.Device(device))
    host = lambda a: np.asarray(a.to_device(strict.Device("CPU_DEVICE")))
    want_loss, want_grads, want_params = one_step(np, lambda a: a.copy(), dtype)
    loss, grads, params = one_step(strict, put, dtype)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert loss == pytest.approx(want_loss, rel=tolerance)
    for got, want in ((grads, want_grads), (params, want_params)):
        assert got.keys() == want.keys()
        for name in want:
            scale = np.abs(want[name]).max()
            assert np.abs(host(got[name]) - want[name]).max() <= tolerance * 100 * scale, name


def test_the_masked_update_is_the_row_sparse_update():
    _, grads, params = one_step(np, lambda a: a.copy(), np.float64)
    rows = np.flatnonzero(MASKS[0].value.any(axis=0))
    again = init_params(CFG, dtype=np.float64)
    state, cfg = optim.init_state(np, again), TrainConfig(clip=0.1)
    norm, _ = optim.clip_scale(np, grads, 0.1)
    sparse = {name: (rows, g[rows]) if ".sink." in name else g for name, g in grads.items()}
    optim.update(np, again, sparse, state, cfg, 0.01, 0.1 / norm)
    for name in params:
        np.testing.assert_array_equal(params[name], again[name])


METHODS = [
    Method(name="gathered", n_shared=6, sinks=POOL),
    Method(name="bernoulli", n_shared=6, sinks=SinkConfig(n_sink=12, scheme="bernoulli")),
    Method(
        name="routed",
        n_shared=6,
        sinks=SinkConfig(n_sink=4, n_active=4),
        routing="gradient_masking",
    ),
    Method(name="standard", n_shared=6),
]
SETTINGS = Settings(
    data=DataConfig(n_ctx=7, batch_size=8, n_repeated=4, n_heldout=4),
    train=TrainConfig(steps=4, eval_every=2),
    d_model=8,
    n_heads=2,
)


@pytest.mark.parametrize("method", METHODS, ids=lambda a: a.name)
@pytest.mark.parametrize("optimizer", ["lazy_adamw", "adamw", "sgd"])
def test_training_runs_on_what_spells_like_cupy(method, optimizer):
    """The whole loop with its evaluations: nothing converts by itself, and the numbers are NumPy's."""
    from dataclasses import replace

    settings = replace(SETTINGS, train=replace(SETTINGS.train, optimizer=optimizer))
    want, got = training.train(method, settings), training.train(method, settings, xp=fakecupy)
    for name, w in want.params.items():
        assert type(got.params[name]) is np.ndarray
        np.testing.assert_array_equal(got.params[name], w)
    assert got.history[1:] == want.history[1:]


def test_measures_come_from_device_parameters_too():
    corpus = load_corpus(SETTINGS.data)
    cfg = SETTINGS.model(METHODS[0], len(corpus.vocab))
    params = init_params(cfg)
    on = sinks.own(POOL, corpus.repeated_ids)
    host = metrics.predict(params, cfg, corpus.repeated, on)
    device = metrics.predict(backend.to_device(fakecupy, params), cfg, corpus.repeated, on)
    for a, b in zip(host, device, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_stand_in_refuses_what_cupy_refuses():
    x = fakecupy.asarray(np.arange(3.0))
    for wrong in (
        lambda: np.asarray(x),
        lambda: x + np.ones(3),
        lambda: np.exp(x),
        lambda: fakecupy.exp(np.ones(3)),
    ):
        with pytest.raises(TypeError):
            wrong()
    assert isinstance(fakecupy.sum(x), fakecupy.ndarray)
    assert float(x[fakecupy.asarray(np.array([4]))][0]) == 1.0  # out of range: wraps silently
    with pytest.raises(AttributeError):
        fakecupy.random  # noqa: B018


PACKAGE = Path(backend.__file__).parent


def names_used():
    """Every `xp.name` of the package."""
    for path in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "xp"
            ):
                yield node.attr


def test_every_name_exists_in_cupy():
    cupy = pytest.importorskip("cupy")  # imports without a GPU
    names = set(names_used())
    assert {"exp", "permute_dims", "take", "unique", "asnumpy"} <= names
    assert {name for name in names if not hasattr(cupy, name)} == set()
    assert hasattr(cupy.add, "at")


def test_functions_with_xp_do_not_reach_past_it():
    for path in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and [a.arg for a in node.args.args][:1] == ["xp"]:
                reached = {
                    n.value.id
                    for n in ast.walk(node)
                    if isinstance(n, ast.Attribute)
                    and isinstance(n.value, ast.Name)
                    and n.value.id == "np"
                }
                host_side = node.name in (
                    "merge",
                    "to_device",
                )  # they read masks on the host, or move them
                assert not reached or host_side, f"{path.name}: {node.name}"


def test_asking_for_cupy_says_in_one_line_what_is_missing(monkeypatch):
    with pytest.raises(ConfigError, match="unknown"):
        backend.namespace("tpu")

    def missing(name):
        raise ImportError

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"\[gpu\]"):
        backend.namespace("cupy")
    monkeypatch.setattr(importlib, "import_module", lambda name: fakecupy)
    assert backend.namespace("cupy") is fakecupy
    monkeypatch.setattr(fakecupy, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        backend.namespace("cupy")


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS, ids=lambda a: a.name)
def test_training_on_a_real_gpu_agrees_with_numpy(method):
    cupy = backend.namespace("cupy")
    want, got = training.train(method, SETTINGS), training.train(method, SETTINGS, xp=cupy)
    for name, w in want.params.items():
        np.testing.assert_allclose(got.params[name], w, rtol=1e-3, atol=1e-4)
