"""Sinks in Hugging Face models: the numbers of NumPy, and IDs that arrive or raise."""

import copy
import importlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memsinks_np import optim, sinks
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig, TrainConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.export import gpt2
from memsinks_np.gradcheck.cases import densify
from memsinks_np.model import init_params, loss_and_grads, model_forward
from plain import strong_params

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
hf = importlib.import_module("memsinks_np.export.hf")
torch.set_num_threads(1)  # on arrays this small, threads only wait for each other

DOCS = Path(__file__).parents[2] / "docs"
POOL = SinkConfig(n_sink=20, n_active=5, seed=3)
POOLS = {
    "stratified": POOL,
    "disjoint": replace(POOL, scheme="disjoint"),
    "bernoulli": replace(POOL, scheme="bernoulli"),
    "released": replace(POOL, scheme="released"),
}
CFG = ModelConfig(n_vocab=13, n_ctx=9, d_model=8, n_heads=2, n_layers=2, n_shared=7, sinks=POOL)
TOKENS = np.random.default_rng(13).integers(13, size=(4, 9))
INPUT = torch.as_tensor(TOKENS[:, :-1])
IDS = np.array([4, -9, 4, 2**62])  # two sequences share their sinks
TOKEN_IDS = np.random.default_rng(14).integers(6, size=(4, 8))
each_pool = pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
each_model = pytest.mark.parametrize("kind", ["gpt2", "llama"])


def plain(kind, dtype=torch.float64):
    """Return a random model of Hugging Face, without sinks."""
    torch.manual_seed(0)
    common = {"vocab_size": 13, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if kind == "gpt2":
        config = transformers.GPT2Config(**gpt2.gpt2_config(CFG))
        config.initializer_range = 0.3
        return transformers.GPT2LMHeadModel(config).to(dtype).eval()
    config = transformers.LlamaConfig(
        **common,
        hidden_size=8,
        intermediate_size=7,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=9,
        initializer_range=0.3,
    )
    return transformers.LlamaForCausalLM(config).to(dtype).eval()


def attached(kind, pool=POOL, dtype=torch.float64):
    """Return a random model in which the sinks matter."""
    model = hf.attach(plain(kind, dtype), pool)
    with torch.no_grad():
        for w in filter(lambda w: isinstance(w, hf.SinkParameter), model.parameters()):
            w.normal_(std=0.5)
    return model


def from_numpy(tmp_path, cfg, params):
    gpt2.save(tmp_path / "model.safetensors", params, cfg)
    return hf.load(tmp_path / "model.safetensors", plain("gpt2"))


def logits(model, ids, tokens=INPUT):
    with torch.no_grad(), hf.sinks_of(model, ids):
        return model(tokens).logits


def gradients(model):
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def relative(got, want):
    return np.abs(np.asarray(got) - want).max() / np.abs(want).max()


@each_pool
@pytest.mark.parametrize("which", ["sequence", "token", "removed"])
def test_numbers_equal_those_of_numpy(tmp_path, pool, which):
    cfg = replace(CFG, sinks=pool)
    params = strong_params(cfg)
    ids = {"sequence": IDS, "token": TOKEN_IDS, "removed": None}[which]
    masks = sinks.sink_mask(pool, TOKEN_IDS.ravel()).reshape(4, 8, 20)
    selection = {
        "sequence": sinks.own(pool, IDS),
        "token": sinks.Mask(masks),
        "removed": sinks.NO_SINKS,
    }[which]
    batch = make_batch(cfg, TOKENS, selection, np.float64)
    model = from_numpy(tmp_path, cfg, params)
    with hf.sinks_of(model, ids):
        got = model(INPUT).logits
        torch.nn.functional.cross_entropy(
            got.flatten(0, 1), torch.as_tensor(TOKENS[:, 1:].ravel())
        ).backward()
    assert relative(got.detach(), model_forward(np, params, batch, cfg)[0]) < 1e-12
    grads = gradients(model)
    for name, g in loss_and_grads(np, params, batch, cfg)[1].items():
        error = relative(grads[gpt2.gpt2_name(name)], densify(g, params[name]))
        assert error < 1e-11, name


@each_model
def test_a_pretrained_model_is_unchanged_by_new_sinks(kind):
    model = plain(kind)
    want = model(INPUT).logits
    hf.attach(model, POOL)
    assert torch.equal(logits(model, IDS), want)
    with hf.sinks_of(model, IDS):
        model(INPUT, labels=INPUT).loss.backward()
    active = sinks.sink_mask(POOL, IDS).any(axis=0)
    for mlp in hf._mlps(model):  # the active rows learn from the first step on
        assert (mlp.sink_proj.weight.grad.any(1).numpy() == active).all()


@each_model
def test_sinks_can_be_removed_and_deleted(kind):
    model = attached(kind)
    removed, own = logits(model, None), logits(model, [4, 5, 6, 7])
    assert (own - removed).abs().max() > 0.01
    hf.delete(model, torch.tensor([4, 5, 6, 7]))
    assert torch.equal(logits(model, [4, 5, 6, 7]), removed)
    assert not torch.equal(logits(model, [40, 50, 60, 70]), removed)
    with torch.no_grad(), hf.no_sinks(model):
        assert torch.equal(model(INPUT).logits, removed)
    hf.remove(model)
    assert model.state_dict().keys() == plain(kind).state_dict().keys()
    assert torch.equal(model(INPUT).logits, removed)
    assert not model._modules.get("sink_fc")


@each_model
def test_delete_equals_that_of_numpy(kind):
    model = attached(kind)
    hf.delete(model, [4])
    mask = sinks.sink_mask(POOL, [4])[0]
    for mlp in hf._mlps(model):
        for w in (mlp.sink_fc.weight, mlp.sink_fc.bias[:, None], mlp.sink_proj.weight):
            assert (w.any(1).numpy() == (mask == 0)).all()


@each_model
def test_ids_that_do_not_arrive_raise(kind):
    model = attached(kind)
    for call in (lambda: model(INPUT), lambda: hf._mlps(model)[0](torch.zeros(1, 1, 8).double())):
        with pytest.raises(ConfigError, match=r"`with sinks_of\(model, ids\):`") as e:
            call()
        assert "\n" not in str(e.value)
    with hf.sinks_of(model, IDS):
        with hf.no_sinks(model):
            pass
        model(INPUT)
    with pytest.raises(ConfigError, match="no IDs arrived"):
        model(INPUT)


@each_model
@pytest.mark.parametrize("ids", [[1], [1, 2, 3], [[1] * 8], [[1] * 7] * 4], ids=str)
def test_ids_of_another_shape_are_refused(kind, ids):
    with pytest.raises(ConfigError, match="do not fit 4 sequences of 8 tokens"):
        logits(attached(kind), ids)


@pytest.mark.parametrize(
    ("ids", "message"),
    [(7, "must be a list"), ([0.5] * 4, "must be integers"), ([[[1]]], "give \\(B,\\)")],
)
def test_ids_of_another_kind_are_refused(ids, message):
    with pytest.raises(ConfigError, match=message):
        logits(attached("gpt2"), ids)


@each_model
def test_ids_may_be_a_tensor_and_differ_by_token(kind):
    model = attached(kind)
    own = logits(model, IDS)
    assert torch.equal(own, logits(model, torch.as_tensor(IDS)))
    by_token = np.repeat(IDS[:, None], 8, axis=1)
    torch.testing.assert_close(logits(model, by_token), own)
    by_token[:, 5:] = 77  # later IDs do not reach earlier tokens
    packed = logits(model, torch.as_tensor(by_token))
    torch.testing.assert_close(packed[:, :5], own[:, :5])
    assert ((packed - own)[:, 5:].abs().amax(dim=(1, 2)) > 1e-3).all()


@each_model
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("pool", [POOLS["stratified"], POOLS["bernoulli"]], ids=lambda p: p.scheme)
def test_checkpoints_recompute_with_the_ids_of_the_forward(kind, reentrant, pool):
    """Also where backward runs after the `with` has ended, or in one of other IDs."""
    model = attached(kind, pool).train()
    with hf.sinks_of(model, IDS):
        model(INPUT, labels=INPUT).loss.backward()
    want = gradients(model)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    for backward_ids in (IDS, IDS + 1, None):
        model.zero_grad()
        with hf.sinks_of(model, IDS):
            loss = model(INPUT, labels=INPUT).loss
        with hf.sinks_of(model, backward_ids):
            loss.backward()
        for name, g in gradients(model).items():
            torch.testing.assert_close(g, want[name], msg=name)


def test_a_checkpoint_around_the_model_is_refused():
    model = attached("gpt2").train()
    x = torch.randn(4, 8, 8, dtype=torch.float64, requires_grad=True)
    with hf.sinks_of(model, IDS):
        forward = lambda x: model(inputs_embeds=x).logits
        loss = torch.utils.checkpoint.checkpoint(forward, x, use_reentrant=False).sum()
        with pytest.raises(ConfigError, match="activation_checkpointing_enable"):
            loss.backward()


@each_model
def test_generate_equals_greedy_choice_without_a_cache(kind):
    model, seen = attached(kind), {}
    for ids in ((4, 5), (6, 7), None):
        tokens = INPUT[:2, :2]
        for _ in range(6):
            tokens = torch.cat([tokens, logits(model, ids, tokens)[:, -1:].argmax(-1)], dim=1)
        with hf.sinks_of(model, ids):
            made = model.generate(
                INPUT[:2, :2],
                attention_mask=torch.ones(2, 2),
                max_new_tokens=6,
                do_sample=False,
                pad_token_id=0,
            )
        assert torch.equal(made, tokens)
        seen[ids] = made
    assert not torch.equal(seen[4, 5], seen[None])
    assert not torch.equal(seen[4, 5], seen[6, 7])


@each_model
@pytest.mark.parametrize("ids", [[4, 5], [[4, 4], [5, 5]]], ids=["beams", "by token"])
def test_generate_of_another_size_is_refused(kind, ids):
    model, beams = attached(kind), 2 - np.ndim(ids) + 1
    with hf.sinks_of(model, ids), pytest.raises(ConfigError, match="one ID per sequence"):
        model.generate(
            INPUT[:2, :2],
            attention_mask=torch.ones(2, 2),
            max_new_tokens=3,
            num_beams=beams,
            do_sample=False,
            pad_token_id=0,
        )


@each_model
def test_sinks_keep_dtype_and_device(kind):
    """The "meta" device replaces a GPU if there is none."""
    other = "cuda" if torch.cuda.is_available() else "meta"
    for pool in POOLS.values():
        model = attached(kind, pool, torch.bfloat16).to(other)
        out = logits(model, IDS, INPUT.to(other))
        assert (out.dtype, out.device.type) == (torch.bfloat16, other)
        assert all(w.device.type == other for w in model.parameters())
    if other == "cuda":
        assert torch.equal(logits(model, torch.as_tensor(IDS).cuda(), INPUT.cuda()), out)


@each_model
def test_a_copy_has_hooks_of_its_own(kind):
    model = attached(kind)
    want = logits(model, IDS)
    twin = copy.deepcopy(model)
    hf.delete(model, IDS)
    assert torch.equal(logits(twin, IDS), want)
    assert any(isinstance(w, hf.SinkParameter) for w in twin.parameters())
    hf.remove(model)
    with pytest.raises(ConfigError, match="no IDs arrived"):
        twin(INPUT)
    hf.remove(twin)(INPUT)


# LazyAdamW


def numpy_grads(grads, params, rows):
    """Return gradients of PyTorch under our names, those of sinks as rows."""
    named = {name: grads[gpt2.gpt2_name(name)].numpy() for name in params}
    return {
        name: sinks.RowGrad(rows, g[rows]) if sinks.is_sink(name) else g
        for name, g in named.items()
    }


def test_lazy_adamw_equals_that_of_numpy(tmp_path):
    params = strong_params(CFG)
    model = from_numpy(tmp_path, CFG, params)
    for name, w in model.named_parameters():
        w.requires_grad_(".attn." not in name or ".weight" in name)
    train = TrainConfig(weight_decay=0.3, betas=(0.8, 0.95))
    optimizer = hf.LazyAdamW(
        model.parameters(), lr=0.01, betas=train.betas, eps=train.eps, weight_decay=0.3
    )
    state = optim.init_state(np, params)
    for step in range(4):
        ids = IDS[step : step + 2]  # so that rows have different counts
        optimizer.zero_grad()
        with hf.sinks_of(model, ids):
            model(INPUT[: len(ids)], labels=INPUT[: len(ids)]).loss.backward()
        rows = np.flatnonzero(sinks.sink_mask(POOL, ids).any(axis=0))
        grads = numpy_grads(gradients(model), params, rows)
        optimizer.step()
        optim.update(np, params, grads, state, train, 0.01)
    got, cfg = hf.to_numpy(model)
    assert cfg == CFG
    assert len(set(state.sink_steps)) > 2
    for name, w in params.items():
        np.testing.assert_allclose(got[name], w, rtol=1e-10, atol=1e-12, err_msg=name)


@each_model
def test_lazy_adamw_leaves_inactive_sinks_to_the_bit(kind):
    model = attached(kind, dtype=torch.float32)
    optimizer = hf.LazyAdamW(model.parameters(), lr=0.1)

    def step(ids):
        optimizer.zero_grad()
        with hf.sinks_of(model, ids):
            model(INPUT[:1], labels=INPUT[:1]).loss.backward()
        optimizer.step()

    step([4])
    before = copy.deepcopy(model.state_dict())
    step([5])
    asleep = sinks.sink_mask(POOL, [5])[0] == 0
    assert (sinks.sink_mask(POOL, [4])[0] * asleep).any()  # some have momentum
    for name, w in model.state_dict().items():
        same = (w == before[name]).numpy()
        if ".sink_" in name:
            same = same.reshape(len(w), -1)
            assert same[asleep].all(), name
            assert not same[~asleep].all(axis=1).any(), name
        else:
            assert not same.all(), name


def test_lazy_adamw_without_sinks_is_refused():
    with pytest.raises(ConfigError, match=r"call attach\(model"):
        hf.LazyAdamW(plain("gpt2").parameters())


def test_lazy_adamw_continues_from_its_saved_state():
    def steps(model, optimizer, n):
        for _ in range(n):
            optimizer.zero_grad()
            with hf.sinks_of(model, IDS):
                model(INPUT, labels=INPUT).loss.backward()
            optimizer.step()

    model = attached("llama")
    optimizer = hf.LazyAdamW(model.parameters())
    steps(model, optimizer, 2)
    twin = copy.deepcopy(model)
    again = hf.LazyAdamW(twin.parameters(), lr=9.0)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(model, optimizer, 2)
    steps(twin, again, 2)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


# Files, and back to NumPy


@each_model
@each_pool
def test_a_saved_model_is_loaded_bit_for_bit(tmp_path, kind, pool):
    model, path = attached(kind, pool), tmp_path / "a.safetensors"
    hf.save(model, path)
    other = plain(kind)
    with torch.no_grad():
        for w in other.parameters():
            w += 1
    again = hf.load(path, other)
    assert hf._config(again) == pool
    assert torch.equal(logits(again, IDS), logits(model, IDS))


def test_numpy_to_hugging_face_and_back(tmp_path):
    params = strong_params(CFG)
    got, cfg = hf.to_numpy(from_numpy(tmp_path, CFG, params))
    assert cfg == CFG
    assert got.keys() == params.keys()
    for name, w in params.items():
        np.testing.assert_array_equal(got[name], w)
    pruned, cfg = hf.to_numpy(hf.remove(from_numpy(tmp_path, CFG, params)))
    assert cfg == replace(CFG, sinks=None)
    assert pruned.keys() == init_params(cfg).keys()


def with_bias():
    model = attached("gpt2")
    torch.nn.init.ones_(model.transformer.h[1].attn.c_attn.bias)
    return model


def with_relu():
    model = attached("gpt2")
    model.config.activation_function = "relu"
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attached("llama"), "only a GPT2LMHeadModel has our shape"),
        (with_bias, "model.py has no transformer.h.1.attn.c_attn.bias"),
        (with_relu, "activation_function='relu' of the model is not 'gelu_new'"),
    ],
    ids=["llama", "bias", "relu"],
)
def test_models_of_another_shape_do_not_go_back(make, message):
    with pytest.raises(ConfigError, match=message):
        hf.to_numpy(make())


def test_other_models_are_refused():
    with pytest.raises(ConfigError, match="'Linear' is not supported; use one of gpt2, llama"):
        hf.attach(torch.nn.Linear(2, 2), POOL)
    with pytest.raises(ConfigError, match="call remove"):
        hf.attach(attached("gpt2"), POOL)
    for call in (hf.remove, hf.no_sinks(plain("gpt2")).__enter__, hf._config):
        with pytest.raises(ConfigError, match="has no sinks; call attach"):
            call(*([plain("gpt2")] if call in (hf.remove, hf._config) else []))


def test_other_files_are_refused(tmp_path):
    path, arrays = tmp_path / "a.safetensors", {"wte": np.zeros(3)}
    texts = ("{}", "?", "[]", json.dumps({"model": {"sinks": {"n_sink": 1 << 24}}}))
    for metadata in (None, *({"memsinks_np": text} for text in texts)):
        safetensors_numpy.save_file(arrays, path, metadata)
        with pytest.raises(ConfigError, match="is not a saved model with sinks"):
            hf.load(path, plain("gpt2"))
    hf.save(attached("llama"), path)
    model = plain("gpt2")
    with pytest.raises(ConfigError, match="does not fit the model"):
        hf.load(path, model)
    model(INPUT)  # it has no sinks


def test_example_of_the_docs_runs(capsys):
    text = (DOCS / "hugging-face.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"```python\n(.+?)```", text, re.DOTALL))
    said = [float(x) for x in re.findall(r"# (\d\.\d+)", code)]
    exec(compile(code, "hugging-face.md", "exec"), {})
    printed = [float(x) for x in capsys.readouterr().out.split()]
    assert len(said) == 2
    assert printed == pytest.approx(said, abs=0.05)
