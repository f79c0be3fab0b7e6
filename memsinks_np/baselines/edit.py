"""Output-vector editing: change what located MLP neurons write, instead of setting them to zero.

After Hakimi et al. 2026 (arXiv 2606.18767). A neuron j adds post_j times its output vector, row j
of W_out, to the residual stream. The activations stay; the output vectors D of the located neurons
move as little as possible, so that at each memorized token another word, the distractor d, gains on
the true word y:

    minimize ||D||^2  such that  a_t D v_t = m_t  for every token t

a_t are the activations of the located neurons, v_t the gradient of logit_d - logit_y at the end of
the residual stream (the direct path: later layers are left out), and m_t how far y leads. By
Lagrange multipliers the edit is a sum of outer products, one per token:

    D = sum_t lambda_t a_t v_t^T,    (K + ridge mean(diag K)) lambda = m,
    K_ts = (a_t . a_s) (v_t . v_s)

The paper edits one sequence at a time; here one edit serves all sequences, so the ridge gives up
exactness where tokens disagree. It is linear: `strength` 1 lets the distractor draw level.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.typing import Array, Floats, Params, Tokens
from memsinks_np.config import ModelConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.metrics import CHUNK
from memsinks_np.model import model_forward
from memsinks_np.ops import layernorm_backward
from memsinks_np.sinks import NO_SINKS

# fraction of the neurons, ridge, least change on other text: looked at on seeds 0 and 100
SETTINGS = [(0.125, 0.1, False), (0.25, 0.03, False), (0.5, 0.01, True), (1.0, 0.003, True)]


class Directions(NamedTuple):
    """What an edit needs to know of N*T tokens."""

    post: Floats  # (L,N*T,G) activations of all neurons
    v: Floats  # (N*T,C) gradient of logit_d - logit_y at the end of the residual stream
    lead: Floats  # (N*T,) logit_y - logit_d


def directions(params: Params, cfg: ModelConfig, tokens: Tokens) -> Directions:
    """Return activations and directions at every token, (N,T+1).

    The distractor is the likeliest other word.
    """
    parts = []
    for start in range(0, len(tokens), CHUNK):
        part = tokens[start : start + CHUNK]
        batch = make_batch(cfg, part, NO_SINKS, params["wte"].dtype)
        logits, (_, _, blocks, c_lnf, _) = model_forward(np, params, batch, cfg)
        post = np.stack([c_mlp[2][0] for *_, c_mlp, _, _ in blocks])
        true = part[:, 1:, None]
        lead = np.take_along_axis(logits, true, axis=2)
        np.put_along_axis(logits, true, -np.inf, axis=2)
        best = logits.argmax(axis=2)
        lead = lead[..., 0] - logits.max(axis=2)
        toward = params["wte"][best] - params["wte"][part[:, 1:]]
        v, _, _ = layernorm_backward(np, toward, c_lnf)
        L, C, G = cfg.n_layers, cfg.d_model, cfg.n_shared
        parts.append((post.reshape(L, -1, G), v.reshape(-1, C), lead.ravel()))
    posts, vs, leads = zip(*parts, strict=True)
    joined = np.concatenate(posts, axis=1), np.concatenate(vs), np.concatenate(leads)
    return Directions(*(x.astype(np.float64) for x in joined))


def output_edit(
    at: Directions, scores: Any, fraction: float, ridge: float, keep: Floats | None = None
) -> Floats:
    """Return the change of the output vectors at strength 1, (L,G,C): zero where not located.

    Located are the highest-scoring neurons of each layer, as in `localize.remove`. `keep` holds
    activations on other text, (L,M,G): the edit is then the one that changes least there, instead
    of that of the smallest norm (ours, after ROME, Meng et al. 2022).
    """
    G = np.shape(scores)[1]
    top = [np.argsort(-score, kind="stable")[: round(fraction * G)] for score in scores]

    def located(post: Floats) -> Floats:
        return np.concatenate([x[:, j] for x, j in zip(post, top, strict=True)], axis=1)

    a = located(at.post)
    moved: Array = a
    if keep is not None:
        k = located(keep)
        size = k.T @ k / len(k)  # a change d of one neuron set costs d^T size d on other text
        size[np.diag_indices_from(size)] += 0.01 * np.trace(size) / len(size)
        moved = np.linalg.solve(size, a.T).T
    K = (a @ moved.T) * (at.v @ at.v.T)
    K[np.diag_indices_from(K)] += ridge * np.trace(K) / len(K)
    rows = moved.T @ (np.linalg.solve(K, at.lead)[:, None] * at.v)
    edit = np.zeros((*np.shape(scores), at.v.shape[1]))
    for layer, (j, part) in enumerate(zip(top, np.split(rows, len(top)), strict=True)):
        edit[layer, j] = part
    return edit


def edited(params: Params, edit: Floats, strength: float) -> Params:
    """Return the model with its output vectors changed."""
    params = dict(params)
    for layer, rows in enumerate(edit):
        name = f"h{layer}.mlp.W_out"
        params[name] = params[name] + (strength * rows).astype(params[name].dtype)
    return params


def output_edits(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    once: Tokens,
    scores: Mapping[str, Any],
    quick: bool = False,
) -> dict[str, Floats]:
    """Return edits that make a model forget `tokens`, under every setting tried.

    The neurons are located by the first of the scores. `once` are sequences seen once.
    """
    at = directions(params, cfg, tokens)
    usual = directions(params, cfg, once).post
    score = next(iter(scores.values()))
    edits = {}
    for fraction, ridge, keep in SETTINGS[:1] if quick else SETTINGS:
        kind = "least change on other text" if keep else "smallest"
        edit = output_edit(at, score, fraction, ridge, usual if keep else None)
        edits[f"{kind}, {fraction:g} of the neurons"] = edit
    return edits
