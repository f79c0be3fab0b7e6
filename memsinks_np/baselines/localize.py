"""Score MLP neurons by how much given sequences need them, and remove the highest-scoring ones.

This is localization in a finished model (paper, section 3). Scores are (L,G); a higher
score always means that the sequences need the neuron more.
"""

from typing import Any

import numpy as np

from memsinks_np._internal.ids import Purpose, integers, uniform
from memsinks_np._internal.typing import Floats, Params, Tokens
from memsinks_np.baselines import gates
from memsinks_np.baselines.gates import Objective, gated, known_and_grad
from memsinks_np.config import ModelConfig, require
from memsinks_np.data.corpus import Corpus
from memsinks_np.metrics import mean_loss
from memsinks_np.sinks import NO_SINKS

PENALTIES, ITERATIONS = (0.5, 2.0, 10.0, 30.0), (50, 100)  # of the gates that all_scores tries
OBJECTIVES: tuple[Objective, ...] = ("loss", "probability")
Scores = dict[str, dict[str, Floats]]  # method -> setting -> scores


def integrated_gradients(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    objective: Objective = "probability",
    together: bool = True,
    steps: int = 16,
) -> Floats:
    """Return each neuron's gradient, averaged while the gates open from 0 to 1.

    Integrated Gradients (Sundararajan et al. 2017) as in knowledge neurons (Dai et al. 2022). If
    all gates open `together`, the scores sum to what all neurons contribute (completeness), up to
    an error of the `steps` midpoints that falls with their square. Otherwise one layer opens at a
    time while all others are fully open. Raises ConfigError unless steps > 0.
    """
    require(steps > 0, f"steps={steps} is not positive; the paper uses 16")
    scores = np.zeros((cfg.n_layers, cfg.n_shared))
    for layers in [slice(None)] if together else [[layer] for layer in range(cfg.n_layers)]:
        for alpha in (np.arange(steps) + 0.5) / steps:
            at = np.ones_like(scores)
            at[layers] = alpha
            _, grad = known_and_grad(params, cfg, tokens, at, objective)
            scores[layers] += grad[layers] / steps
    return scores


def zero_out(params: Params, cfg: ModelConfig, tokens: Tokens) -> Floats:
    """Return how much the loss rises when each neuron is removed: exact, a forward per neuron."""
    before = mean_loss(params, cfg, tokens, NO_SINKS)
    scores = np.zeros((cfg.n_layers, cfg.n_shared))
    for neuron in np.ndindex(scores.shape):
        at = np.ones(scores.shape, params["wte"].dtype)
        at[neuron] = 0
        scores[neuron] = mean_loss(gated(params, at), cfg, tokens, NO_SINKS) - before
    return scores


def random_scores(cfg: ModelConfig, seed: int = 0) -> Floats:
    """Return random scores (control)."""
    layer, neuron = integers(cfg.n_layers)[:, None], integers(cfg.n_shared)
    return uniform(Purpose.RANDOM_SCORE, seed, layer, neuron)


def all_scores(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    once: Tokens,
    seed: int = 0,
    quick: bool = False,
) -> Scores:
    """Return scores for the memorized `tokens` by every method, under every setting tried.

    "contrast" is ours: integrated gradients for `tokens` minus those for equally many sequences
    seen `once`, so that a neuron that every sequence needs has a low score.
    """
    gradients, contrasts, learned = {}, {}, {}
    settings = [(objective, together) for objective in OBJECTIVES for together in (True, False)]
    for objective, together in settings[:1] if quick else settings:
        name = f"{objective}, {'all layers at once' if together else 'layer by layer'}"
        gradients[name] = integrated_gradients(params, cfg, tokens, objective, together)
        once_scores = integrated_gradients(params, cfg, once, objective, together)
        contrasts[name] = gradients[name] - once_scores
    iterations = (1, 2) if quick else ITERATIONS
    for penalty in PENALTIES:
        scores = gates.learn(params, cfg, tokens, penalty, iterations, seed=seed)
        for n, after in zip(iterations, scores, strict=True):
            learned[f"penalty {penalty:g}, {n} iterations"] = after
    return {
        "gates": learned,
        "integrated_gradients": gradients,
        "contrast": contrasts,
        "zero_out": {"loss": zero_out(params, cfg, tokens[:1] if quick else tokens)},
        "random": {"one draw": random_scores(cfg, seed)},
    }


def remove(params: Params, scores: Any, fraction: float) -> Params:
    """Erase a fraction of each layer's neurons, highest scores first: W_in's columns, b_in, W_out.

    Raises ConfigError unless 0 <= fraction <= 1.
    """
    require(
        0 <= fraction <= 1, f"fraction={fraction} is not a fraction; choose a number from 0 to 1"
    )
    params = dict(params)
    for layer, score in enumerate(scores):
        top = np.argsort(-score, kind="stable")[: round(fraction * len(score))]
        for name, where in (("W_out", top), ("W_in", (slice(None), top)), ("b_in", top)):
            name = f"h{layer}.mlp.{name}"
            params[name] = params[name].copy()
            params[name][where] = 0
    return params


def ablate_until_forgotten(params: Params, cfg: ModelConfig, corpus: Corpus) -> Params:
    """Remove neurons until the natural repeated sequences' loss reaches the held-out loss.

    Neurons that repeated sequences need more than equally many once-seen ones are removed first.
    """
    repeated = corpus.repeated[: corpus.n_evaluated]
    once, _ = corpus.draw(np.arange(len(repeated)))
    repeated_scores, once_scores = (
        integrated_gradients(params, cfg, tokens, "loss", together=False)
        for tokens in (repeated, once)
    )
    for fraction in np.arange(1, 33) / 32:
        cut = remove(params, repeated_scores - once_scores, fraction)
        heldout = mean_loss(cut, cfg, corpus.heldout, NO_SINKS)
        if mean_loss(cut, cfg, repeated, NO_SINKS) >= heldout:
            break
    return cut
