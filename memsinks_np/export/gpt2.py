"""Write a trained model as safetensors under GPT-2's names, for other libraries.

The layout is that of Hugging Face's `GPT2LMHeadModel`: matrices are (in, out), and queries, keys
and values form one matrix, `c_attn`. The file config.json beside it holds the sizes, which
`GPT2LMHeadModel.from_pretrained(folder)` needs. Two things differ from GPT-2:

- Attention has no biases. The file holds zeros, which compute the same.
- Each layer has three more arrays for the sinks, one row per sink. A GPT-2 loader ignores them, so
  that its model is the one with sinks removed, as after `prune`. torch_model.py loads them too.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np import __version__
from memsinks_np._internal.files import write_atomic
from memsinks_np._internal.typing import Params
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig, require
from memsinks_np.model import init_params
from memsinks_np.sinks import is_sink

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


def gpt2_name(name: str) -> str:
    """Return GPT-2's name of a parameter: "h0.W_O" -> "transformer.h.0.attn.c_proj.weight"."""
    if name in ENDS:
        return f"transformer.{ENDS[name]}"
    layer, _, rest = name.partition(".")
    return f"transformer.h.{layer[1:]}.{BLOCK[rest]}"


def gpt2_arrays(params: Params, cfg: ModelConfig) -> Params:
    """Return all parameters under GPT-2's names, and zeros for the biases of attention."""
    arrays = {gpt2_name(name): w for name, w in params.items()}
    for layer in range(cfg.n_layers):
        for part, n in (("c_attn", 3 * cfg.d_model), ("c_proj", cfg.d_model)):
            arrays[f"transformer.h.{layer}.attn.{part}.bias"] = np.zeros(n, params["wte"].dtype)
    return arrays


def gpt2_config(cfg: ModelConfig) -> dict[str, Any]:
    """Return the model as Hugging Face's GPT2Config: without sinks and without dropout."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": cfg.n_vocab,
        "n_positions": cfg.n_ctx,
        "n_embd": cfg.d_model,
        "n_head": cfg.n_heads,
        "n_layer": cfg.n_layers,
        "n_inner": cfg.n_shared,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0),
        **dict.fromkeys(("bos_token_id", "eos_token_id"), None),
    }


def save(path: Path, params: Params, cfg: ModelConfig) -> None:
    """Write a model, whole or pruned, with its configuration as JSON in the metadata.

    A loader of GPT-2 needs the name model.safetensors and the file config.json, which is written
    beside it. Raises ConfigError if the folder has another config.json, if safetensors is not
    installed, or if the parameters do not fit `cfg`.
    """
    path, config = Path(path), Path(path).with_name("config.json")
    sizes = json.dumps(gpt2_config(cfg), indent=1)
    free = not config.exists() or config.read_bytes() == sizes.encode()
    require(free, f"{config} is of something else; export the model into a folder of its own")
    try:
        from safetensors.numpy import save as to_bytes
    except ImportError:
        raise ConfigError(
            'safetensors is not installed; python -m pip install -e ".[bench]"'
        ) from None
    if not any(map(is_sink, params)):
        cfg = replace(cfg, sinks=None)
    for name, like in init_params(cfg).items():
        shape = params[name].shape if name in params else None
        message = f"{name} has shape {shape}, but the configuration requires {like.shape}"
        require(shape == like.shape, message)
    # safetensors writes the memory of an array as it is, so a transposed array must be copied
    arrays = {name: np.ascontiguousarray(w) for name, w in gpt2_arrays(params, cfg).items()}
    meta = json.dumps({"version": __version__, "model": asdict(cfg)})
    write_atomic(path, to_bytes(arrays, metadata={"format": "pt", "memsinks_np": meta}))
    write_atomic(config, sizes)


def config_of(metadata: dict[str, str] | None) -> ModelConfig:
    """Return the configuration that `save` wrote. Raises ConfigError for other metadata."""
    try:
        model: dict[str, Any] = json.loads((metadata or {})["memsinks_np"])["model"]
        sinks = model.pop("sinks")
        return ModelConfig(**model, sinks=sinks and SinkConfig(**sinks))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as e:
        raise ConfigError(
            f"not a model that memsinks_np exported ({type(e).__name__}); use export.gpt2.save"
        ) from None
