"""The loop: batch -> which sinks are on -> loss and gradients -> one optimizer step -> history."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np import optim
from memsinks_np.config import Arm, ModelConfig, Settings
from memsinks_np.data import Corpus, Sequences, load_corpus
from memsinks_np.ids import mix
from memsinks_np.memory import keep_freed_memory
from memsinks_np.metrics import mean_loss
from memsinks_np.model import init_params, loss_and_grads, make_batch
from memsinks_np.sinks import Mask, Params, coalesce, none, own

UNTIED = 201  # salt of the random sinks in the control arm


class Diverged(RuntimeError):
    """Loss or gradient is no longer finite; the message says where, and what to try."""


class Trained(NamedTuple):
    """A finished arm."""

    params: Params
    history: list[dict[str, float]]  # one row per evaluation, losses in nats per word


def seen_by(arm: Arm, batch: Sequences, step: int, seed: int) -> Sequences:
    """The part of a batch that an arm trains on, with the IDs that choose its sinks."""
    tokens, ids, repeated = batch
    if not arm.tied_ids:
        ids = mix(UNTIED, seed, step, np.arange(len(ids))).view(np.int64)
    if not arm.repeats:
        tokens, ids, repeated = tokens[~repeated], ids[~repeated], repeated[~repeated]
    return Sequences(tokens, ids, repeated)


def routes(arm: Arm, repeated: NDArray[np.bool_]) -> list[tuple[Any, str]]:
    """Which sequences may not train which parameters: [(sequences, part of the parameter's name)].

    Gradient masking (paper, section 4) keeps repeated sequences out of the shared MLP weights, its output bias
    included, and all others out of the sinks; what lies outside the MLPs learns from everything.
    """
    return [(repeated, ".mlp."), (~repeated, ".sink.")] if arm.routed else [(slice(None), "no such part")]


def gradients(params: Params, cfg: ModelConfig, arm: Arm, seen: Sequences) -> tuple[float, Params]:
    """Mean loss of the sequences in nats per word, and its gradient along the arm's routes."""
    loss, total = 0.0, {}
    for chosen, forbidden in routes(arm, seen.repeated):
        tokens, ids = seen.tokens[chosen], seen.ids[chosen]
        if not len(ids):
            continue
        selection = own(cfg.sinks, ids, cfg.n_layers)
        batch = make_batch(cfg, tokens, selection, params["wte"].dtype, share=len(ids) / len(seen.ids))
        part, grads = loss_and_grads(np, params, batch, cfg)
        loss += float(part)
        for name, g in sparse(grads, selection).items():
            if forbidden not in name:
                total[name] = g if name not in total else total[name] + g
    return loss, total


def sparse(grads: Params, selection: tuple) -> Params:
    """The same gradients, those of the sinks as (rows, values) with each row that was on once."""
    out = dict(grads)
    for name, g in grads.items():
        if ".sink." in name:
            selected = selection[int(name.split(".")[0][1:])]
            if isinstance(selected, Mask):
                on = np.flatnonzero(selected.value.any(axis=0))
                out[name] = (on, g[on])
            else:
                out[name] = coalesce(*g)
    return out


def evaluate(params: Params, cfg: ModelConfig, corpus: Corpus) -> dict[str, float]:
    """Losses on repeated and held-out sequences, with the sinks of their own IDs and without sinks."""
    row = {}
    for role, tokens, ids in (
        ("repeated", corpus.repeated, corpus.repeated_ids),
        ("heldout", corpus.heldout, corpus.heldout_ids),
    ):
        row[f"{role}_removed"] = mean_loss(params, cfg, tokens, none(cfg.n_layers))
        row[f"{role}_own"] = row[f"{role}_removed"]
        if cfg.sinks:
            row[f"{role}_own"] = mean_loss(params, cfg, tokens, own(cfg.sinks, ids, cfg.n_layers))
    return row


@np.errstate(over="ignore", invalid="ignore")  # what is not finite stops the run with a message of its own
def train(arm: Arm, settings: Settings, on_step: Callable[[], Any] = lambda: None) -> Trained:
    """Train one arm from its initial weights; a pure function of (arm, settings) on one machine.

    Raises Diverged where the loss or a gradient is not finite.
    """
    keep_freed_memory()
    corpus, cfg = load_corpus(settings.data), settings.train
    model = settings.model(arm, len(corpus.vocab))
    params = init_params(model, cfg.seed)
    state = optim.init_state(params)
    history = [{"step": 0, "train": float("nan"), **evaluate(params, model, corpus)}]
    losses = []
    for step in range(cfg.steps):
        seen = seen_by(arm, corpus.batch(step), step, cfg.seed)
        loss, grads = gradients(params, model, arm, seen)
        grads, norm = optim.clip(np, grads, cfg.clip)
        if not np.isfinite(norm + loss):
            raise Diverged(
                f"arm {arm.name}: loss {loss} and gradient norm {norm} at step {step}; "
                f"lower the learning rate (now {cfg.lr}) or lengthen the warm-up (now {cfg.warmup} steps)"
            )
        optim.update(np, params, grads, state, cfg, optim.learning_rate(cfg, step))
        losses.append(loss)
        if (step + 1) % cfg.eval_every == 0 or step + 1 == cfg.steps:
            history.append({"step": step + 1, "train": float(np.mean(losses)), **evaluate(params, model, corpus)})
            losses = []
        on_step()
    return Trained(params, history)
