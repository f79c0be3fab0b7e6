"""Unlearning by updates: gradient ascent and NPO push chosen sequences out of a trained model.

Both descend on  forgetting + retain * (mean loss of fresh once-seen sequences), in nats per word.

    gradient ascent    forgetting = -(mean loss of the sequences)
    NPO                forgetting = (2/beta) mean log(1 + (pi/pi_ref)^beta) / T        (Zhang et al. 2024, eq. 3)

where pi is the probability of a whole sequence of T words and pi_ref that under the model before unlearning.  Both
only weigh the gradients of words anew, so the model's own backward does the rest.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from memsinks_np._internal.backend import namespace_of, to_device
from memsinks_np._internal.typing import Array, Cache, Losses, Xp
from memsinks_np.baselines.finetune import descend
from memsinks_np.config import ModelConfig, TrainConfig, require
from memsinks_np.data.corpus import Corpus
from memsinks_np.metrics import extracted, mean_loss, predict
from memsinks_np.model import loss_and_grads, make_batch
from memsinks_np.sinks import NO_SINKS, Params

UNSEEN = 1 << 30  # training counts once-seen sequences from 0 and never gets here


@dataclass(frozen=True, kw_only=True)
class Unlearning:
    """An update, its strength, and the steps that it may take."""

    beta: float = (
        0.0  # of NPO, for the probability of a whole sequence; 0 is its limit, gradient ascent
    )
    retain: float = 1.0  # weight of the loss on fresh once-seen sequences
    lr: float = 1e-3  # fixed
    max_steps: int = 80

    def __post_init__(self) -> None:
        require(
            self.beta >= 0, f"beta={self.beta} is negative; use 0 for gradient ascent, 0.1 for NPO"
        )
        require(
            self.retain >= 0,
            f"retain={self.retain} is negative; use 0 for no retain term, 1 for equal weights",
        )
        require(
            self.max_steps > 0,
            f"max_steps={self.max_steps} is not positive; allow at least one step",
        )

    @property
    def tune(self) -> TrainConfig:
        """AdamW at a fixed learning rate, without weight decay."""
        return TrainConfig(lr=self.lr, weight_decay=0.0)


def npo_forward(
    xp: Xp, nll: Array, reference: Array, beta: float
) -> tuple[Array, Cache]:  # (B,T), (B,) -> (B,)
    """Every sequence's (2/beta) log(1 + (pi/pi_ref)^beta) / T = -(2/beta) log sigmoid(-beta log(pi/pi_ref)) / T.

    `reference` is -log pi_ref, the summed loss before unlearning.  The power never exceeds exp(beta * reference),
    since no loss is negative: with beta 0.1 it is far from any overflow.
    """
    ratio = xp.exp(beta * (reference - xp.sum(nll, axis=1)))  # (pi/pi_ref)^beta
    return (2 / beta) * xp.log(1 + ratio) / nll.shape[1], (ratio, nll.shape)


def npo_backward(xp: Xp, dloss: Array, cache: Cache) -> Array:  # (B,) -> (B,T)
    """Gradient ascent's gradient times 2 pi^beta / (pi^beta + pi_ref^beta): 1 at the start, 0 once forgotten."""
    ratio, shape = cache
    share = 2 * ratio / (1 + ratio)
    dword = -dloss * share / shape[1]  # the same for every word of a sequence
    return xp.broadcast_to(dword[:, None], shape)


def forgetting(nll: Any, reference: Any, beta: float) -> Losses:
    """What the forgetting term gives each word as its weight in the loss, (N,T), (N,) -> (N,T): all negative."""
    if beta == 0:
        return np.full(nll.shape, -1 / nll.size)
    _, cache = npo_forward(np, nll, reference, beta)
    weights: Losses = npo_backward(np, np.full(len(nll), 1 / len(nll)), cache)
    return weights


def gradient(
    params: Params, step: int, cfg: ModelConfig, corpus: Corpus, how: Unlearning, reference: Any
) -> Params:
    """One step's gradient: all sequences to forget, weighed by the update, and as many fresh ones to retain."""
    xp, off = namespace_of(params["wte"]), NO_SINKS
    forget = corpus.repeated[: corpus.cfg.n_repeated]
    n = len(forget)
    fresh, _ = corpus.draw(UNSEEN + step * n + np.arange(n))
    batch = make_batch(cfg, np.concatenate([forget, fresh]), off, params["wte"].dtype)
    nll = (
        predict(params, cfg, forget, off)[0] if how.beta else np.empty(forget[:, 1:].shape)
    )  # ascent reads no loss
    away = forgetting(nll, reference, how.beta)
    weights = np.concatenate([away, np.full_like(away, how.retain / away.size)])
    batch = batch._replace(weights=weights.astype(params["wte"].dtype))
    grads: Params = loss_and_grads(xp, params, to_device(xp, batch), cfg)[1]
    return grads


def unlearn(
    params: Params, cfg: ModelConfig, corpus: Corpus, how: Unlearning, target: float | None = None
) -> tuple[Params, list[dict[str, float]]]:
    """Push the corpus's repeated (natural) sequences out of a model: what it becomes, and the way there.

    It stops where the mean loss of the sequences reaches `target`, for instance that of *retrained without*; if
    None, the model's own loss on held-out sequences, for which nobody has to retrain; or after `max_steps`.  The way
    has a row for each step: losses in nats per word, and the share that can be extracted.
    """
    forget, off = corpus.repeated[: corpus.cfg.n_repeated], NO_SINKS
    reference = predict(params, cfg, forget, off)[0].sum(axis=1, dtype=np.float64)
    along = partial(gradient, cfg=cfg, corpus=corpus, how=how, reference=reference)
    way: list[dict[str, float]] = []
    for step, now in enumerate(descend(params, how.tune, along)):
        nll, likeliest = predict(now, cfg, forget, off)
        loss, heldout = float(nll.mean(dtype=np.float64)), mean_loss(now, cfg, corpus.heldout, off)
        there = float(extracted(forget, likeliest).mean())
        way.append(
            {
                "step": step,
                "repeated.removed": loss,
                "heldout.removed": heldout,
                "extraction": there,
            }
        )
        if loss >= (heldout if target is None else target) or step == how.max_steps:
            break
    return now, way
