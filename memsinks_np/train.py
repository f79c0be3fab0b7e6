"""The loop: batch -> which sinks are on -> loss and gradients -> one optimizer step -> history."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from memsinks_np import optim
from memsinks_np.arrays import Array, Params, Xp
from memsinks_np.backend import namespace, namespace_of, to_device, to_host
from memsinks_np.config import Arm, ModelConfig, Settings, TrainConfig
from memsinks_np.crew import ALONE, Crew, pair
from memsinks_np.data import Corpus, load_corpus
from memsinks_np.metrics import mean_loss
from memsinks_np.model import SINK, init_params, loss_and_grads, make_batch
from memsinks_np.process import one_blas_thread
from memsinks_np.routing import Part, parts_of, seen_by
from memsinks_np.sinks import Mask, Selection, coalesce, none, own

HOPELESS = 10  # times the loss of guessing, ln V: training does not come back from there


class Trained(NamedTuple):
    """A finished arm."""

    params: Params
    history: list[dict[str, Any]]  # one row per evaluation, losses in nats per word


class Diverged(RuntimeError):
    """Loss or gradient is beyond all use; the message says where, and what to try."""

    last_good: Trained | None = None  # as it was before the step that failed; None where it was not found at once


def gradients(params: Params, cfg: ModelConfig, parts: Sequence[Part], crew: Crew = ALONE) -> tuple[float, Params]:
    """Mean loss of a batch in nats per word, and its gradient; those of a pool as (rows, values).

    A member of a larger crew computes some of the parts, and gets the gradient of what it will update.
    """
    xp = namespace_of(params["wte"])

    def gradient_of(part: Part) -> tuple[float, Params]:
        batch = make_batch(cfg, part.tokens, part.selection, params["wte"].dtype, part.share)
        loss, grads = loss_and_grads(xp, params, to_device(xp, batch), cfg)
        return float(loss), {name: g for name, g in grads.items() if part.trains(name)}

    def which(found: tuple[float, Params], own: bool) -> tuple[float, Params]:
        loss, grads = found
        return loss, {name: g for name, g in grads.items() if crew.owns(optim.job_of(name)) == own}

    mine = {i: gradient_of(part) for i, part in enumerate(parts) if crew.owns(i)}
    handed_in = crew.exchange({i: which(found, own=False) for i, found in mine.items()})
    every = {i: found for some in handed_in for i, found in some.items()}
    every |= {i: which(found, own=True) for i, found in mine.items()}
    losses, grads = zip(*(every[i] for i in range(len(parts))), strict=True)
    return sum(losses), merge(xp, cfg, grads, [part.selection for part in parts])


def merge(xp: Xp, cfg: ModelConfig, parts: Sequence[Params], selections: Sequence[Selection]) -> Params:
    """The sum of the parts' gradients; those of a pool as (rows, values), each row that was on once."""

    def pool_of(layer: int) -> Params:
        names = [f"h{layer}.{name}" for name in SINK]
        found = [[g[name] for g in parts if name in g] for name in names]
        if not found[0]:
            return {}
        chosen = [s[layer] for s, g in zip(selections, parts, strict=True) if names[0] in g]
        masks = [selected.value for selected in chosen if isinstance(selected, Mask)]
        if masks:
            on = [mask.reshape(-1, mask.shape[-1]).any(axis=0) for mask in masks]
            rows = to_device(xp, np.flatnonzero(np.any(on, axis=0)))
            values = [sum_of(of)[rows] for of in found]
        else:
            index = xp.concatenate([index for index, _ in found[0]])
            rows, values = coalesce(xp, index, [xp.concatenate([v for _, v in of]) for of in found])
        return {name: (rows, v) for name, v in zip(names, values, strict=True)}

    dense = dict.fromkeys(name for g in parts for name in g if ".sink." not in name)
    total: Params = {name: sum_of([g[name] for g in parts if name in g]) for name in dense}
    for layer in range(cfg.n_layers):
        total |= pool_of(layer)
    return total


def sum_of(arrays: Sequence[Array]) -> Array:
    """The sum in a fixed order, written into the first."""
    first, *others = arrays
    for other in others:
        first += other
    return first


def evaluate(params: Params, cfg: ModelConfig, corpus: Corpus) -> dict[str, float | None]:
    """Losses on repeated (natural) and held-out sequences, with the sinks of their own IDs and without sinks.

    None for held-out sequences with sinks of their own, unless all IDs own the same: nothing was trained under theirs.
    """
    row: dict[str, float | None] = {}
    natural, alike = slice(corpus.cfg.n_repeated), cfg.sinks is None or cfg.sinks.density == 1
    for role, tokens, ids, trained in (
        ("repeated", corpus.repeated[natural], corpus.repeated_ids[natural], True),
        ("heldout", corpus.heldout, corpus.heldout_ids, alike),
    ):
        removed = mean_loss(params, cfg, tokens, none(cfg.n_layers))
        row |= {f"{role}_removed": removed, f"{role}_own": removed if cfg.sinks is None else None}
        if cfg.sinks and trained:
            row[f"{role}_own"] = mean_loss(params, cfg, tokens, own(cfg.sinks, ids, cfg.n_layers))
    return row


def train(
    arm: Arm,
    settings: Settings,
    on_step: Callable[[], Any] = lambda: None,
    threads: int = 1,
    xp: Xp = None,
) -> Trained:
    """Train one arm from its initial weights; a pure function of (arm, settings) on one machine.

    `threads` only decides who computes what: with two, a second process takes its share (crew.py), and the result is
    the same to the last bit; more are of no use.  The arithmetic happens in `xp`, by default that of the configured
    backend; what comes back are host arrays.  Raises Diverged where the loss or a gradient is not finite, or the loss
    ten times that of guessing.
    """
    xp = xp or namespace(settings.train.backend)
    with one_blas_thread():
        if threads == 1 or xp is not np:
            return loop(arm, settings, on_step, xp, ALONE)
        with pair(*room(arm, settings), assist, arm, settings) as crew:
            params, history = loop(arm, settings, on_step, xp, crew)
            return Trained({name: w.copy() for name, w in params.items()}, history)  # without the shared memory


def room(arm: Arm, settings: Settings) -> tuple[int, int]:
    """Bytes of all parameters, and of their gradients where every sequence brings rows of its own."""
    cfg = settings.model(arm, len(load_corpus(settings.data).vocab))
    parameters = sum(w.nbytes for w in init_params(cfg).values())
    rows = settings.data.batch_size * cfg.sinks.n_active if cfg.sinks else 0
    return 2 * parameters, 2 * (parameters + 4 * cfg.n_layers * rows * (2 * cfg.d_model + 3))


def assist(arm: Arm, settings: Settings, crew: Crew) -> None:
    """The second process of a training: the same loop; where it diverges, the first one tells."""
    with suppress(Diverged):
        loop(arm, settings, lambda: None, np, crew)


@np.errstate(over="ignore", invalid="ignore")  # what is not finite stops the run with a message of its own
def loop(arm: Arm, settings: Settings, on_step: Callable[[], Any], xp: Xp, crew: Crew) -> Trained:
    corpus, cfg = load_corpus(settings.data), settings.train
    model = settings.model(arm, len(corpus.vocab))
    params = to_device(xp, init_params(model, cfg.seed))
    state = optim.init_state(xp, params, crew)
    first = crew.rank == 0  # who measures, too
    hopeless = HOPELESS * np.log(model.n_vocab)
    history: list[dict[str, Any]] = [{"step": 0, "train": None, **evaluate(params, model, corpus)}] if first else []
    losses, watched = [], []
    for step in range(cfg.steps):
        seen = seen_by(arm, corpus.batch(step), step, cfg.seed)
        loss, grads = gradients(params, model, parts_of(arm, model, seen), crew)
        norm, scale = optim.clipped(xp, grads, cfg.clip, crew)
        if not (loss < hopeless and np.isfinite(norm)):
            error = diverged(f"arm {arm.name}, step {step}: loss {loss:.3g}", norm, params, grads, cfg)
            error.last_good = Trained(to_host(params), history)
            raise error
        optim.update(xp, params, grads, state, cfg, optim.learning_rate(cfg, step), scale)
        crew.exchange(None)  # all parameters have been updated
        losses.append(loss)
        if cfg.watch and first:
            own_sinks = own(model.sinks, corpus.repeated_ids[:1], model.n_layers)
            watched.append(mean_loss(params, model, corpus.repeated[:1], own_sinks))
        if first and ((step + 1) % cfg.eval_every == 0 or step + 1 == cfg.steps):
            row = {"step": step + 1, "train": float(np.mean(losses)), **evaluate(params, model, corpus)}
            now, found = row["repeated_own"], [v for v in (*row.values(), *watched) if v is not None]
            if not (now < hopeless and np.isfinite(found).all()):  # what the last update did, no later step can find
                raise diverged(f"arm {arm.name}, after step {step}: loss {now:.3g}", norm, params, grads, cfg)
            history.append(row | ({"watched": watched} if cfg.watch else {}))
            losses, watched = [], []
        on_step()
    return Trained(to_host(params), history)


def diverged(what: str, norm: float, params: Params, grads: Params, cfg: TrainConfig) -> Diverged:
    """What is to be raised, with the first parameter whose gradient is not finite, and two things to try."""
    values = {name: to_host(g[1] if isinstance(g, tuple) else g) for name, g in grads.items()}
    bad = [name for name in params if name in values and not np.isfinite(values[name]).all()]
    return Diverged(
        f"{what}, gradient norm {norm:.3g}" + (f", not finite first in {bad[0]}" if bad else "") + "; "
        f"lower the learning rate (now {cfg.lr}) or lengthen the warm-up (now {cfg.warmup} steps)"
    )
