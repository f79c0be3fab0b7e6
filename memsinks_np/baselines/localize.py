"""Removal by localization (paper, section 3): score the MLP neurons of a trained model by how much a set of
sequences needs them, then zero the share with the highest scores in every layer.

A *gate* is a factor for one neuron, the same at every word: `post` becomes g * post.  A network whose neurons
have gates is the same network with other weights, since the factor can stand on either side of the product:

    (g * post) W_out = post (g[:, None] * W_out)            W_out'[j,c] = g_j W_out[j,c]

so the chain rule gives the gradient of the gates from the gradient of the weights, which we have:

    dL/dg_j = sum_c dL/dW_out'[j,c] * W_out[j,c]

No new forward and no new backward: `gated` and `gate_grads` are all that gates need.  Scores and gates are (L,G),
and a higher score always means: the sequences need this neuron more.
"""

from typing import Any, Literal

import numpy as np

from memsinks_np._internal.ids import uniform
from memsinks_np._internal.typing import Floats
from memsinks_np.config import ModelConfig, require
from memsinks_np.metrics import CHUNK, Tokens, extracted, mean_loss, predict
from memsinks_np.model import loss_and_grads, make_batch, token_loss
from memsinks_np.sinks import NO_SINKS, Params

Scores = Floats
By = Literal["loss", "probability"]
RANDOM = 301  # salt of the random scores


def gated(params: Params, gates: Any) -> Params:  # (L,G)
    """The model whose shared MLP neurons are multiplied by gates; 1 changes nothing, 0 removes a neuron."""
    names = [f"h{layer}.mlp.W_out" for layer in range(len(gates))]
    return params | {name: gates[layer, :, None] * params[name] for layer, name in enumerate(names)}


def gate_grads(xp: Any, params: Params, grads: Params) -> Any:  # -> (L,G)
    """dL/dg_j = sum_c dW_out'[j,c] * W_out[j,c]: from the gradients of a gated model to those of its gates."""
    names = [
        f"h{layer}.mlp.W_out" for layer in range(sum(name.endswith("mlp.W_out") for name in grads))
    ]
    return xp.stack([xp.sum(grads[name] * params[name], axis=1) for name in names])


def remembered(
    params: Params, cfg: ModelConfig, tokens: Tokens, gates: Any, by: By = "loss"
) -> tuple[float, Scores]:
    """How well a model with gates knows the sequences, and its gradient with respect to the gates, (L,G).

    "loss" is minus the mean loss in nats per word, "probability" the mean probability of the true next word.
    dP/dg = -P dnll/dg, so the second is the first with every word weighed by its own P.
    """
    model, known, slope = (
        gated(params, gates.astype(params["wte"].dtype)),
        0.0,
        np.zeros(gates.shape),
    )
    for start in range(0, len(tokens), CHUNK):
        part = tokens[start : start + CHUNK]
        batch = make_batch(cfg, part, NO_SINKS, params["wte"].dtype, share=len(part) / len(tokens))
        if by == "probability":
            batch = batch._replace(
                weights=batch.weights * np.exp(-token_loss(np, model, batch, cfg))
            )
        loss, grads = loss_and_grads(np, model, batch, cfg)
        known += float(batch.weights.sum() if by == "probability" else -loss)
        slope -= gate_grads(np, params, grads)
    return known, slope


def integrated_gradients(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    by: By = "probability",
    together: bool = True,
    steps: int = 16,
) -> Scores:
    """A neuron's part in what is remembered: its slope, averaged while the gates open from 0 to 1.

    Integrated Gradients (Sundararajan et al. 2017), as knowledge neurons (Dai et al. 2022) use them: where all gates
    open `together` the scores sum to what all neurons contribute (completeness), but for the error of `steps`
    midpoints, which falls with their square.  Otherwise one layer opens at a time, with all others fully open.
    """
    require(steps > 0, f"steps={steps} is not positive; the paper uses 16")
    scores = np.zeros((cfg.n_layers, cfg.n_shared))
    for layers in [slice(None)] if together else [[layer] for layer in range(cfg.n_layers)]:
        for alpha in (np.arange(steps) + 0.5) / steps:
            gates = np.ones_like(scores)
            gates[layers] = alpha
            scores[layers] += remembered(params, cfg, tokens, gates, by)[1][layers] / steps
    return scores


def zero_out(params: Params, cfg: ModelConfig, tokens: Tokens) -> Scores:
    """How much the loss on the sequences rises where one neuron alone is missing: exact, a forward per neuron."""
    before = mean_loss(params, cfg, tokens, NO_SINKS)
    scores = np.zeros((cfg.n_layers, cfg.n_shared))
    for one in np.ndindex(scores.shape):
        gates = np.ones(scores.shape, params["wte"].dtype)
        gates[one] = 0
        scores[one] = mean_loss(gated(params, gates), cfg, tokens, NO_SINKS) - before
    return scores


def random_scores(cfg: ModelConfig, seed: int = 0) -> Scores:
    """The control: neurons in an order that knows nothing."""
    return uniform(RANDOM, seed, np.arange(cfg.n_layers)[:, None], np.arange(cfg.n_shared))


def remove(params: Params, scores: Any, share: float) -> Params:
    """Erase the `share` of each layer's MLP neurons with the highest scores: W_out's rows, W_in's columns, b_in."""
    require(0 <= share <= 1, f"share={share} is not a share; choose a number from 0 to 1")
    params = dict(params)
    for layer, score in enumerate(scores):
        gone = np.argsort(-score, kind="stable")[: round(share * len(score))]
        for name, where in (("W_out", gone), ("W_in", (slice(None), gone)), ("b_in", gone)):
            name = f"h{layer}.mlp.{name}"
            params[name] = params[name].copy()
            params[name][where] = 0
    return params


def curve(
    params: Params, cfg: ModelConfig, corpus: Any, scores: Any, shares: Any
) -> list[dict[str, float | None]]:
    """What a model still knows as more and more of its neurons are removed: one row per share.

    Losses in nats per word on repeated stories, canaries (None where there are none) and new stories, and how many
    of the first two can be extracted.
    """
    rows, natural = [], corpus.cfg.n_repeated
    for share in shares:
        cut = remove(params, scores, share)
        nll, likeliest = predict(cut, cfg, corpus.repeated, NO_SINKS)
        out = extracted(corpus.repeated, likeliest)
        row: dict[str, float | None] = {"share": float(share)}
        for name, kind in (("repeated", slice(natural)), ("canary", slice(natural, None))):
            some = len(nll[kind]) > 0
            row[name] = float(nll[kind].mean(dtype=np.float64)) if some else None
            row[f"{name}_extraction"] = float(out[kind].mean()) if some else None
        rows.append(row | {"heldout": mean_loss(cut, cfg, corpus.heldout, NO_SINKS)})
    return rows
