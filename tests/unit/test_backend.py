"""One code for all array namespaces: the same numbers, and only names that all of them have."""

import importlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import fakecupy
from memsinks_np import metrics, sinks
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
from memsinks_np.data.batches import make_batch
from memsinks_np.data.corpus import load_corpus
from memsinks_np.model import init_params, loss_and_grads
from memsinks_np.ops import SMALL_VOCAB
from memsinks_np.train import train

POOL = SinkConfig(n_sink=12, n_active=3)
DATA = DataConfig(n_ctx=7, batch_size=8, n_repeated=4, n_heldout=4)
SETTINGS = Settings(data=DATA, train=TrainConfig(steps=4, eval_every=2), d_model=8, n_heads=2)
CORPUS = load_corpus(DATA)
BERNOULLI, ALL_ON = SinkConfig(n_sink=12, scheme="bernoulli"), SinkConfig(n_sink=4, n_active=4)
METHODS = [
    Method(name="gathered", n_shared=6, sinks=POOL),
    Method(name="bernoulli", n_shared=6, sinks=BERNOULLI),
    Method(name="masking", n_shared=6, sinks=ALL_ON, routing="gradient_masking"),
    Method(name="standard", n_shared=6),
]


def with_scatter(strict):
    """Return a namespace with the two functions that the array API lacks."""
    raw = lambda a: getattr(a, "_array", a)
    put = lambda *args, axis: np.put_along_axis(*map(raw, args), axis)
    add = SimpleNamespace(at=lambda *args: np.add.at(*map(raw, args)))
    return SimpleNamespace(**vars(strict) | {"put_along_axis": put, "add": add})


@pytest.mark.parametrize("device", ["device1", "device1 in float64", "no_float64"])
@pytest.mark.parametrize("n_vocab", [11, SMALL_VOCAB + 1])
def test_forward_and_backward_follow_the_array_api(device, n_vocab):
    """array_api_strict's devices refuse implicit conversion; "no_float64" has only float32."""
    strict = pytest.importorskip("array_api_strict")
    device, _, wide = device.partition(" in ")
    dtype = np.dtype(wide or np.float32)
    cfg = ModelConfig(n_vocab=n_vocab, n_ctx=7, d_model=6, n_heads=2, n_shared=5, sinks=POOL)
    tokens = np.random.default_rng(11).integers(11, size=(3, 7))
    mask = sinks.Mask(sinks.sink_mask(POOL, [3, -1, 3]).astype(dtype))
    params, batch = init_params(cfg, dtype=dtype), make_batch(cfg, tokens, mask, dtype)
    want_loss, want = loss_and_grads(np, params, batch, cfg)

    put = lambda a: strict.asarray(a, device=strict.Device(device))
    moved = batch._make([*map(put, batch[:-1]), sinks.Mask(put(mask.value))])
    xp = with_scatter(strict)
    loss, grads = loss_and_grads(xp, {n: put(w) for n, w in params.items()}, moved, cfg)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert float(loss) == pytest.approx(float(want_loss), rel=tolerance)
    assert grads.keys() == want.keys()
    for name, g in grads.items():
        error = np.abs(np.asarray(g.to_device(strict.Device("CPU_DEVICE"))) - want[name]).max()
        assert error <= tolerance * 100 * np.abs(want[name]).max(), name


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("optimizer", ["lazy_adamw", "adamw", "sgd"])
def test_training_on_the_mock_of_cupy_gives_numpys_numbers(method, optimizer):
    """The whole loop with its evaluations: no array is converted implicitly."""
    settings = replace(SETTINGS, train=replace(SETTINGS.train, optimizer=optimizer))
    want, got = (train(method, settings, CORPUS, xp=xp) for xp in (np, fakecupy))
    for name, w in want.params.items():
        assert type(got.params[name]) is np.ndarray
        np.testing.assert_array_equal(got.params[name], w)
    assert got.history == want.history


def test_the_mock_of_cupy_gives_numpys_gradients_of_a_large_vocabulary():
    cfg = ModelConfig(n_vocab=SMALL_VOCAB + 1, n_ctx=7, d_model=6, n_heads=2, n_shared=5)
    params, batch = init_params(cfg), make_batch(cfg, CORPUS.repeated, sinks.NO_SINKS)
    _, want = loss_and_grads(np, params, batch, cfg)
    _, got = loss_and_grads(fakecupy, *backend.to_device(fakecupy, (params, batch)), cfg)
    np.testing.assert_array_equal(fakecupy.asnumpy(got["wte"]), want["wte"])


def test_predictions_from_device_parameters_are_the_same():
    cfg = SETTINGS.model(METHODS[0], len(CORPUS.vocab))
    params, own = init_params(cfg), sinks.own(POOL, CORPUS.repeated_ids)
    moved = backend.to_device(fakecupy, params)
    host, device = (metrics.predict(p, cfg, CORPUS.repeated, own) for p in (params, moved))
    for a, b in zip(host, device, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_mock_refuses_what_cupy_refuses():
    x = fakecupy.asarray(np.arange(3.0))
    for wrong in (np.asarray, np.exp, lambda x: x + np.ones(3), lambda x: fakecupy.exp(np.ones(3))):
        with pytest.raises(TypeError):
            wrong(x)
    assert float(x[fakecupy.asarray(np.array([4]))][0]) == 1.0  # out of range: wraps silently


def test_an_unavailable_backend_is_refused_in_one_line(monkeypatch):
    def missing(name):
        raise ImportError

    with pytest.raises(ConfigError, match="unknown"):
        backend.namespace("tpu")
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"\[gpu\]"):
        backend.namespace("cupy")
    monkeypatch.setattr(importlib, "import_module", lambda name: fakecupy)
    assert backend.namespace("cupy") is fakecupy
    monkeypatch.setattr(fakecupy, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        backend.namespace("cupy")


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_training_on_a_gpu_agrees_with_numpy(method):
    cupy = backend.namespace("cupy")
    want, got = (train(method, SETTINGS, CORPUS, xp=xp) for xp in (np, cupy))
    for name, w in want.params.items():
        np.testing.assert_allclose(got.params[name], w, rtol=1e-3, atol=1e-4)
