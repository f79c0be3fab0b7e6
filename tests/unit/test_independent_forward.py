"""The model against PyTorch's own parts, put together from the architecture's description and not from our code.

A pre-LayerNorm transformer with learned positions, causal attention and one wide MLP per layer.  Its attn_mask neurons
are the shared ones followed by the pool (paper, section 5: the first are always on), and a mask over all of them is
applied after GELU and before the down projection.
"""

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np.config import ModelConfig, SinkConfig
from memsinks_np.model import init_params, make_batch, model_forward

torch = pytest.importorskip("torch")
nn = torch.nn
torch.set_num_threads(1)  # on arrays this small, threads only wait for each other

RNG = np.random.default_rng(17)
B, T, C, H, L, G, S, V = 3, 7, 6, 2, 3, 5, 8, 11
POOL = SinkConfig(n_sink=S, n_active=2, per_layer=True)
IDS = np.array([5, -1, 2**40])


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.attention = nn.MultiheadAttention(C, H, bias=False, batch_first=True)
        self.up, self.down = nn.Linear(C, G + S), nn.Linear(G + S, C)

    def forward(self, x, on):  # (B,T,C), (B,G+S)
        n, later = self.norm1(x), nn.Transformer.generate_square_subsequent_mask(T, dtype=x.dtype)
        x = x + self.attention(n, n, n, attn_mask=later, is_causal=True, need_weights=False)[0]
        attn_mask = nn.functional.gelu(self.up(self.norm2(x)), approximate="tanh")
        return x + self.down(attn_mask * on.unsqueeze(1))


class Transformer(nn.Module):
    def __init__(self, tied):
        super().__init__()
        self.words, self.places = nn.Embedding(V, C), nn.Embedding(T + 2, C)
        self.layers = nn.ModuleList(Layer() for _ in range(L))
        self.norm, self.head = nn.LayerNorm(C), nn.Linear(C, V, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, tokens, on):  # (B,T), L masks (B,G+S)
        x = self.words(tokens) + self.places(torch.arange(T))
        for layer, mask in zip(self.layers, on, strict=True):
            x = layer(x, mask)
        return self.head(self.norm(x))


def filled(p, tied):
    """The same weights: nn.Linear holds (out, in), and one wide MLP holds the shared neurons before the sinks."""
    t = Transformer(tied)
    weights = {
        "words.weight": p["wte"],
        "places.weight": p["wpe"],
        "head.weight": p["wte" if tied else "head"],
    }
    weights |= {"norm.weight": p["lnf.g"], "norm.bias": p["lnf.b"]}
    for i in range(L):
        w = {name.removeprefix(f"h{i}."): p[name] for name in p if name.startswith(f"h{i}.")}
        own = {"norm1.weight": w["ln1.g"], "norm1.bias": w["ln1.b"], "norm2.weight": w["ln2.g"]}
        own |= {"norm2.bias": w["ln2.b"], "attention.in_proj_weight": w["W_QKV"].T}
        own |= {"attention.out_proj.weight": w["W_O"].T, "down.bias": w["mlp.b_out"]}
        own |= {"up.weight": np.concatenate([w["mlp.W_in"].T, w["sink.W_in"]])}
        own |= {"up.bias": np.concatenate([w["mlp.b_in"], w["sink.b_in"]])}
        own |= {"down.weight": np.concatenate([w["mlp.W_out"], w["sink.W_out"]]).T}
        weights |= {f"layers.{i}.{name}": a for name, a in own.items()}
    t.to(torch.as_tensor(p["wte"]).dtype)
    t.load_state_dict({name: torch.tensor(a) for name, a in weights.items()})
    return t


def chosen(how):
    """A selection of sinks for our model, and what it means: L masks over the pool (B,S)."""
    if how == "own":
        index = [RNG.permuted(np.tile(np.arange(S), (B, 1)), axis=1)[:, :2] for _ in range(L)]
        return tuple(map(sinks.Rows, index)), [np.eye(S)[i].sum(axis=1) for i in index]
    if how == "mask":
        masks = [RNG.integers(2, size=(B, S)).astype(float) for _ in range(L)]
        return tuple(map(sinks.Mask, masks)), masks
    if how == "all":
        return sinks.all_scaled(POOL), [np.full((B, S), 0.25)] * L
    return sinks.NO_SINKS, [np.zeros((B, S))] * L


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "random_sinks"])
@pytest.mark.parametrize("how", ["own", "mask", "all", "none"])
def test_logits_are_those_of_pytorch(how, tied, dtype):
    cfg = ModelConfig(
        n_vocab=V, n_ctx=T + 2, d_model=C, n_heads=H, n_layers=L, n_shared=G, sinks=POOL, tied=tied
    )
    params = {
        k: (w + 0.3 * RNG.standard_normal(w.shape)).astype(dtype)
        for k, w in init_params(cfg).items()
    }
    tokens = RNG.integers(V, size=(B, T + 1))
    selection, masks = chosen(how)
    ours, _ = model_forward(np, params, make_batch(cfg, tokens, selection, np.dtype(dtype)), cfg)
    on = [torch.as_tensor(np.hstack([np.ones((B, G)), m]).astype(dtype)) for m in masks]
    with torch.no_grad():
        theirs = filled(params, tied)(torch.as_tensor(tokens[:, :-1]), on).numpy()
    assert (
        np.abs(ours - theirs).max()
        < {"float32": 1e-5, "float64": 1e-12}[dtype] * np.abs(theirs).max()
    )
    if how != "none":
        with torch.no_grad():
            removed = filled(params, tied)(
                torch.as_tensor(tokens[:, :-1]), [m * 0 for m in on]
            ).numpy()
        assert np.abs(ours - removed).max() > 1e-2
