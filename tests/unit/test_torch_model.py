"""The exported file and the PyTorch model that reads it: the same logits, the same gradients under torch.autograd."""

import importlib
import sys
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig
from memsinks_np.export import gpt2 as export
from memsinks_np.gradcheck.cases import densify
from memsinks_np.model import init_params, loss_and_grads, make_batch, model_forward

torch = pytest.importorskip("torch")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
bridge = importlib.import_module("memsinks_np.export.torch_model")
torch.set_num_threads(1)  # on arrays this small, threads only wait for each other

RNG = np.random.default_rng(13)
POOL = SinkConfig(n_sink=20, n_active=5)
CFG = ModelConfig(n_vocab=13, n_ctx=9, d_model=6, n_heads=2, n_layers=2, n_shared=7, sinks=POOL)
TOKENS = RNG.integers(13, size=(4, 8))
IDS = np.array([4, -9, 4, 2**62])  # two sequences share their sinks
LIMIT = {np.float32: 1e-5, np.float64: 1e-12}  # of the largest entry
GRADIENTS = {
    np.float32: 1e-4,
    np.float64: 1e-12,
}  # in float32 either library is about 1e-5 away from float64
POOLS = [
    POOL,
    SinkConfig(n_sink=20, n_active=5, scheme="disjoint", seed=3),
    SinkConfig(n_sink=20, n_active=5, per_layer=True, seed=3),
    SinkConfig(n_sink=20, scheme="bernoulli", per_layer=True),
]


def random_params(cfg, dtype):
    rng = np.random.default_rng(29)
    return {
        k: (w + 0.3 * rng.standard_normal(w.shape)).astype(dtype)
        for k, w in init_params(cfg).items()
    }


def through_file(path, cfg, params):
    export.save(path, params, cfg)
    return bridge.load(path)


def relative(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


@pytest.mark.parametrize("dtype", LIMIT, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "random_sinks"])
@pytest.mark.parametrize("removed", [False, True], ids=["own", "removed"])
@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: f"{pool.scheme}-{pool.per_layer}")
def test_logits_and_gradients_are_those_of_numpy(tmp_path, pool, removed, tied, dtype):
    cfg = replace(CFG, sinks=pool, tied=tied)
    params = random_params(cfg, dtype)
    gpt = through_file(tmp_path / "model.safetensors", cfg, params)
    selection = sinks.NO_SINKS if removed else sinks.own(pool, IDS)
    batch = make_batch(cfg, TOKENS, selection, dtype)

    logits = gpt(torch.as_tensor(TOKENS[:, :-1]), None if removed else IDS)
    assert logits.detach().numpy().dtype == dtype
    assert (
        relative(logits.detach().numpy(), model_forward(np, params, batch, cfg)[0]) < LIMIT[dtype]
    )

    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.as_tensor(TOKENS[:, 1:]).flatten()
    )
    loss.backward()
    want_loss, want = loss_and_grads(np, params, batch, cfg)
    assert loss.item() == pytest.approx(want_loss, rel=LIMIT[dtype])
    got = {name: w.grad.numpy() for name, w in gpt.named_parameters() if w.grad is not None}
    assert {name for name in got if ".attn." not in name or ".weight" in name} == set(
        map(export.gpt2_name, want)
    )
    for name, g in want.items():
        assert relative(got[export.gpt2_name(name)], densify(g, params[name])) < GRADIENTS[dtype], (
            name
        )


def test_sink_mlp_alone_takes_ids_of_either_library_and_starts_small():
    mlp = bridge.SinkMLP(6, 7, POOL)
    x = torch.randn(4, 3, 6)
    own = mlp(x, IDS)
    assert torch.equal(own, mlp(x, torch.as_tensor(IDS)))
    assert 0 < (own - mlp(x)).abs().max() < 0.5
    assert all(w.requires_grad for w in mlp.parameters())


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: f"{pool.scheme}-{pool.per_layer}")
def test_sink_mlp_keeps_the_type_and_the_device_of_its_input(pool):
    """IDs, masks and row numbers are made on the host; "meta" stands for another device where there is none."""
    other = "cuda" if torch.cuda.is_available() else "meta"
    mlp, x = (
        bridge.SinkMLP(6, 7, pool).to(torch.bfloat16),
        torch.randn(4, 3, 6, dtype=torch.bfloat16),
    )
    assert mlp(x, IDS).dtype == torch.bfloat16
    assert mlp.to(other)(x.to(other), IDS).device.type == other


def test_names_and_shapes_are_those_of_gpt2(tmp_path):
    """The literal list of a one-layer GPT2LMHeadModel, its biases of zero included, and three more for the sinks."""
    cfg = replace(CFG, n_layers=1, tied=False)
    export.save(tmp_path / "model.safetensors", random_params(cfg, np.float32), cfg)
    arrays = safetensors_numpy.load_file(tmp_path / "model.safetensors")
    assert {name.removeprefix("transformer."): w.shape for name, w in arrays.items()} == {
        "wte.weight": (13, 6),
        "wpe.weight": (9, 6),
        "h.0.ln_1.weight": (6,),
        "h.0.ln_1.bias": (6,),
        "h.0.attn.c_attn.weight": (6, 18),
        "h.0.attn.c_attn.bias": (18,),
        "h.0.attn.c_proj.weight": (6, 6),
        "h.0.attn.c_proj.bias": (6,),
        "h.0.ln_2.weight": (6,),
        "h.0.ln_2.bias": (6,),
        "h.0.mlp.c_fc.weight": (6, 7),
        "h.0.mlp.c_fc.bias": (7,),
        "h.0.mlp.c_proj.weight": (7, 6),
        "h.0.mlp.c_proj.bias": (6,),
        "h.0.mlp.sink_fc.weight": (20, 6),
        "h.0.mlp.sink_fc.bias": (20,),
        "h.0.mlp.sink_proj.weight": (20, 6),
        "ln_f.weight": (6,),
        "ln_f.bias": (6,),
        "lm_head.weight": (13, 6),
    }
    assert "lm_head.weight" in arrays
    assert not arrays["transformer.h.0.attn.c_attn.bias"].any()


def test_arrays_in_another_order_of_memory_arrive_whole(tmp_path):
    """A transposed array is not contiguous, and safetensors would write its memory as it lies."""
    params = random_params(CFG, np.float32)
    gpt = through_file(
        tmp_path / "a.safetensors", CFG, {k: np.asfortranarray(w) for k, w in params.items()}
    )
    for name, w in params.items():
        np.testing.assert_array_equal(
            gpt.state_dict()[export.gpt2_name(name)].numpy(), w, err_msg=name
        )


def test_a_pruned_model_is_exported_without_its_pool(tmp_path):
    params = random_params(CFG, np.float64)
    gpt = through_file(tmp_path / "a.safetensors", CFG, sinks.prune(params))
    assert not any("sink" in name for name in gpt.state_dict())
    want, _ = model_forward(np, params, make_batch(CFG, TOKENS, sinks.NO_SINKS, np.float64), CFG)
    assert relative(gpt(torch.as_tensor(TOKENS[:, :-1]), IDS).detach().numpy(), want) < 1e-12


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    texts = ("{}", "?", "[]", "null", '{"model": null}', '{"model": []}')
    for metadata in (None, {"format": "pt"}, *({"memsinks_np": text} for text in texts)):
        safetensors_numpy.save_file({"wte": np.zeros(3)}, path, metadata)
        with pytest.raises(ConfigError, match="not a model that memsinks_np has exported"):
            bridge.load(path)


def test_without_safetensors_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ConfigError, match=r"safetensors is not installed; .*\[bench\]"):
        export.save(tmp_path / "a.safetensors", init_params(CFG), CFG)
    assert not list(tmp_path.iterdir())


def test_parameters_of_another_configuration_are_not_written(tmp_path):
    with pytest.raises(
        ConfigError, match=r"wte has shape \(13, 6\), but the configuration asks for \(14, 6\)"
    ):
        export.save(tmp_path / "a.safetensors", init_params(CFG), replace(CFG, n_vocab=14))
    with pytest.raises(
        ConfigError, match=r"head has shape None, but the configuration asks for \(13, 6\)"
    ):
        export.save(tmp_path / "a.safetensors", init_params(CFG), replace(CFG, tied=False))
    assert not list(tmp_path.iterdir())
