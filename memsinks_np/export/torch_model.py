"""Sinks in PyTorch: an MLP to put in place of GPT-2's, and a small GPT around it that takes the file of export.py."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from memsinks_np.config import ModelConfig, SinkConfig
from memsinks_np.export.gpt2 import config_of
from memsinks_np.sinks import active, sink_mask


class Conv1D(nn.Module):
    """y = x W + b with W (in, out): GPT-2's linear layer, under GPT-2's name for it."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(0.02 * torch.randn(n_in, n_out)),
            nn.Parameter(torch.zeros(n_out)),
        )

    def forward(self, x: Tensor) -> Tensor:  # (...,in) -> (...,out)
        return x @ self.weight + self.bias


class SinkMLP(nn.Module):
    """GPT-2's MLP with sinks chosen by sequence ID (paper, section 5); `ids=None` removes the sinks."""

    def __init__(self, C: int, G: int, sinks: SinkConfig | None, layer: int = 0) -> None:
        super().__init__()
        self.c_fc, self.act, self.c_proj = Conv1D(C, G), nn.GELU(approximate="tanh"), Conv1D(G, C)
        self.sinks, self.layer = sinks, layer
        if sinks:  # both weights (S,C), one row per sink
            self.sink_fc = nn.Linear(C, sinks.n_sink)
            self.sink_proj = nn.Embedding.from_pretrained(
                0.02 * torch.randn(sinks.n_sink, C), freeze=False
            )

    def forward(
        self, x: Tensor, ids: Any = None
    ) -> Tensor:  # (B,T,C), (B,) integers on the host -> (B,T,C)
        y: Tensor = self.c_proj(self.act(self.c_fc(x)))
        if ids is None or self.sinks is None:
            return y
        if self.sinks.is_random:  # the definition: every sink, times a mask
            mask = torch.as_tensor(sink_mask(self.sinks, ids, self.layer)).to(x)  # (B,S)
            held = (self.act(self.sink_fc(x)) * mask[:, None]) @ self.sink_proj.weight
        else:  # only the sinks that are on are computed
            on = torch.as_tensor(active(self.sinks, ids, self.layer)).to(x.device)  # (B,A)
            held = self.act(
                x @ self.sink_fc.weight[on].mT + self.sink_fc.bias[on][:, None]
            ) @ self.sink_proj(on)
        whole: Tensor = y + held
        return whole


class GPT(nn.Module):
    """The transformer of model.py under GPT-2's names."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        C, norm, blocks, self.n_heads = cfg.d_model, nn.LayerNorm, nn.ModuleList(), cfg.n_heads
        ends = {
            "wte": nn.Embedding(cfg.n_vocab, C),
            "wpe": nn.Embedding(cfg.n_ctx, C),
            "ln_f": norm(C),
        }
        for layer in range(cfg.n_layers):
            attn = nn.ModuleDict({"c_attn": Conv1D(C, 3 * C), "c_proj": Conv1D(C, C)})
            mlp = SinkMLP(C, cfg.n_shared, cfg.sinks, layer)
            blocks.append(
                nn.ModuleDict({"ln_1": norm(C), "attn": attn, "ln_2": norm(C), "mlp": mlp})
            )
        self.transformer = nn.ModuleDict({**ends, "h": blocks})
        self.lm_head = None if cfg.tied else nn.Linear(C, cfg.n_vocab, bias=False)

    def forward(
        self, tokens: Tensor, ids: Any = None
    ) -> Tensor:  # (B,T), (B,) or None -> logits (B,T,V)
        parts: Any = self.transformer
        wte, wpe, ln_f, blocks = parts.values()
        x = wte(tokens) + wpe.weight[: tokens.shape[1]]
        for h in blocks:
            qkv = h["attn"]["c_attn"](h["ln_1"](x)).unflatten(
                -1, (3, self.n_heads, -1)
            )  # (B,T,3,H,K)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            z = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B,H,T,K)
            x = x + h["attn"]["c_proj"](z.transpose(1, 2).flatten(2))
            x = x + h["mlp"](h["ln_2"](x), ids)
        return nn.functional.linear(ln_f(x), (self.lm_head or wte).weight)


def load(path: Path) -> GPT:
    """The model that export.save has written; raises ConfigError for a safetensors file that is none of ours."""
    with safe_open(path, "pt") as file:
        gpt, weights = GPT(config_of(file.metadata())), load_file(path)
    gpt.to(weights["transformer.wte.weight"].dtype).load_state_dict(weights)
    return gpt
