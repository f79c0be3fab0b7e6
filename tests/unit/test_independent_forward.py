"""The model against PyTorch's own layers, composed from the architecture's description.

A pre-LayerNorm transformer with learned positions, causal attention and one wide MLP per layer. Its
hidden neurons are the shared ones and then the pool (paper, section 5: the first are always
active). A mask over all of them applies after GELU and before the down projection.
"""

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np.config import ModelConfig, SinkConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.model import block_params, model_forward
from plain import strong_params

torch = pytest.importorskip("torch")
nn = torch.nn
torch.set_num_threads(1)  # faster on arrays this small

B, T, C, H, L, G, S, V = 3, 7, 6, 2, 3, 5, 8, 11
POOL = SinkConfig(n_sink=S, n_active=2)
CFG = ModelConfig(n_vocab=V, n_ctx=T + 2, d_model=C, n_heads=H, n_layers=L, n_shared=G, sinks=POOL)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.attention = nn.MultiheadAttention(C, H, bias=False, batch_first=True)
        self.up, self.down = nn.Linear(C, G + S), nn.Linear(G + S, C)

    def forward(self, x, mask):  # (B,T,C), (B,G+S)
        n, later = self.norm1(x), nn.Transformer.generate_square_subsequent_mask(T, dtype=x.dtype)
        x = x + self.attention(n, n, n, attn_mask=later, is_causal=True, need_weights=False)[0]
        hidden = nn.functional.gelu(self.up(self.norm2(x)), approximate="tanh")
        return x + self.down(hidden * mask.unsqueeze(1))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(V, C), nn.Embedding(T + 2, C)
        self.layers = nn.ModuleList(Layer() for _ in range(L))
        self.norm = nn.LayerNorm(C)

    def forward(self, tokens, mask):  # (B,T), (B,G+S)
        x = self.tokens(tokens) + self.positions(torch.arange(T))
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x) @ self.tokens.weight.T


def torch_model(p):
    """Return the same weights in PyTorch: nn.Linear holds (out, in), the sinks come last."""
    weights = {"tokens.weight": p["wte"], "positions.weight": p["wpe"]}
    weights |= {"norm.weight": p["lnf.g"], "norm.bias": p["lnf.b"]}
    for i in range(L):
        w = block_params(p, i)
        own = {"norm1.weight": w["ln1.g"], "norm1.bias": w["ln1.b"], "norm2.weight": w["ln2.g"]}
        own |= {"norm2.bias": w["ln2.b"], "attention.in_proj_weight": w["W_QKV"].T}
        own |= {"attention.out_proj.weight": w["W_O"].T, "down.bias": w["mlp.b_out"]}
        own |= {"up.weight": np.concatenate([w["mlp.W_in"].T, w["sink.W_in"]])}
        own |= {"up.bias": np.concatenate([w["mlp.b_in"], w["sink.b_in"]])}
        own |= {"down.weight": np.concatenate([w["mlp.W_out"], w["sink.W_out"]]).T}
        weights |= {f"layers.{i}.{name}": a for name, a in own.items()}
    model = Transformer().to(torch.as_tensor(p["wte"]).dtype)
    model.load_state_dict({name: torch.tensor(a) for name, a in weights.items()})
    return model


def choose(how, rng):
    """Return a selection, and the mask over the pool that it means, (B,S)."""
    if how == "own":
        index = rng.permuted(np.tile(np.arange(S), (B, 1)), axis=1)[:, :2]
        return sinks.Rows(index), np.eye(S)[index].sum(axis=1)
    if how == "mask":
        mask = rng.integers(2, size=(B, S)).astype(float)
        return sinks.Mask(mask), mask
    if how == "all":
        return sinks.all_scaled(POOL), np.full((B, S), 0.25)
    return sinks.NO_SINKS, np.zeros((B, S))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", ["own", "mask", "all", "none"])
def test_logits_are_those_of_pytorch(how, dtype):
    rng = np.random.default_rng(17)
    params = strong_params(CFG, dtype=dtype)
    tokens = rng.integers(V, size=(B, T + 1))
    selection, mask = choose(how, rng)
    ours, _ = model_forward(np, params, make_batch(CFG, tokens, selection, np.dtype(dtype)), CFG)

    def theirs(pool):
        wide = torch.as_tensor(np.hstack([np.ones((B, G)), pool]).astype(dtype))
        with torch.no_grad():
            return torch_model(params)(torch.as_tensor(tokens[:, :-1]), wide).numpy()

    want = theirs(mask)
    limit = {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert np.abs(ours - want).max() < limit * np.abs(want).max()
    if how != "none":
        assert np.abs(ours - theirs(0 * mask)).max() > 1e-2
