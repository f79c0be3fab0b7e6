"""The exported file, and the PyTorch model that loads it: the same logits, the same gradients."""

import importlib
import json
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.export import gpt2
from memsinks_np.gradcheck.cases import densify
from memsinks_np.model import init_params, loss_and_grads, model_forward
from plain import strong_params

torch = pytest.importorskip("torch")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
torch_model = importlib.import_module("memsinks_np.export.torch_model")
GPT = torch_model.GPT
torch.set_num_threads(1)  # on arrays this small, threads only wait for each other

POOL = SinkConfig(n_sink=20, n_active=5)
CFG = ModelConfig(n_vocab=13, n_ctx=9, d_model=6, n_heads=2, n_layers=2, n_shared=7, sinks=POOL)
TOKENS = np.random.default_rng(13).integers(13, size=(4, 8))
IDS = np.array([4, -9, 4, 2**62])  # two sequences share their sinks
LIMIT = {np.float32: 1e-5, np.float64: 1e-12}  # of the largest entry
GRADIENT_LIMIT = {np.float32: 1e-4, np.float64: 1e-12}  # float32: both are about 1e-5 off float64
POOLS = {
    "stratified": POOL,
    "disjoint": SinkConfig(n_sink=20, n_active=5, scheme="disjoint", seed=3),
    "bernoulli": SinkConfig(n_sink=20, scheme="bernoulli", seed=3),
}
each_pool = pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)


def save_and_load(tmp_path, cfg, params):
    gpt2.save(tmp_path / "model.safetensors", params, cfg)
    return torch_model.load(tmp_path / "model.safetensors")


def relative(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


@pytest.mark.parametrize("dtype", LIMIT, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("removed", [False, True], ids=["own", "removed"])
@each_pool
def test_logits_and_gradients_equal_those_of_numpy(tmp_path, pool, removed, dtype):
    cfg = replace(CFG, sinks=pool)
    params = strong_params(cfg, dtype=dtype)
    gpt = save_and_load(tmp_path, cfg, params)
    selection = sinks.NO_SINKS if removed else sinks.own(pool, IDS)
    batch = make_batch(cfg, TOKENS, selection, dtype)

    logits = gpt(torch.as_tensor(TOKENS[:, :-1]), None if removed else IDS)
    got = logits.detach().numpy()
    assert got.dtype == dtype
    assert relative(got, model_forward(np, params, batch, cfg)[0]) < LIMIT[dtype]

    targets = torch.as_tensor(TOKENS[:, 1:])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    want_loss, want = loss_and_grads(np, params, batch, cfg)
    assert loss.item() == pytest.approx(want_loss, rel=LIMIT[dtype])
    grads = {name: w.grad.numpy() for name, w in gpt.named_parameters() if w.grad is not None}
    trained = {name for name in grads if ".attn." not in name or ".weight" in name}
    assert trained == set(map(gpt2.gpt2_name, want))
    for name, g in want.items():
        error = relative(grads[gpt2.gpt2_name(name)], densify(g, params[name]))
        assert error < GRADIENT_LIMIT[dtype], name


def test_sink_mlp_takes_ids_of_either_library():
    mlp, x = torch_model.SinkMLP(6, 7, POOL), torch.randn(4, 3, 6)
    own = mlp(x, IDS)
    assert torch.equal(own, mlp(x, torch.as_tensor(IDS)))
    assert 0 < (own - mlp(x)).abs().max() < 0.5
    assert all(w.requires_grad for w in mlp.parameters())


@each_pool
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([5], "4 sequences with 1 IDs; give one to each"),
        ([5, 6], "4 sequences with 2 IDs"),
        (range(5), "4 sequences with 5 IDs"),
        ([[1], [2], [3], [4]], r"shape \(4, 1\); give one ID per sequence"),
        (7, "must be a list or an array"),
        ([0.5] * 4, "must be integers"),
    ],
)
def test_another_number_of_ids_is_refused(pool, ids, message):
    mlp, x = torch_model.SinkMLP(6, 7, pool), torch.randn(4, 3, 6)
    with pytest.raises(ConfigError, match=message):
        mlp(x, ids)


@each_pool
def test_sink_mlp_keeps_dtype_and_device(pool):
    """IDs, masks and indices are made on the host; "meta" replaces a GPU if there is none."""
    other = "cuda" if torch.cuda.is_available() else "meta"
    x = torch.randn(4, 3, 6, dtype=torch.bfloat16)
    mlp = torch_model.SinkMLP(6, 7, pool).to(x.dtype)
    assert mlp(x, IDS).dtype == torch.bfloat16
    assert mlp.to(other)(x.to(other), IDS).device.type == other


def test_names_and_shapes_are_those_of_gpt2(tmp_path):
    """The arrays of a GPT2LMHeadModel of one layer, and three more for the sinks."""
    cfg = replace(CFG, n_layers=1)
    gpt2.save(tmp_path / "model.safetensors", strong_params(cfg, dtype=np.float32), cfg)
    arrays = safetensors_numpy.load_file(tmp_path / "model.safetensors")
    vectors = {"h.0.ln_1.bias": 6, "h.0.ln_2.bias": 6, "ln_f.bias": 6, "h.0.attn.c_attn.bias": 18}
    vectors |= {"h.0.ln_1.weight": 6, "h.0.ln_2.weight": 6, "ln_f.weight": 6}
    vectors |= {"h.0.attn.c_proj.bias": 6, "h.0.mlp.c_fc.bias": 7, "h.0.mlp.c_proj.bias": 6}
    matrices = {"wte": (13, 6), "wpe": (9, 6), "h.0.attn.c_attn": (6, 18)}
    matrices |= {"h.0.attn.c_proj": (6, 6), "h.0.mlp.c_fc": (6, 7), "h.0.mlp.c_proj": (7, 6)}
    pool = {"h.0.mlp.sink_fc": (20, 6), "h.0.mlp.sink_proj": (20, 6)}
    want = {name: (n,) for name, n in (vectors | {"h.0.mlp.sink_fc.bias": 20}).items()}
    want |= {f"{name}.weight": shape for name, shape in (matrices | pool).items()}
    assert {name.removeprefix("transformer."): w.shape for name, w in arrays.items()} == want
    assert not arrays["transformer.h.0.attn.c_attn.bias"].any()


def test_transposed_arrays_are_saved_correctly(tmp_path):
    params = strong_params(CFG, dtype=np.float32)
    gpt = save_and_load(tmp_path, CFG, {k: np.asfortranarray(w) for k, w in params.items()})
    state = gpt.state_dict()
    for name, w in params.items():
        np.testing.assert_array_equal(state[gpt2.gpt2_name(name)].numpy(), w, err_msg=name)


def test_pruned_model_is_saved_without_its_pool(tmp_path):
    params = strong_params(CFG)
    gpt = save_and_load(tmp_path, CFG, sinks.prune(params))
    assert not any("sink" in name for name in gpt.state_dict())
    want, _ = model_forward(np, params, make_batch(CFG, TOKENS, sinks.NO_SINKS, np.float64), CFG)
    assert relative(gpt(torch.as_tensor(TOKENS[:, :-1]), IDS).detach().numpy(), want) < 1e-12


def test_other_files_are_rejected(tmp_path):
    path = tmp_path / "other.safetensors"
    texts = ("{}", "?", "[]", "null", '{"model": null}', '{"model": []}')
    for metadata in (None, {"format": "pt"}, *({"memsinks_np": text} for text in texts)):
        safetensors_numpy.save_file({"wte": np.zeros(3)}, path, metadata)
        with pytest.raises(ConfigError, match="not a model that memsinks_np exported"):
            torch_model.load(path)


def exported(**changes):
    """Return arrays and metadata of a small model whose configuration says something else."""
    cfg = replace(CFG, n_layers=1)
    arrays = gpt2.gpt2_arrays(strong_params(cfg, dtype=np.float32), cfg)
    meta = json.dumps({"model": asdict(replace(cfg, **changes))})
    return arrays, {"memsinks_np": meta}


def saved(arrays, metadata):
    return safetensors_numpy.save(arrays, metadata)


NESTED = {"memsinks_np": "[" * 100_000 + "]" * 100_000}
HOSTILE = {
    "many numbers": saved(*exported(n_vocab=1 << 24, d_model=128)),
    "many sinks": saved(*exported(sinks=SinkConfig(n_sink=1 << 24))),
    "many layers": saved(*exported(d_model=2, n_layers=30)),
    "other shapes": saved(*exported(n_vocab=12)),
    "missing arrays": saved({"wte": np.zeros(10_000)}, exported()[1]),
    "nested metadata": saved({"wte": np.zeros(3)}, NESTED),
    "cut off": saved(*exported())[:-5],
    "no header": b"",
    "text": b"not a model" * 99,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused_in_one_line(what, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(torch_model, "GPT", lambda cfg: made.append(cfg) or GPT(cfg))
    path = tmp_path / "model.safetensors"
    path.write_bytes(HOSTILE[what])
    with pytest.raises(ConfigError, match=f"{path} is not a saved model") as e:
        torch_model.load(path)
    assert "\n" not in str(e.value)
    assert all(cfg.n_params < 10_000 and cfg.n_layers < 2 for cfg in made)  # no memory is taken


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a saved model"):
        torch_model.load(tmp_path / "missing.safetensors")


def test_config_json_has_what_a_loader_of_gpt2_needs(tmp_path):
    gpt2.save(tmp_path / "model.safetensors", strong_params(CFG, dtype=np.float32), CFG)
    sizes = json.loads((tmp_path / "config.json").read_bytes())
    want = {"vocab_size": 13, "n_positions": 9, "n_embd": 6, "n_head": 2, "n_layer": 2}
    want |= {"n_inner": 7, "activation_function": "gelu_new", "tie_word_embeddings": True}
    assert sizes == sizes | want


@pytest.mark.parametrize("pruned", [False, True])
def test_a_stock_loader_computes_the_same_logits(tmp_path, pruned):
    transformers = pytest.importorskip("transformers")
    params = strong_params(CFG, dtype=np.float32)
    gpt2.save(tmp_path / "model.safetensors", sinks.prune(params) if pruned else params, CFG)
    gpt = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).train()  # there is no dropout
    batch = make_batch(CFG, TOKENS, sinks.NO_SINKS, np.float32)
    got = gpt(torch.as_tensor(TOKENS[:, :-1])).logits.detach().numpy()
    assert relative(got, model_forward(np, params, batch, CFG)[0]) < LIMIT[np.float32]


def test_config_json_of_something_else_is_kept(tmp_path):
    params, path = strong_params(CFG, dtype=np.float32), tmp_path / "config.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"config.json is of something else; export the model"):
        gpt2.save(tmp_path / "model.safetensors", params, CFG)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    assert path.read_text() == "{}"
    path.unlink()
    for _ in range(2):  # the same model again is no other
        gpt2.save(tmp_path / "model.safetensors", params, CFG)


def test_missing_safetensors_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ConfigError, match=r"safetensors is not installed; .*\[bench\]"):
        gpt2.save(tmp_path / "a.safetensors", init_params(CFG), CFG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_vocab": 14}, r"wte has shape \(13, 6\), but the configuration requires \(14, 6\)"),
        ({"n_layers": 3}, r"h2.ln1.g has shape None, but the configuration requires \(6,\)"),
    ],
)
def test_params_of_another_configuration_are_rejected(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        gpt2.save(tmp_path / "a.safetensors", init_params(CFG), replace(CFG, **changes))
    assert not list(tmp_path.iterdir())
