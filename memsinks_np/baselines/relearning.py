"""The relearning attack: show a model half of what was removed from it, and see whether the rest comes back.

A removal that only hides is undone in fewer steps than learning would take, and brings back the half that is never
shown.  The reference is *retrained without*; and since one model may learn faster than another, each is its own
reference too: it learns as many sequences that nobody has ever trained on.
"""

from typing import Any

import numpy as np

from memsinks_np._internal.typing import Params, Tokens
from memsinks_np.baselines.finetune import descend
from memsinks_np.config import ModelConfig, TrainConfig
from memsinks_np.data.corpus import Corpus
from memsinks_np.metrics import extracted, mean_loss, predict, take
from memsinks_np.routing import Microbatch, anything
from memsinks_np.sinks import NO_SINKS, Selection
from memsinks_np.train import gradients

SHOWN, OTHER = slice(0, None, 2), slice(1, None, 2)  # the two halves of the sequences
TOLERANCE = 0.1  # nats per word: a loss is "back" when it is as near as this to where it was before the removal


def relearn(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    selection: Selection,
    lr: float,
    steps: int,
    until: float = 0.0,
) -> list[dict[str, float]]:
    """Fine-tune on every second sequence: both halves' mean loss before the first step and after each.

    Every step sees the whole half that is shown (AdamW, fixed learning rate, no weight decay), so that nothing is
    random.  The attack ends after `steps`, or where the loss of the half that is shown is at most `until`.
    """
    part = Microbatch(tokens[SHOWN], take(selection, SHOWN), 1.0, anything)
    way: list[dict[str, float]] = []
    tune = TrainConfig(lr=lr, weight_decay=0.0)
    for step, now in enumerate(descend(params, tune, lambda p, _: gradients(p, cfg, [part])[1])):
        loss = predict(now, cfg, tokens, selection)[0].mean(axis=1, dtype=np.float64)
        way.append(
            {"step": step, "shown": float(loss[SHOWN].mean()), "other": float(loss[OTHER].mean())}
        )
        if step == steps or way[-1]["shown"] <= until:
            break
    return way


def back(way: list[dict[str, float]], half: str, level: float) -> int | None:
    """The first step at which the loss of a half is at most `level`; None if it never is."""
    return next((int(row["step"]) for row in way if row[half] <= level), None)


def recovered(way: list[dict[str, float]], level: float) -> float:
    """How far the half that is never shown comes back: 0 not at all, 1 to `level`, where it was before the removal."""
    start, lowest = way[0]["other"], min(row["other"] for row in way)
    return (start - lowest) / (start - level)


def savings(forgotten: int, new: int) -> float:
    """Ebbinghaus' measure of what is left, 1 - (steps to relearn) / (steps to learn something new): 0 is nothing."""
    return 1 - forgotten / new


def steps_to(way: list[dict[str, float]], level: float) -> int:
    """Steps until the half that is shown is back; the length of the attack where it never is."""
    there = back(way, "shown", level + TOLERANCE)
    return len(way) - 1 if there is None else there


def examine(
    params: Params, cfg: ModelConfig, corpus: Corpus, level: float, lr: float, steps: int
) -> dict[str, Any]:
    """A model from which something was removed: its losses, the attack, and as many new sequences in its place.

    `level` is the mean loss on the repeated sequences before the removal, "the memorized level".
    """
    n, off = corpus.cfg.n_repeated, NO_SINKS
    forgotten, new = corpus.repeated[:n], corpus.heldout[:n]
    nll, likeliest = predict(params, cfg, forgotten, off)
    way = relearn(params, cfg, forgotten, off, lr, steps)
    again = steps_to(way, level)
    fresh = steps_to(relearn(params, cfg, new, off, lr, steps, until=level + TOLERANCE), level)
    return {
        "repeated.removed": float(nll.mean(dtype=np.float64)),
        "heldout.removed": mean_loss(params, cfg, corpus.heldout, off),
        "extraction": float(extracted(forgotten, likeliest).mean()),
        "steps": again,
        "steps_new": fresh,
        "savings": savings(again, max(1, fresh)),
        "recovered": recovered(way, level),
        "other_before": way[0]["other"],
        "other_lowest": min(row["other"] for row in way),
        "attack": way,
    }
