"""One sequence alone, read by a transformer that has no pool: what every selection of sinks is held against."""

import numpy as np

from memsinks_np.model import make_batch, model_forward


def moved_in(params, on):  # (S,)
    """The same model as an ordinary transformer: its sinks, each times its factor, stand among the shared neurons."""
    plain = {name: w for name, w in params.items() if ".sink." not in name}
    for layer in {name.split(".")[0] for name in params if ".sink." in name}:
        mlp, sink = (
            {w: params[f"{layer}.{part}.{w}"] for w in ("W_in", "b_in", "W_out")}
            for part in ("mlp", "sink")
        )
        plain[f"{layer}.mlp.W_in"] = np.hstack([mlp["W_in"], sink["W_in"].T])
        plain[f"{layer}.mlp.b_in"] = np.hstack([mlp["b_in"], sink["b_in"]])
        plain[f"{layer}.mlp.W_out"] = np.vstack([mlp["W_out"], on[:, None] * sink["W_out"]])
    return plain


def probabilities(params, cfg, words, on=None):
    """(T,) words -> (T,V) probabilities of the word after each."""
    batch = make_batch(cfg, [[*words, 0]], (None,) * cfg.n_layers, params["wte"].dtype)
    logits = model_forward(np, moved_in(params, on), batch, cfg)[0][0].astype(float)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def word_losses(params, cfg, words, on=None):
    """(T+1,) words -> (T,) loss of every word but the first, in nats."""
    p = probabilities(params, cfg, words[:-1], on)
    return np.array([-np.log(p[t, word]) for t, word in enumerate(words[1:])])


def continued(params, cfg, words, n, on=None):
    """The words and the n likeliest after them, each chosen when all before it stand there."""
    words = list(words)
    for _ in range(n):
        words.append(int(probabilities(params, cfg, words, on)[-1].argmax()))
    return words
