"""Unlearning by updates: make a trained model forget chosen sequences by gradient ascent or NPO.

Both minimize  forgetting + retain * (mean loss of new once-seen sequences), in nats per token.

    gradient ascent    forgetting = -(mean loss of the sequences)
    NPO                forgetting = (2/beta) mean log(1 + (pi/pi_ref)^beta) / T

NPO is eq. 3 of Zhang et al. 2024; pi is the probability of a whole sequence of T tokens, pi_ref
that under the model before unlearning. Both only reweight the gradients of tokens, so they use the
model's backward unchanged.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from memsinks_np._internal.backend import namespace_of, to_device
from memsinks_np._internal.typing import Array, Cache, Floats, Losses, Params, Xp
from memsinks_np.baselines.finetune import descend
from memsinks_np.config import ModelConfig, TrainConfig, require
from memsinks_np.data.batches import make_batch
from memsinks_np.data.corpus import Corpus
from memsinks_np.metrics import extracted, mean_loss, mean_of, predict
from memsinks_np.model import loss_and_grads
from memsinks_np.sinks import NO_SINKS

RETAIN_OFFSET = 1 << 30  # the first once-seen sequence to retain; training never reaches it


@dataclass(frozen=True, kw_only=True)
class Unlearning:
    """Settings of unlearning."""

    beta: float = 0.0  # of NPO, for whole sequences; 0 is its limit, gradient ascent
    retain: float = 1.0  # weight of the loss on new once-seen sequences
    lr: float = 1e-3  # fixed
    max_steps: int = 80

    def __post_init__(self) -> None:
        beta, retain, steps = self.beta, self.retain, self.max_steps
        require(beta >= 0, f"beta={beta} is negative; use 0 for gradient ascent, 0.1 for NPO")
        require(
            retain >= 0,
            f"retain={retain} is negative; use 0 for no retain term, 1 for equal weights",
        )
        require(steps > 0, f"max_steps={steps} is not positive; allow at least one step")
        self.train_config()

    def train_config(self) -> TrainConfig:
        """Return the settings of AdamW, without weight decay."""
        return TrainConfig(lr=self.lr, weight_decay=0.0)


class UnlearningStep(NamedTuple):
    """A model after some steps: losses in nats per token, and the fraction that is extracted."""

    repeated: float
    heldout: float
    extraction: float


def npo_forward(
    xp: Xp, nll: Array, reference: Array, beta: float
) -> tuple[Array, Cache]:  # (B,T), (B,) -> (B,)
    """Return (2/beta) log(1 + (pi/pi_ref)^beta) / T of each sequence.

    `reference` is -log pi_ref, the summed loss before unlearning. A power above e^80 is cut off
    there, where log(1 + power) is log(power), so that it does not overflow.
    """
    z = beta * (reference - xp.sum(nll, axis=1))
    excess = xp.maximum(z - 80.0, 0.0)
    ratio = xp.exp(z - excess)  # (pi/pi_ref)^beta
    return (2 / beta) * (xp.log(1 + ratio) + excess) / nll.shape[1], (ratio, nll.shape)


def npo_backward(xp: Xp, dloss: Array, cache: Cache) -> Array:  # (B,) -> (B,T)
    """Return the gradient of ascent times 2 pi^beta / (pi^beta + pi_ref^beta).

    The factor is 1 at the start, and tends to 0 as a sequence is forgotten.
    """
    ratio, shape = cache
    factor = 2 * ratio / (1 + ratio)
    dnll = -dloss * factor / shape[1]  # the same for every token of a sequence
    return xp.broadcast_to(dnll[:, None], shape)


def forgetting_weights(nll: Losses, reference: Floats, beta: float) -> Losses:
    """Return the weight of each token's loss in the forgetting term, (N,T), (N,) -> (N,T)."""
    if beta == 0:
        return np.full(nll.shape, -1 / nll.size)
    _, cache = npo_forward(np, nll, reference, beta)
    weights: Losses = npo_backward(np, np.full(len(nll), 1 / len(nll)), cache)
    return weights


def unlearning_gradient(
    params: Params,
    step: int,
    cfg: ModelConfig,
    corpus: Corpus,
    settings: Unlearning,
    reference: Floats,
) -> Params:
    """Return one step's gradient, from all sequences to forget and as many new ones to retain."""
    xp, dtype = namespace_of(params["wte"]), params["wte"].dtype
    forget = corpus.repeated[: corpus.n_evaluated]
    n = len(forget)
    retained, _ = corpus.draw(RETAIN_OFFSET + step * n + np.arange(n))
    batch = make_batch(cfg, np.concatenate([forget, retained]), NO_SINKS, dtype)
    nll: Losses = np.empty(forget[:, 1:].shape)  # ascent does not need the losses
    if settings.beta:
        nll, _ = predict(params, cfg, forget, NO_SINKS)
    forgetting = forgetting_weights(nll, reference, settings.beta)
    retaining = np.full_like(forgetting, settings.retain / forgetting.size)
    weights = np.concatenate([forgetting, retaining])
    batch = batch._replace(weights=weights.astype(dtype))
    _, grads = loss_and_grads(xp, params, to_device(xp, batch), cfg)
    return grads


def unlearn(
    params: Params, cfg: ModelConfig, corpus: Corpus, settings: Unlearning
) -> tuple[Params, list[UnlearningStep]]:
    """Unlearn the natural repeated sequences; return the new parameters and the trajectory.

    It ends when their mean loss reaches the model's own held-out loss, for which no model has to be
    retrained, or after `max_steps`.
    """
    forget = corpus.repeated[: corpus.n_evaluated]
    nll, _ = predict(params, cfg, forget, NO_SINKS)
    reference = nll.sum(axis=1, dtype=np.float64)
    gradient = partial(
        unlearning_gradient, cfg=cfg, corpus=corpus, settings=settings, reference=reference
    )
    trajectory = []
    for now in descend(params, settings.train_config(), gradient):
        nll, likeliest = predict(now, cfg, forget, NO_SINKS)
        repeated, heldout = mean_of(nll), mean_loss(now, cfg, corpus.heldout, NO_SINKS)
        extraction = float(extracted(forget, likeliest).mean())
        trajectory.append(UnlearningStep(repeated, heldout, extraction))
        if repeated >= heldout or len(trajectory) > settings.max_steps:
            break
    return now, trajectory
