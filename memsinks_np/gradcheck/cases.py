"""Every forward/backward op of the package, whole models, and training, as cases for `check`.

Sizes are small, odd and unequal, so that no transposed axis fits by accident. Inputs are random,
never 0 or 1. A case comes after the ops that it calls: the first one that fails is at fault.
"""

from typing import Any

import numpy as np

from memsinks_np import model, ops, optim, sinks, train
from memsinks_np._internal.backend import to_device, to_host
from memsinks_np.baselines import gates, unlearn
from memsinks_np.config import Method, ModelConfig, SinkConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.data.corpus import PADDING, Sequences
from memsinks_np.gradcheck import Case

B, T, C, H, K, G, S, V = 3, 5, 6, 2, 3, 4, 7, 11
INDEX = np.array([[0, 2, 4], [1, 2, 6], [4, 5, 2]])  # all share sink 2; sink 3 is inactive
MASK = np.array([[1, 0, 1, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0, 1], [0.3, 0.3, 0, 0.3, 0, 0, 0.3]])
POOL = SinkConfig(n_sink=S, n_active=1)
ATTN_MASK = np.triu(np.full((T, T), -np.inf), k=1)


def cases(seed: int = 0) -> list[Case]:
    """Return all cases, with random inputs."""
    rng = np.random.default_rng(seed)
    models = {"rows": sinks.Rows(INDEX), "mask": sinks.Mask(MASK), "none": sinks.NO_SINKS}
    return [
        *transformer_cases(rng),
        *sink_cases(rng),
        *baseline_cases(rng),
        block_case(rng),
        *(model_case(f"model, {name}", selection, rng) for name, selection in models.items()),
        gated_model_case(rng),
        training_case("training, rows", SinkConfig(n_sink=8, n_active=2), rng),
        training_case("training, mask", SinkConfig(n_sink=8, scheme="bernoulli", p=0.3), rng),
    ]


def random_inputs(rng: Any, **shapes: tuple[int, ...]) -> dict[str, Any]:
    """Return random arrays by name."""
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def transformer_cases(rng: Any) -> list[Case]:
    """Return the cases of ops.py."""
    linear = random_inputs(rng, x=(B, T, C), W=(C, G))
    norm = random_inputs(rng, x=(B, T, C), g=(C,), b=(C,))
    heads = random_inputs(rng, q=(B, H, T, K), k=(B, H, T, K), v=(B, H, T, K))
    mlp = random_inputs(rng, x=(B, T, C), W_in=(C, G), b_in=(G,), W_out=(G, C), b_out=(C,))
    target = rng.integers(V, size=(B, T))
    tables = {"embedding": V, "embedding, large V": ops.SMALL_VOCAB + 1}

    def split(xp: Any, qkv: Any) -> tuple[Any, Any]:
        return xp.stack(ops.split_heads(xp, qkv, H)), None

    def split_backward(xp: Any, dy: Any, cache: Any) -> Any:
        return ops.split_heads_backward(xp, dy[0, ...], dy[1, ...], dy[2, ...])

    def merge(xp: Any, z: Any) -> tuple[Any, Any]:
        return ops.merge_heads(xp, z), None

    def merge_backward(xp: Any, dy: Any, cache: Any) -> Any:
        return ops.merge_heads_backward(xp, dy, H)

    def attention(xp: Any, q: Any, k: Any, v: Any) -> tuple[Any, Any]:
        return ops.attention_forward(xp, q, k, v, to_device(xp, ATTN_MASK))

    def embedding(xp: Any, W: Any) -> tuple[Any, Any]:
        return ops.embedding_forward(xp, W, to_device(xp, target))

    def entropy(xp: Any, logits: Any) -> tuple[Any, Any]:
        return ops.cross_entropy_forward(xp, logits, to_device(xp, target))

    x, s = random_inputs(rng, x=(B, T, G)), random_inputs(rng, s=(B, H, T, T))
    qkv, z = random_inputs(rng, qkv=(B, T, 3 * C)), random_inputs(rng, z=(B, H, T, K))
    logits = random_inputs(rng, logits=(B, T, V))
    return [
        *(
            Case(name, embedding, ops.embedding_backward, random_inputs(rng, W=(n, 2)))
            for name, n in tables.items()
        ),
        Case("linear", ops.linear_forward, ops.linear_backward, linear),
        Case("layernorm", ops.layernorm_forward, ops.layernorm_backward, norm),
        Case("gelu", ops.gelu_forward, ops.gelu_backward, x),
        Case("split_heads", split, split_backward, qkv, ops.split_heads_backward),
        Case("merge_heads", merge, merge_backward, z, ops.merge_heads_backward),
        Case("softmax", ops.softmax_forward, ops.softmax_backward, s),
        Case("attention", attention, ops.attention_backward, heads),
        Case("mlp", ops.mlp_forward, ops.mlp_backward, mlp),
        Case("cross_entropy", entropy, ops.cross_entropy_backward, logits),
    ]


def sink_cases(rng: Any) -> list[Case]:
    """Return the masked sinks, the gathered ones, and the sum of the gradients of shared rows."""
    pool = random_inputs(rng, x=(B, T, C), W_in=(S, C), b_in=(S,), W_out=(S, C))

    def masked(xp: Any, x: Any, *w: Any) -> tuple[Any, Any]:
        return sinks.masked_sink_forward(xp, x, to_device(xp, MASK), *w)

    def gathered(xp: Any, x: Any, *w: Any) -> tuple[Any, Any]:
        return sinks.gathered_sink_forward(xp, x, to_device(xp, INDEX), *w)

    def gathered_backward(xp: Any, dy: Any, cache: Any) -> list[Any]:
        grads = sinks.gathered_sink_backward(xp, dy, cache)
        return [densify(g, x) for g, x in zip(grads, pool.values(), strict=True)]

    def gather(xp: Any, W: Any, b: Any) -> tuple[Any, Any]:
        W, b = (xp.take(w, to_device(xp, INDEX), axis=0) for w in (W, b))
        return xp.concatenate([W, b[..., None]], axis=-1), None

    def coalesce(xp: Any, dy: Any, cache: Any) -> list[Any]:
        grads = sinks.coalesce(xp, to_device(xp, INDEX), [dy[..., :-1], dy[..., -1]])
        arrays = to_device(xp, rows)
        return [optim.densify(xp, w, g) for w, g in zip(arrays.values(), grads, strict=True)]

    rows = random_inputs(rng, W=(S, C), b=(S,))
    gathered_source = sinks.gathered_sink_backward
    return [
        Case("masked_sink", masked, sinks.masked_sink_backward, pool),
        Case("gathered_sink", gathered, gathered_backward, pool, gathered_source),
        Case("coalesce", gather, coalesce, rows, sinks.coalesce),
    ]


def baseline_cases(rng: Any) -> list[Case]:
    """Return the ops of the baselines."""
    before = rng.standard_normal(B)
    noise = np.array([[0.001, 0.3, 0.6, 0.999], [0.4, 0.002, 0.7, 0.55]])  # closes and opens gates
    nll, a = random_inputs(rng, nll=(B, T)), random_inputs(rng, a=(2, G))

    def npo(xp: Any, nll: Any) -> tuple[Any, Any]:
        return unlearn.npo_forward(xp, nll, to_device(xp, before), 0.7)

    def hard_concrete(xp: Any, a: Any) -> tuple[Any, Any]:
        return gates.hard_concrete_forward(xp, a, to_device(xp, noise))

    return [
        Case("npo", npo, unlearn.npo_backward, nll),
        Case("hard_concrete", hard_concrete, gates.hard_concrete_backward, a),
        Case("open_fraction", gates.open_fraction_forward, gates.open_fraction_backward, a),
    ]


def small_model(rng: Any, pool: SinkConfig = POOL) -> tuple[ModelConfig, dict[str, Any]]:
    """Return a model of two layers whose parameters are random, far from their initial values."""
    sizes = {"n_vocab": V, "n_ctx": T + 2, "d_model": C, "n_heads": H, "n_shared": G}
    cfg = ModelConfig(**sizes, n_layers=2, sinks=pool)
    initial = model.init_params(cfg, dtype=np.float64)
    return cfg, {name: w + 0.5 * rng.standard_normal(w.shape) for name, w in initial.items()}


def block_case(rng: Any) -> Case:
    """Return one block, with sinks."""
    cfg, params = small_model(rng)
    weights = model.block_params(params, 0)

    def forward(xp: Any, x: Any, *w: Any) -> tuple[Any, Any]:
        selection, attn_mask = to_device(xp, (sinks.Rows(INDEX), ATTN_MASK))
        named = dict(zip(weights, w, strict=True))
        return model.block_forward(xp, x, selection, attn_mask, named, cfg.n_heads)

    def backward(xp: Any, dy: Any, cache: Any) -> list[Any]:
        dx, grads = model.block_backward(xp, dy, cache)
        return [dx, *(densify(grads[name], w) for name, w in weights.items())]

    inputs = {**random_inputs(rng, x=(B, T, C)), **weights}
    return Case("block", forward, backward, inputs, model.block_backward)


def model_case(name: str, selection: sinks.Selection, rng: Any) -> Case:
    """Return a whole model, from its parameters to the loss of every token."""
    cfg, params = small_model(rng)
    params = params if selection else sinks.prune(params)
    batch = make_batch(cfg, rng.integers(V, size=(B, T + 1)), selection, np.float64)

    def forward(xp: Any, *values: Any) -> tuple[Any, Any]:
        return token_losses(xp, dict(zip(params, values, strict=True)), batch, cfg)

    def backward(xp: Any, dnll: Any, cache: Any) -> list[Any]:
        grads = token_losses_backward(xp, dnll, cache)
        return [densify(grads[n], w) for n, w in params.items()]

    return Case(name, forward, backward, params, model.model_backward)


def gated_model_case(rng: Any) -> Case:
    """Return a whole model, from the gates of its MLP neurons to the loss of every token."""
    cfg, params = small_model(rng)
    params = sinks.prune(params)
    batch = make_batch(cfg, rng.integers(V, size=(B, T + 1)), sinks.NO_SINKS, np.float64)

    def forward(xp: Any, g: Any) -> tuple[Any, Any]:
        weights = to_device(xp, params)
        nll, cache = token_losses(xp, gates.gated(weights, g), batch, cfg)
        return nll, (cache, weights)

    def backward(xp: Any, dnll: Any, cache: Any) -> Any:
        c_losses, weights = cache
        return gates.gate_grads(xp, weights, token_losses_backward(xp, dnll, c_losses))

    gate_values = random_inputs(rng, gates=(cfg.n_layers, G))
    return Case("model, gates", forward, backward, gate_values, gates.gate_grads)


def training_case(name: str, pool: SinkConfig, rng: Any) -> Case:
    """Return a step of training: all parameters to the mean loss of a batch of unequal lengths.

    The forward is the definition: masks, and one pass over the whole batch. The backward is what
    training computes: halves, active rows only, their gradients merged. The optimizer assigns rows,
    so a row must occur once: `densify` assigns, too.
    """
    cfg, params = small_model(rng, pool)
    tokens = rng.integers(V, size=(6, T + 1))
    tokens[1, 3:] = tokens[4, 2:] = PADDING
    ids = np.array([0, 1, 2, 0, 3, 4])
    sequences = Sequences(tokens, ids, np.zeros(6, np.int64))
    batch = make_batch(cfg, tokens, sinks.Mask(sinks.sink_mask(pool, ids)), np.float64)
    parts = train.microbatches(Method(name="sinks", n_shared=G, sinks=pool), cfg, sequences)

    def forward(xp: Any, *values: Any) -> tuple[Any, Any]:
        weights = dict(zip(params, values, strict=True))
        nll, _ = token_losses(xp, weights, batch, cfg)
        return xp.sum(to_device(xp, batch.weights) * nll)[None], weights

    def backward(xp: Any, dy: Any, weights: Any) -> list[Any]:
        _, grads = train.gradients(weights, cfg, parts)
        full = {
            n: optim.densify(xp, weights[n], g) if isinstance(g, sinks.RowGrad) else g
            for n, g in grads.items()
        }
        return [dy * full[n] for n in weights]

    return Case(name, forward, backward, params, train.gradients)


def token_losses(xp: Any, params: Any, batch: model.Batch, cfg: ModelConfig) -> tuple[Any, Any]:
    """Run a model and the cross-entropy, and keep both caches."""
    batch = to_device(xp, batch)
    logits, c_model = model.model_forward(xp, params, batch, cfg)
    nll, c_nll = ops.cross_entropy_forward(xp, logits, batch.targets)
    return nll, (c_model, c_nll)


def token_losses_backward(xp: Any, dnll: Any, cache: Any) -> dict[str, Any]:
    """Return the gradient of every parameter."""
    c_model, c_nll = cache
    return model.model_backward(xp, ops.cross_entropy_backward(xp, dnll, c_nll), c_model)


def densify(grad: Any, like: Any) -> Any:
    """Return a gradient as a full array on the host; a RowGrad may list a row more than once."""
    if not isinstance(grad, sinks.RowGrad):
        return to_host(grad)
    full = np.zeros_like(like)
    np.add.at(full, to_host(grad.rows), to_host(grad.values))
    return full
