"""The relearning attack: train on half of what was removed, and measure whether the rest returns.

If a removal only hides the memory, relearning takes fewer steps than learning, and the half that is
not trained on returns too. Models differ in how fast they learn, so each is also compared with
itself when it learns equally many new sequences.
"""

from typing import Any, NamedTuple

from memsinks_np._internal.typing import Params, Tokens
from memsinks_np.baselines.finetune import descend
from memsinks_np.config import ModelConfig, TrainConfig
from memsinks_np.data.corpus import Corpus
from memsinks_np.metrics import (
    Evaluation,
    evaluate,
    sequence_losses,
    slice_selection,
    to_evaluation,
)
from memsinks_np.sinks import NO_SINKS, Selection
from memsinks_np.train import Microbatch, any_param, gradients

SHOWN, OTHER = slice(0, None, 2), slice(1, None, 2)  # the two halves of the sequences
TOLERANCE = 0.1  # nats per token: a loss this near to its level before the removal is relearned


class Halves(NamedTuple):
    """Mean losses of both halves after some steps, in nats per token."""

    shown: float
    other: float


Trajectory = list[Halves]  # before the first step, and after each


class Attack(NamedTuple):
    """A model after a removal, and the relearning of removed and of new sequences."""

    evaluation: Evaluation
    removed: Trajectory
    new: Trajectory


def to_attack(row: list[Any]) -> Attack:
    """Return an attack that was stored as JSON."""
    evaluation, *trajectories = row
    removed, new = ([Halves(*losses) for losses in t] for t in trajectories)
    return Attack(to_evaluation(evaluation), removed, new)


def relearn(
    params: Params, cfg: ModelConfig, tokens: Tokens, selection: Selection, lr: float, steps: int
) -> Trajectory:
    """Fine-tune on every second sequence, (N,T+1), and return the losses of both halves.

    Each step sees the whole shown half (AdamW, fixed learning rate, no weight decay), so nothing is
    random.
    """
    half = Microbatch(tokens[SHOWN], slice_selection(selection, SHOWN), 1.0, any_param)
    train = TrainConfig(lr=lr, weight_decay=0.0)
    models = descend(params, train, lambda p, step: gradients(p, cfg, [half])[1])
    trajectory = []
    for _, now in zip(range(steps + 1), models, strict=False):
        loss = sequence_losses(now, cfg, tokens, selection)
        trajectory.append(Halves(float(loss[SHOWN].mean()), float(loss[OTHER].mean())))
    return trajectory


def steps_to_relearn(trajectory: Trajectory, level: float) -> int:
    """Return the steps until the shown half is within TOLERANCE of its level before the removal.

    Return the length of the attack if it never is.
    """
    near = (step for step, losses in enumerate(trajectory) if losses.shown <= level + TOLERANCE)
    return next(near, len(trajectory) - 1)


def recovered(trajectory: Trajectory, level: float) -> float:
    """Return how far the other half recovered: 0 not at all, 1 to its level before the removal."""
    other = [losses.other for losses in trajectory]
    return (other[0] - min(other)) / (other[0] - level)


def evaluate_attack(
    params: Params, cfg: ModelConfig, corpus: Corpus, lr: float, steps: int
) -> Attack:
    """Evaluate a model without sinks, relearn the repeated sequences, and learn new ones."""
    n = corpus.n_evaluated
    removed, new = (
        relearn(params, cfg, tokens[:n], NO_SINKS, lr, steps)
        for tokens in (corpus.repeated, corpus.heldout)
    )
    return Attack(evaluate(params, cfg, corpus), removed, new)
