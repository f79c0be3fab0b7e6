"""Models for tests, and a slow reference for every selection.

The reference computes one sequence at a time, in a transformer without a pool.
"""

import json

import numpy as np

from memsinks_np._internal.blas import one_blas_thread
from memsinks_np.data.batches import make_batch
from memsinks_np.data.corpus import load_corpus
from memsinks_np.model import init_params, model_forward
from memsinks_np.sinks import NO_SINKS, is_sink, prune
from memsinks_np.train import train


def strong_params(cfg, seed=0, dtype=np.float64):
    """Return initial parameters plus normal noise, so that no array is zero or one."""
    rng = np.random.default_rng(seed)
    initial = init_params(cfg, dtype=np.float64)
    return {k: (w + 0.3 * rng.standard_normal(w.shape)).astype(dtype) for k, w in initial.items()}


def run_jobs(experiment, context):
    """Return the result of an experiment's jobs, each distinct model trained once."""
    models, outputs = {}, {}
    with one_blas_thread():
        for key, job in experiment.jobs(context).items():
            how = job.method, job.settings
            if how not in models:
                models[how] = train(*how, load_corpus(job.settings.data))
            outputs[key] = json.loads(json.dumps(job.measure(models[how])))
    return experiment.result(context, outputs)


def without_pool(params, on):  # (S,) a factor per sink
    """Return the same model with its sinks, times their factors, among the shared neurons."""
    plain = prune(params)
    for layer in {name.split(".")[0] for name in filter(is_sink, params)}:
        mlp, sink = (
            [params[f"{layer}.{part}.{name}"] for name in ("W_in", "b_in", "W_out")]
            for part in ("mlp", "sink")
        )
        plain[f"{layer}.mlp.W_in"] = np.hstack([mlp[0], sink[0].T])
        plain[f"{layer}.mlp.b_in"] = np.hstack([mlp[1], sink[1]])
        plain[f"{layer}.mlp.W_out"] = np.vstack([mlp[2], on[:, None] * sink[2]])
    return plain


def probabilities(params, cfg, tokens, on=None):
    """Return the probabilities of the token after each, (T,) -> (T,V)."""
    batch = make_batch(cfg, [[*tokens, 0]], NO_SINKS, params["wte"].dtype)
    logits = model_forward(np, without_pool(params, on), batch, cfg)[0][0].astype(float)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def word_losses(params, cfg, tokens, on=None):
    """Return the loss of every token but the first, (T+1,) -> (T,), in nats."""
    p = probabilities(params, cfg, tokens[:-1], on)
    return np.array([-np.log(p[t, token]) for t, token in enumerate(tokens[1:])])


def continued(params, cfg, tokens, n, on=None):
    """Return the tokens and the n likeliest after them, each chosen given all before it."""
    tokens = list(tokens)
    for _ in range(n):
        tokens.append(int(probabilities(params, cfg, tokens, on)[-1].argmax()))
    return tokens
