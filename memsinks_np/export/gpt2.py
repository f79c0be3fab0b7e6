"""A trained model as safetensors under GPT-2's names, for other libraries; our own format is checkpoint.py.

The layout is that of the `GPT2LMHeadModel` of Hugging Face: matrices (in, out), queries, keys and values side by
side in `c_attn`.  Two things differ from GPT-2.

Our projections have no biases.  The file holds biases of zero in their place, which compute the same, so that a
stock GPT-2 loader finds every array that it asks for.  It also asks for a config.json, with n_positions=n_ctx,
n_embd=d_model, n_inner=n_shared and GPT-2's own activation.

The sinks are three more arrays in each layer, one row per sink.  A stock loader does not know them and leaves them
out: what it loads is the model with its sinks removed, as after `prune`.  torch_bridge.py takes them along.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np import __version__
from memsinks_np._internal.files import write_atomic
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig, require
from memsinks_np.model import init_params
from memsinks_np.sinks import Params

BLOCK = {
    "ln1.g": "ln_1.weight",
    "ln1.b": "ln_1.bias",
    "W_QKV": "attn.c_attn.weight",  # (C,3C)
    "W_O": "attn.c_proj.weight",  # (C,C)
    "ln2.g": "ln_2.weight",
    "ln2.b": "ln_2.bias",
    "mlp.W_in": "mlp.c_fc.weight",  # (C,G)
    "mlp.b_in": "mlp.c_fc.bias",
    "mlp.W_out": "mlp.c_proj.weight",  # (G,C)
    "mlp.b_out": "mlp.c_proj.bias",
    "sink.W_in": "mlp.sink_fc.weight",  # (S,C)
    "sink.b_in": "mlp.sink_fc.bias",  # (S,)
    "sink.W_out": "mlp.sink_proj.weight",  # (S,C)
}
ENDS = {"wte": "wte.weight", "wpe": "wpe.weight", "lnf.g": "ln_f.weight", "lnf.b": "ln_f.bias"}


def gpt2_name(name: str) -> str:  # "h0.mlp.W_in" -> "transformer.h.0.mlp.c_fc.weight"
    """The name of a parameter in GPT-2."""
    if name == "head":
        return "lm_head.weight"
    if name in ENDS:
        return f"transformer.{ENDS[name]}"
    layer, _, rest = name.partition(".")
    return f"transformer.h.{layer[1:]}.{BLOCK[rest]}"


def gpt2_arrays(params: Params, cfg: ModelConfig) -> Params:
    """All parameters by their names in GPT-2, and the biases of zero that it expects."""
    arrays = {gpt2_name(name): w for name, w in params.items()}
    for layer in range(cfg.n_layers):
        for part, n in (("c_attn", 3 * cfg.d_model), ("c_proj", cfg.d_model)):
            arrays[f"transformer.h.{layer}.attn.{part}.bias"] = np.zeros(n, params["wte"].dtype)
    return arrays


def save(path: Path, params: Params, cfg: ModelConfig) -> None:
    """Write a model, whole or pruned, as one safetensors file; its sizes and ID scheme are JSON in the metadata.

    Raises ConfigError where the safetensors package is not installed, or the parameters are not those of `cfg`.
    """
    try:
        from safetensors.numpy import save as to_bytes
    except ImportError:
        raise ConfigError(
            'safetensors is not installed; python -m pip install -e ".[bench]"'
        ) from None
    if not any(".sink." in name for name in params):
        cfg = replace(cfg, sinks=None)
    for name, like in init_params(cfg).items():
        shape = params[name].shape if name in params else None
        require(
            shape == like.shape,
            f"{name} has shape {shape}, but the configuration asks for {like.shape}",
        )
    # contiguous copies: safetensors writes a transposed array in the order of its memory, and wrong, without a word
    arrays = {name: np.ascontiguousarray(w) for name, w in gpt2_arrays(params, cfg).items()}
    made = json.dumps({"version": __version__, "model": asdict(cfg)})
    write_atomic(Path(path), to_bytes(arrays, metadata={"format": "pt", "memsinks_np": made}))


def config_of(metadata: dict[str, str] | None) -> ModelConfig:
    """The configuration that `save` has written; raises ConfigError for the metadata of any other file."""
    try:
        model: dict[str, Any] = json.loads((metadata or {})["memsinks_np"])["model"]
        sinks = model.pop("sinks")
        return ModelConfig(**model, sinks=sinks and SinkConfig(**sinks))
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise ConfigError(
            f"not a model that memsinks_np has exported ({type(e).__name__}); use export.save"
        ) from None
