"""Sinks in a GPT-2 or a Llama of Hugging Face transformers (the extra `torch`).

    attach(model, SinkConfig(n_sink=2048, n_active=32))
    optimizer = LazyAdamW(model.parameters(), lr=1e-3)
    with sinks_of(model, ids):
        model(tokens, labels=tokens).loss.backward()
    optimizer.step()

`attach` puts a pool of GELU sinks beside each MLP, plain (GPT-2) or gated (Llama), and starts their
output at zero, so that a pretrained model computes the same as before. `sinks_of` says whose sinks
are active: one ID per sequence, (B,), or per token, (B,T), for packed rows. The IDs travel with the
arguments of each block, so that a block which `activation_checkpointing_enable` recomputes has the
IDs of its forward, also after the `with` has ended.

`generate` works with one ID per sequence if it keeps the number of sequences. Beam search gives
each sequence several rows, and is refused unless there is an ID for each. Call `attach` before an
optimizer is made. An optimizer other than LazyAdamW moves inactive sinks: weight decay and momentum
erase memories.

The names of the arrays are those of gpt2.py, so `load` reads its files, and `to_numpy` goes back.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from memsinks_np import __version__
from memsinks_np._internal.files import write_atomic
from memsinks_np._internal.ids import validate_ints
from memsinks_np._internal.typing import Params
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig, require
from memsinks_np.export.gpt2 import gpt2_config, gpt2_name
from memsinks_np.export.torch_model import as_tensors, sink_forward
from memsinks_np.model import init_params
from memsinks_np.sinks import Mask, Selection, own, sink_mask

ATTENTION = {"gpt2": "attn", "llama": "self_attn"}  # the name in a block, by model type
ARGUMENT = "memsinks_selection"  # a block's keyword argument
REMEDY = "call it in `with sinks_of(model, ids):`, or in `with no_sinks(model):`"
UNSET: Any = ...  # a singleton, so that `is` holds also in a deep copy of a model


class SinkParameter(nn.Parameter):
    """A parameter with one row per sink. LazyAdamW leaves rows without a gradient untouched."""


class Route:
    """Hooks of one block that hand the selection of sinks from the block to its MLP.

    The block's hook runs outside of a gradient checkpoint and those of attention and MLP inside, so
    the selection passes through as an argument of the block.
    """

    def __init__(self, cfg: SinkConfig, block: Any, attention: Any) -> None:
        self.cfg = cfg
        self.given = UNSET  # by `sinks_of`
        self.ids_shape: tuple[int, ...] = ()
        self.current = UNSET  # of the forward that runs now
        self.handles = [
            block.register_forward_pre_hook(self.send, with_kwargs=True),
            attention.register_forward_pre_hook(self.receive, with_kwargs=True),
            block.mlp.register_forward_hook(self.add),
        ]

    def send(self, block: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """Add the selection to a block's arguments. Raises ConfigError if there is none."""
        require(self.given is not UNSET, f"the model has sinks, but no IDs arrived; {REMEDY}")
        in_backward = torch._C._current_graph_task_id() != -1
        require(
            not in_backward,
            "a checkpoint around whole blocks loses the IDs; use activation_checkpointing_enable()",
        )
        return args, {**kwargs, ARGUMENT: (self.given, self.ids_shape)}

    def receive(self, attention: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """Take the selection out of the arguments that the block hands on to attention."""
        self.current = kwargs.pop(ARGUMENT, UNSET)
        return args, kwargs

    def add(self, mlp: Any, args: tuple[Tensor], y: Tensor) -> Tensor:
        """Add the output of the selected sinks to that of the MLP."""
        require(
            self.current is not UNSET, f"the MLP has sinks, but its block did not run; {REMEDY}"
        )
        (selection, shape), self.current, x = self.current, UNSET, args[0]
        if selection is None:
            return y
        fits = shape in (x.shape[:1], x.shape[:2])
        require(
            fits,
            f"IDs of shape {shape} do not fit {x.shape[0]} sequences of {x.shape[1]} tokens; give "
            "one ID per sequence, or one per token (beams and returned sequences count)",
        )
        return y + sink_forward(x, selection, mlp.sink_fc, mlp.sink_proj)


def attach(model: Any, cfg: SinkConfig) -> Any:
    """Put a pool of sinks beside each MLP of a GPT-2 or a Llama, in place, and return the model.

    The output rows start at zero. Raises ConfigError for another type of model, and if the model
    has sinks.
    """
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    require(kind in ATTENTION, f"{kind!r} is not supported; use one of {', '.join(ATTENTION)}")
    require(not _routed(model), "the model has sinks; call remove(model) first")
    C, S = model.config.hidden_size, cfg.n_sink
    for block in [m for m in model.modules() if hasattr(m, "mlp")]:
        like = next(block.mlp.parameters())
        fc, proj = nn.Linear(C, S).to(like), nn.Embedding(S, C).to(like)
        nn.init.normal_(fc.weight, std=model.config.initializer_range)
        nn.init.zeros_(fc.bias)
        nn.init.zeros_(proj.weight)
        fc.weight, fc.bias = SinkParameter(fc.weight), SinkParameter(fc.bias)
        proj.weight = SinkParameter(proj.weight)
        block.mlp.sink_fc, block.mlp.sink_proj = fc, proj
        block.mlp.sink_route = Route(cfg, block, getattr(block, ATTENTION[kind]))
    return model


@contextmanager
def sinks_of(model: nn.Module, ids: Any) -> Iterator[None]:
    """Run forwards of an attached model with the sinks of `ids`; None removes all sinks.

    `ids` are integers of any device, (B,) or (B,T). The model may be wrapped, as by
    DistributedDataParallel. Raises ConfigError for anything else.
    """
    mlps = _mlps(model)
    selection, shape = choose(mlps[0].sink_route.cfg, ids)
    before = [(mlp.sink_route.given, mlp.sink_route.ids_shape) for mlp in mlps]
    try:
        for mlp in mlps:
            on_device = as_tensors(selection, mlp.sink_fc.weight.device)
            mlp.sink_route.given, mlp.sink_route.ids_shape = on_device, shape
        yield
    finally:
        for mlp, old in zip(mlps, before, strict=True):
            (mlp.sink_route.given, mlp.sink_route.ids_shape), mlp.sink_route.current = old, UNSET


def no_sinks(model: nn.Module) -> Any:
    """Run forwards of an attached model with all sinks removed: `sinks_of(model, None)`."""
    return sinks_of(model, None)


def choose(cfg: SinkConfig, ids: Any) -> tuple[Selection, tuple[int, ...]]:
    """Return the selection of IDs, as sinks.own does, and the shape of the IDs."""
    if ids is None:
        return None, ()
    ids = validate_ints(ids.cpu().numpy() if isinstance(ids, Tensor) else ids, "IDs")
    require(ids.ndim in (1, 2), f"IDs have shape {ids.shape}; give (B,), or (B,T) for each token")
    if ids.ndim == 1:
        return own(cfg, ids), ids.shape
    return Mask(sink_mask(cfg, ids.ravel()).reshape(*ids.shape, cfg.n_sink)), ids.shape


def delete(model: nn.Module, ids: Any) -> None:
    """Erase the sinks of IDs in place: all three arrays of every layer become zero there.

    Whatever other sequences stored in the same sinks is erased as well.
    """
    mlps = _mlps(model)
    ids = ids.cpu().numpy() if isinstance(ids, Tensor) else ids
    erased = torch.as_tensor(sink_mask(mlps[0].sink_route.cfg, ids).any(axis=0))
    with torch.no_grad():
        for mlp in mlps:
            for w in (*mlp.sink_fc.parameters(), mlp.sink_proj.weight):
                w[erased.to(w.device)] = 0


def remove(model: Any) -> Any:
    """Remove the pool in place and return the model: an ordinary one, as with `no_sinks`."""
    for mlp in _mlps(model):
        for handle in mlp.sink_route.handles:
            handle.remove()
        del mlp.sink_fc, mlp.sink_proj, mlp.sink_route
    return model


def save(model: nn.Module, path: Path | str) -> None:
    """Write all weights of an attached model, and its SinkConfig, as one safetensors file."""
    meta = json.dumps({"version": __version__, "model": {"sinks": asdict(_config(model))}})
    weights = {name: w.detach().contiguous() for name, w in model.named_parameters()}
    data = safetensors.torch.save(weights, metadata={"format": "pt", "memsinks_np": meta})
    write_atomic(Path(path), data)


def load(path: Path | str, hf_model: Any) -> Any:
    """Attach sinks to a model, fill it with a file of `save` or gpt2.save, and return it.

    `hf_model` is a model of the same sizes without sinks. Raises ConfigError for another file.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            meta = json.loads((file.metadata() or {})["memsinks_np"])
            cfg = SinkConfig(**meta["model"]["sinks"])
            rows = {file.get_slice(n).get_shape()[0] for n in file.keys() if "mlp.sink_" in n}  # noqa: SIM118
        require(rows == {cfg.n_sink}, f"it holds sinks of {rows or 'no'} rows, not {cfg.n_sink}")
        weights = safetensors.torch.load_file(path)
    except Exception as e:
        reason = str(e) if isinstance(e, ConfigError) else type(e).__name__
        raise ConfigError(f"{path} is not a saved model with sinks ({reason})") from None
    attach(hf_model, cfg)
    shapes = {name: w.shape for name, w in hf_model.named_parameters()}
    found = {name: w.shape for name, w in weights.items()}
    other = sorted({name for name, _ in shapes.items() ^ found.items()})
    if other:
        remove(hf_model)
        raise ConfigError(f"{path} does not fit the model: {other[0]} and {len(other) - 1} others")
    hf_model.load_state_dict(weights, strict=False)
    return hf_model


def to_numpy(model: Any) -> tuple[Params, ModelConfig]:
    """Return a GPT-2, with its sinks or without, as parameters and configuration of model.py.

    Raises ConfigError if the model is not of our shape: the tanh form of GELU, tied embeddings, and
    attention biases of zero (keep them so: set their requires_grad to False before training).
    """
    hf = model.config
    weights = {name: w.detach().cpu().numpy() for name, w in model.named_parameters()}
    first = "transformer.h.0.mlp.c_fc.weight"
    require(hf.model_type == "gpt2" and first in weights, "only a GPT2LMHeadModel has our shape")
    cfg = ModelConfig(
        n_vocab=hf.vocab_size,
        n_ctx=hf.n_positions,
        d_model=hf.n_embd,
        n_heads=hf.n_head,
        n_layers=hf.n_layer,
        n_shared=weights[first].shape[1],
        sinks=_config(model) if _routed(model) else None,
    )
    asked = ("activation_function", "layer_norm_epsilon", "tie_word_embeddings")
    ours = {name: gpt2_config(cfg)[name] for name in asked} | {"scale_attn_weights": True}
    ours |= {"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
    for name, value in ours.items():
        got = getattr(hf, name)
        require(got == value, f"{name}={got!r} of the model is not {value!r} as in model.py")
    names = {name: gpt2_name(name) for name in init_params(cfg)}
    for name in weights.keys() - names.values():
        require(".attn." in name and not weights[name].any(), f"model.py has no {name}")
    return {name: weights[theirs] for name, theirs in names.items()}, cfg


class LazyAdamW(torch.optim.Optimizer):
    """AdamW that leaves inactive sinks untouched to the bit, as optim.py does.

    A row of a sink parameter takes part in a step if its gradient is not all zero, and each row
    has its own step count for the bias correction. All other parameters take part in every step.
    Weight decay applies to matrices, not to vectors.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "decay": weight_decay})
        found = any(isinstance(p, SinkParameter) for g in self.param_groups for p in g["params"])
        require(found, "no parameter is one of sinks; call attach(model, ...) before")

    def step(self, closure: Any = None) -> Any:
        """Take one step; return the loss of `closure`, if there is one."""
        loss = closure and closure()
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self._update(p, group)
        return loss

    def _update(self, p: Tensor, group: dict[str, Any]) -> None:
        state, is_sink = self.state[p], isinstance(p, SinkParameter)
        if not state:
            state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
            wide = torch.promote_types(p.dtype, torch.float32)
            state["step"] = torch.zeros(len(p) if is_sink else 1, dtype=wide, device=p.device)
        rows: Any = slice(None)
        g = cast(Tensor, p.grad)
        if is_sink:
            rows = g.flatten(1).any(1) if g.ndim > 1 else g != 0
        state["step"][rows] += 1
        n = state["step"][rows].view(-1, *(1,) * (p.ndim - 1))
        (b1, b2), lr, g = group["betas"], group["lr"], g[rows]
        state["m"][rows] = m = b1 * state["m"][rows] + (1 - b1) * g
        state["v"][rows] = v = b2 * state["v"][rows] + (1 - b2) * g * g
        change = lr * (m / (1 - b1**n)) / ((v / (1 - b2**n)).sqrt() + group["eps"])
        p[rows] = (p[rows] * (1 - lr * group["decay"] * (p.ndim > 1)) - change).to(p.dtype)


def _routed(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if hasattr(m, "sink_route")]


def _mlps(model: nn.Module) -> list[Any]:
    """Return the MLPs that have sinks. Raises ConfigError if there are none."""
    mlps = _routed(model)
    require(bool(mlps), "the model has no sinks; call attach(model, SinkConfig(...)) first")
    return mlps


def _config(model: nn.Module) -> SinkConfig:
    cfg: SinkConfig = _mlps(model)[0].sink_route.cfg
    return cfg
