"""Sinks in PyTorch: a replacement for GPT-2's MLP, and a small GPT that loads a file of gpt2.py."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from memsinks_np._internal.ids import validate_ids
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig, require
from memsinks_np.export.gpt2 import config_of
from memsinks_np.sinks import Mask, Rows, Selection, own


class Conv1D(nn.Module):
    """GPT-2's linear layer, under its name there: y = x W + b with W (in, out)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:  # (...,in) -> (...,out)
        return x @ self.weight + self.bias


def as_tensors(selection: Selection, device: torch.device) -> Any:
    """Return a selection of sinks with a tensor in place of its NumPy array."""
    return selection and type(selection)(torch.as_tensor(selection[0]).to(device))


def sink_forward(x: Tensor, selection: Rows | Mask, fc: nn.Linear, proj: nn.Embedding) -> Tensor:
    """Return what the selected sinks add to an MLP's output, (B,T,C) -> (B,T,C)."""
    gelu = nn.GELU(approximate="tanh")
    y: Tensor
    if isinstance(selection, Rows):  # compute only the active sinks
        index = selection.index.to(x.device)  # (B,A)
        pre = x @ fc.weight[index].mT + fc.bias[index][:, None]
        y = gelu(pre) @ proj.weight[index]
    else:  # compute every sink and mask it: the definition
        mask = selection.value.to(x)  # (B,S), or (B,T,S) for each token
        mask = mask[:, None] if mask.ndim == 2 else mask
        y = (gelu(fc(x)) * mask) @ proj.weight
    return y


class SinkMLP(nn.Module):
    """GPT-2's MLP with sinks chosen by sequence ID (paper, section 5); `ids=None` removes them."""

    def __init__(self, C: int, G: int, sinks: SinkConfig | None) -> None:
        super().__init__()
        self.c_fc, self.act, self.c_proj = Conv1D(C, G), nn.GELU(approximate="tanh"), Conv1D(G, C)
        self.sinks = sinks
        if sinks:  # both weights are (S,C), one row per sink
            W_out = 0.02 * torch.randn(sinks.n_sink, C)
            self.sink_fc = nn.Linear(C, sinks.n_sink)
            self.sink_proj = nn.Embedding.from_pretrained(W_out, freeze=False)

    def forward(self, x: Tensor, ids: Any = None) -> Tensor:
        # (B,T,C), (B,) integers on the host -> (B,T,C)
        y: Tensor = self.c_proj(self.act(self.c_fc(x)))
        if ids is None or self.sinks is None:
            return y
        ids = validate_ids(ids)
        require(len(ids) == len(x), f"{len(x)} sequences with {len(ids)} IDs; give one to each")
        selection = as_tensors(own(self.sinks, ids), x.device)
        return y + sink_forward(x, selection, self.sink_fc, self.sink_proj)


class GPT(nn.Module):
    """The transformer of model.py under GPT-2's names."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        C, norm, blocks, self.n_heads = cfg.d_model, nn.LayerNorm, nn.ModuleList(), cfg.n_heads
        for _ in range(cfg.n_layers):
            attn = nn.ModuleDict({"c_attn": Conv1D(C, 3 * C), "c_proj": Conv1D(C, C)})
            mlp = SinkMLP(C, cfg.n_shared, cfg.sinks)
            blocks.append(
                nn.ModuleDict({"ln_1": norm(C), "attn": attn, "ln_2": norm(C), "mlp": mlp})
            )
        wte, wpe = nn.Embedding(cfg.n_vocab, C), nn.Embedding(cfg.n_ctx, C)
        self.transformer = nn.ModuleDict({"wte": wte, "wpe": wpe, "ln_f": norm(C), "h": blocks})

    def forward(self, tokens: Tensor, ids: Any = None) -> Tensor:
        # (B,T), (B,) or None -> logits (B,T,V)
        modules: Any = self.transformer
        wte, wpe, ln_f, blocks = modules.values()
        x = wte(tokens) + wpe.weight[: tokens.shape[1]]
        for h in blocks:
            qkv = h["attn"]["c_attn"](h["ln_1"](x))
            qkv = qkv.unflatten(-1, (3, self.n_heads, -1))  # (B,T,3,H,K)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            z = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B,H,T,K)
            x = x + h["attn"]["c_proj"](z.transpose(1, 2).flatten(2))
            x = x + h["mlp"](h["ln_2"](x), ids)
        return nn.functional.linear(ln_f(x), wte.weight)


def load(path: Path) -> GPT:
    """Load a model that gpt2.save wrote. Raises ConfigError for any other file.

    No model is made that is larger than the file, so a malicious file takes little memory.
    """
    try:
        with safe_open(path, "pt") as file:
            cfg = config_of(file.metadata())
        weights = load_file(path)
        n = sum(w.numel() for w in weights.values())
        fits = cfg.n_params <= n and 12 * cfg.n_layers <= len(weights)  # a layer has 12 arrays
        require(fits, f"{cfg} has more numbers or layers than the file")
        gpt = GPT(cfg)
        gpt.to(weights["transformer.wte.weight"].dtype)
        gpt.load_state_dict(weights)
    except Exception as e:
        reason = str(e) if isinstance(e, ConfigError) else type(e).__name__
        raise ConfigError(f"{path} is not a saved model ({reason})") from None
    return gpt
